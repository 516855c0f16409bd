"""ε-greedy slates.

With probability ε a user's whole slate is drawn uniformly from the candidates. The propensity of such a mixture is
exact: P(a_1 … a_j) = (1 − ε) 1[greedy begins like that] + ε Π 1/(C − i).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM
from slatewise.ops.slates import uniform_slates
from slatewise.types import Slates


def epsilon_greedy(greedy: Slates, epsilon: float, *, candidates: Int[Tensor, "B C"], generator: Generator) -> Slates:
    """Slates of which a share ε is drawn at random, with the exact propensities of the mixture.

    Args:
        greedy: what is served otherwise, with certainty.
        epsilon: share, in [0, 1].
        candidates: C items that random slates are drawn from, none of them 0 or twice.
        generator: source of the draws.

    Raises:
        InputError: candidates with padding.
    """
    # one list that all users share is looked at once
    distinct = candidates[:1] if candidates.stride(0) == 0 else candidates
    if bool((distinct < FIRST_ITEM).any()):
        raise input_error("random slates need full lists of candidates; some are padded")
    size = greedy.items.shape[1]
    random, chain = uniform_slates(candidates, size, generator=generator)
    explores = torch.rand(len(random), 1, generator=generator) < epsilon
    items = torch.where(explores, random, greedy.items)
    as_greedy: Bool[Tensor, "B K"] = (items == greedy.items).long().cumprod(dim=1).bool()
    reached: Float[Tensor, "B K"] = (1 - epsilon) * as_greedy + epsilon * chain.cumsum(dim=1).exp()
    reached_before = torch.nn.functional.pad(reached[:, :-1], (1, 0), value=1.0)
    return Slates(items=items, logp=(reached / reached_before).log())
