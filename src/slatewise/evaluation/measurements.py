"""Metrics of a ranking, each over the users that have a value of it, with its interval; what counts is written in
docs/guides/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.config import EvaluateConfig
from slatewise.evaluation import metrics
from slatewise.evaluation.ranking import Ranking, nobody
from slatewise.evaluation.relevance import RelevanceSummary
from slatewise.log import FIRST_ITEM
from slatewise.stats import Measurement, jackknife_of_share, mean_interval, share_interval, wilson

JACKKNIFE_GROUPS = 20
LIKED = "liked_"
HIT_METRICS = ("recall", "precision", "f1", "ndcg", "mrr", "hit", "map")
LIST_METRICS = ("liked_share", "coverage", "gini", "avg_popularity")
"""Metrics of all lists, of users with nothing to find, too; the others are of users with something to find."""


def ranking_metrics(
    ranking: Ranking, config: EvaluateConfig, *, num_rows: int, count: Int[Tensor, " R"]
) -> tuple[Measurement, ...]:
    """Every metric of a ranking, by length of list.

    Args:
        ranking: the lists and their hits.
        config: lengths, what counts as liked.
        num_rows: rows of the item table.
        count: how often each item number was used in training.
    """
    result: list[Measurement] = []
    for k in sorted(config.k):
        items, hits, liked_hits = ranking.items[:, :k], ranking.hits[:, :k], ranking.liked_hits[:, :k]
        result += _hit_metrics("", k, hits, ranking.relevance.relevant)
        if config.liked_at_least is not None:
            result += _hit_metrics(LIKED, k, liked_hits, ranking.relevance.liked)
            counts = hits if bool(ranking.relevance.liked.any()) else torch.zeros_like(hits)  # no share of nothing
            result.append(_share_of_hits(f"liked_share@{k}", liked_hits, counts))
        result.append(_of_exposure(f"coverage@{k}", items, num_rows, metrics.coverage))
        result.append(_of_exposure(f"gini@{k}", items, num_rows, metrics.gini))
        result.append(_avg_popularity(f"avg_popularity@{k}", items, count))
    return tuple(result)


def user_values(ranking: Ranking, config: EvaluateConfig) -> dict[str, Float[Tensor, " U"]]:
    """The metrics of hits of every user, whose means `ranking_metrics` gives; NaN for users left out of one."""
    values: dict[str, Float[Tensor, " U"]] = {}
    kinds = [("", ranking.hits, ranking.relevance.relevant)]
    if config.liked_at_least is not None:
        kinds.append((LIKED, ranking.liked_hits, ranking.relevance.liked))
    for k in sorted(config.k):
        for prefix, hits, relevant in kinds:
            findable = relevant > 0
            for name, value in _hit_values(hits[findable][:, :k], relevant[findable]).items():
                every = torch.full((len(findable),), math.nan, dtype=torch.float64)
                every[findable] = value.double()
                values[f"{prefix}{name}@{k}"] = every
    return values


def metric_names(config: EvaluateConfig) -> tuple[str, ...]:
    """Names of the metrics that `ranking_metrics` gives, in its order."""
    metrics_of_nobody = ranking_metrics(
        nobody(max(config.k)),
        config,
        num_rows=FIRST_ITEM + 1,
        count=torch.zeros(FIRST_ITEM + 1, dtype=torch.int64),
    )
    return tuple(metric.name for metric in metrics_of_nobody)


def metric_range(metric: str) -> tuple[float, float]:
    """The smallest and the largest value that a metric can have; infinite for names that are none of these metrics."""
    kind = metric.partition("@")[0].removeprefix(LIKED)
    if kind == "avg_popularity":
        return 0.0, math.inf
    return (0.0, 1.0) if kind in (*HIT_METRICS, "share", "coverage", "gini") else (-math.inf, math.inf)


def users_of(metric: str, summary: RelevanceSummary) -> int:
    """How many users a metric is over, whatever is recommended; without one it has no value."""
    kind = metric.partition("@")[0]
    if kind in LIST_METRICS:
        return 0 if kind == "liked_share" and not summary.with_liked else summary.users
    return summary.with_liked if kind.startswith(LIKED) else summary.with_relevant


def _hit_metrics(prefix: str, k: int, hits: Bool[Tensor, "U K"], relevant: Int[Tensor, "U"]) -> list[Measurement]:
    findable = relevant > 0
    measurements = []
    for name, value in _hit_values(hits[findable], relevant[findable]).items():
        mean, low, high = share_interval(value)
        measurements.append(
            Measurement(
                name=f"{prefix}{name}@{k}",
                value=mean,
                low=low,
                high=high,
                users=len(value),
                left_out=len(findable) - len(value),
            )
        )
    return measurements


def _hit_values(hits: Bool[Tensor, "V K"], relevant: Int[Tensor, " V"]) -> dict[str, Float[Tensor, " V"]]:
    """The metrics of hits of each user; every user has something to find."""
    return {
        "recall": metrics.recall(hits, relevant),
        "precision": metrics.precision(hits),
        "f1": metrics.f1(hits, relevant),
        "ndcg": metrics.ndcg(hits, relevant),
        "mrr": metrics.mrr(hits),
        "hit": metrics.hit(hits),
        "map": metrics.average_precision(hits, relevant),
    }


def _share_of_hits(name: str, liked_hits: Bool[Tensor, "U K"], hits: Bool[Tensor, "U K"]) -> Measurement:
    """Share of liked items among the hits of all lists."""
    users, num_hits, liked = len(hits), int(hits.sum()), int(liked_hits.sum())
    low, high = wilson(liked, num_hits) if users > 1 and num_hits else (math.nan, math.nan)
    value = liked / num_hits if num_hits else math.nan
    return Measurement(name=name, value=value, low=low, high=high, users=users, left_out=0)


def _avg_popularity(name: str, items: Int[Tensor, "U K"], count: Int[Tensor, " R"]) -> Measurement:
    values = metrics.avg_popularity(items, count)
    # where nothing is known of the training part, nobody's popularity is 0
    values = values[~values.isnan()] if bool(count.any()) else values[:0]
    mean, low, high = mean_interval(values, least=0.0)
    return Measurement(name=name, value=mean, low=low, high=high, users=len(values), left_out=len(items) - len(values))


def _of_exposure(
    name: str, items: Int[Tensor, "U K"], num_rows: int, measure: Callable[[Float[Tensor, " N"]], float]
) -> Measurement:
    """A metric of the whole set of lists; its interval by leaving out one of 20 groups of users after the other."""
    users = len(items)
    groups = min(JACKKNIFE_GROUPS, users)
    if not groups:
        return Measurement(name=name, value=math.nan, users=0, left_out=0)
    exposure = torch.stack(
        [
            torch.bincount(items[group::groups].flatten(), minlength=num_rows)[FIRST_ITEM:].double()
            for group in range(groups)
        ]
    )
    whole = exposure.sum(dim=0)
    value = measure(whole)
    without_group = torch.tensor([measure(whole - part) for part in exposure], dtype=torch.float64)
    low, high = math.nan, math.nan
    if groups > 1 and not bool(without_group.isnan().any()):
        low, high = jackknife_of_share(value, without_group)
    return Measurement(name=name, value=value, low=low, high=high, users=users, left_out=0)
