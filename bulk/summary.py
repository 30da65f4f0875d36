"""The summary of all answers in a folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.compute as pc

from videopure.bulk.folder import Folder

__all__ = ["Summary", "summarise"]


@dataclass(frozen=True)
class Summary:
    """The summary of all answers in a folder, including earlier runs.

    Args:
        planned: number of named videos.
        answered: videos with a row, including errors.
        adversarial: videos that raise the alarm.
        unknown: videos for which the alarm has no threshold.
        warned: videos with a warning, such as that the purifier does not know such clips.
        labels: counts by label, the most frequent first.
        errors: counts by type, the most frequent first.
        copies: number of purified copies.
    """

    planned: int
    answered: int
    adversarial: int
    unknown: int
    warned: int
    labels: dict[str, int]
    errors: dict[str, int]
    copies: int

    def as_json(self) -> dict[str, Any]:
        """As `summary.json` has it."""
        return asdict(self)


def summarise(folder: Folder, planned: int) -> Summary:
    """Read the answers of a folder, for `planned` named videos."""
    labels: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for table in folder.answers(["predictions", "suspicion", "warnings", "error", "copy"]):
        counts["answered"] += table.num_rows
        counts["copies"] += table.num_rows - table["copy"].null_count
        errors.update(pc.struct_field(table["error"], "type").drop_null().to_pylist())
        good = table.filter(table["error"].is_null())
        for label in good["predictions"].to_pylist():
            labels[label[0]["label"]] += 1
        for suspicion in good["suspicion"].to_pylist():
            adversarial = (suspicion or {}).get("adversarial")
            counts["unknown"] += adversarial is None
            counts["adversarial"] += bool(adversarial)
        counts["warned"] += sum(map(bool, good["warnings"].to_pylist()))
    return Summary(
        planned=planned,
        answered=counts["answered"],
        adversarial=counts["adversarial"],
        unknown=counts["unknown"],
        warned=counts["warned"],
        labels=dict(labels.most_common()),
        errors=dict(errors.most_common()),
        copies=counts["copies"],
    )
