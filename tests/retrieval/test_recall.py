import pytest
import torch
from torch import Tensor

from slatewise.retrieval.approximate import Approximate, Config
from slatewise.retrieval.exact import Exact
from slatewise.retrieval.recall import LowRecallWarning, measure_recall, overlap


def _problem(count: int = 4000, width: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(count, width, generator=generator) * torch.exp(
        0.4 * torch.randn(count, 1, generator=generator)
    )
    return vectors, torch.randn(100, width, generator=generator)


def test_overlap_by_hand() -> None:
    retrieved = torch.tensor([[5, 3, 9], [1, 2, 0]])
    exact = torch.tensor([[3, 4, 5], [1, 2, 7]])
    torch.testing.assert_close(overlap(retrieved, exact), torch.tensor([2 / 3, 2 / 3]))


def test_exact_search_has_recall_one() -> None:
    vectors, queries = _problem()
    exact = Exact().fit(vectors)
    report = measure_recall(exact, queries, exact.search(queries, 20)[0])
    assert (report.recall, report.worst_tenth, report.depth, report.queries) == (1.0, 1.0, 20, 100)
    assert report.holds
    assert report.metrics() == {
        "retrieval_recall@20": 1.0,
        "retrieval_recall_worst_tenth@20": 1.0,
        "retrieval_queries": 100.0,
    }


def test_tuning_reads_as_few_lists_as_reach_the_target() -> None:
    vectors, queries = _problem()
    exact_items = Exact().fit(vectors).search(queries, 20)[0]
    index = Approximate(Config(flat_below=100, lists=64)).fit(vectors)
    assert not index.flat
    report = index.tune(queries, exact_items, target=0.9)
    assert report.recall >= 0.9
    assert index.recall == report
    assert 1 < index.probes < 64
    reached = index.probes
    index.probes = reached // 2
    with pytest.warns(LowRecallWarning, match=r"below 0\.9"):
        assert index.check(queries, exact_items, target=0.9).recall < 0.9


def test_an_unreachable_target_warns_and_reads_every_list() -> None:
    vectors, queries = _problem()
    exact_items = Exact().fit(-vectors).search(queries, 20)[0]  # the answers of another question
    index = Approximate(Config(flat_below=100, lists=64)).fit(vectors)
    with pytest.warns(LowRecallWarning, match="recall@20"):
        report = index.tune(queries, exact_items)
    assert index.probes == 64
    assert not report.holds


def test_small_catalogs_are_compared_whole() -> None:
    vectors, queries = _problem()
    index = Approximate().fit(vectors)
    assert index.flat
    assert index.tune(queries, Exact().fit(vectors).search(queries, 50)[0]).recall > 0.98


def test_lists_that_hold_too_few_items_leave_empty_places() -> None:
    # two far bundles of unequal size, one list each; one list is read
    vectors = torch.cat([torch.tensor([[10.0, 0.0]]).expand(70, 2), torch.tensor([[0.0, 10.0]]).expand(30, 2)])
    vectors = vectors + 0.01 * torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    index = Approximate(Config(flat_below=10, lists=2, probes=1)).fit(vectors, torch.arange(2, 102))
    items, scores = index.search(torch.tensor([[0.0, 1.0]]), 40)
    assert int((items == 0).sum()) == 10
    assert bool((scores[items == 0] == float("-inf")).all())
    assert bool((items[:, :30] >= 72).all())


def test_exact_search_crosses_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slatewise.retrieval.exact.BLOCK", 7)
    vectors, queries = _problem(50, 4)
    items, scores = Exact().fit(vectors).search(queries, 9)
    expected = torch.topk(queries @ vectors.t(), 9, dim=1)
    assert torch.equal(items, expected.indices)
    torch.testing.assert_close(scores, expected.values)


def test_recall_of_nothing_is_refused() -> None:
    vectors, _ = _problem()
    with pytest.raises(ValueError, match="at least one query"):
        measure_recall(Exact().fit(vectors), torch.zeros(0, 16), torch.zeros(0, 5, dtype=torch.int64))


@pytest.mark.parametrize("field", ["lists", "probes", "fit_vectors"])
def test_settings_below_one_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0"):
        Config(**{field: 0})
