"""How much purification really helps: attacks, defences, metrics and the report.

May import everything below: motions, archive, handler, format, purifier.
"""
