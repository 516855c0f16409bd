"""Metrics of lists held against trec_eval, the program that NIST has judged its retrieval tracks with since 1992."""

from __future__ import annotations

import pytest
import pytrec_eval
import torch
from torch import Generator, Tensor

from slatewise.evaluation import metrics

LISTS, ITEMS = 200, 30


def trec_eval(order: Tensor, relevant: Tensor, measure: str) -> list[float]:
    """A measure of each list; `order` are item numbers, best first, `relevant` says of every item whether it counts."""
    judged = {
        str(row): {str(item): 1 for item in items.nonzero().flatten().tolist()} for row, items in enumerate(relevant)
    }
    ranked = {
        str(row): {str(item): float(-place) for place, item in enumerate(items)}
        for row, items in enumerate(order.tolist())
    }
    results = pytrec_eval.RelevanceEvaluator(judged, {measure}).evaluate(ranked)
    return [results[str(row)][measure.replace(".", "_")] for row in range(len(order))]


@pytest.mark.parametrize("k", [1, 3, 10])
def test_every_metric_agrees(k: int) -> None:
    generator = Generator().manual_seed(k)
    order = torch.rand(LISTS, ITEMS, generator=generator).argsort(dim=1)[:, :k]
    relevant = torch.rand(LISTS, ITEMS, generator=generator) < torch.rand(LISTS, 1, generator=generator)
    relevant[:, 0] |= ~relevant.any(dim=1)  # trec_eval passes over who has nothing to find
    hits, count = relevant.gather(1, order), relevant.sum(dim=1)
    for measure, ours in {
        f"ndcg_cut.{k}": metrics.ndcg(hits, count),
        f"recall.{k}": metrics.recall(hits, count),
        f"P.{k}": metrics.precision(hits),
        f"success.{k}": metrics.hit(hits),
        "recip_rank": metrics.mrr(hits),
        # trec_eval divides by all that is relevant, not by what a list of k could hold
        f"map_cut.{k}": metrics.average_precision(hits, count) * count.clamp(max=k) / count,
    }.items():
        assert ours.tolist() == pytest.approx(trec_eval(order, relevant, measure), abs=1e-6), measure
