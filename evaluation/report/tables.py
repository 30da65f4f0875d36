"""The results of an evaluation as tables of text, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from videopure.evaluation.defences.filters import NONE

__all__ = ["Table", "make_tables", "share_cell"]

Summary = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        key: names it in links.
        title: what it shows.
        columns, rows: text of the cells.
        note: how to read it.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown, one line per row."""
        lines = ([cell.replace("|", r"\|") for cell in row] for row in (self.columns, *self.rows))
        first, *others = (f"| {' | '.join(cells)} |" for cells in lines)
        return "\n".join((first, "|" + " --- |" * len(self.columns), *others))


def make_tables(summary: Summary) -> list[Table]:
    """All tables with content, the most important first."""
    makers = (_strongest, _worst, _paper, _accuracy, _queries, _adaptive, _drawn, _paired)
    more = (_suspicion, _alarms, _votes, _fidelity, _seconds, _cost, _sanity, _missing)
    return [table for make in (*makers, *more) if (table := make(summary)).rows]


def share_cell(share: dict[str, float] | None) -> str:
    """A share with its interval and its number of clips."""
    if share is None:
        return ""
    return f"{share['share']:.1%} ({share['low']:.0%}–{share['high']:.0%}, n={share['clips']})"


def _threats(summary: Summary, *knowledge: str) -> list[str]:
    return [t for t, known in summary["threats"].items() if known["knowledge"] in knowledge]


def _budgets(summary: Summary, *knowledge: str) -> list[int]:
    threats = summary["threats"]
    return sorted({threats[t]["epsilon"] for t in _threats(summary, *knowledge)} - {0, 255})


def _lowest(summary: Summary, defence: str, epsilon: int, *knowledge: str) -> str:
    """The strongest attack of a kind at one budget, and the accuracy under it."""
    row, threats = summary["accuracy"][defence], summary["threats"]
    met = [t for t in _threats(summary, *knowledge) if t in row]
    met = [t for t in met if threats[t]["epsilon"] == epsilon]
    if not met:
        return ""
    strongest = min(met, key=lambda t: row[t]["share"])
    return f"{share_cell(row[strongest])} {threats[strongest]['family']}"


def _strongest(summary: Summary) -> Table:
    """One line per defence: clean clips, and the strongest attack of each kind."""
    kinds = [
        (f"{name} {epsilon}/255", epsilon, knowledge)
        for epsilon in (4, 8)
        for name, knowledge in (
            ("attacker knows the recogniser", ("gray-box", "black-box")),
            ("attacker asks the server", ("queries",)),
            ("attacker knows everything", ("adaptive",)),
        )
        if epsilon in _budgets(summary, *knowledge)
    ]
    rows = tuple(
        (
            defence,
            share_cell(row.get("clean")),
            *(_lowest(summary, defence, epsilon, *knowledge) for _, epsilon, knowledge in kinds),
            f"{summary['seconds'][defence]:.2f}",
        )
        for defence, row in summary["accuracy"].items()
    )
    return Table(
        "strongest",
        "What is left under the strongest attack",
        ("defence", "clean", *(name for name, _, _ in kinds), "s/clip"),
        rows,
        "Share of clips that are still recognised, with its 95 % Wilson interval, the number of "
        "clips and the attack. An empty cell was not evaluated, which is not the same as safe: "
        "judge a defence by “knows everything”.",
    )


def _shares(summary: Summary, key: str, title: str, threats: Sequence[str], note: str) -> Table:
    rows = tuple(
        (defence, *(share_cell(row.get(threat)) for threat in threats))
        for defence, row in summary["accuracy"].items()
        if any(threat in row for threat in threats)
    )
    return Table(key, title, ("defence", *threats), rows if threats else (), note)


def _accuracy(summary: Summary) -> Table:
    return _shares(
        summary,
        "accuracy",
        "Attackers who do not know the defence",
        _threats(summary, "clean", "gray-box", "black-box"),
        "Gray-box attackers have the recogniser's gradients; Square has only its answers, and "
        "transfer another recogniser. Every defence gets the same attacked clips.",
    )


def _queries(summary: Summary) -> Table:
    return _shares(
        summary,
        "queries",
        "Attackers who ask the server",
        _threats(summary, "queries"),
        "Each defence is queried separately, that many times per clip, through the answers "
        "that its server gives clients at that level of `policy.answer`. Scores have two decimals.",
    )


