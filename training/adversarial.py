"""Adversarial training of a recogniser, of its purifier or of both, through all that is served.

Training on adversarial examples withstands exact gradients (Madry et al., arXiv 1706.06083), when
they are made against the whole model and not against the bare recogniser (JATP, arXiv 2106.05453).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from videopure.evaluation.attacks.pgd import pgd
from videopure.purifier import DefendedRecogniser, ProgramRecogniser
from videopure.training.ahead import Ahead
from videopure.training.loop import step_generator
from videopure.training.processes import average
from videopure.training.running_mean import RunningMean

__all__ = ["AdversarialTrainer", "HardenRecipe", "LabelledClips", "Train", "Validation"]

Report = Callable[[str], object]
Train = Literal["purifier", "recogniser", "both"]

LEVEL = 1 / 255  # of the pixel range: the unit of budgets
_VALIDATION_BATCH = 10


class LabelledClips(Protocol):
    """Clips to train on, with their classes; None: the recogniser's own answers are the labels."""

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Clips drawn at random, [B, T, 3, H, W] in 0..1, and their classes [B]."""

    def validation(self, count: int) -> tuple[Tensor, Tensor | None]:
        """At most this many clips that are never trained on, in the form of `batch`."""


@dataclass(frozen=True, kw_only=True)
class HardenRecipe:
    """How hardening trains; budgets are the largest change of a pixel, in 1/255.

    Args:
        train: what is trained; the other is left unchanged but still attacked.
        bare: attack and train the recogniser as if there were no purifier before it: the control
            that shows what a purifier adds, and a start for training both.
        clips: number of clips attacked in total.
        batch: clips per step, over all processes.
        learning_rate: peak rate of AdamW, after a short warm-up; it falls along a cosine.
        epsilon: largest budget of the inner attack.
        first_epsilon: its budget at the start.
        growth: share of the run over which the budget grows.
        attack_steps: steps of the inner PGD, which starts at random.
        clean_weight: weight of the loss on clean clips, relative to that on attacked ones.
        clean_share: share of the clips whose clean loss is computed; their mean says enough.
        fidelity: weight of the mean absolute difference between purified clips and the clips that
            were attacked, in 0..1. Without it, a purifier that is trained together with its
            recogniser may paint what only that recogniser understands.
        average: decay of the running mean of the weights; the mean is kept.
        seed: seed of all random draws.
        validate_every: steps from one validation to the next.
        validation_clips, validation_steps, validation_epsilon: settings of PGD at validation.
        collapse: share of validation clips that may be lost before training returns to its best
            state; catastrophic overfitting is lost at once (arXiv 2001.03994).
    """

    train: Train = "both"
    bare: bool = False
    clips: int = 8000
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    epsilon: float = 6.0
    first_epsilon: float = 1.0
    growth: float = 0.4
    attack_steps: int = 2
    clean_weight: float = 0.5
    clean_share: float = 0.25
    fidelity: float = 5.0
    average: float = 0.99
    seed: int = 0
    validate_every: int = 50
    validation_clips: int = 40
    validation_steps: int = 10
    validation_epsilon: float = 4.0
    collapse: float = 0.3

    def __post_init__(self) -> None:
        if self.train not in get_args(Train):
            raise ValueError(f"train must be one of {', '.join(get_args(Train))}, got {self.train}")
        if self.bare and self.train != "recogniser":
            raise ValueError(f"bare is for train 'recogniser', got {self.train!r}")
        for name in ("clips", "batch", "attack_steps", "validate_every", "validation_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.fidelity < 0:
            raise ValueError(f"fidelity must not be negative, got {self.fidelity}")
        for name in ("growth", "clean_share", "average", "collapse"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in 0..1, got {getattr(self, name)}")
        if not 0 < self.first_epsilon <= self.epsilon <= 255:
            raise ValueError(
                f"first_epsilon must be above 0 and at most epsilon, which is at most 255, got "
                f"{self.first_epsilon} and {self.epsilon}"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return -(-self.clips // self.batch)

    def budget(self, step: int) -> float:
        """The attack's budget in 0..1 at a step."""
        grown = min(1.0, step / max(1.0, self.growth * self.steps))
        return (self.first_epsilon + grown * (self.epsilon - self.first_epsilon)) * LEVEL

    def rate(self, step: int) -> float:
        """The learning rate at a step: ten steps of warm-up, then a cosine to a fiftieth."""
        rise = min(1.0, (step + 1) / 10)
        fall = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
        return self.learning_rate * rise * max(0.02, fall)


@dataclass(frozen=True)
class Validation:
    """Shares of the validation clips that are answered correctly, in 0..1."""

    attacked: float
    clean: float

    def describe(self, steps: int, epsilon: float) -> str:
        """In words, given the steps of PGD and its budget in 1/255."""
        return (
            f"{self.clean:.1%} of the validation clips kept, {self.attacked:.1%} under PGD-{steps} "
            f"at {epsilon:g}/255"
        )


