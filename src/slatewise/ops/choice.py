"""Choice of at most one item of a slate: weights → probabilities → a drawn choice.

Ie et al., "SlateQ", IJCAI 2019 (arXiv 1905.12767), sec. 5.1: P(i|A) = v_i / (v_⊥ + Σ_{j∈A} v_j), with ⊥ = nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.errors import input_error

ChoiceModel = Literal["proportional", "mnl", "proportional_cascade", "exponential_cascade"]


def choice_weight(affinity: Float[Tensor, "*B"], model: ChoiceModel, *, floor: float = -1.0) -> Float[Tensor, "*B"]:
    """Weight v of an affinity x: x − floor (proportional, proportional_cascade), or e^x (mnl, exponential_cascade).

    Args:
        affinity: of user and item, any number.
        model: the choice model.
        floor: smallest possible affinity (proportional); an item of that affinity is never chosen.
    """
    return affinity - floor if model.startswith("proportional") else torch.exp(affinity)


def choice_probabilities(weight: Float[Tensor, "*B K"], null_weight: Float[Tensor, "*B"]) -> Float[Tensor, "*B K1"]:
    """P(i|A) = v_i / (v_⊥ + Σ v_j) per position, and P(⊥|A) last.

    Args:
        weight: v ≥ 0 of the shown items; 0 = an empty position.
        null_weight: v_⊥ ≥ 0 of choosing nothing.

    Raises:
        InputError: a weight below 0 or NaN, or all weights of a slate 0.
    """
    both = torch.cat([weight, null_weight.unsqueeze(-1)], dim=-1)
    check_weights(both)
    return both / both.sum(dim=-1, keepdim=True)


def cascade_probabilities(attraction: Float[Tensor, "*B K"]) -> Float[Tensor, "*B K1"]:
    """P(position k) = a_k Π_{j<k} (1 − a_j), and P(⊥) = Π (1 − a_j) last: the user scans from the top until a choice.

    Args:
        attraction: a, the probability that an item is chosen once it is reached, in [0, 1].

    Raises:
        InputError: a number outside [0, 1].
    """
    if not bool(((attraction >= 0) & (attraction <= 1)).all()):
        worst = float(attraction.flatten()[(attraction.flatten() - 0.5).abs().nan_to_num(torch.inf).argmax()])
        raise input_error(
            f"cascade attraction {worst:.4g} is not a probability",
            advice="Lower cascade.scaling or cascade.attention: their product times the weight must stay ≤ 1.",
        )
    # log1p keeps the product accurate for small a; a = 1 gives −inf, and e^−inf is 0 as it should be
    passed = torch.cumsum(torch.log1p(-attraction), dim=-1)
    reached = torch.cat([torch.zeros_like(passed[..., :1]), passed], dim=-1).exp()
    return torch.cat([attraction * reached[..., :-1], reached[..., -1:]], dim=-1)


def pick(
    weight: Float[Tensor, "B K"], null_weight: Float[Tensor, " B"], uniform: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """Draw a position in proportion to the weights, −1 for no choice, by inverting the cumulative weights.

    Args:
        weight: v ≥ 0 per position.
        null_weight: v_⊥ ≥ 0.
        uniform: one number in [0, 1) per row; the same number gives the same choice.
    """
    # unrolled over the few positions: a cumulative sum along a short last axis is several times slower
    cumulative: list[Tensor] = []
    for column in weight.unbind(dim=1):
        cumulative.append(column + cumulative[-1] if cumulative else column)
    point = uniform * (cumulative[-1] + null_weight)
    position = torch.zeros_like(point, dtype=torch.int64)
    for edge in cumulative:
        position += point >= edge
    # "no choice" comes last: rounding at the upper end can only fall on it, never on an empty position of weight 0
    return position.masked_fill_(position == weight.shape[1], -1)


def check_weights(weight: Float[Tensor, "*B K1"]) -> None:
    """Refuse choice weights that define no distribution.

    Raises:
        InputError: a weight below 0, infinite or NaN, or a row of zeros; the message names the first row.
    """
    rows = weight.flatten(0, -2) if weight.ndim > 1 else weight.unsqueeze(0)
    wrong: Bool[Tensor, " R"] = ~((rows >= 0) & torch.isfinite(rows)).all(dim=1)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise input_error(
            f"choice weights of slate {row} are {_short(rows[row])}; expected finite numbers ≥ 0",
            advice="Look for NaN or extreme features and scores.",
        )
    nothing = rows.sum(dim=1) == 0
    if bool(nothing.any()):
        raise input_error(
            f"all choice weights of slate {int(nothing.nonzero()[0])} are 0, so that no choice is possible",
            advice="Give `null_weight` (choosing nothing) a value above 0.",
        )


def _short(row: Float[Tensor, " K1"]) -> str:
    shown = ", ".join(f"{float(value):.4g}" for value in row[:8])
    return f"[{shown}{', …' if len(row) > 8 else ''}]"
