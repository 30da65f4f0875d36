"""Fills the tables and pictures of a document from stored results of `videopure evaluate`.

    python docs/fill.py SUITE RESULTS DOCUMENT

`videopure evaluate --suite SUITE --stored-only` has to have written its summary into RESULTS.
Tables stand between `<!-- table SUITE KEY -->` and `<!-- end -->`; `only="A;B"` names the rows and
`columns="A;B"` the columns to keep. Figures that
the document has in the folder named like it are replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from videopure.evaluation.report.tables import Table, make_tables

MARKED = re.compile(r"(<!-- table ([\w-]+) (\w+)(.*?)-->\n)(.*?)(<!-- end -->)", re.DOTALL)
FIGURES = ("overview", "curves", "roc")


def main(suite: str, results: Path, document: Path) -> None:
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    if summary["suite"] != suite:
        sys.exit(f"{results}/summary.json is of suite {summary['suite']}, not {suite}: run it anew")
    tables = {table.key: table for table in make_tables(summary)}

    def table(found: re.Match[str]) -> str:
        head, of, key, choice, _, end = found.groups()
        if of != suite:
            return found[0]
        return f"{head}\n{chosen(tables[key], choice).markdown()}\n\n{end}"

    text = document.read_text(encoding="utf-8")
    document.write_text(MARKED.sub(table, text), encoding="utf-8")
    for name in FIGURES:
        shown = document.with_suffix("") / f"{name}.png"
        if shown.is_file():
            shown.write_bytes((results / f"figures/{name}.png").read_bytes())


def chosen(table: Table, choice: str) -> Table:
    """The rows and columns of a table that a document wants; rows that say nothing are left out."""
    rows, columns = listed(choice, "only"), listed(choice, "columns")
    kept = [k for k, name in enumerate(table.columns) if k == 0 or not columns or name in columns]
    cells = [tuple(row[k] for k in kept) for row in table.rows if not rows or row[0] in rows]
    return replace(
        table,
        columns=tuple(table.columns[k] for k in kept),
        rows=tuple(row for row in cells if any(row[1:])),
    )


def listed(choice: str, option: str) -> Sequence[str]:
    """The values of an option of a marker."""
    found = re.search(rf'{option}="([^"]*)"', choice)
    return found[1].split(";") if found else ()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
