"""A recogniser behind its purifier: what is served, and what is attacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from videopure.purifier.ballot import Ballot, Verdict, Vote, bare_verdict
from videopure.purifier.convolutions import use_onednn
from videopure.purifier.methods import PURIFICATIONS, Method, Purification
from videopure.purifier.pipeline import VideoPurePipeline
from videopure.purifier.randomisation import make_generators
from videopure.purifier.recognisers import Recogniser
from videopure.purifier.settings import PurifySettings, VotesMode
from videopure.purifier.stopwatch import Stopwatch

__all__ = ["DefendedOutput", "DefendedRecogniser", "Verdict", "Vote"]

Seeds = Sequence[int | None] | None


@dataclass(frozen=True)
class DefendedOutput:
    """Verdicts of a batch, and the milliseconds that each stage took for the whole batch."""

    verdicts: list[Verdict]
    timing_ms: dict[str, float]


class DefendedRecogniser(nn.Module):
    """Purifies clips and lets the recogniser vote on the candidates.

    Its weights are frozen and in evaluation mode; `.to(device)` moves purifier and recogniser.

    Args:
        pipeline: purifies the clips.
        recogniser: votes on the candidates.
        settings: how to purify and vote; the defaults if None.
        purification: steps to use instead of those of the settings' method, such as an ablation.
    """

    def __init__(
        self,
        pipeline: VideoPurePipeline,
        recogniser: Recogniser,
        settings: PurifySettings | None = None,
        purification: type[Purification] | None = None,
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.recogniser = recogniser
        self.settings = settings or PurifySettings()
        self._purification = purification
        # A pipeline is not a module; registering its parts makes .to() and .parameters() see them.
        parts = {**pipeline.components, "flow": pipeline.flow_estimator}
        networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        self.purifier = nn.ModuleDict(networks)
        self.eval().requires_grad_(False)
        use_onednn(recogniser)
        factor = pipeline.frame_multiple
        if recogniser.frame_size[0] % factor or recogniser.frame_size[1] % factor:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes frames of {recogniser.frame_size}, which "
                f"the purifier cannot encode: height and width must be multiples of {factor}; "
                "use a recogniser with another frame size"
            )
        if recogniser.num_frames < 2:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes {recogniser.num_frames} frame; purification "
                "needs at least 2"
            )
        chosen = self.settings.shortcuts.feature_interval  # fast mode's own is for UNets only
        if chosen > 1 and not pipeline.model.reusable:
            raise ValueError(
                f"shortcuts.feature_interval must be 1 for a {type(pipeline.denoiser).__name__}, "
                f"got {chosen}: it reuses the blocks of UNets"
            )
        most = pipeline.max_frames
        if most is not None and recogniser.num_frames > most:
            raise ValueError(
                f"recogniser {recogniser.name!r} takes {recogniser.num_frames} frames, and the "
                f"purifier at most {most}: use a recogniser of {most} frames or fewer, or a "
                "diffusion model of any length, such as a UNet3DConditionModel"
            )

    def forward(self, clips: Tensor, seeds: Seeds = None) -> Tensor:
        """Logits of every vote, differentiable: [B, T, 3, H, W] in 0..1 -> [B, V, classes].

        See `votes`. Clips that drew different t have different numbers of votes and are refused.
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
        for rows, purification in self._purifications(clips, self.settings, seeds):
            *_, last = purification.candidates()
            purified[rows] = purification.decode(last.latents)
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
            clips: [B, T, 3, H, W] in 0..1, of the recogniser's size. Pinned clips are copied to a
                GPU asynchronously.
            inversion_steps, method, votes: override the settings if not None.
            purify: False asks only the bare recogniser.
            seeds: one per clip for what is drawn at random; None draws fresh entropy.
            keep_purified: return the last candidate with each verdict; denoising then runs to its
                end even if the votes are decided earlier.

        Raises:
            ValueError: naming the argument that cannot be used.
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
        for rows, purification in self._purifications(clips, settings, seeds, watch):
            sent = clips if len(rows) == len(clips) else clips[rows]
            ballot, last, change = self._vote(purification, sent, to_the_end=keep_purified)
            voted = [
                replace(v, change=c)
                for v, c in zip(ballot.verdicts(undefended[rows]), change.tolist(), strict=True)
            ]
            if keep_purified:
                with watch.measure("vote"):
                    purified = purification.decode(last).float().cpu()
                voted = [replace(v, purified=p) for v, p in zip(voted, purified, strict=True)]
            verdicts |= zip(rows, voted, strict=True)
        return DefendedOutput([verdicts[row] for row in range(len(clips))], watch.milliseconds)

    def _vote(
        self, purification: Purification, clips: Tensor, *, to_the_end: bool
    ) -> tuple[Ballot, Tensor, Tensor]:
        """Purify, decode and classify until every clip's label is settled.

        Also returns the latents of the candidate at which this ended, with `to_the_end` the very
        last one; and the distance of the first candidate from each clip, see `Verdict.change`.
        """
        early = purification.settings.votes == "early"
        classes = len(self.recogniser.labels)
        ballot = Ballot(len(clips), classes, purification.num_candidates, clips.device)
        change: Tensor | None = None
        # Steps 1 to 4 of the paper, each only as far as the requested candidates need it.
        for timestep, latents in purification.candidates():
            # 5. Decode and vote.
            with purification.watch.measure("vote"):
                voters = ballot.undecided() if early else ballot.everyone
                if len(voters):
                    candidate = purification.decode(latents, voters)
                    if change is None:  # the first candidate, on which every clip has a vote
                        change = (candidate - clips).square().mean((1, 2, 3, 4)).sqrt()
                    logits = self.recogniser.logits(candidate)
                    ballot.cast(timestep, voters, logits.softmax(dim=1))
                settled = early and not len(ballot.undecided())
            if settled and not to_the_end:
                break
        assert change is not None  # there is a first candidate
        return ballot, latents, change

    def _on_candidates(
        self, clips: Tensor, seeds: Seeds, read: Callable[[Tensor], Tensor]
    ) -> list[Tensor]:
        """`read`, [B, T, 3, H, W] -> [B, ...], applied to each clip's candidates: [V, ...]."""
        found: dict[int, Tensor] = {}
        for rows, purification in self._purifications(clips, self.settings, seeds):
            read_latents = partial(_decode_and, read, purification)
            values = [
                self.pipeline.checkpointed(read_latents, candidate.latents)
                for candidate in purification.candidates()
            ]
            found |= zip(rows, torch.stack(values, dim=1), strict=True)
        return [found[row] for row in range(len(clips))]

    def _purifications(
        self,
        clips: Tensor,
        settings: PurifySettings,
        seeds: Seeds,
        watch: Stopwatch | None = None,
    ) -> list[tuple[list[int], Purification]]:
        """Group the clips by the t that they drew: the rows of each group, and its purification."""
        if seeds is not None and len(seeds) != len(clips):
            raise ValueError(f"seeds must have one entry per clip ({len(clips)}), got {len(seeds)}")
        generators = make_generators(seeds, len(clips), clips.device)
        drawn = settings.effective_randomisation
        steps = [drawn.draw_steps(settings.inversion_steps, g) for g in generators]
        kind = self._purification or PURIFICATIONS[settings.method]
        purifications = []
        for t in sorted(set(steps)):
            rows = [row for row, drawn_t in enumerate(steps) if drawn_t == t]
            purification = kind(
                self.pipeline,
                clips if len(rows) == len(clips) else clips[rows],
                replace(settings, inversion_steps=t),
                [generators[row] for row in rows],
                watch=watch,
            )
            purifications.append((rows, purification))
        return purifications


def _decode_and(
    read: Callable[[Tensor], Tensor], purification: Purification, latents: Tensor
) -> Tensor:
    return read(purification.decode(latents))
