"""The results as Markdown tables, for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.served import PURIFYING

__all__ = ["report"]


def report(part: str, result: Any) -> str:
    """Tables of one part of the benchmark."""
    return "\n".join(REPORTS[part](result)) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines] + [""]


def _schedule(result: list[dict[str, Any]]) -> list[str]:
    lines = []
    for compared in result:
        rows = [
            [
                name,
                f"{row['ms']:.0f}",
                f"{row['cpu_ms']:.0f}",
                f"{row['ms_ratio']:.2f}x",
                f"{row['cpu_ms_ratio']:.2f}x",
                f"{row['gflop']:.1f}",
                f"{row['gflop_ratio']:.2f}x",
                *(f"{row['stages_ms'].get(stage, 0):.0f}" for stage in PURIFYING),
            ]
            for name, row in compared["ways"].items()
        ]
        head = ["one clip", "ms", "CPU ms", "ratio", "CPU ratio", "GFLOP", "ratio"]
        lines += [f"**{compared['setup']}**", "", *_table([*head, *PURIFYING], rows)]
        found = compared["agreement"]
        lines += [
            f"Same labels on {found['same_labels']} of {found['clips']} clips, all votes the same "
            f"on {found['same_votes']}; candidates' latents differ by "
            f"{found['latents_mean_difference']:.1e} in the mean, "
            f"{100 * found['latents_beyond_5e-4']:.3f} % of them by more than 5e-4.",
            "",
        ]
    return lines


def _limits(result: list[dict[str, Any]]) -> list[str]:
    lines = []
    for measured in result:
        rows = [
            [
                name,
                f"{row['gflop']:.3f}",
                f"{row['ms']:.1f}",
                f"{row['gflops']:.1f}",
                f"{100 * row['share_of_matmul']:.0f} %",
            ]
            for name, row in measured["stages"].items()
        ]
        head = ["stage, once", "GFLOP", "ms", "GFLOP/s", "of a matrix product"]
        lines += [
            f"**{measured['setup']}** (matrix product: {measured['matmul_gflops']:.0f} GFLOP/s)",
            "",
            *_table(head, rows),
        ]
        for name, operators in measured.get("operators", {}).items():
            top = ", ".join(f"`{o['operator']}` {100 * o['share']:.0f} %" for o in operators)
            lines += [f"Top operators, {name}: {top}.", ""]
    return lines


def _scaling(result: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            ", ".join(map(str, grown["sizes"])),
            ", ".join(f"{ms:.0f}" for ms in grown["ms"]),
            f"{grown['exponent']:.2f}",
            f"{grown['exponent_of_work']:.2f}",
            ", ".join(f"{cost:.2f}" for cost in grown["cost_per_unit"]),
        ]
        for name, grown in result["grows"].items()
    ]
    head = ["varied", "sizes", "ms", "exponent", "of counted work", "cost of each, first is 1"]
    return _table(head, rows)


def _ways(result: dict[str, Any]) -> list[str]:
    ratios = [key for key in ("gflop", "gflop_ratio", "cpu_ms_ratio", "times_bare")
              if key in next(iter(result["ways"].values()))]  # fmt: skip
    rows = [
        [name, f"{row['ms']:.0f}", f"{row['cpu_ms']:.0f}", *(f"{row[key]:.2f}" for key in ratios)]
        for name, row in result["ways"].items()
    ]
    return _table(["one clip", "ms", "CPU ms", *ratios], rows)


def _memory(result: list[dict[str, Any]]) -> list[str]:
    lines = []
    for measured in result:
        rows = [[f"one clip, {way}", _megabytes(mb)] for way, mb in measured["ways"].items()]
        rows += [
            [f"{clips} clips together, exact", _megabytes(mb)]
            for clips, mb in measured["batches"].items()
            if clips > 1
        ]
        lines += [f"**{measured['setup']}**", "", *_table(["an answer to", "peak MB"], rows)]
    return lines


def _megabytes(peak: float | None) -> str:
    return "" if peak is None else f"{peak:.0f}"


def _served(result: dict[str, Any]) -> list[str]:
    rows = [
        [
            cell["batch_size"],
            cell["clients"],
            cell["requests"],
            f"{cell['per_second']:.2f}",
            *(f"{cell[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms")),
        ]
        for cell in result["cells"]
    ]
    head = ["batch size", "clients", "requests", "clips a second", "p50 ms", "p95 ms", "p99 ms"]
    lines = _table(head, rows)
    if result["overhead"] is not None:
        share = result["overhead"]["share that is not purifying"]
        parts = {k: v for k, v in result["overhead"].items() if not k.startswith("share")}
        lines += _table(list(parts), [[f"{v:.1f} ms" for v in parts.values()]])
        lines += [f"{100 * share:.1f} % of a request is not purifying.", ""]
    return lines


def _decoding(result: list[dict[str, Any]]) -> list[str]:
    rows = [
        [row["clip"], f"{row['least_ms']:.0f}", f"{row['ms']:.0f}", f"{row['ratio']:.2f}"]
        for row in result
    ]
    return _table(["clip", "PyAV alone, CPU ms", "the reader, CPU ms", "ratio"], rows)


REPORTS: dict[str, Callable[[Any], list[str]]] = {
    "decoding": _decoding,
    "schedule": _schedule,
    "limits": _limits,
    "scaling": _scaling,
    "memory": _memory,
    "shortcuts": _ways,
    "served": _served,
    "alternatives": _ways,
}
