"""Contract of a batch of trajectories: what stands where there is no step."""

from __future__ import annotations

from dataclasses import fields

import torch

from slatewise.log import PAD
from slatewise.testing._contract import expect
from slatewise.types import PADDING, VIEWS, Step, Trajectories


def check_trajectories(batch: Trajectories, *, where: str = "the batch") -> None:
    """Check that padding is what `types.PADDING` says, that fields are long enough and that `learn` implies `mask`.

    Args:
        batch: from any builder; masked steps anywhere.
        where: name of the builder, for messages.

    Raises:
        ContractError: the message names the field and what was expected.
    """
    users, steps = batch.mask.shape
    for field in fields(batch):
        value = getattr(batch, field.name)
        if value is not None and value.ndim > 1:
            shape = (users, steps + (field.name in VIEWS))
            expect(
                value.shape[:2] == shape,
                f"{where}: {field.name} begins with the shape {tuple(value.shape[:2])}; expected {shape}",
            )
    expect(not bool((batch.learn & ~batch.mask).any()), f"{where}: a step without mask is learned from")
    check_uses(batch, where=where)
    expect(
        bool((batch.user == batch.user[:, :1]).all()),
        f"{where}: the user changes within a row; expected one user a row",
    )
    reached = torch.nn.functional.pad(batch.mask.flip(1).cumsum(dim=1).flip(1) > 0, (1, 0), value=True)
    stepwise = {field.name for field in fields(Step)} - {"user"}
    for name in (*sorted(stepwise), *sorted(VIEWS)):
        value = getattr(batch, name)
        if value is None:
            continue
        removed = value[~(reached if name in VIEWS else batch.mask)]
        wrong = removed[removed != PADDING[name]]
        expect(
            not len(wrong),
            f"{where}: {name} is {wrong[:1].tolist()} where there is no step; expected {PADDING[name]!r}. "
            "Trajectories.pad() puts it there",
        )


def check_uses(steps: Step | Trajectories, *, where: str) -> None:
    """Check that only shown items are used, not before they are shown, and that nothing else has a time of use.

    Args:
        steps: one step or a batch of many.
        where: name of the builder, for messages.

    Raises:
        ContractError: the message names the field and what was expected.
    """
    exists = steps.mask.unsqueeze(-1) if isinstance(steps, Trajectories) else torch.ones_like(steps.used)
    for name in ("used_time", "use_reward"):
        wrong = (getattr(steps, name) != 0) & ~steps.used & exists
        expect(not bool(wrong.any()), f"{where}: {name} is not 0 where nothing was used")
    used = steps.used & exists
    expect(not bool((used & (steps.slate == PAD)).any()), f"{where}: an empty place was used")
    early = used & (steps.used_time < steps.time.unsqueeze(-1))
    expect(not bool(early.any()), f"{where}: an item was used before it was shown")