class BestState:
    """The weights at which most attacked validation clips were kept, then most clean ones."""

    def __init__(self, networks: nn.Module) -> None:
        self.found = Validation(-1.0, -1.0)
        self.step = 0
        self._weights = copy.deepcopy(networks.state_dict())

    def offer(self, networks: nn.Module, found: Validation, step: int) -> None:
        """Keep the weights if they are no worse."""
        if (found.attacked, found.clean) >= (self.found.attacked, self.found.clean):
            self.found, self.step = found, step
            self._weights = copy.deepcopy(networks.state_dict())

    def restore(self, networks: nn.Module) -> None:
        """Put the best weights into the networks."""
        networks.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The state for checkpoints."""
        found = [self.found.attacked, self.found.clean]
        return {"found": found, "step": self.step, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.found = Validation(*state["found"])
        self.step, self._weights = state["step"], state["weights"]


class AdversarialTrainer:
    """Takes one step at a time; a checkpoint holds its `parts`.

    Args:
        defended: recogniser and purifier, with the settings that will be served; float32. Training
            changes them in place.
        clips: clips to train on.
        recipe: how to train.
        state: this process among several; each attacks its share of the clips, and gradients are
            averaged.
        report: called with the outcome of each validation.
        threads: threads that fetch the clips of the next steps meanwhile.

    Raises:
        ValueError: if the chosen part cannot be trained.
    """

    def __init__(
        self,
        defended: DefendedRecogniser,
        clips: LabelledClips,
        recipe: HardenRecipe,
        state: PartialState,
        report: Report = lambda line: None,
        threads: int = 0,
    ) -> None:
        self.defended, self.recipe = defended, recipe
        self.networks = _networks(defended, recipe.train)
        self._clips, self._state = clips, state
        # Without labels, the recogniser's earlier answers are the targets.
        self._answers = copy.deepcopy(defended.recogniser)
        self._optimizer = torch.optim.AdamW(
            self.networks.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._mean = RunningMean(self.networks, recipe.average)
        self.best = BestState(self.networks)
        self._report = report
        self._checked = self._validation_clips()
        self.ahead = Ahead(self._fetch, recipe.steps, threads)

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that changes during training."""
        return {
            "networks": self.networks,
            "optimizer": self._optimizer,
            "mean": self._mean,
            "best": self.best,
        }

    def step(self, index: int) -> dict[str, float]:
        """One step on fresh clips: attack, descend, average; and validation when it is due."""
        recipe = self.recipe
        clips, labels, generator = self.ahead.take(index)
        clips = clips.to(self._state.device)
        labels = self._targets(clips, labels)
        attacked = self._attack(clips, labels, recipe.budget(index), recipe.attack_steps, generator)
        loss, kept = self._descend(clips, attacked, labels, recipe.rate(index))
        self._mean.update(self.networks, index)
        if (index + 1) % recipe.validate_every == 0 or index + 1 == recipe.steps:
            self._review(index + 1)
        return {"loss": loss, "kept": kept, "epsilon": recipe.budget(index) / LEVEL}

    def _fetch(self, index: int) -> tuple[Tensor, Tensor | None, Generator]:
        """This process's clips and classes of a step, and the generator of its attack."""
        recipe, processes = self.recipe, self._state.num_processes
        seed = recipe.seed * processes + self._state.process_index
        generator = step_generator(seed, index)
        clips, labels = self._clips.batch(max(1, recipe.batch // processes), generator)
        return clips, labels, generator

    def _votes(self, clips: Tensor) -> Tensor:
        """Logits of the votes [B, V, classes] of all that is served, or of the bare recogniser."""
        bare = self.defended.recogniser.logits(clips)[:, None] if self.recipe.bare else None
        return self.defended(clips) if bare is None else bare

    def _votes_and_change(self, shown: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """The votes on clips, and how far their last candidates are from the clean ones."""
        if self.recipe.bare or not self.recipe.fidelity:
            return self._votes(shown), shown.new_zeros(())
        candidates = torch.stack(self.defended.candidates(shown))  # [B, V, T, 3, H, W]
        votes = self.defended.recogniser.logits(candidates.flatten(0, 1))
        change = (candidates[:, -1] - clean).abs().mean()
        return votes.unflatten(0, candidates.shape[:2]), change

    def _attack(
        self, clips: Tensor, labels: Tensor, epsilon: float, steps: int, generator: Generator
    ) -> Tensor:
        """PGD on all that is served; its steps add up to one and a half times the budget."""
        return pgd(
            lambda x: _vote_loss(self._votes(x), labels),
            clips,
            epsilon=epsilon,
            steps=steps,
            step_size=max(1.5 / steps, 0.25) * epsilon,
            generator=generator,
        )

    def _descend(
        self, clips: Tensor, attacked: Tensor, labels: Tensor, rate: float
    ) -> tuple[float, float]:
        """One step of the optimizer; the loss, and the share of attacked clips that were kept."""
        count = len(clips)
        clean = math.ceil(self.recipe.clean_share * count) if self.recipe.clean_weight else 0
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with _trainable(self.networks):
            votes, unlike = self._votes_and_change(
                torch.cat((attacked, clips[:clean])), torch.cat((clips, clips[:clean]))
            )
            losses = _vote_loss(votes, torch.cat((labels, labels[:clean])))
            loss = losses[:count].mean()
            if clean:
                loss = loss + self.recipe.clean_weight * losses[count:].mean()
            loss = loss + self.recipe.fidelity * unlike
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            gradients = [p.grad for p in self.networks.parameters() if p.grad is not None]
            average(gradients, self._state)
            nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
            self._optimizer.step()
        average((b for b in self.networks.buffers() if b.is_floating_point()), self._state)
        kept = (votes[:count].detach().log_softmax(-1).mean(1).argmax(-1) == labels).float().mean()
        return float(loss.detach()), float(kept)

    def _review(self, step: int) -> None:
        """Validate the running mean, and return to the best state if training collapsed."""
        trained = copy.deepcopy(self.networks.state_dict())
        self.networks.load_state_dict(self._mean.state_dict())
        found = self.validate()
        recipe = self.recipe
        words = found.describe(recipe.validation_steps, recipe.validation_epsilon)
        self._report(f"step {step}: {words}")
        if found.attacked < self.best.found.attacked - self.recipe.collapse:
            self.best.restore(self.networks)
            self.best.restore(self._mean.network)
            self._optimizer.state.clear()
            self._report(f"collapsed: back to step {self.best.step}")
            return
        self.best.offer(self.networks, found, step)
        self.networks.load_state_dict(trained)

    def validate(self) -> Validation:
        """PGD on the validation clips, with the current weights."""
        recipe = self.recipe
        sums = torch.zeros(3, device=self._state.device)
        for number, (clips, labels) in enumerate(self._checked):
            attacked = self._attack(
                clips,
                labels,
                recipe.validation_epsilon * LEVEL,
                recipe.validation_steps,
                step_generator(recipe.seed, number),
            )
            with torch.no_grad():
                for place, shown in enumerate((attacked, clips)):
                    answers = self._votes(shown).softmax(-1).mean(1).argmax(-1)
                    sums[place] += (answers == labels).sum()
            sums[2] += len(labels)
        if self._state.num_processes > 1:
            sums = reduce(sums, reduction="sum")
        attacked_right, clean_right, count = sums.tolist()
        return Validation(attacked_right / count, clean_right / count)

    def _validation_clips(self) -> list[tuple[Tensor, Tensor]]:
        """This process's batches of the validation clips."""
        clips, labels = self._clips.validation(self.recipe.validation_clips)
        if len(clips) < self._state.num_processes:
            raise ValueError(
                f"there are {len(clips)} validation clips for {self._state.num_processes} processes"
            )
        mine = slice(self._state.process_index, None, self._state.num_processes)
        clips = clips[mine].to(self._state.device)
        labels = self._targets(clips, None if labels is None else labels[mine])
        return list(
            zip(clips.split(_VALIDATION_BATCH), labels.split(_VALIDATION_BATCH), strict=True)
        )

    @torch.no_grad()
    def _targets(self, clips: Tensor, labels: Tensor | None) -> Tensor:
        """The target classes, [B]."""
        if labels is not None:
            return labels.to(clips.device)
        parts = clips.split(_VALIDATION_BATCH)
        return torch.cat([self._answers.logits(part).argmax(dim=1) for part in parts])


def _networks(defended: DefendedRecogniser, train: Train) -> nn.ModuleDict:
    """The networks that are trained, by the folder that holds each in an archive."""
    networks: dict[str, nn.Module] = {}
    if train != "recogniser":
        networks["purifier"] = defended.pipeline.denoiser
    if train != "purifier":
        if isinstance(defended.recogniser, ProgramRecogniser):
            raise ValueError(
                f"recogniser {defended.recogniser.name!r} is a program, whose weights are fixed: "
                "train the purifier alone"
            )
        networks["recogniser"] = defended.recogniser
    return nn.ModuleDict(networks)


@contextmanager
def _trainable(networks: nn.ModuleDict) -> Iterator[None]:
    """A context in which gradients reach the weights and a recogniser updates its statistics.

    The purifier stays in evaluation mode: it has no statistics, and its dropout is off.
    """
    networks.requires_grad_(True)
    if "recogniser" in networks:
        networks["recogniser"].train()
    try:
        yield
    finally:
        networks.eval().requires_grad_(False)


def _vote_loss(votes: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy [B] of the votes [B, V, classes] with the classes [B]."""
    count = votes.shape[1]
    losses = F.cross_entropy(votes.flatten(0, 1), labels.repeat_interleave(count), reduction="none")
    return losses.unflatten(0, (-1, count)).mean(dim=1)
