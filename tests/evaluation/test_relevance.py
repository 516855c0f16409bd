"""What counts: docs/guides/evaluation.md, rule by rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from slatewise.config import EvaluateConfig
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.evaluation import rank, ranking_metrics, relevance, users_of
from slatewise.evaluation.relevance import held_out_items, seen_items
from slatewise.log import Interactions, LogPart
from slatewise.methods import popularity
from slatewise.testing import toy_catalog, written_log

CONFIG = EvaluateConfig(k=(5,))


def uses(*items: int) -> list[dict[str, Any]]:
    return [{"items": [item]} for item in items]


def last_event(log: Interactions) -> LogPart:
    """The last event of every user."""
    count = np.diff(log.user_offsets)
    return LogPart(interactions=log, first=count - 1, last=count)


def popular(*counts: int) -> popularity.Policy:
    """Recommends items 2, 3, … by their counts."""
    policy = popularity.Policy(popularity.Config(), StatelessEncoder(), toy_catalog(len(counts)))
    policy.count[2:] = torch.tensor(counts)
    return policy


def values(log: Interactions, config: EvaluateConfig = CONFIG) -> dict[str, Any]:
    ranking = rank(popular(9, 8, 7, 6, 5, 4), last_event(log), config)
    count = torch.zeros(8, dtype=torch.int64)
    return {metric.name: metric for metric in ranking_metrics(ranking, config, num_rows=8, count=count)}


def test_ten_users_of_whom_one_clicks() -> None:
    # item 2 is shown to all at last; only the first user clicks it, and it is recommended to everybody
    users = [
        [*uses(3), {"items": [2], "used": [0] if user == 0 else [], "rewards": [float(user == 0)]}]
        for user in range(10)
    ]
    log = written_log(users)
    metrics = values(log)
    for name in ("recall@5", "ndcg@5", "mrr@5", "hit@5", "map@5"):
        assert (metrics[name].value, metrics[name].users, metrics[name].left_out) == (1.0, 1, 9), name
        assert not metrics[name].has_interval, "one user has none"
    assert (metrics["coverage@5"].users, metrics["coverage@5"].left_out) == (10, 0)
    summary = relevance(last_event(log), CONFIG).summary(CONFIG)
    assert summary.sentences() == ["Hit metrics are over 1 of 10 users: 9 used nothing."]


def test_what_the_seen_filter_forbids_is_not_missed() -> None:
    # the first listener returns to an old item, the second to an old and a new one, the third does nothing new or old
    log = written_log(
        [
            [*uses(2, 3), {"items": [2]}],
            [*uses(4, 5), {"items": [4, 2], "used": [0, 1]}],
            [*uses(6), {"items": [2], "used": []}],
        ]
    )
    excluded = relevance(last_event(log), CONFIG)
    assert excluded.used.tolist() == [1, 2, 0]
    assert excluded.repeats.tolist() == [1, 1, 0]
    assert excluded.relevant.tolist() == [0, 1, 0]
    summary = excluded.summary(CONFIG)
    assert (summary.users, summary.used_nothing, summary.only_repeats) == (3, 1, 1)
    assert summary.sentences() == [
        "Hit metrics are over 1 of 3 users: 1 used nothing, 1 used only what they had used before.",
        "2 of 3 used items (66.7%) had been used before and are not relevant; [evaluate] exclude_seen = false ranks "
        "them.",
    ]
    assert values(log)["recall@5"].value == 1.0
    ranked = EvaluateConfig(k=(1,), exclude_seen=False)
    kept = relevance(last_event(log), ranked)
    assert kept.relevant.tolist() == [1, 2, 0]
    assert "and are relevant; [evaluate] exclude_seen = true leaves them out" in kept.summary(ranked).sentences()[1]
    assert values(log, ranked)["recall@1"].value == pytest.approx((1 + 1 / 2) / 2)


def test_an_item_is_liked_by_its_largest_reward() -> None:
    log = written_log(
        [
            [
                *uses(3),
                {"items": [4, 5], "used": [0, 1], "rewards": [1, 5]},
                {"items": [4, 6], "used": [0, 1], "rewards": [4, 2]},
            ],
            [*uses(3), *uses(4, 6)],
        ]
    )
    part = LogPart(interactions=log, first=np.array([1, 1]), last=np.array([3, 3]))
    items = held_out_items(log, np.array([0]), np.array([1]), np.array([3]))
    assert (items.item.tolist(), items.reward.tolist()) == ([4, 5, 6], [4, 5, 2])
    config = EvaluateConfig(k=(5,), liked_at_least=4.0)
    counts = relevance(part, config)
    assert (counts.relevant.tolist(), counts.liked.tolist()) == ([3, 2], [2, 0])
    summary = counts.summary(config)
    assert summary.sentences() == ["Those of liked items are over 1 user: 1 liked nothing."]
    numbers = {name: users_of(name, summary) for name in ("recall@5", "liked_recall@5", "liked_share@5", "gini@5")}
    assert numbers == {"recall@5": 2, "liked_recall@5": 1, "liked_share@5": 2, "gini@5": 2}


def test_seen_is_what_had_arrived_before_the_part() -> None:
    # 3 was bought at 25, after the part's first decision at 10: it had not been seen, and is no repeat
    log = written_log(
        [[{"items": [2, 3], "used": [0, 1], "used_times": [1, 25], "time": 0}, {"items": [3], "time": 10}]]
    )
    user, first = np.array([0]), np.array([1])
    assert [column.tolist() for column in seen_items(log, user, first)] == [[0], [2]]
    assert held_out_items(log, user, first, np.array([2])).repeat.tolist() == [False]
    # after the last event everything has arrived
    assert [column.tolist() for column in seen_items(log, user, np.array([2]))] == [[0, 0], [2, 3]]


def test_seen_is_the_whole_history_whatever_the_state_reads() -> None:
    log = written_log([uses(2, 3, 4, 5, 2)])
    config = EvaluateConfig(k=(2,), max_history=1)
    ranking = rank(popular(9, 8, 7, 6, 5, 4), last_event(log), config)
    assert ranking.items.tolist() == [[6, 7]]
    assert ranking.relevance.repeats.tolist() == [1]


def test_a_short_list_is_as_popular_as_its_items() -> None:
    log = written_log([[*uses(2, 3, 4, 5), {"items": [6]}]])
    config = EvaluateConfig(k=(5,))
    ranking = rank(popular(9, 8, 7, 6, 5, 4), last_event(log), config)
    assert ranking.items.tolist() == [[6, 7, 0, 0, 0]]
    count = torch.tensor([0, 0, 9, 9, 9, 9, 4, 2])
    metrics = {m.name: m.value for m in ranking_metrics(ranking, config, num_rows=8, count=count)}
    assert (metrics["avg_popularity@5"], metrics["precision@5"]) == (3.0, 0.2)


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_those_of_comparing_everything_with_everything(seed: int) -> None:
    chance = np.random.default_rng(seed)
    log = written_log(
        [
            [
                {"items": chance.permutation(np.arange(2, 12))[:3].tolist(), "used": [0, 2], "rewards": [1, 0, 3]}
                for _ in range(chance.integers(1, 9))
            ]
            for _ in range(20)
        ]
    )
    count = np.diff(log.user_offsets)
    user, first = np.arange(20), count // 2
    items = held_out_items(log, user, first, count)
    lists = torch.from_numpy(np.stack([chance.permutation(np.arange(2, 12))[:5] for _ in user]))
    relevant, hits = items.relevant(CONFIG), items.relevant(CONFIG).hits(lists)
    for number in user:
        own = set(relevant.item[relevant.row == number].tolist())
        assert hits[number].tolist() == [item in own for item in lists[number].tolist()]


def test_one_user_with_many_events_beside_many_with_few() -> None:
    # compared pair by pair, 20,000 held-out uses beside 255 short users would be 256 · 20,000² truth values: 100 GB
    heavy = 20_000
    events = np.concatenate([[heavy], np.full(255, 4)])
    offsets = np.concatenate([[0], np.cumsum(events)])
    chance = np.random.default_rng(0)
    rows = int(offsets[-1])
    zeros = np.zeros(rows, np.float32)
    log = Interactions(
        user_offsets=offsets,
        event_offsets=np.arange(rows + 1),
        event_id=np.arange(rows),
        policy_id=np.zeros(rows, np.int32),
        time=np.arange(rows),
        session_end=np.zeros(rows, np.bool_),
        context=np.zeros((rows, 0), np.float32),
        item=(2 + chance.integers(0, 500, rows)).astype(np.int32),
        reward=zeros + 1,
        cost=zeros,
        logp=zeros,
        logp_known=np.zeros(rows, np.bool_),
        used=np.ones(rows, np.bool_),
        used_time=np.arange(rows),
        use_reward=zeros + 1,
    )
    part = LogPart(interactions=log, first=np.full(256, 2), last=events)
    ranking = rank(popular(*range(500, 0, -1)), part, EvaluateConfig(k=(5,)))
    assert ranking.relevance.used[0] == len(set(log.item[2:heavy].tolist()))
