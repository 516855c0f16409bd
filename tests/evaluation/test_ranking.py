from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.config import DataConfig, EvaluateConfig
from slatewise.data.splits import split_log
from slatewise.encoders import window
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.evaluation import Evaluation, Ranking, Relevance, evaluate, rank, ranking_metrics, states_at, used_items
from slatewise.evaluation.ranking import MOST_NUMBERS
from slatewise.log import LogPart
from slatewise.policies.ranked import RankedPolicy
from slatewise.stats import wilson
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.types import SlateRequest, Slates

NUM_ITEMS = 6


class ByNumber(RankedPolicy):
    """The larger the number, the better the item: 7, 6, 5, 4, 3, 2."""

    def __init__(self) -> None:
        super().__init__(StatelessEncoder(), NUM_ITEMS + 2)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        logits = torch.arange(self.num_rows, dtype=torch.float32)
        return logits.expand(len(state), -1) if items is None else logits[items]


def uses(*items: int, pay: float = 1.0) -> list[dict[str, object]]:
    return [{"items": [item], "rewards": [pay]} for item in items]


# Last item tests, last but one validates. User 2 has nothing held out.
LOG = written_log(
    [
        [*uses(7, 6, 5), *uses(4, pay=5.0)],
        [*uses(2, 3, 7), *uses(6, pay=2.0)],
        uses(2, 3),
        [*uses(2, 4, 6), *uses(3, pay=4.0)],
    ]
)
SPLIT = split_log(DataConfig(path=""), LOG)
CONFIG = EvaluateConfig(k=(1, 2), liked_at_least=4.0)
NEVER_USED = torch.zeros(8, dtype=torch.int64)


def lists_of(*lists: list[int]) -> Ranking:
    """Lists of users with nothing to find."""
    zeros, misses = torch.zeros(len(lists), dtype=torch.int64), torch.zeros(len(lists), 2, dtype=torch.bool)
    relevance = Relevance(used=zeros, repeats=zeros, relevant=zeros, liked=zeros)
    return Ranking(user=zeros, items=torch.tensor(lists), hits=misses, liked_hits=misses, relevance=relevance)


def test_lists_without_what_was_used_by_hand() -> None:
    ranking = rank(ByNumber(), SPLIT.part("test"), CONFIG)
    assert ranking.user.tolist() == [0, 1, 3]
    # user 0 used 7, 6, 5; user 1 used 2, 3, 7; user 3 used 2, 4, 6
    assert ranking.items.tolist() == [[4, 3], [6, 5], [7, 5]]
    assert ranking.hits.tolist() == [[True, False], [True, False], [False, False]]
    assert ranking.relevance.relevant.tolist() == [1, 1, 1]
    # user 1 did not like its item; user 3 liked the one that was missed
    assert ranking.relevance.liked.tolist() == [1, 0, 1]
    assert ranking.liked_hits.tolist() == [[True, False], [False, False], [False, False]]


def test_validation_excludes_only_what_came_before() -> None:
    ranking = rank(ByNumber(), SPLIT.part("valid"), EvaluateConfig(k=(2,)))
    # user 1 validates with 7, user 3 with 6: both may be recommended
    assert ranking.items.tolist() == [[5, 4], [7, 6], [7, 6]]
    assert ranking.hits.tolist() == [[True, False], [True, False], [False, True]]


def test_lists_may_hold_what_was_used_before() -> None:
    ranking = rank(ByNumber(), SPLIT.part("test"), EvaluateConfig(k=(2,), exclude_seen=False))
    assert ranking.items.tolist() == [[7, 6]] * 3
    assert ranking.hits.tolist() == [[False, False], [False, True], [False, False]]


def test_an_item_used_twice_is_one_relevant_item() -> None:
    log = written_log([uses(2, 5, 5, 7, 4, 5)])
    part = LogPart(interactions=log, first=np.array([1]), last=np.array([6]))
    ranking = rank(ByNumber(), part, EvaluateConfig(k=(3,)))
    assert ranking.items.tolist() == [[7, 6, 5]]
    assert ranking.hits.tolist() == [[True, False, True]]
    assert ranking.relevance.relevant.tolist() == [3]  # 5, 7, 4


