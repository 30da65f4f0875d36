"""The `videopure` command line: thin commands over the other rooms; none of them imports it.

May import web, demo, bulk, launcher, training, evaluation, motions, archive, handler, format,
purifier, client and wire.
"""
