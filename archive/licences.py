"""Finds a model's licence in its folder, and whether it restricts the model's use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

__all__ = ["find_licence", "front_matter", "is_restricted"]

_TEXTS = ("LICENSE*", "LICENCE*", "COPYING*")
# Beginnings of licence texts, for folders without a model card.
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
# Not for every use: non-commercial, research only, or own terms that must be read.
_RESTRICTED = re.compile(
    r"(^|[^a-z])nc([^a-z]|$)|non-?commercial|research|^other\b|^unknown\b", re.I
)


def find_licence(place: Path) -> str | None:
    """The licence in the model card, or else that of a licence file, or else None.

    For a folder inside a model's folder (such as `pipeline/`) the one above it counts, and for a
    file its folder.
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
    """Whether a licence limits the use of the model, so that the builder must agree."""
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
    """The `license` of a model card's front matter, with name and link of a custom one."""
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
