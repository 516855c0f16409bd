"""The range of every metric."""

from __future__ import annotations

import math

from slatewise.config import EvaluateConfig
from slatewise.evaluation import metric_names, metric_range


def test_every_metric_has_a_range() -> None:
    ranges = {name: metric_range(name) for name in metric_names(EvaluateConfig(k=(5, 10), liked_at_least=4.0))}
    assert ranges.pop("avg_popularity@5") == ranges.pop("avg_popularity@10") == (0.0, math.inf)
    assert {"liked_share@5", "liked_ndcg@10", "coverage@5", "gini@10", "map@5"} <= set(ranges)
    assert set(ranges.values()) == {(0.0, 1.0)}


def test_other_names_are_not_bounded() -> None:
    assert metric_range("log_likelihood") == (-math.inf, math.inf)
