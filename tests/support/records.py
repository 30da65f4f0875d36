"""Stored answers of evaluations."""

from __future__ import annotations

from videopure.evaluation.store import Record

__all__ = ["LIMITS", "QUESTION", "RECORD", "RECORDS", "answers"]

QUESTION = {"archive": "abc", "seed": 0}
RECORD = Record(
    threat="PGD-10 4/255",
    family="PGD-10",
    knowledge="gray-box",
    epsilon=4,
    defence="none",
    clip=0,
    name="test 0",
    truth=1,
    label=2,
    votes=[2],
    timesteps=[],
    suspicion=None,
    seconds=0.1,
    attack_seconds=0.2,
    largest_change=0.0157,
)


def answers(
    defence: str,
    threat: str,
    right: str,
    *,
    knowledge: str = "gray-box",
    suspicion: list[float] | None = None,
) -> list[Record]:
    """One record for each character of `right`: "1" is a right answer."""
    name, _, last = threat.rpartition(" ")
    family, budget = (name, last) if name else (threat, "")
    epsilon = int(budget.split("/")[0]) if budget else {"clean": 0, "unbounded": 255}[threat]
    return [
        Record(
            threat=threat,
            family=family,
            knowledge=knowledge,
            epsilon=epsilon,
            defence=defence,
            clip=clip,
            name=f"test {clip}",
            truth=1,
            label=int(outcome),
            votes=[int(outcome)],
            timesteps=[1],
            suspicion=suspicion[clip] if suspicion else None,
            seconds=0.5,
            attack_seconds=2.0,
            largest_change=epsilon / 255,
            fidelity={"psnr": 30.0 + clip, "ssim": 0.9} if threat == "clean" else None,
        )
        for clip, outcome in enumerate(right)
    ]


RECORDS = [
    *answers("none", "clean", "1111", knowledge="clean"),
    *answers("none", "PGD-10 4/255", "0100"),
    *answers("none", "PGD-50 4/255", "0110"),
    *answers("VideoPure", "clean", "1111", knowledge="clean", suspicion=[0.0, 0.1, 0.2, 0.6]),
    *answers("VideoPure", "PGD-10 4/255", "1110", suspicion=[0.9, 0.6, 0.1, 0.05]),
    *answers("VideoPure", "PGD-10 8/255", "1111"),
    *answers("VideoPure", "BPDA-20 4/255", "011", knowledge="adaptive"),
    *answers("VideoPure", "exact-20 4/255", "001", knowledge="adaptive"),
    *answers("VideoPure", "exact-20 of 8 draws 4/255", "011", knowledge="adaptive"),
    *answers("VideoPure", "exact APGD-20 4/255", "011", knowledge="adaptive"),
    *answers("VideoPure", "exact APGD-100 4/255", "001", knowledge="adaptive"),
    *answers("VideoPure", "unbounded", "01", knowledge="adaptive"),
]


LIMITS = {"1% of clean clips": 0.5, "5% of clean clips": 0.15}