def test_what_was_shown_and_not_used_is_neither_used_nor_relevant() -> None:
    log = written_log([[{"items": [7, 6], "used": [1]}, {"items": [5, 4], "used": []}, {"items": [7, 3], "used": [0]}]])
    part = LogPart(interactions=log, first=np.array([2]), last=np.array([3]))
    ranking = rank(ByNumber(), part, EvaluateConfig(k=(3,)))
    assert ranking.items.tolist() == [[7, 5, 4]]  # only 6 was used
    assert ranking.hits.tolist() == [[True, False, False]]
    assert ranking.relevance.relevant.tolist() == [1]


class Shows(ByNumber):
    """The same list to everybody."""

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        return Slates(items=torch.tensor([[2, 3]]).expand(len(state), -1), logp=torch.zeros(len(state), 2))


def test_every_used_item_of_a_slate_is_relevant() -> None:
    # items 2, 3, 4 are shown, 2 and 3 clicked; the list is [2, 3]
    log = written_log([[{"items": [5]}, {"items": [2, 3, 4], "rewards": [1, 1, 0], "used": [0, 1]}]])
    part = LogPart(interactions=log, first=np.array([1]), last=np.array([2]))
    ranking = rank(Shows(), part, EvaluateConfig(k=(2,)))
    assert ranking.relevance.relevant.tolist() == [2]
    assert ranking.hits.tolist() == [[True, True]]
    found = {m.name: m.value for m in ranking_metrics(ranking, EvaluateConfig(k=(2,)), num_rows=8, count=NEVER_USED)}
    assert (found["precision@2"], found["ndcg@2"], found["recall@2"]) == (1.0, 1.0, 1.0)


def test_seen_is_what_had_been_used_when_the_list_was_made() -> None:
    policy = ByNumber()
    policy.encoder = window.Encoder(window.Config(length=3), toy_catalog(NUM_ITEMS))
    events = [{"items": [2, 3, 4], "used": [0, 1, 2], "used_times": [1, 25, 9], "time": 0}, {"items": [5], "time": 10}]
    seen, state = states_at(policy, written_log([events]), np.array([0]), np.array([1]), max_history=9)
    # 3 was bought at 25, after the second slate was decided on at 10
    assert seen.tolist() == [[2, 4]]
    assert state[:, :3].tolist() == [[4, 2, 0]]


class Counts(ByNumber):
    """How many users were asked for at once."""

    def __init__(self) -> None:
        super().__init__()
        self.users: list[int] = []

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        self.users.append(len(state))
        return super().recommend(state, request, generator=generator)


