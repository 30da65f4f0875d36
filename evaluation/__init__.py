"""How much purification really helps: attacks, defences, metrics and the report.

    from videopure.evaluation import evaluate
    result = evaluate("my.mar", suite="quick", data="path/to/labelled/videos")

May import motions, archive, handler, format, purifier and wire.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videopure.evaluation.api import Evaluation, Progress, evaluate
    from videopure.evaluation.store import EvaluationError

__all__ = ["Evaluation", "EvaluationError", "Progress", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import on first use: code that needs one attack or a stored result loads little else."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = "store" if name == "EvaluationError" else "api"
    return getattr(import_module(f"{__name__}.{file}"), name)
