"""Contract of a batch of trajectories: what stands where there is no step."""

from __future__ import annotations

from dataclasses import fields

import torch

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
        if value is not None:
            shape = (users, steps + (field.name in VIEWS))
            expect(
                value.shape[:2] == shape,
                f"{where}: {field.name} begins with the shape {tuple(value.shape[:2])}; expected {shape}",
            )
    expect(not bool((batch.learn & ~batch.mask).any()), f"{where}: a step without mask is learned from")
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
