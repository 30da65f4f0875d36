"""How much purification really helps: attacks, defences, metrics and the report.

May import motions, archive, handler, format, purifier and wire.
"""
