"""How much purification really helps: attacks, other defences, measures, tables and a report."""
