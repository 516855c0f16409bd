"""The last steps of an environment's users, from which stretches are drawn as trajectories."""

from __future__ import annotations

from dataclasses import fields

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.types import Observation, Step, Trajectories


class Replay:
    """A ring of `capacity` steps for every place; the memory is laid out with the first step."""

    def __init__(self, capacity: int) -> None:
        """Make room.

        Args:
            capacity: steps kept per place, ≥ 2.

        Raises:
            InputError: capacity < 2.
        """
        if capacity < 2:
            raise input_error(f"a replay of {capacity} steps: expected at least 2, a step and the one after it")
        self.capacity = capacity
        self.added = 0
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """Steps kept per place."""
        return min(self.added, self.capacity)

    def add(self, observation: Observation, happened: Step) -> None:
        """Keep one step of every place, with what was seen before it."""
        row = {field.name: getattr(happened, field.name) for field in fields(Step)}
        row["context"] = observation.context
        if observation.candidates is not None:
            row["candidates"] = observation.candidates
        if not self._columns:
            self._columns = {name: value.new_zeros(self.capacity, *value.shape) for name, value in row.items()}
        at = self.added % self.capacity
        for name, value in row.items():
            self._columns[name][at] = value
        self.added += 1

    def sample(self, count: int, *, steps: int = 1, generator: Generator) -> Trajectories:
        """Stretches drawn uniformly, with replacement; a stretch ends where somebody else comes to its place.

        Args:
            count: stretches.
            steps: T, steps of each; the step after them must have been added.
            generator: source of the draws.

        Raises:
            InputError: too few steps were added.
        """
        starts = len(self) - steps
        if steps < 1 or starts < 1:
            raise input_error(f"{len(self)} steps are kept; stretches of {steps} need at least {steps + 1}")
        oldest = self.added - len(self)
        places = self._columns["user"].shape[1]
        start = torch.randint(starts, (count, 1), generator=generator) + oldest
        place = torch.randint(places, (count, 1), generator=generator)
        at = ((start + torch.arange(steps + 1)) % self.capacity) * places + place

        def gather(name: str, index: Tensor) -> Tensor:
            column = self._columns[name]
            return column.flatten(0, 1).index_select(0, index.flatten()).view(*index.shape, *column.shape[2:])

        columns = {field.name: gather(field.name, at[:, :-1]) for field in fields(Step)}
        mask = self._together(columns, gather("user", at))
        return Trajectories(
            **columns,
            mask=mask,
            learn=mask.clone(),
            context=gather("context", at),
            candidates=gather("candidates", at) if "candidates" in self._columns else None,
        ).pad()

    @staticmethod
    def _together(columns: dict[str, Tensor], user: Tensor) -> Bool[Tensor, "B T"]:
        """Steps of the stretch's first user; his last one is truncated where he left unseen."""
        same = (user == user[:, :1]).long().cumprod(dim=1).bool()
        mask = same[:, :-1]
        columns["truncated"] = columns["truncated"] | (mask & ~same[:, 1:] & ~columns["terminated"])
        return mask
