"""Headers that a server asks for, as an application without our client sends them."""

from __future__ import annotations

import json

from videopure.launcher.server import TorchServe
from videopure.wire.operator import OPERATOR_HEADER

__all__ = ["client_key", "operator"]


def client_key(server: TorchServe, purpose: str = "inference") -> dict[str, str]:
    """TorchServe's own key."""
    keys = json.loads((server.folder / "key_file.json").read_text())
    return {"Authorization": f"Bearer {keys[purpose]['key']}"}


def operator(server: TorchServe) -> dict[str, str]:
    """The operator's key."""
    return {OPERATOR_HEADER: server.operator_key_file.read_text().strip()}
