"""Recommendation policies by reinforcement learning: from a log to served slates with exact propensities."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slatewise.errors import InputError, SlatewiseError
    from slatewise.log import Catalog, Interactions, Vocabulary
    from slatewise.types import Estimate, Exploration, Observation, SlateRequest, Slates, Step, Trajectories

__all__ = [
    "Catalog",
    "Estimate",
    "Exploration",
    "InputError",
    "Interactions",
    "Observation",
    "SlatewiseError",
    "SlateRequest",
    "Slates",
    "Step",
    "Trajectories",
    "Vocabulary",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the types bring torch, and `slatewise --help` should not wait for it.
    if name not in __all__:
        raise AttributeError(f"module 'slatewise' has no attribute {name!r}")
    columns = {"Catalog", "Interactions", "Vocabulary"}
    room = "errors" if name.endswith("Error") else "log" if name in columns else "types"
    return getattr(importlib.import_module(f"slatewise.{room}"), name)
