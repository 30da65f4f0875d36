"""What requirements bring with them, as it is installed here."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import distribution, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["closure"]


def closure(requirements: Iterable[str]) -> dict[str, str]:
    """Names and versions of all packages that requirements need here, their extras included.

    Raises:
        PackageNotFoundError: if one is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    pending = [(text, "") for text in requirements]
    while pending:
        text, extra = pending.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        found[name] = version(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                pending += [(needed, wanted) for needed in distribution(name).requires or ()]
    return found
