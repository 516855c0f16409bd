"""Simulated logs: what they promise to whoever learns from them."""

from __future__ import annotations

import time
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from jaxtyping import Float, Int

from slatewise.data import Provenance, prepare
from slatewise.data.simulated import FIRST_MOMENT, prepare_simulated, simulate_impressions, simulate_log

HALF_YEAR = 183 * 24 * 3_600_000_000


def histories(frame: pl.DataFrame) -> list[Int[np.ndarray, "T"]]:
    """Item numbers of every user in time order."""
    numbered = frame.with_columns(pl.col("item_id").str.slice(1).cast(pl.Int64)).sort("user_id", "timestamp")
    return [group["item_id"].to_numpy() for _, group in numbered.group_by("user_id", maintain_order=True)]


def hits(scores: Float[np.ndarray, "U N"], past: list[Int[np.ndarray, "T"]], held_out: Int[np.ndarray, "U"]) -> float:
    """Recall@10 of the held-out items, items of the past excluded."""
    scores = scores.astype(np.float64)
    for user, items in enumerate(past):
        scores[user, items] = -np.inf
    best = np.argpartition(-scores, 10, axis=1)[:, :10]
    return float((best == held_out[:, None]).any(1).mean())


def test_neighbours_beat_popularity_beats_random_and_order_matters() -> None:
    frame, _ = simulate_log(users=800, items=600, events_per_user=60, seed=3)
    users = histories(frame)
    past, held_out = [items[:-1] for items in users], np.array([items[-1] for items in users])
    used = np.zeros((800, 600))
    for user, items in enumerate(past):
        used[user, items] = 1
    together = used.T @ used
    np.fill_diagonal(together, 0)
    count = used.sum(0)
    similar = together / (np.sqrt(np.outer(count, count)) + 10)
    rng = np.random.default_rng(0)

    def by_recency(histories: list[Int[np.ndarray, "T"]]) -> Float[np.ndarray, "U N"]:
        weight = np.zeros((800, 600))
        for user, items in enumerate(histories):
            weight[user, items] = 0.8 ** np.arange(len(items))[::-1]
        scores: Float[np.ndarray, "U N"] = weight @ similar
        return scores

    random = hits(rng.random((800, 600)), past, held_out)
    popular = hits(np.tile(count, (800, 1)), past, held_out)
    neighbours = hits(used @ similar, past, held_out)
    recent = hits(by_recency(past), past, held_out)
    shuffled = hits(by_recency([rng.permutation(items) for items in past]), past, held_out)
    # a standard error is about .01
    assert random + 0.03 < popular
    assert popular + 0.03 < neighbours
    assert neighbours + 0.10 < recent
    assert shuffled + 0.10 < recent


def test_what_follows_what_can_be_learned() -> None:
    frame, _ = simulate_log(users=500, items=300, events_per_user=50, seed=1)
    steps = np.concatenate([np.stack([items[:-1], items[1:]], 1) for items in histories(frame)])
    following = (steps[:, 1] - steps[:, 0]) == 1
    assert 0.08 < following.mean() < 0.2  # by chance: about 1/300


