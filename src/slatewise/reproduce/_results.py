"""Results of cells by name and seed: a cell that has a seed is called NAME-SEED."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def seed_range(seed_base: int, quick: bool, *, full: int = 5, short: int = 2) -> range:
    """Seeds of an experiment in its full or its short form."""
    return range(seed_base, seed_base + (short if quick else full))


def differences(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ours less the others', seed by seed."""
    return [a - b for a, b in zip(ours, others, strict=True)]


def shares(ours: Sequence[float], floor: Sequence[float], top: Sequence[float]) -> list[float]:
    """(ours − floor) / (top − floor), seed by seed."""
    return [(value - low) / (high - low) for value, low, high in zip(ours, floor, top, strict=True)]


class Results:
    """What the cells of an experiment came to."""

    def __init__(self, cells: Mapping[str, Mapping[str, Any]]) -> None:
        self.cells = cells
        self._by_seed: dict[str, dict[int, Mapping[str, Any]]] = {}
        for cell, result in cells.items():
            name, _, seed = cell.rpartition("-")
            if name and seed.isdecimal():
                self._by_seed.setdefault(name, {})[int(seed)] = result

    def __contains__(self, name: str) -> bool:
        """Whether cells of this name were computed."""
        return name in self._by_seed

    def __getitem__(self, name: str) -> list[Mapping[str, Any]]:
        """Results of the cells of a name, in the order of their seeds."""
        by_seed = self._by_seed.get(name, {})
        return [by_seed[seed] for seed in sorted(by_seed)]

    def values(self, name: str, *keys: str | int) -> list[float]:
        """One number per seed, found under some keys of each result."""
        values = []
        for result in self[name]:
            value: Any = result
            for key in keys:
                value = value[key]
            values.append(float(value))
        return values
