"""A recogniser behind its purifier: the thing that is served, and the thing that is attacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from videopure.purifier.ballot import Ballot, Verdict, Vote, bare_verdict
from videopure.purifier.clip import roll_frames
from videopure.purifier.convolutions import use_onednn
from videopure.purifier.guidance import PUBLISHED_SHAPE, Guidance
from videopure.purifier.pipeline import METHODS, Method, VideoPurePipeline
from videopure.purifier.randomisation import Randomisation, make_generators
from videopure.purifier.recognisers import Recogniser
from videopure.purifier.schedule import Schedule
from videopure.purifier.shortcuts import FAST, Shortcuts
from videopure.purifier.stopwatch import Stopwatch

__all__ = ["DefendedOutput", "DefendedRecogniser", "PurifySettings", "Verdict", "Vote"]

VotesMode = Literal["early", "full"]
Speed = Literal["exact", "fast", "custom"]
Seeds = Sequence[int | None] | None


@dataclass(frozen=True)
class PurifySettings:
    """How clips are purified and voted on.

    Args:
        inversion_steps: the paper's t; t + 1 steps are taken each way.
        num_inference_steps: steps of the full schedule, of which the lowest are visited.
        guidance_reference: see `Guidance.reference`.
        method: see `VideoPurePipeline.__call__`.
        votes: `early` stops when no remaining vote can change the label, `full` counts all.
        suspicion_threshold: suspicion above it is called adversarial; None where not calibrated.
        randomisation: what is drawn for every clip; nothing by default. Its `step_range` takes
            the place of `inversion_steps`.
        speed: `exact` gives the published procedure's votes, `fast` takes the shortcuts of
            `shortcuts.FAST`, `custom` those of `shortcuts`.
        shortcuts: with speed `custom`, what is left out.
    """

    inversion_steps: int = 5
    num_inference_steps: int = 50
    guidance_reference: tuple[int, int, int, int] | None = PUBLISHED_SHAPE
    method: Method = "videopure"
    votes: VotesMode = "early"
    suspicion_threshold: float | None = None
    randomisation: Randomisation = Randomisation()  # noqa: RUF009  frozen
    speed: Speed = "exact"
    shortcuts: Shortcuts = Shortcuts()  # noqa: RUF009  frozen

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.votes not in ("early", "full"):
            raise ValueError(f"votes must be 'early' or 'full', got {self.votes!r}")
        if self.speed not in get_args(Speed):
            raise ValueError(
                f"speed must be one of {', '.join(get_args(Speed))}, got {self.speed!r}"
            )
        if self.speed != "custom" and self.shortcuts != Shortcuts():
            raise ValueError(
                f"shortcuts are for speed 'custom', got {self.shortcuts} with {self.speed!r}"
            )
        if self.randomisation.random_anchor and self.taken.inversion_frames is not None:
            raise ValueError(
                "randomisation.random_anchor must be False with shortcuts.inversion_frames, which "
                "shows the UNet the first frames only"
            )

    def override(self, **changes: Any) -> PurifySettings:
        """These settings with every change that is not None."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})

    @property
    def taken(self) -> Shortcuts:
        """The shortcuts that are taken with this method and speed."""
        if self.method != "videopure":
            return Shortcuts()
        return FAST if self.speed == "fast" else self.shortcuts

    @property
    def draws(self) -> Randomisation:
        """What is drawn for a clip with this method."""
        return self.randomisation if self.method == "videopure" else Randomisation()


@dataclass(frozen=True)
class DefendedOutput:
    """Verdicts of a batch, and the milliseconds that each stage took for the whole batch."""

    verdicts: list[Verdict]
    timing_ms: dict[str, float]


