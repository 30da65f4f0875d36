"""An answer in which nothing is left out."""

from __future__ import annotations

from typing import Any

from videopure.wire.schemas import Answer

__all__ = ["full_answer"]


def full_answer() -> dict[str, Any]:
    """The JSON body of an answer that says everything."""
    best = {"label": "wave", "label_id": 0, "score": 0.75}
    answer = Answer.model_validate(
        {
            "request_id": "id",
            "model": {"name": "v", "version": "1.0", "recogniser": "r", "purifier": "p"},
            "detail": "full",
            "purification": {
                "method": "videopure",
                "inversion_steps": 2,
                "speed": "exact",
                "calibrated": True,
            },
            "predictions": [best, {"label": "run", "label_id": 2, "score": 0.25}],
            "votes": {
                "counted": 1,
                "of": 3,
                "agreement": 1.0,
                "by_step": [{"clip": 0, "timestep": 21, "label": "wave", "score": 0.75}],
            },
            "undefended": {"label": "run", "label_id": 2, "score": 1.0},
            "suspicion": {"score": 0.875, "adversarial": True},
            "similarity": {"near_duplicates": 3, "alarm": False},
            "clips": [{**best, "suspicion": 0.875, "frame_indices": [0, 2, 4]}],
            "video": {
                "frames": 6,
                "fps": 8.0,
                "duration_s": 0.75,
                "width": 48,
                "height": 32,
                "frame_indices": [0, 2, 4],
                "sampling_phase": 0.5,
            },
            "warnings": ["short"],
            "timing_ms": {"decode": 1.5, "total": 20.0},
        }
    )
    return answer.model_dump()
