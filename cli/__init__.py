"""The `videopure` command line: thin commands over the other packages; nothing imports it."""
