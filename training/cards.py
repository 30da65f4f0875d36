"""Model cards of what was trained: what it is, how it was made, what it is not."""

from __future__ import annotations

from pathlib import Path

from videopure.format.manifest import Component, Hardening

__all__ = ["write_card"]

_HEAD = "## Hardened"


def write_card(folder: Path, component: Component, record: Hardening) -> None:
    """Say in a model's README.md how it was hardened; what stood there before stays."""
    card = folder / "README.md"
    before = card.read_text(encoding="utf-8") if card.is_file() else _front(component)
    card.write_text(f"{before.rstrip()}\n\n{_section(record)}", encoding="utf-8")


def _front(component: Component) -> str:
    licence = f"---\nlicense: {component.licence}\n---\n\n" if component.licence else ""
    return f"{licence}# {component.name}\n\n{component.kind}, from {component.source}."


def _section(record: Hardening) -> str:
    recipe = record.recipe
    goals = "their classes" if record.labelled else "the recogniser's own answers to them"
    what = "purifier and recogniser" if record.train == "both" else record.train
    settings = "\n".join(f"| {name} | {value} |" for name, value in recipe.items())
    through = f"through purification by `{record.method}`"
    if record.method == "none":
        through = "without a purifier before it"
    return f"""{_HEAD}

Trained against attackers who have the whole archive: {what}, {through},
by PGD of {recipe["attack_steps"]} steps inside with a budget of up to {recipe["epsilon"]:g}/255, on
clips of `{record.clips}` with {goals}. {record.processes} process(es) on {record.device},
{record.seconds:.0f} s.

Of the validation clips it kept {record.clean:.1%} clean and {record.attacked:.1%} under PGD of
{recipe["validation_steps"]} steps at {recipe["validation_epsilon"]:g}/255 (step {record.step}; the
weights are a running mean, chosen on these clips). This is no evaluation: stronger attacks fool
more, and `videopure evaluate` makes them on clips that nothing was chosen on. Budgets beyond the
one trained for, and other kinds of change than small ones of every pixel, were not trained against.

| recipe | |
|---|---|
{settings}
"""
