from __future__ import annotations

from slatewise.config import EvaluateConfig
from slatewise.report.shared_metrics import shared_metrics

BOTH = ["recall@5", "coverage@5", "recall@10", "coverage@10"]


def test_runs_of_the_same_settings_share_every_metric() -> None:
    settings = EvaluateConfig(k=(5, 10))
    shared = shared_metrics({"a": settings, "b": settings}, {"a": BOTH, "b": BOTH})
    assert (list(shared.names), shared.notes, shared.k) == (BOTH, (), 10)


def test_other_lengths_share_those_that_all_have() -> None:
    shared = shared_metrics({"a": EvaluateConfig(k=(5, 10)), "b": EvaluateConfig(k=(5,))}, {"a": BOTH, "b": BOTH[:2]})
    assert (list(shared.names), shared.k) == (["recall@5", "coverage@5"], 5)
    assert shared.notes == ("[evaluate] k differs, [5, 10] (a), [5] (b): not compared are recall@10, coverage@10.",)


def test_what_counts_as_liked_changes_the_metrics_of_liked_items() -> None:
    names = ["recall@5", "liked_recall@5", "liked_share@5"]
    settings = {"a": EvaluateConfig(k=(5,), liked_at_least=4.0), "b": EvaluateConfig(k=(5,), liked_at_least=3.0)}
    shared = shared_metrics(settings, {"a": names, "b": names})
    assert shared.names == ("recall@5",)
    assert shared.notes == (
        "[evaluate] liked_at_least differs, 4.0 (a), 3.0 (b): not compared are liked_recall@5, liked_share@5.",
    )


def test_the_lists_themselves_are_shared_whatever_is_excluded() -> None:
    settings = {"a": EvaluateConfig(k=(5,)), "b": EvaluateConfig(k=(5,), exclude_seen=False)}
    shared = shared_metrics(settings, {"a": BOTH[:2], "b": BOTH[:2]})
    assert shared.names == ("coverage@5",)
    assert shared.notes == ("[evaluate] exclude_seen differs, true (a), false (b): not compared are recall@5.",)


def test_nothing_in_common() -> None:
    shared = shared_metrics({"a": EvaluateConfig(k=(5,)), "b": EvaluateConfig(k=(10,))}, {"a": BOTH[:2], "b": BOTH[2:]})
    assert (shared.names, shared.k) == ((), 0)
