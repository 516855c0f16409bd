"""Which position of a slate is the choice, values there, and buckets of rewards."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from slatewise.errors import input_error
from slatewise.wording import agree, count_of

SeveralUses = Literal["refuse", "largest", "each"]
"""What a method that assumes one choice makes of a slate of which several items were used: nothing, the one with the
largest reward, or a choice of each."""


def choice_rows(
    used: Bool[Tensor, "B T K"], choice: Int[Tensor, "B T"], steps: Bool[Tensor, "B T"], rule: SeveralUses
) -> Int[Tensor, "P 3"]:
    """User, step and chosen position of every choice at some steps; position −1 where nothing was used.

    Args:
        used: (B, T, K) which shown items were used.
        choice: (B, T) the one with the largest reward, −1 without a use.
        steps: (B, T) where to look.
        rule: what several uses of a slate are.

    Raises:
        InputError: several uses, and a rule that refuses them.
    """
    several = (used.sum(dim=2) > 1) & steps
    if rule == "refuse" and (number := int(several.sum())):
        raise input_error(
            f"{count_of(number, 'slate')} of a batch {agree(number, 'has', 'have')} several used items",
            advice='Set several_uses to "largest" or "each".',
        )
    if rule != "each":
        user, t = steps.nonzero().unbind(dim=1)
        return torch.stack([user, t, choice[user, t]], dim=1)
    nothing = steps & ~used.any(dim=2)
    rows = torch.cat([nothing.unsqueeze(2), used & steps.unsqueeze(2)], dim=2).nonzero()
    return torch.cat([rows[:, :2], rows[:, 2:] - 1], dim=1)


def check_several_uses(number: int, rule: SeveralUses, *, setting: str) -> None:
    """Refuse slates of several used items, where the rule does.

    Args:
        number: of such slates in the training part of a log.
        rule: what they are.
        setting: name of the rule's setting.

    Raises:
        ValueError: there are some, and the rule refuses them.
    """
    if number and rule == "refuse":
        raise ValueError(
            f'{_slates(number)}, and {setting} = "refuse"; "largest" takes the one with the largest reward'
        )


def several_uses_note(number: int, rule: SeveralUses, *, setting: str) -> tuple[str, ...]:
    """What was made of slates of several used items, for the end of training.

    Args:
        number: of such slates in the training part of a log.
        rule: what they were.
        setting: name of the rule's setting.
    """
    if not number:
        return ()
    rule_in_words = "one choice each use" if rule == "each" else "the choice is the used item with the largest reward"
    return (f'{_slates(number)}: {rule_in_words} ({setting} = "{rule}")',)


def _slates(number: int) -> str:
    return f"{count_of(number, 'slate')} of the training part {agree(number, 'has', 'have')} several used items"


def at_choice(values: Shaped[Tensor, "*B K"], choice: Int[Tensor, "*B"]) -> Shaped[Tensor, "*B"]:
    """The value at the chosen position; 0 without a choice (−1)."""
    chosen = values.gather(-1, choice.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(choice >= 0, chosen, torch.zeros_like(chosen))


def bucket(values: Float[Tensor, "*B"], edges: Float[Tensor, " E"]) -> Int[Tensor, "*B"]:
    """Number of the bucket of each value: how many edges are ≤ it (0 … E)."""
    return torch.bucketize(values.contiguous(), edges, right=True)


def bucket_edges(values: Float[np.ndarray, " P"], most: int = 8) -> tuple[float, ...]:
    """Edges that give every value a bucket of its own, or quantiles that make about `most` buckets of equal size.

    The lowest value (quantile) has no edge: what lies below the first edge is a bucket of its own.
    """
    edges = np.unique(values)
    if len(edges) > most:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, most + 1)[:-1]))
    return tuple(float(edge) for edge in edges[1:])
