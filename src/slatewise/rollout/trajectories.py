"""Play recorded as trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.errors import input_error
from slatewise.protocols import Env
from slatewise.rollout.play import Arm, play
from slatewise.types import Step, Trajectories


def record_trajectories(env: Env, arms: Sequence[Arm], *, steps: int, seed: int, exclude_last: int = 0) -> Trajectories:
    """Record `steps` steps of every place; one row per user, so a place that changes hands gives several rows.

    Args:
        env: is reset with `seed`.
        arms: who serves; several are mixed by their shares.
        steps: recorded steps per place, ≥ 1; rows cut off by the end of the recording are truncated.
        seed: of everything random here.
        exclude_last: how many of the items that a user used last are not shown to them again.

    Raises:
        InputError: fewer than one step, no arm, or more arms than users.
    """
    if steps < 1:
        raise input_error(f"a recording of {steps} steps: expected at least 1")
    happened: list[Step] = []
    contexts: list[Tensor] = []
    candidates: list[Tensor | None] = []
    for observation, step, next_observation in play(env, arms, seed=seed, exclude_last=exclude_last):
        happened.append(step)
        contexts.append(observation.context)
        candidates.append(observation.candidates)
        if len(happened) == steps:
            contexts.append(next_observation.context)
            candidates.append(next_observation.candidates)
            break
    return _by_user(happened, contexts, [c for c in candidates if c is not None], next_observation.user)


def _by_user(
    happened: list[Step],
    contexts: list[Float[Tensor, "B X"]],
    candidates: list[Int[Tensor, "B C"]],
    user_after: Int[Tensor, " B"],
) -> Trajectories:
    """Steps of B places, one after another, → one row per user."""
    user = torch.stack([step.user for step in happened], dim=1)
    batch, steps = user.shape
    starts = torch.ones_like(user, dtype=torch.bool)
    starts[:, 1:] = user[:, 1:] != user[:, :-1]
    first = starts.flatten().nonzero().squeeze(1)  # index into (B·T) of every row's first step
    length = torch.diff(first, append=torch.tensor([batch * steps]))
    column = torch.arange(int(length.max()))
    mask = column < length.unsqueeze(1)
    at = torch.where(mask, first.unsqueeze(1) + column, first.unsqueeze(1))
    columns = {
        field.name: torch.stack([getattr(step, field.name) for step in happened], dim=1).flatten(0, 1)[at]
        for field in fields(Step)
    }
    # A row that the end of the recording cut off: its place still has the same user, and no end was reported.
    last = length - 1
    rows = torch.arange(len(first))
    ended = columns["terminated"][rows, last] | columns["truncated"][rows, last]
    at_end = (first + last) % steps == steps - 1
    columns["truncated"][rows, last] |= at_end & ~ended
    # What is seen after a row's last step is its user's only where the user is still there; else the last view stands.
    place = torch.div(first, steps, rounding_mode="floor")
    still_there = at_end & (user_after[place] == user[place, -1])
    look = torch.cat([column, column.new_tensor([len(column)])]).expand(len(first), -1)
    look = torch.minimum(look, torch.where(still_there, length, last).unsqueeze(1)) + (first % steps).unsqueeze(1)
    return Trajectories(
        **columns,
        mask=mask,
        learn=mask.clone(),
        context=torch.stack(contexts, dim=1)[place.unsqueeze(1), look],
        candidates=torch.stack(candidates, dim=1)[place.unsqueeze(1), look] if candidates else None,
    ).pad()