def _adaptive(summary: Summary) -> Table:
    return _shares(
        summary,
        "adaptive",
        "Attackers who know everything",
        _threats(summary, "adaptive"),
        "Each defence is attacked separately: “exact” with the true gradient through all of it; "
        "BPDA with the purifier replaced by the identity, as in the paper; “label and suspicion” "
        "until the answer is wrong and raises no alarm; “unbounded” may change every pixel at "
        "will, and must leave no clip.",
    )


def _paper(summary: Summary) -> Table:
    """The layout of the paper's tables; only for the suite made for it."""
    title, key = "As in the paper (arXiv 2501.14999)", "paper"
    if summary.get("suite") != "paper":
        return Table(key, title, (), ())
    accuracy = summary["accuracy"]
    bare = accuracy.get(NONE, {})
    families = {f for f in (t["family"] for t in summary["threats"].values())}
    bpda, exact = (
        next((f for f in sorted(families) if f.startswith(start)), "")
        for start in ("BPDA", "exact-")
    )
    rows = []
    for epsilon in _budgets(summary, "gray-box", "adaptive"):
        for defence, row in accuracy.items():
            if defence != NONE:
                shares = (
                    *(bare.get("clean"), row.get("clean"), bare.get(f"PGD-10 {epsilon}/255")),
                    row.get(f"PGD-10 {epsilon}/255"),
                    *(row.get(f"{family} {epsilon}/255") for family in (bpda, exact)),
                )
                rows.append((f"{epsilon}/255", defence, *map(share_cell, shares)))
    columns = ("eps", "defence", "clean", "standard", "attack", "robust gray-box")
    return Table(
        key,
        title,
        (*columns, "robust adaptive (BPDA)", "robust adaptive (exact gradient)"),
        tuple(rows),
        "Clean: no defence, no attack. Standard: defended, no attack. Attack: no defence, PGD-10. "
        "Robust: defended, PGD-10 on the recogniser, and attacks that know the defence. The paper "
        "has no column for the exact gradient.",
    )


def _worst(summary: Summary) -> Table:
    budgets = sorted({int(e) for row in summary["worst_case"].values() for e in row})
    rows = []
    for defence, row in summary["worst_case"].items():
        cells = []
        for epsilon in budgets:
            worst = row.get(str(epsilon))
            note = "" if worst is None or worst["adaptive"] else ", none adaptive"
            attacks = f", attacks: {worst['attacks']}{note}" if worst else ""
            cells.append(share_cell(worst) + attacks)
        rows.append((defence, *cells))
    return Table(
        "worst",
        "The worst case, clip by clip",
        ("worst case of", *(f"{e}/255" for e in budgets)),
        tuple(rows) if budgets else (),
        "Clips that survive every attack of at most that budget, of those that the attacks were "
        "run on. An attack on fewer clips, such as a check, removes those that it fools. Compare "
        "only cells with as many attacks; cells without an adaptive attack say little.",
    )


def _drawn(summary: Summary) -> Table:
    rows = tuple(
        (defence, threat, *(share_cell(found[which]) for which in ("first", "all")))
        for defence, row in summary.get("drawn", {}).items()
        for threat, found in row.items()
    )
    counts = {f["answers"] for row in summary.get("drawn", {}).values() for f in row.values()}
    asked = "/".join(map(str, sorted(counts)))
    return Table(
        "drawn",
        "Asked again: defences that draw",
        ("defence", "attack", "right at first", f"right in all of {asked} answers"),
        rows,
        "An attacker who may ask again needs one wrong answer. The worst case counts these.",
    )


def _paired(summary: Summary) -> Table:
    threats = list(summary["threats"])

    def cell(pair: dict[str, float] | None) -> str:
        if pair is None:
            return ""
        p = f"p={pair['p']:.2g}" if pair["p"] >= 1e-4 else "p<0.0001"
        return f"+{pair['only_served']} −{pair['only_this']} ({p})"

    return Table(
        "paired",
        "Against each other on the same clips",
        (f"against {summary['served']}", *threats),
        tuple(
            (d, *(cell(pairs.get(t)) for t in threats)) for d, pairs in summary["paired"].items()
        ),
        "Clips that only what is served (+) and that only the other (−) got right, and the "
        "two-sided p of McNemar's exact test. It is not corrected for the number of pairs.",
    )