def test_ratings_know_the_user_and_the_item() -> None:
    frame, _ = simulate_log(seed=2)
    reward = frame["reward"].to_numpy()
    assert set(reward.tolist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert 0.4 < np.mean(reward >= 4) < 0.7
    for key in ("user_id", "item_id"):
        mean = frame.select(pl.col("reward").mean().over(key)).to_series().to_numpy()
        assert (reward - mean).std() < 0.97 * reward.std()


def test_shape_titles_and_times() -> None:
    frame, items = simulate_log(users=50, items=100, events_per_user=20, topics=22)
    assert frame.select("user_id", "item_id").is_unique().all()
    per_user = frame.group_by("user_id").len()["len"].to_numpy()
    assert len(per_user) == 50
    assert per_user.max() <= 30
    assert per_user.min() >= 5  # a narrow taste may run out of items
    assert frame["timestamp"].is_sorted()
    assert frame["timestamp"].is_between(FIRST_MOMENT, FIRST_MOMENT + 2 * HALF_YEAR).all()
    assert frame.select("user_id", "timestamp").is_unique().all()
    assert items["text"][0] == "Item 0000 (topic Jazz)"
    assert items["text"][99] == "Item 0099 (topic Topic 21)"
    assert items["labels"].list.first().n_unique() == 22


def test_a_seed_is_a_log() -> None:
    one, again, other = (simulate_log(users=20, items=30, events_per_user=10, seed=seed)[0] for seed in (1, 1, 2))
    assert one.equals(again)
    assert not one.equals(other)


@given(users=integers(1, 5), items=integers(1, 8), events=integers(1, 5), topics=integers(1, 8), seed=integers(0, 99))
@settings(max_examples=50)
def test_small_worlds_work(users: int, items: int, events: int, topics: int, seed: int) -> None:
    if topics > items:
        with pytest.raises(ValueError, match="topics"):
            simulate_log(users=users, items=items, events_per_user=events, topics=topics, seed=seed)
        return
    frame, table = simulate_log(users=users, items=items, events_per_user=events, topics=topics, seed=seed)
    assert frame["user_id"].n_unique() == users
    assert frame["item_id"].is_in(table["item_id"].to_list()).all()
    made = simulate_impressions(
        users=users, items=items, slate_size=min(items, 3), events_per_user=events, topics=topics, seed=seed
    )
    assert made.frame.height == users * events * min(items, 3)


@pytest.mark.parametrize("name", ["users", "items", "events_per_user", "topics"])
def test_a_number_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        simulate_log(**{name: 0})


def test_a_hundred_thousand_ratings_take_less_than_a_second() -> None:
    start = time.process_time()
    frame, _ = simulate_log(users=1_000, items=1_500, events_per_user=100)
    assert time.process_time() - start < 1
    assert frame.height > 95_000


def test_the_manifest_says_that_it_is_simulated(tmp_path: Path) -> None:
    data = prepare_simulated(tmp_path / "log", users=30, items=40, events_per_user=10, topics=4, seed=5)
    assert data.simulated
    assert data.kind == "uses"
    assert data.name == "simulated"
    assert data.manifest.source["seed"] == 5
    assert data.catalog.num_items == 40
    assert data.catalog.group_names == ("", "Blues", "Folk", "Jazz", "Opera")
    assert data.catalog.title(2) == "Item 0000 (topic Jazz)"
    same = prepare_simulated(tmp_path / "again", users=30, items=40, events_per_user=10, topics=4, seed=5)
    assert same.fingerprint == data.fingerprint


def test_logp_is_the_chain_rule_of_the_policy() -> None:
    made = simulate_impressions(users=40, items=7, slate_size=7, topics=3, temperature=0.3, seed=4)
    slates = made.frame["item_id"].str.slice(1).cast(pl.Int64).to_numpy().reshape(-1, 7)
    logp = made.frame["logp"].to_numpy().reshape(-1, 7)
    for topic, slate, found in zip(made.topic, slates, logp, strict=True):
        logits = made.logits[topic, slate]
        expected = [logits[j] - np.log(np.exp(logits[j:]).sum()) for j in range(7)]
        np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (logp <= 0).all()
    assert sorted(slates[0]) == list(range(7))


def test_slates_are_drawn_as_often_as_logp_says() -> None:
    made = simulate_impressions(users=2_000, items=3, slate_size=2, events_per_user=10, topics=1, seed=6)
    drawn = made.frame["item_id"].str.slice(1).cast(pl.Int64).to_numpy().reshape(-1, 2)
    pi = np.exp(made.logits[0]) / np.exp(made.logits[0]).sum()
    for first, second in permutations(range(3), 2):
        expected = pi[first] * pi[second] / (1 - pi[first])
        share = ((drawn[:, 0] == first) & (drawn[:, 1] == second)).mean()
        assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / len(drawn)))


def test_the_log_can_judge_another_policy() -> None:
    """The importance-weighted mean reward of single items is the enumerated value of the judged policy."""
    made = simulate_impressions(users=2_000, items=6, slate_size=1, events_per_user=10, topics=2, seed=7)
    item = made.frame["item_id"].str.slice(1).cast(pl.Int64).to_numpy()
    judged = np.exp(made.logits[::-1])
    judged /= judged.sum(1, keepdims=True)
    click = made.attraction / (1 + made.attraction)
    value = (judged * click).sum(1)[made.topic].mean()
    weight = judged[made.topic, item] / np.exp(made.frame["logp"].to_numpy())
    estimates = weight * made.frame["reward"].to_numpy()
    assert estimates.mean() == pytest.approx(value, abs=4 * estimates.std() / np.sqrt(len(estimates)))
    assert abs(made.frame["reward"].to_numpy().mean() - value) > 8 * estimates.std() / np.sqrt(len(estimates))


def test_at_most_one_item_is_picked_and_as_often_as_its_attraction_says() -> None:
    made = simulate_impressions(users=2_000, items=2, slate_size=2, events_per_user=5, topics=1, seed=8)
    frame = made.frame
    picks = frame.group_by("event_id").agg(pl.col("used").sum(), pl.col("reward").sum())
    assert set(picks["used"].unique().to_list()) == {0, 1}
    assert (picks["used"].cast(pl.Float32) == picks["reward"]).all()
    v = made.attraction[0]
    share = frame.filter("used")["item_id"].value_counts().sort("item_id")["count"].to_numpy() / 10_000
    np.testing.assert_allclose(share, v / (1 + v.sum()), atol=0.02)


def test_impressions_survive_the_import(tmp_path: Path) -> None:
    made = simulate_impressions(users=30, items=20, slate_size=4, topics=3, seed=9)
    data = prepare(
        made.frame, out=tmp_path / "log", name="shown", items=made.items, provenance=Provenance(simulated=True)
    )
    log = data.interactions
    assert data.kind == "impressions"
    assert log.slate_size == 4
    frame = made.frame.sort("event_id", "position")
    order = np.argsort(log.event_id)
    np.testing.assert_array_equal(log.logp.reshape(-1, 4)[order].ravel(), frame["logp"].cast(pl.Float32).to_numpy())
    np.testing.assert_array_equal(log.context[order].argmax(1), made.topic)
    np.testing.assert_array_equal(log.used.reshape(-1, 4)[order].ravel(), frame["used"].to_numpy())
    assert data.policies.names.to_pylist() == ["", "softmax"]
    assert 0 < log.session_end.sum() < log.num_events


def test_slates_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="slate_size 4 of 3 items"):
        simulate_impressions(items=3, slate_size=4, topics=1)
    with pytest.raises(ValueError, match="temperature 0"):
        simulate_impressions(temperature=0.0)
