"""How good ranked lists are, on the full ranking. Pure functions of hits; k is the width of what is passed.

``hits[b, j]`` is True where position j of list b holds a relevant item; ``relevant[b]`` is how many there are to find.
Metrics of a list are (B,), in double precision; their mean is the usual number. NaN means that there is no value.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.log import PAD


def hit(hits: Bool[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """1 where the list holds any relevant item."""
    return hits.any(dim=1).double()


def precision(hits: Bool[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """Share of the list that is relevant."""
    return hits.double().mean(dim=1)


def recall(hits: Bool[Tensor, "B K"], relevant: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Share of the relevant items that the list holds; NaN where there is none."""
    return hits.sum(dim=1).double() / relevant


def f1(hits: Bool[Tensor, "B K"], relevant: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Harmonic mean of precision and recall; 0 without a hit, NaN where nothing is relevant."""
    return _where_relevant(2 * hits.sum(dim=1).double() / (hits.shape[1] + relevant), relevant)


def mrr(hits: Bool[Tensor, "B K"]) -> Float[Tensor, " B"]:
    """1 / position of the first hit; 0 without one."""
    return (hits.double() / _positions(hits)).amax(dim=1)


def ndcg(hits: Bool[Tensor, "B K"], relevant: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Discounted gain Σ 1/log₂(position + 1) over hits, as a share of the best that any list of this length could get
    (Järvelin & Kekäläinen 2002, binary gains); NaN where nothing is relevant.
    """
    discount = 1.0 / torch.log2(_positions(hits) + 1)
    best = torch.cumsum(discount, dim=0)[(relevant.clamp(min=1, max=hits.shape[1]) - 1)]
    return _where_relevant((hits * discount).sum(dim=1) / best, relevant)


def average_precision(hits: Bool[Tensor, "B K"], relevant: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Mean over the findable relevant items of the precision at their positions (map@k is its mean); NaN where nothing
    is relevant.
    """
    at_hit = torch.cumsum(hits, dim=1) / _positions(hits) * hits
    return at_hit.sum(dim=1) / relevant.clamp(max=hits.shape[1])


def coverage(exposure: Float[Tensor, " N"]) -> float:
    """Share of the catalog that was recommended to anybody; NaN for an empty catalog.

    Args:
        exposure: how often each real item was recommended.
    """
    return float((exposure > 0).double().mean())


def gini(exposure: Float[Tensor, " N"]) -> float:
    """Inequality of exposure over the catalog: 0 all items alike, 1 − 1/N one item takes all; NaN without any."""
    ordered = torch.sort(exposure.double()).values
    total = ordered.sum()
    if not total > 0:
        return math.nan
    number = len(ordered)
    rank = torch.arange(1, number + 1, dtype=torch.float64)
    return float(((2 * rank - number - 1) * ordered).sum() / (number * total))


def avg_popularity(items: Int[Tensor, "B K"], count: Int[Tensor, " R"]) -> Float[Tensor, " B"]:
    """Mean training count of the recommended items; NaN for an empty list.

    Args:
        items: item numbers; 0 fills a list that ran out of items.
        count: how often each item number was used in training.
    """
    shown = items != PAD
    return (count[items] * shown).sum(dim=1).double() / shown.sum(dim=1)


def rmse(predicted: Float[Tensor, " B"], actual: Float[Tensor, " B"]) -> float:
    """Root of the mean squared error."""
    return float((predicted - actual).square().mean().sqrt())


def mae(predicted: Float[Tensor, " B"], actual: Float[Tensor, " B"]) -> float:
    """Mean absolute error."""
    return float((predicted - actual).abs().mean())


def _positions(hits: Bool[Tensor, "B K"]) -> Float[Tensor, " K"]:
    return torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)


def _where_relevant(values: Float[Tensor, " B"], relevant: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    return values.masked_fill(relevant == 0, math.nan)
