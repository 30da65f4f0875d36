"""A recogniser behind its purifier: the thing that is served, and the thing that is attacked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from videopure.purifier.guidance import PUBLISHED_SHAPE, Guidance
from videopure.purifier.pipeline import METHODS, Method, VideoPurePipeline
from videopure.purifier.recognisers import Recogniser
from videopure.purifier.schedule import Schedule
from videopure.purifier.suspicion import suspicion_score
from videopure.purifier.voting import count_votes, is_decided, majority

__all__ = ["DefendedOutput", "DefendedRecogniser", "PurifySettings", "Verdict", "Vote"]

VotesMode = Literal["early", "full"]


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
    """

    inversion_steps: int = 5
    num_inference_steps: int = 50
    guidance_reference: tuple[int, int, int, int] | None = PUBLISHED_SHAPE
    method: Method = "videopure"
    votes: VotesMode = "early"
    suspicion_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.votes not in ("early", "full"):
            raise ValueError(f"votes must be 'early' or 'full', got {self.votes!r}")

    def override(self, **changes: Any) -> PurifySettings:
        """These settings with every change that is not None."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


@dataclass(frozen=True)
class Vote:
    """One candidate's label and its probability; `timestep` is 0 for the final latents."""

    timestep: int
    label_id: int
    score: float


