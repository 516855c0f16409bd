"""The metrics that runs share although their [evaluate] differs, and those that cannot stand in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slatewise.config import EvaluateConfig

_LISTS_ALONE = ("coverage", "gini", "avg_popularity")
"""Metrics of the lists themselves: what counts as found does not matter to them."""


@dataclass(frozen=True, kw_only=True)
class SharedMetrics:
    """Names of metrics that mean the same for all of some runs."""

    names: tuple[str, ...]
    """In the order of the first run."""
    notes: tuple[str, ...]
    """Which metrics are left out, and the settings that tell them apart; one sentence each."""

    @property
    def k(self) -> int:
        """The longest list that they are about; 0 where nothing is shared."""
        return max((_length(name) for name in self.names), default=0)


def shared_metrics(settings: Mapping[str, EvaluateConfig], measured: Mapping[str, Sequence[str]]) -> SharedMetrics:
    """The metrics that mean the same for every run.

    Args:
        settings: [evaluate] of each run, by label.
        measured: names of the metrics of each run, by label.
    """
    every = list(dict.fromkeys(name for names in measured.values() for name in names))
    names = [name for name in every if all(name in others for others in measured.values())]
    notes = []
    for setting, depends in _DEPENDENT.items():
        values = {label: getattr(evaluate, setting) for label, evaluate in settings.items()}
        if len(set(values.values())) == 1:
            continue
        left_out = [name for name in every if depends(name) and not (setting == "k" and name in names)]
        names = [name for name in names if name not in left_out]
        described = ", ".join(f"{_toml(value)} ({label})" for label, value in values.items())
        if left_out:
            notes.append(f"[evaluate] {setting} differs, {described}: not compared are {', '.join(left_out)}.")
        else:
            notes.append(f"[evaluate] {setting} differs, {described}.")
    return SharedMetrics(names=tuple(names), notes=tuple(notes))


def _length(name: str) -> int:
    return int(name.rpartition("@")[2])


def _toml(value: Any) -> str:
    """A value as a configuration writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "not set" if value is None else repr(list(value) if isinstance(value, tuple) else value)


def _is_liked(name: str) -> bool:
    return name.startswith("liked_")


def _is_found(name: str) -> bool:
    return not name.startswith(_LISTS_ALONE)


_DEPENDENT: dict[str, Callable[[str], bool]] = {
    "k": lambda name: True,
    "liked_at_least": _is_liked,
    "exclude_seen": _is_found,
}
"""Setting → the metrics whose meaning it changes."""
