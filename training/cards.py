"""Model cards of trained models: what they are, how they were made, and their limits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from videopure.archive.learned import MAX_TIMESTEP
from videopure.format.manifest import Component, Hardening

if TYPE_CHECKING:
    from videopure.training.train import Trained
    from videopure.training.unet import UNetRecipe

__all__ = ["purifier_card", "write_card"]

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


def purifier_card(trained: Trained, recipe: UNetRecipe, licence: str | None) -> str:
    """The model card of a purifier that was trained on a user's own videos."""
    front = f"license: {licence}\n" if licence else ""
    settings = "\n".join(f"| {name} | {value} |" for name, value in asdict(recipe).items())
    levels = "\n".join(f"| {timestep} | {found} |" for timestep, found in trained.psnr.items())
    found = trained.found
    last = found.validation[-1]["loss"] if found.validation else float("nan")
    return f"""---
{front}{MAX_TIMESTEP}: {recipe.max_timestep}
---

# {trained.pipeline.name}

A video diffusion model of {trained.parameters:,} parameters that predicts noise in clips like
those it was trained on, for `videopure build --pipeline`. It makes no videos: it knows the noise
levels 0..{recipe.max_timestep} of 1000 alone, which are those that purification visits.

Trained by `videopure train` on {trained.videos} videos without labels, in {found.precision}, in
{found.log.seconds:.0f} s. Loss on held-out videos: {last:g}. They may show the same places as the
training videos do: only clips of other sources tell what it does to new ones. Clips of another kind
than the training videos it does not know, and it may wipe them clean.

Held-out clips come through its codec with {trained.codec_psnr:.1f} dB, and are restored in one step
from white noise with:

| train step | dB |
|---|---|
{levels}

| recipe | |
|---|---|
{settings}
"""
