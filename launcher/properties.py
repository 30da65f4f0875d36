"""TorchServe's properties files, such as config.properties."""

from __future__ import annotations

import re

__all__ = ["read_properties"]


# A name ends at the first =, : or space without a backslash before it.
_ENTRY = re.compile(r"((?:\\.|[^\\=:\s])*)\s*[=:]?\s*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
# A line continues on the next one if it ends in an odd number of backslashes.
_CONTINUED = re.compile(r"(?<!\\)((?:\\\\)*)\\\n[ \t\f]*")


def read_properties(text: str) -> dict[str, str]:
    """Return the values by name; of a repeated name the last value counts, as in Java.

    Args:
        text: as `java.util.Properties` reads it: lines of `name=value`, `name: value` or
            `name value`; those that start with `#` or `!` are comments.
    """
    lines = (line.lstrip() for line in text.splitlines())
    spoken = "\n".join(line for line in lines if line and line[0] not in "#!")
    values = {}
    for line in _CONTINUED.sub(r"\1", spoken).splitlines():
        entry = _ENTRY.fullmatch(line)
        assert entry is not None  # every line is one
        name, value = entry.groups()
        values[_unescaped(name)] = _unescaped(value).strip()
    return values


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _CONTROL.get(found[2], found[2]),
        text,
    )