def _suspicion(summary: Summary) -> Table:
    rows = tuple(
        (
            defence,
            threat,
            f"{found['auc']:.4f}",
            f"{found['alarms_at_1_percent']:.1%}",
            f"{found['alarms_at_5_percent']:.1%}",
            share_cell(found.get("fooled_and_silent")),
            f"{found['clean_clips']} + {found['clips']}",
        )
        for defence, row in summary["suspicion"].items()
        for threat, found in row.items()
    )
    columns = ("suspicion of", "attack", "ROC AUC", "alarms at 1 %", "at 5 %", "fooled and silent")
    return Table(
        "suspicion",
        "Suspicion: are attacked clips told from clean ones?",
        (*columns, "clean + attacked clips"),
        rows,
        "True alarms where 1 % and 5 % of these clean clips raise a false one. “Fooled and silent” "
        "are clips with a wrong answer and no alarm at the threshold that is served.",
    )


def _alarms(summary: Summary) -> Table:
    """The shares of clips whose suspicion exceeds the calibrated thresholds."""
    alarms = summary["alarms"].get(summary["served"], {})
    rows = tuple(
        (name, *(f"{alarms[threat][name]:.1%}" for threat in alarms))
        for name in summary.get("thresholds", {})
        if alarms
    )
    return Table(
        "alarms",
        "Alarms at the calibrated thresholds",
        (f"alarms of {summary['served']}, calibrated to", *alarms),
        rows,
        "On clean clips alarms are false. A threshold was calibrated on other clips.",
    )


def _votes(summary: Summary) -> Table:
    steps = sorted({int(s) for row in summary["votes"].values() for s in row}, reverse=True)
    rows = tuple(
        (
            threat,
            *(
                f"{row[str(s)]['right'] / row[str(s)]['counted']:.1%} of {row[str(s)]['counted']}"
                if str(s) in row
                else ""
                for s in steps
            ),
        )
        for threat, row in summary["votes"].items()
    )
    return Table(
        "votes",
        f"Votes of {summary['served']} by timestep",
        ("attack", *(f"timestep {s}" if s else "final latents" for s in steps)),
        rows,
        "Share of right votes among those that were counted. Counting stops when the label is "
        "settled, so late votes come only from clips whose first votes disagreed.",
    )


def _fidelity(summary: Summary) -> Table:
    names = ("psnr", "ssim", "warping_error_before", "warping_error_after")
    rows = tuple(
        (defence, *(f"{found[name]:.{2 if name == 'psnr' else 4}f}" for name in names))
        for defence, found in summary["fidelity"].items()
        if all(name in found for name in names)
    )
    return Table(
        "fidelity",
        "What purification does to clean clips",
        ("purified by", "PSNR in dB", "SSIM", "warping error before", "and after"),
        rows,
        "Means over clips. The warping error is the mean difference between a frame and the next "
        "one warped back along the motion, 0 to 1: lower is more consistent in time.",
    )


def _seconds(summary: Summary) -> Table:
    return Table(
        "seconds",
        "Seconds of the defence",
        ("defence", "s/clip"),
        tuple((defence, f"{taken:.3f}") for defence, taken in summary["seconds"].items()),
        "Median over all answers, in batches, on the machine of the evaluation, which may have "
        "been busy: compare them only with each other.",
    )


def _cost(summary: Summary) -> Table:
    rows = tuple(
        (threat, attacked, f"{spent:.2f}")
        for threat, row in summary["attack_seconds"].items()
        for attacked, spent in row.items()
    )
    return Table(
        "cost",
        "Seconds of the attack",
        ("attack", "on", "s/clip"),
        rows,
        "Median cost of one clip for the attacker. Attacks on a defence stop when they succeed.",
    )


def _sanity(summary: Summary) -> Table:
    def holds(check: dict[str, Any]) -> str:
        return {True: "yes", False: "NO", None: "not tested"}[check["holds"]]

    return Table(
        "sanity",
        "Are the gradients what they seem?",
        ("check", "holds", "found"),
        tuple((c["check"], holds(c), c["detail"]) for c in summary["sanity"]),
        "Where one of these fails, an attack was too weak or a gradient masked (arXiv 1902.06705, "
        "section 5), and the robust accuracies above are worth less than they look.",
    )


def _missing(summary: Summary) -> Table:
    def counts(row: dict[str, dict[str, int]]) -> str:
        alike: dict[str, list[str]] = {}
        for defence, n in row.items():
            alike.setdefault(f"{n['answered']} of {n['planned']}", []).append(defence)
        return "; ".join(f"{count}: {', '.join(names)}" for count, names in alike.items())

    missing = summary.get("missing", {})
    return Table(
        "missing",
        "Planned and not computed",
        ("attack", "clips answered of those planned"),
        tuple((threat, counts(row)) for threat, row in missing.items()),
        "These were not measured. The same command continues with them.",
    )
