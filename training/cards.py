"""Model cards of trained models: what they are, how they were trained, and their limits."""

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
    """Add to a model's README.md how it was hardened; the earlier text stays."""
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
with an inner PGD of {recipe["attack_steps"]} steps and a budget of up to {recipe["epsilon"]:g}/255,
on clips of `{record.clips}` with {goals}. {record.processes} process(es) on {record.device},
{record.seconds:.0f} s.

It kept {record.clean:.1%} of the validation clips clean and {record.attacked:.1%} under PGD of
{recipe["validation_steps"]} steps at {recipe["validation_epsilon"]:g}/255 (step {record.step}; the
weights are a running mean, chosen on these clips). This is not an evaluation: stronger
attacks fool more, and `videopure evaluate` makes them on clips that nothing was chosen on. Budgets
beyond the one trained for, and changes other than small ones of every pixel, were not trained
against.

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
those it was trained on, for `videopure build --pipeline`. It does not generate videos: it
knows only the noise levels 0..{recipe.max_timestep} of 1000, which purification visits.

Trained by `videopure train` on {trained.videos} videos without labels, in {found.precision}, in
{found.log.seconds:.0f} s. Loss on held-out videos: {last:g}. They may show the same places
as the training videos: only clips from other sources show what it does to new ones. It does not
know clips of another kind than the training videos, and may erase what they show.

The PSNR of held-out clips is {trained.codec_psnr:.1f} dB after its codec alone, and after restoring
them from white noise in one step:

| train step | dB |
|---|---|
{levels}

| recipe | |
|---|---|
{settings}
"""