class DefendedRecogniser(nn.Module):
    """Purifies clips and lets the recogniser vote on the candidates.

    Its weights are frozen and in evaluation mode; `.to(device)` moves purifier and recogniser.
    """

    def __init__(
        self,
        pipeline: VideoPurePipeline,
        recogniser: Recogniser,
        settings: PurifySettings | None = None,
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.recogniser = recogniser
        self.settings = settings or PurifySettings()
        # A pipeline is no module; registering its parts makes .to() and .parameters() see them.
        parts = {**pipeline.components, "flow": pipeline.flow_estimator}
        networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        self.purifier = nn.ModuleDict(networks)
        self.eval().requires_grad_(False)
        use_onednn(recogniser)
        factor = pipeline.vae_scale_factor
        if recogniser.frame_size[0] % factor or recogniser.frame_size[1] % factor:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes frames of {recogniser.frame_size}, which "
                f"the purifier cannot encode: height and width must be multiples of {factor}; "
                "take a recogniser of another frame size"
            )
        if recogniser.num_frames < 2:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes {recogniser.num_frames} frame; purification "
                "needs at least 2"
            )
        most = pipeline.max_frames
        if most is not None and recogniser.num_frames > most:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes {recogniser.num_frames} frames, and the "
                f"purifier at most {most}: take a recogniser of {most} frames or fewer, or a "
                "diffusion model of any length, such as a UNet3DConditionModel"
            )

    def forward(self, clips: Tensor, seeds: Seeds = None) -> Tensor:
        """Logits of every vote, differentiable: [B, T, 3, H, W] in 0..1 -> [B, V, classes].

        See `votes`; clips that drew another t, and so have another number of votes, are refused.
        """
        votes = self.votes(clips, seeds)
        if len({len(ballot) for ballot in votes}) > 1:
            raise ValueError(
                "clips drew different t and have different numbers of votes: call votes() instead"
            )
        return torch.stack(votes)

    def votes(self, clips: Tensor, seeds: Seeds = None) -> list[Tensor]:
        """Logits of every vote on each clip, differentiable: [V, classes] for each.

        Args:
            clips: [B, T, 3, H, W] in 0..1, of the recogniser's size.
            seeds: as for `answer`.
        """
        return self._on_candidates(clips, seeds, self.recogniser.logits)

    def candidates(self, clips: Tensor, seeds: Seeds = None) -> list[Tensor]:
        """The purified candidates of each clip, differentiable: [V, T, 3, H, W] in 0..1 for each.

        Arguments as for `votes`.
        """
        return self._on_candidates(clips, seeds, lambda frames: frames)

    @torch.no_grad()
    def purify(self, clips: Tensor, seeds: Seeds = None) -> Tensor:
        """The last candidate of each clip: [B, T, 3, H, W] in 0..1, like `clips`."""
        purified = torch.empty_like(clips)
        for group in self._groups(clips, self.settings, seeds):
            *_, (_, last) = group.latents()
            purified[group.rows] = group.decode(last)
        return purified

    @torch.no_grad()
    def answer(
        self,
        clips: Tensor,
        *,
        inversion_steps: int | None = None,
        method: Method | None = None,
        votes: VotesMode | None = None,
        purify: bool = True,
        seeds: Seeds = None,
        keep_purified: bool = False,
    ) -> DefendedOutput:
        """Verdicts on a batch of clips.

        Args:
            clips: [B, T, 3, H, W] in 0..1, of the recogniser's size. Pinned ones travel to a GPU
                while it works.
            inversion_steps, method, votes: instead of the settings, where not None.
            purify: False asks the bare recogniser alone.
            seeds: one per clip for what is drawn at random; None draws fresh entropy.
            keep_purified: give the last candidate with each verdict, for which denoising goes on
                to its end even when the votes are decided before.

        Raises:
            ValueError: naming what cannot be used.
        """
        settings = self.settings.override(
            inversion_steps=inversion_steps, method=method, votes=votes
        )
        clips = clips.to(next(self.purifier.parameters()).device, non_blocking=True)
        self.recogniser.check_frames(clips)
        self.pipeline.check_inputs(clips, settings.method, "pt")
        watch = Stopwatch(clips.device)
        with watch.measure("vote"):
            undefended = self.recogniser.logits(clips).softmax(dim=1)
        if not purify:
            return DefendedOutput([bare_verdict(p) for p in undefended.cpu()], watch.milliseconds)
        verdicts: dict[int, Verdict] = {}
        for group in self._groups(clips, settings, seeds, watch):
            ballot, last = self._vote(group, to_the_end=keep_purified)
            given = ballot.verdicts(undefended[group.rows])
            if keep_purified:
                with watch.measure("vote"):
                    purified = group.decode(last).float().cpu()
                given = [replace(v, purified=p) for v, p in zip(given, purified, strict=True)]
            verdicts |= zip(group.rows, given, strict=True)
        return DefendedOutput([verdicts[row] for row in range(len(clips))], watch.milliseconds)

    def guidance(self, settings: PurifySettings) -> Guidance:
        """The guidance that candidates get."""
        return Guidance(reference=settings.guidance_reference)

    def raise_noise(
        self,
        encoded: Tensor,
        schedule: Schedule,
        settings: PurifySettings,
        generator: list[Generator],
    ) -> Tensor:
        """Latents [B, C, T, h, w] brought to the highest noise level."""
        return self.pipeline.add_noise_for(
            encoded,
            schedule,
            settings.method,
            generator=generator,
            randomisation=settings.draws,
            shortcuts=settings.taken,
        )

    def _vote(self, group: _Group, *, to_the_end: bool) -> tuple[Ballot, Tensor]:
        """Purify, decode and classify until every clip's label is settled.

        Also gives the candidate it came to, as latents: the last one of all with `to_the_end`.
        """
        early = group.settings.votes == "early"
        candidates = group.latents()
        ballot = Ballot(len(group.rows), len(self.recogniser.labels), group.of, group.clips.device)
        for _ in range(group.of):
            with group.watch.measure("denoise"):
                timestep, latents = next(candidates)
            with group.watch.measure("vote"):
                voters = ballot.undecided() if early else ballot.everyone
                if len(voters):
                    logits = self.recogniser.logits(group.decode(latents, voters))
                    ballot.cast(timestep, voters, logits.softmax(dim=1))
                settled = early and not len(ballot.undecided())
            if settled and not to_the_end:
                break
        return ballot, latents

    def _on_candidates(
        self, clips: Tensor, seeds: Seeds, read: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """What `read` [B, T, 3, H, W] -> [B, ...] makes of each clip's candidates: [V, ...]."""
        found: dict[int, Tensor] = {}
        for group in self._groups(clips, self.settings, seeds):
            read_latents = partial(_decode_and, read, group)
            values = [self.pipeline.checkpointed(read_latents, z) for _, z in group.latents()]
            found |= zip(group.rows, torch.stack(values, dim=1), strict=True)
        return [found[row] for row in range(len(clips))]

    def _groups(
        self,
        clips: Tensor,
        settings: PurifySettings,
        seeds: Seeds,
        watch: Stopwatch | None = None,
    ) -> list[_Group]:
        """The clips by the t that they drew: those of one t are purified together."""
        if seeds is not None and len(seeds) != len(clips):
            raise ValueError(f"seeds must have one entry per clip ({len(clips)}), got {len(seeds)}")
        generators = make_generators(seeds, len(clips), clips.device)
        steps = [settings.draws.draw_steps(settings.inversion_steps, g) for g in generators]
        groups = []
        for t in sorted(set(steps)):
            rows = [row for row, drawn in enumerate(steps) if drawn == t]
            groups.append(
                _Group(
                    self,
                    rows,
                    clips if len(rows) == len(clips) else clips[rows],
                    replace(settings, inversion_steps=t),
                    [generators[row] for row in rows],
                    watch or Stopwatch(clips.device),
                )
            )
        return groups


class _Group:
    """Clips [B, T, 3, H, W] of one t on their way through the purifier; `rows` in their batch."""

    def __init__(
        self,
        defended: DefendedRecogniser,
        rows: list[int],
        clips: Tensor,
        settings: PurifySettings,
        generators: list[Generator],
        watch: Stopwatch,
    ) -> None:
        self._defended = defended
        self.rows = rows
        self.settings = settings
        self.watch = watch
        self._generators = generators
        self._shifts = settings.draws.draw_shifts(generators)
        self.clips = roll_frames(clips, self._shifts)
        pipeline = defended.pipeline
        self._schedule = pipeline.schedule(settings.inversion_steps, settings.num_inference_steps)
        offered = pipeline.num_candidates(self._schedule, settings.method)
        self.of = settings.taken.voters(offered)

    def latents(self) -> Iterator[tuple[int, Tensor]]:
        """Train step and purified latents [B, C, T, h, w] of one candidate after the other."""
        defended, settings, schedule = self._defended, self.settings, self._schedule
        with self.watch.measure("encode"):
            encoded = defended.pipeline.encode(self.clips)
        with self.watch.measure("invert"):
            noisy = defended.raise_noise(encoded, schedule, settings, self._generators)
        with self.watch.measure("flow"):
            guided = settings.method == "videopure"
            flow = defended.pipeline.estimate_flow(self.clips) if guided else None
        return defended.pipeline.candidates(
            noisy,
            encoded,
            schedule,
            settings.method,
            flow=flow,
            guidance=defended.guidance(settings),
            generator=self._generators,
            randomisation=settings.draws,
            shortcuts=settings.taken,
        )

    def decode(self, latents: Tensor, clips: Tensor | None = None) -> Tensor:
        """Clips [B, T, 3, H, W] of latents, of all clips or of some of the group."""
        wanted = range(len(self.rows)) if clips is None else clips.tolist()
        chosen = latents if clips is None else latents[clips]
        back = [(-self._shifts[k][0], -self._shifts[k][1]) for k in wanted]
        return roll_frames(self._defended.pipeline.decode(chosen), back)


def _decode_and(read: Callable[[Tensor], Tensor], group: _Group, latents: Tensor) -> Tensor:
    return read(group.decode(latents))
