"""Under which licence a model comes, as its folder says, and whether that restricts its use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

__all__ = ["find_licence", "front_matter", "is_restricted"]

_TEXTS = ("LICENSE*", "LICENCE*", "COPYING*")
# How licence texts begin, for folders without a model card.
_KNOWN_TEXTS = (
    (r"Apache License\s+Version 2\.0", "apache-2.0"),
    (r"MIT License|Permission is hereby granted, free of charge", "mit"),
    (r"Attribution-NonCommercial-NoDerivatives 4\.0", "cc-by-nc-nd-4.0"),
    (r"Attribution-NonCommercial-ShareAlike 4\.0", "cc-by-nc-sa-4.0"),
    (r"Attribution-NonCommercial 4\.0", "cc-by-nc-4.0"),
    (r"Attribution-ShareAlike 4\.0", "cc-by-sa-4.0"),
    (r"Attribution 4\.0 International", "cc-by-4.0"),
    (r"CreativeML Open RAIL\+\+-M", "openrail++"),
    (r"CreativeML Open RAIL-M", "creativeml-openrail-m"),
    (r"Redistribution and use in source and binary forms", "bsd"),
)
# Not for every use: non-commercial, research only, or terms of their own that must be read.
_RESTRICTED = re.compile(
    r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research|^other\b|^unknown\b", re.I
)


def find_licence(place: Path) -> str | None:
    """What the model card says, else the licence that lies in the folder, else None.

    A folder inside a model's folder (such as `pipeline/`) is spoken for by the one above it, and a
    file by the folder it lies in.
    """
    folder = place if place.is_dir() else place.parent
    for speaker in (folder, folder.parent) if place.is_dir() else (folder,):
        found = _from_card(speaker / "README.md")
        if found is not None:
            return found
    for pattern in _TEXTS:
        for file in sorted(folder.glob(pattern)):
            return _from_text(file)
    return None


def is_restricted(licence: str) -> bool:
    """Whether a licence limits who may use the model for what, so that the builder must agree."""
    return _RESTRICTED.search(licence) is not None


def front_matter(card: Path) -> dict[str, Any]:
    """The front matter of a model card; empty if there is none that can be read."""
    if not card.is_file():
        return {}
    text = card.read_text(encoding="utf-8", errors="replace")
    parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.M)
    if not text.startswith("---") or len(parts) < 3:
        return {}
    try:
        found: Any = yaml.safe_load(parts[1])
    except yaml.YAMLError:  # a card is prose; a broken one says nothing
        return {}
    return found if isinstance(found, dict) else {}


def _from_card(card: Path) -> str | None:
    """The `license` of a model card's front matter, with the name and link of one of its own."""
    found = front_matter(card)
    if "license" not in found:
        return None
    licence = found["license"]
    name = ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)
    details = [found[k] for k in ("license_name", "license_link") if k in found]
    return f"{name} ({', '.join(map(str, details))})" if details else name


def _from_text(file: Path) -> str:
    text = file.read_text(encoding="utf-8", errors="replace")[:4000]
    for pattern, name in _KNOWN_TEXTS:
        if re.search(pattern, text):
            return name
    return f"other (see {file.name})"
