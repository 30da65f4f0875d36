"""Screens many videos at once with an archive's models, on Ray Data; rewrites single ones.

    from videopure.bulk import screen
    summary = screen(["s3://bucket/videos"], "my.mar", "answers")

May import format, handler, purifier and wire.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videopure.bulk.errors import ScreenError
    from videopure.bulk.screening import Progress, screen
    from videopure.bulk.summary import Summary

__all__ = ["Progress", "ScreenError", "Summary", "screen"]

_FILES = {
    "Progress": "screening",
    "ScreenError": "errors",
    "Summary": "summary",
    "screen": "screening",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `videopure purify` needs no Arrow."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