def test_the_larger_the_catalog_the_fewer_users_at_once() -> None:
    policy = Counts()
    few = rank(policy, SPLIT.part("test"), CONFIG, num_rows=MOST_NUMBERS // 2)
    assert max(policy.users) == 2
    assert torch.equal(few.items, rank(ByNumber(), SPLIT.part("test"), CONFIG).items)


def test_batches_change_nothing() -> None:
    done: list[int] = []
    whole = rank(ByNumber(), SPLIT.part("test"), CONFIG)
    one = rank(
        ByNumber(), SPLIT.part("test"), EvaluateConfig(k=(1, 2), liked_at_least=4.0, batch_size=1), on_batch=done.append
    )
    for name in ("user", "items", "hits", "liked_hits"):
        assert torch.equal(getattr(one, name), getattr(whole, name)), name
    for name in Relevance.__dataclass_fields__:
        assert torch.equal(getattr(one.relevance, name), getattr(whole.relevance, name)), name
    assert done == [1, 2, 3]


def test_nobody_held_out() -> None:
    log = written_log([uses(2, 3), uses(4)])
    ranking = rank(ByNumber(), split_log(DataConfig(path=""), log).test, CONFIG)
    assert ranking.items.shape == (0, 2)
    found = {metric.name: metric.value for metric in ranking_metrics(ranking, CONFIG, num_rows=8, count=NEVER_USED)}
    assert all(math.isnan(value) for value in found.values())


def test_figures_by_hand() -> None:
    ranking = rank(ByNumber(), SPLIT.part("test"), CONFIG)
    count = torch.tensor([0, 0, 3, 2, 1, 0, 1, 1])
    found = {metric.name: metric for metric in ranking_metrics(ranking, CONFIG, num_rows=8, count=count)}
    assert found["recall@1"].value == pytest.approx(2 / 3)
    assert found["precision@2"].value == pytest.approx(1 / 3)
    assert found["mrr@2"].value == pytest.approx(2 / 3)
    # of the two users who liked their item, one found it
    assert found["liked_recall@2"].value == 0.5
    # of the two hits, one was liked
    assert found["liked_share@2"].value == 0.5
    assert found["coverage@2"].value == pytest.approx(5 / 6)  # 3, 4, 5, 6, 7
    assert found["coverage@1"].value == 0.5  # 4, 6, 7
    assert found["avg_popularity@2"].value == pytest.approx((1.5 + 0.5 + 0.5) / 3)
    # two of three
    assert (found["recall@1"].low, found["recall@1"].high) == pytest.approx(wilson(2, 3))
    assert (found["recall@1"].users, found["recall@1"].left_out) == (3, 0)
    assert (found["liked_recall@1"].users, found["liked_recall@1"].left_out) == (2, 1)


def test_the_jackknife_by_hand() -> None:
    ranking = lists_of([2, 3], [2, 0])
    found = {f.name: f for f in ranking_metrics(ranking, EvaluateConfig(k=(2,)), num_rows=6, count=NEVER_USED)}
    coverage = found["coverage@2"]
    # of four items two are shown; one without the first user, two without the second
    assert coverage.value == 0.5
    angles = math.pi / 6, math.pi / 4  # sin² is 1/4 and 1/2; ½ · 2 · ((π/24)² ) on their scale
    half = 1.959964 * (angles[1] - angles[0]) / 2
    assert coverage.high == pytest.approx(math.sin(math.pi / 4 + half) ** 2)
    assert coverage.low == pytest.approx(math.sin(math.pi / 4 - half) ** 2)
    # exposures 2, 1, 0, 0: ((2·3 − 5) · 1 + (2·4 − 5) · 2) / (4 · 3)
    assert found["gini@2"].value == pytest.approx(7 / 12)


def test_one_user_has_figures_without_an_interval() -> None:
    ranking = lists_of([2, 3])
    found = {f.name: f for f in ranking_metrics(ranking, EvaluateConfig(k=(2,)), num_rows=6, count=NEVER_USED)}
    assert found["coverage@2"].value == 0.5
    assert math.isnan(found["coverage@2"].low)


def test_states_stand_where_the_part_begins() -> None:
    policy = ByNumber()
    policy.encoder = window.Encoder(window.Config(length=2), toy_catalog(NUM_ITEMS))
    seen, state = states_at(policy, LOG, np.array([0, 1]), np.array([3, 1]), max_history=100)
    assert state[:, :2].tolist() == [[5, 6], [2, 0]]
    assert seen.tolist() == [[5, 6, 7], [2, 0, 0]]
    # the state reads the newest events only, the list of used items is whole
    seen, state = states_at(policy, LOG, np.array([0]), np.array([3]), max_history=1)
    assert state[:, :2].tolist() == [[5, 0]]
    assert seen.tolist() == [[5, 6, 7]]


def test_uses_by_hand() -> None:
    items, rewards = used_items(LOG, np.array([0, 2]), np.array([2, 0]), np.array([4, 1]))
    assert items.tolist() == [[5, 4], [2, 0]]
    assert rewards.tolist() == [[1, 5], [1, 0]]


def test_an_evaluation_by_name_and_as_json(tmp_path: Path) -> None:
    dataset = toy_dataset(tmp_path / "data", LOG, catalog=toy_catalog(NUM_ITEMS))
    found = evaluate(ByNumber(), dataset, SPLIT.part("test"), CONFIG, trained_on=SPLIT.part("train"))
    assert isinstance(found, Evaluation)
    assert (found.users, found.estimate) == (3, None)
    assert found.value("recall@1") == pytest.approx(2 / 3)
    with pytest.raises(KeyError, match='no metric "recall@5"; there are: recall@1'):
        found.value("recall@5")
    empty = LogPart(interactions=LOG, first=SPLIT.test.last, last=SPLIT.test.last)
    report = evaluate(ByNumber(), dataset, empty, CONFIG, trained_on=SPLIT.part("train"))
    assert report.to_json()["users"] == 0
    assert {metric["value"] for metric in json.loads(json.dumps(report.to_json()))["metrics"]} == {None}


def test_a_list_longer_than_the_catalog() -> None:
    with pytest.raises(ValueError, match="slate size 7: the catalog has 6 items"):
        rank(ByNumber(), SPLIT.part("test"), EvaluateConfig(k=(7,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": ()}, r"k is \[\]; expected list lengths of at least 1"),
        ({"k": (5, 0)}, r"k is \[5, 0\]"),
        ({"batch_size": 0}, "batch_size and max_history must be at least 1"),
        ({"max_history": 0}, "batch_size and max_history must be at least 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig(**settings)  # type: ignore[arg-type]
