"""TorchServe's properties files, such as config.properties."""

from __future__ import annotations

__all__ = ["read_properties"]


def read_properties(text: str) -> dict[str, str]:
    """Returns the values by name; of a name that stands twice the last one counts, as in Java.

    Args:
        text: lines of `name=value`; those that begin with `#` or `!` are comments.
    """
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and line[0] not in "#!")
    return {name.strip(): value.strip() for name, value in pairs}
