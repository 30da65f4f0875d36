"""Policies of the operator for tests that are about something else."""

from __future__ import annotations

from typing import Any

__all__ = ["OPEN"]

# Clients may ask for everything, and are told everything.
OPEN: dict[str, Any] = {
    "clients_may": ["purify", "method", "inversion_steps", "votes", "seed"],
    "answer": "full",
    "max_work": 10_000,
}