@dataclass(frozen=True, eq=False)
class Verdict:
    """The answer for one clip.

    Args:
        label_id: the voted label.
        probabilities: [classes], float32 on the CPU: mean over the counted votes; the bare
            recogniser's where the clip was not purified.
        votes: those counted, in order; none where the clip was not purified.
        of: votes that a full count would have.
        agreement: share of the counted votes for `label_id`.
        undefended: [classes], probabilities of the bare recogniser on the clip as it came.
        suspicion: see `suspicion_score`; None where the clip was not purified.
        purified: the last candidate, [T, 3, H, W] in 0..1 on the CPU, where it was asked for.
    """

    label_id: int
    probabilities: Tensor
    votes: tuple[Vote, ...]
    of: int
    agreement: float
    undefended: Tensor
    suspicion: float | None
    purified: Tensor | None = None


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
        self.purifier = nn.ModuleDict(
            {
                "vae": pipeline.vae,
                "unet": pipeline.unet,
                "prompt_embedding": pipeline.prompt_embedding,
            }
        )
        self.eval().requires_grad_(False)
        factor = pipeline.vae_scale_factor
        if recogniser.frame_size[0] % factor or recogniser.frame_size[1] % factor:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes frames of {recogniser.frame_size}, which "
                f"the purifier cannot encode: height and width must be multiples of {factor}"
            )
        if recogniser.num_frames < 2:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes {recogniser.num_frames} frame; purification "
                "needs at least 2"
            )

    def forward(self, clips: Tensor) -> Tensor:
        """Logits of every vote, differentiable: [B, T, 3, H, W] in 0..1 -> [B, K + 1, classes]."""
        settings = self.settings
        schedule = self._schedule(settings)
        encoded = self.pipeline.encode(clips)
        noisy = self.pipeline.add_noise_for(encoded, schedule, settings.method)
        candidates = self._candidates(clips, encoded, noisy, schedule, settings)
        votes = [self.recogniser.logits(self.pipeline.decode(c)) for _, c in candidates]
        return torch.stack(votes, dim=1)

    @torch.no_grad()
    def purify(self, clips: Tensor) -> Tensor:
        """The last candidate of each clip: [B, T, 3, H, W] in 0..1, like `clips`."""
        encoded = self.pipeline.encode(clips)
        schedule = self._schedule(self.settings)
        noisy = self.pipeline.add_noise_for(encoded, schedule, self.settings.method)
        *_, (_, last) = self._candidates(clips, encoded, noisy, schedule, self.settings)
        return self.pipeline.decode(last)

    @torch.no_grad()
    def answer(
        self,
        clips: Tensor,
        *,
        inversion_steps: int | None = None,
        method: Method | None = None,
        votes: VotesMode | None = None,
        purify: bool = True,
        seeds: Sequence[int | None] | None = None,
        keep_purified: bool = False,
    ) -> DefendedOutput:
        """Verdicts on a batch of clips.

        Args:
            clips: [B, T, 3, H, W] in 0..1, of the recogniser's size.
            inversion_steps, method, votes: instead of the settings, where not None.
            purify: False asks the bare recogniser alone.
            seeds: one per clip for methods that draw noise; None draws fresh entropy.
            keep_purified: give the last candidate with each verdict, for which denoising goes on
                to its end even when the votes are decided before.

        Raises:
            ValueError: naming what cannot be used.
        """
        settings = self.settings.override(
            inversion_steps=inversion_steps, method=method, votes=votes
        )
        if seeds is not None and len(seeds) != len(clips):
            raise ValueError(f"seeds must have one entry per clip ({len(clips)}), got {len(seeds)}")
        clips = clips.to(next(self.purifier.parameters()).device)
        self.recogniser.check_frames(clips)
        self.pipeline.check_inputs(clips, settings.method, "pt")
        watch = _Stopwatch(clips.device)
        with watch.measure("vote"):
            undefended = self.recogniser.logits(clips).softmax(dim=1)
        if purify:
            ballot, last = self._vote(clips, settings, seeds, watch, to_the_end=keep_purified)
            verdicts = ballot.verdicts(undefended)
            if keep_purified:
                with watch.measure("vote"):
                    purified = self.pipeline.decode(last).float().cpu()
                verdicts = [
                    replace(verdict, purified=clip)
                    for verdict, clip in zip(verdicts, purified, strict=True)
                ]
        else:
            verdicts = [_bare_verdict(p) for p in undefended.cpu()]
        return DefendedOutput(verdicts, watch.milliseconds)

    def _vote(
        self,
        clips: Tensor,
        settings: PurifySettings,
        seeds: Sequence[int | None] | None,
        watch: _Stopwatch,
        *,
        to_the_end: bool,
    ) -> tuple[_Ballot, Tensor]:
        """Purify, decode and classify until every clip's label is settled.

        Also gives the candidate it came to, as latents: the last one of all with `to_the_end`.
        """
        generator = _generators(seeds, len(clips), clips.device)
        schedule = self._schedule(settings)
        with watch.measure("encode"):
            encoded = self.pipeline.encode(clips)
        with watch.measure("invert"):
            noisy = self.pipeline.add_noise_for(
                encoded, schedule, settings.method, generator=generator
            )
        with watch.measure("flow"):
            candidates = self._candidates(clips, encoded, noisy, schedule, settings, generator)
        of = self.pipeline.num_candidates(schedule, settings.method)
        ballot = _Ballot(len(clips), len(self.recogniser.labels), of, clips.device)
        for _ in range(of):
            with watch.measure("denoise"):
                timestep, latents = next(candidates)
            with watch.measure("vote"):
                voters = ballot.undecided() if settings.votes == "early" else ballot.everyone
                if len(voters):
                    decoded = self.pipeline.decode(latents[voters])
                    ballot.cast(timestep, voters, self.recogniser.logits(decoded).softmax(dim=1))
                settled = settings.votes == "early" and not len(ballot.undecided())
            if settled and not to_the_end:
                break
        return ballot, latents

    def _schedule(self, settings: PurifySettings) -> Schedule:
        return self.pipeline.schedule(settings.inversion_steps, settings.num_inference_steps)

    def _candidates(
        self,
        clips: Tensor,
        encoded: Tensor,
        noisy: Tensor,
        schedule: Schedule,
        settings: PurifySettings,
        generator: list[torch.Generator] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        flow = self.pipeline.estimate_flow(clips) if settings.method == "videopure" else None
        return self.pipeline.candidates(
            noisy,
            encoded,
            schedule,
            settings.method,
            flow=flow,
            guidance=Guidance(reference=settings.guidance_reference),
            generator=generator,
        )


class _Ballot:
    """Votes cast so far for a batch of clips."""

    def __init__(self, clips: int, num_classes: int, of: int, device: torch.device) -> None:
        self.of = of
        self.everyone = torch.arange(clips, device=device)
        self._counts = torch.zeros(clips, num_classes, dtype=torch.long, device=device)
        self._rounds: list[tuple[int, Tensor, Tensor]] = []

    def undecided(self) -> Tensor:
        """Indices of the clips whose label the votes to come may still change."""
        remaining = self.of - len(self._rounds)
        return self.everyone[~is_decided(self._counts, remaining)]

    def cast(self, timestep: int, voters: Tensor, probabilities: Tensor) -> None:
        """Count one vote of each clip in `voters`, given its probabilities [V, classes]."""
        labels = probabilities.argmax(dim=1, keepdim=True)
        self._counts[voters] += count_votes(labels, self._counts.shape[1])
        self._rounds.append((timestep, voters, probabilities))

    def verdicts(self, undefended: Tensor) -> list[Verdict]:
        """The answer for each clip, given the bare recogniser's probabilities [B, classes]."""
        winners = majority(self._counts).tolist()
        rounds = [(t, voters.tolist(), p.cpu()) for t, voters, p in self._rounds]
        result = []
        for clip, bare in enumerate(undefended.cpu()):
            cast = [(t, p[voters.index(clip)]) for t, voters, p in rounds if clip in voters]
            probabilities = torch.stack([p for _, p in cast])
            votes = tuple(Vote(t, int(p.argmax()), float(p.max())) for t, p in cast)
            agreeing = sum(vote.label_id == winners[clip] for vote in votes)
            result.append(
                Verdict(
                    label_id=winners[clip],
                    probabilities=probabilities.mean(dim=0),
                    votes=votes,
                    of=self.of,
                    agreement=agreeing / len(votes),
                    undefended=bare,
                    suspicion=suspicion_score(bare, probabilities),
                )
            )
        return result


def _bare_verdict(probabilities: Tensor) -> Verdict:
    """The verdict on a clip that was not purified, from its probabilities [classes]."""
    return Verdict(int(probabilities.argmax()), probabilities, (), 0, 1.0, probabilities, None)


def _generators(
    seeds: Sequence[int | None] | None, clips: int, device: torch.device
) -> list[torch.Generator]:
    """One generator per clip, so that a clip's noise does not depend on its batch mates."""
    generators = []
    for seed in seeds or [None] * clips:
        generator = torch.Generator(device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        generators.append(generator)
    return generators


@dataclass
class _Stopwatch:
    """Milliseconds by stage; waits for the accelerator at the end of each."""

    device: torch.device
    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        spent = 1000 * (time.perf_counter() - start)
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + spent
