"""Synthetic logs: ratings for a demonstration without network, and slates of a known policy for tests.

The items of a topic form a ring. A user of the ratings log has two tastes over the topics and drifts from the first to
the second; at every step the topic of interest stays, or is drawn from the current taste, and the item is the next one
on the ring, or drawn by popularity. Recommending popular items is therefore better than random items, neighbours are
better than popular items, and using the order of a history is better than ignoring it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from numpy.random import Generator

from slatewise.data.manifest import Provenance
from slatewise.data.preparation import prepare
from slatewise.data.prepared import Dataset

TOPICS = (
    "Jazz", "Opera", "Folk", "Blues", "Techno", "Chess", "Cooking", "Gardening", "History", "Physics",
    "Travel", "Sailing", "Football", "Cycling", "Poetry", "Crime", "Comedy", "Nature", "Design", "Space",
)  # fmt: skip
FIRST_MOMENT = 1_577_836_800_000_000
"""2020-01-01, in microseconds."""
_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_CHUNK = 2_048


def simulate_log(
    *, users: int = 1_000, items: int = 1_500, events_per_user: int = 100, topics: int = 20, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ratings 1–5 of users whose interest drifts over topics; no user rates an item twice.

    Args:
        users: number of users; each has between half and one and a half times `events_per_user` ratings, as far as the
            topics of the user have items.
        items: number of items; all may be rated.
        events_per_user: mean.
        topics: groups of items.
        seed: of all random draws.

    Returns:
        Canonical frame (user_id, item_id, timestamp in µs, reward = rating); item table (item_id, text, labels).

    Raises:
        ValueError: a number below 1, or more topics than items.
    """
    _check(items, topics, users=users, events_per_user=events_per_user)
    rng = np.random.default_rng(seed)
    topic_of, start = _rings(items, topics)
    popularity = _zipf(rng, items, 0.9)
    quality = 0.5 * rng.standard_normal(items)
    # repeated items are drawn too and removed below
    steps = max(2, int(3.0 * events_per_user))
    tastes = rng.dirichlet(0.2 * topics * _zipf(rng, topics, 0.5), size=(2, users))
    tastes[1] = 0.4 * tastes[0] + 0.6 * tastes[1]
    topic = _interests(rng, tastes, steps, drift=events_per_user + events_per_user // 2)
    item = _walk(rng, topic, start, popularity)
    liking = np.take_along_axis(tastes.sum(0) / tastes.sum(0).max(1, keepdims=True), topic, 1)
    mood = 0.4 * rng.standard_normal((users, 1))
    rating = 2.7 + 1.6 * liking + quality[item] + mood + 0.7 * rng.standard_normal((users, steps))

    length = rng.integers(-(-events_per_user // 2), events_per_user + events_per_user // 2 + 1, users)
    is_event = _first_time(item, items)
    is_event &= np.cumsum(is_event, axis=1) <= length[:, None]
    user, step = np.nonzero(is_event)
    frame = pl.DataFrame(
        {
            "user_id": _names("u", users)[user],
            "item_id": _names("i", items)[item[user, step]],
            "timestamp": _moments(rng, is_event)[user, step],
            "reward": np.clip(np.rint(rating[user, step]), 1, 5).astype(np.float32),
        }
    )
    return frame.sort("timestamp", maintain_order=True), _item_table(topic_of)


def prepare_simulated(
    out: Path, *, users: int = 1_000, items: int = 1_500, events_per_user: int = 100, topics: int = 20, seed: int = 0
) -> Dataset:
    """Prepare the ratings of `simulate_log` as a data set marked as simulated.

    Args:
        out: folder of the data set.
        users: see `simulate_log`, like the other arguments.
        items: number of items.
        events_per_user: mean number of ratings.
        topics: groups of items.
        seed: of all random draws.

    Raises:
        InputError: `out` holds something that is not a prepared data set.
        ValueError: see `simulate_log`.
    """
    settings = {"users": users, "items": items, "events_per_user": events_per_user, "topics": topics, "seed": seed}
    frame, table = simulate_log(**settings)
    return prepare(
        frame,
        out=out,
        name="simulated",
        items=table,
        kind="uses",
        provenance=Provenance(
            source={"generator": "slatewise.data.simulated.simulate_log", **settings}, simulated=True
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Impressions:
    """Slates of a known policy, with the policy and the user model that produced them."""

    frame: pl.DataFrame
    """Canonical: event_id, user_id, session_id, timestamp, position, item_id, logp, policy_id, reward, used and the
    one-hot context_… of the topic that the user is interested in."""
    items: pl.DataFrame
    """item_id, text, labels."""
    logits: Float[np.ndarray, "topics N"]
    """Of the logging policy: slates are drawn without replacement by softmax(logits[topic])."""
    attraction: Float[np.ndarray, "topics N"]
    """v: a user chooses item j of a slate with probability v_j / (1 + Σ v), and nothing with 1 / (1 + Σ v)."""
    topic: Int[np.ndarray, "V"]
    """Row of the two tables, per event in the order of the frame."""


def simulate_impressions(
    *,
    users: int = 200,
    items: int = 100,
    slate_size: int = 5,
    events_per_user: int = 20,
    topics: int = 5,
    temperature: float = 1.0,
    seed: int = 0,
) -> Impressions:
    """Simulate slates of a softmax policy, with the exact log-propensity factor of every position.

    A user chooses at most one item of a slate (reward 1), by a multinomial logit model with a no-choice option.

    Args:
        users: number of users.
        items: number of items.
        slate_size: K.
        events_per_user: slates per user.
        topics: contexts; policy and user depend on the topic only.
        temperature: of the logging policy; small is greedy, large is uniform.
        seed: of all random draws.

    Raises:
        ValueError: a number below 1, more topics or positions than items, or a temperature that is not above 0.
    """
    _check(items, topics, users=users, events_per_user=events_per_user, slate_size=slate_size)
    if slate_size > items or not temperature > 0:
        raise ValueError(f"slate_size {slate_size} of {items} items at temperature {temperature}: no such slates")
    rng = np.random.default_rng(seed)
    topic_of, _ = _rings(items, topics)
    match = (topic_of == np.arange(topics)[:, None]).astype(np.float64)
    quality = rng.standard_normal(items)
    attraction = np.exp(quality + 2.5 * match - 3.0)
    # the policy knows the topic and half of the quality
    logits = (1.5 * match + 0.5 * quality + 0.5 * rng.standard_normal((topics, items))) / temperature

    tastes = rng.dirichlet(np.full(topics, 0.5), size=(2, users))
    interest = _interests(rng, tastes, events_per_user, drift=events_per_user)
    is_event = np.ones((users, events_per_user), np.bool_)
    moments = _moments(rng, is_event)
    order = np.argsort(moments, axis=None, kind="stable")
    topic, time = interest.ravel()[order], moments.ravel()[order]
    user = np.repeat(np.arange(users), events_per_user)[order]
    slate, logp = _slates(rng, logits, topic, slate_size)
    choice = _choices(rng, np.take_along_axis(attraction[topic], slate, 1))

    sizes = (users, items, topics)
    frame = _impression_frame(topic=topic, time=time, user=user, slate=slate, logp=logp, choice=choice, sizes=sizes)
    return Impressions(frame=frame, items=_item_table(topic_of), logits=logits, attraction=attraction, topic=topic)


def _impression_frame(
    *,
    topic: Int[np.ndarray, "V"],
    time: Int[np.ndarray, "V"],
    user: Int[np.ndarray, "V"],
    slate: Int[np.ndarray, "V K"],
    logp: Float[np.ndarray, "V K"],
    choice: Int[np.ndarray, "V"],
    sizes: tuple[int, int, int],
) -> pl.DataFrame:
    """The canonical frame of slates; `sizes` are the numbers of users, items and topics."""
    users, items, topics = sizes
    events, slate_size = slate.shape
    day = (time - FIRST_MOMENT) // _DAY
    used = np.arange(slate_size) == choice[:, None]
    rows = np.repeat(np.arange(events), slate_size)
    return pl.DataFrame(
        {
            "event_id": rows,
            "user_id": _names("u", users)[user[rows]],
            "session_id": pl.Series([f"{name}-{visit_day}" for name, visit_day in zip(user, day, strict=True)])[rows],
            "timestamp": time[rows],
            "position": np.tile(np.arange(slate_size), events),
            "item_id": _names("i", items)[slate.ravel()],
            "logp": logp.ravel(),
            "policy_id": pl.repeat("softmax", len(rows), eager=True),
            "reward": used.ravel().astype(np.float32),
            "used": used.ravel(),
            **{f"context_topic_{index:02d}": (topic == index).astype(np.float32)[rows] for index in range(topics)},
        }
    )


def _check(items: int, topics: int, **counts: int) -> None:
    for name, count in {"items": items, "topics": topics, **counts}.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; expected at least 1")
    if topics > items:
        raise ValueError(f"{topics} topics of {items} items; expected at least one item per topic")


def _rings(items: int, topics: int) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "topics1"]]:
    """Topic of every item (neighbouring numbers share one), and the first item of every topic."""
    topic_of = np.arange(items) * topics // items
    return topic_of, np.searchsorted(topic_of, np.arange(topics + 1))


def _zipf(rng: Generator, count: int, power: float) -> Float[np.ndarray, "N"]:
    """Shares 1/rank^power, ranks in random order."""
    weight = (1.0 + rng.permutation(count)) ** -power
    share: Float[np.ndarray, "N"] = weight / weight.sum()
    return share


def _interests(
    rng: Generator, tastes: Float[np.ndarray, "2 U topics"], steps: int, *, drift: int
) -> Int[np.ndarray, "U T"]:
    """The topic at every step: unchanged with probability .85, else drawn from the first or the second taste.

    The probability of the second taste grows from 0 to 1 over `drift` steps.
    """
    users = tastes.shape[1]
    drawn = np.empty((2, users, steps), np.int64)
    edges = np.cumsum(tastes, axis=2)
    uniform = rng.random((2, users, steps))
    for taste in range(2):
        # shift each user's edges into (user, user + 1]: one sorted array for all users
        all_edges = (np.minimum(edges[taste], 1.0) + np.arange(users)[:, None]).ravel()
        index = np.searchsorted(all_edges, uniform[taste] + np.arange(users)[:, None], side="right")
        drawn[taste] = np.minimum(index - np.arange(users)[:, None] * edges.shape[2], edges.shape[2] - 1)
    late = rng.random((users, steps)) < np.arange(steps) / drift
    fresh = np.where(late, drawn[1], drawn[0])
    moves = rng.random((users, steps)) < 0.15
    moves[:, 0] = True
    topic: Int[np.ndarray, "U T"] = np.take_along_axis(fresh, _last_true(moves), 1)
    return topic


def _walk(
    rng: Generator,
    topic: Int[np.ndarray, "U T"],
    start: Int[np.ndarray, "topics1"],
    popularity: Float[np.ndarray, "N"],
) -> Int[np.ndarray, "U T"]:
    """The item at every step: with probability .15 the next on an unchanged topic's ring, else drawn by popularity."""
    follows = rng.random(topic.shape) < 0.15
    follows[:, 0] = False
    follows[:, 1:] &= topic[:, 1:] == topic[:, :-1]
    edges = np.concatenate([[0.0], np.cumsum(popularity)])
    low, high = edges[start[:-1]], edges[start[1:]]
    point = low[topic] + rng.random(topic.shape) * (high - low)[topic]
    first, size = start[topic], (start[1:] - start[:-1])[topic]
    offset = np.clip(np.searchsorted(edges, point, side="right") - 1 - first, 0, size - 1)
    base = _last_true(~follows)
    steps_since_jump = np.arange(topic.shape[1]) - base
    item: Int[np.ndarray, "U T"] = first + (np.take_along_axis(offset, base, 1) + steps_since_jump) % size
    return item


def _last_true(mask: Bool[np.ndarray, "U T"]) -> Int[np.ndarray, "U T"]:
    """At every step the last step up to it where the mask holds; the mask holds at step 0."""
    last: Int[np.ndarray, "U T"] = np.maximum.accumulate(np.where(mask, np.arange(mask.shape[1]), 0), axis=1)
    return last


def _first_time(item: Int[np.ndarray, "U T"], items: int) -> Bool[np.ndarray, "U T"]:
    """True where a user has an item for the first time."""
    pair = (np.arange(len(item))[:, None] * items + item).ravel()
    is_first = np.zeros(item.size, np.bool_)
    is_first[np.unique(pair, return_index=True)[1]] = True
    return is_first.reshape(item.shape)


def _moments(rng: Generator, is_event: Bool[np.ndarray, "U T"]) -> Int[np.ndarray, "U T"]:
    """Times in µs, ascending per user: minutes apart, sometimes days; users arrive within half a year."""
    gap = rng.exponential(_HOUR / 20, is_event.shape) + (rng.random(is_event.shape) < 0.05) * rng.exponential(
        2 * _DAY, is_event.shape
    )
    arrival = rng.integers(0, 180 * _DAY, (len(is_event), 1))
    since = np.cumsum(np.where(is_event, gap.astype(np.int64) + 1, 0), axis=1)
    moment: Int[np.ndarray, "U T"] = FIRST_MOMENT + arrival + since
    return moment


def _slates(
    rng: Generator, logits: Float[np.ndarray, "topics N"], topic: Int[np.ndarray, "V"], k: int
) -> tuple[Int[np.ndarray, "V K"], Float[np.ndarray, "V K"]]:
    """Slates drawn without replacement by softmax(logits[topic]), and the log-probability of each position's draw.

    The order of arrival of independent exponential clocks with rates π is such a draw; the factor of position j is
    log π_j − log(1 − Σ_{l<j} π_l).
    """
    weight = np.exp(logits - logits.max(1, keepdims=True))
    share = weight / weight.sum(1, keepdims=True)
    slates = np.empty((len(topic), k), np.int64)
    for at in range(0, len(topic), _CHUNK):
        arrival = (
            rng.standard_exponential((len(topic[at : at + _CHUNK]), logits.shape[1])) / share[topic[at : at + _CHUNK]]
        )
        first = np.argpartition(arrival, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(arrival, first, 1), axis=1)
        slates[at : at + _CHUNK] = np.take_along_axis(first, order, 1)
    drawn = share[topic[:, None], slates]
    earlier = np.cumsum(drawn, axis=1) - drawn
    # the last item of a whole catalog comes with certainty, up to rounding
    logp: Float[np.ndarray, "V K"] = np.minimum(np.log(drawn) - np.log1p(-np.minimum(earlier, 1 - drawn)), 0.0)
    return slates, logp


def _choices(rng: Generator, attraction: Float[np.ndarray, "V K"]) -> Int[np.ndarray, "V"]:
    """Chosen position with probability v_j / (1 + Σ v), −1 for none."""
    edges = np.cumsum(attraction, axis=1)
    point = rng.random(len(edges)) * (1.0 + edges[:, -1])
    position: Int[np.ndarray, "V"] = (point[:, None] >= edges).sum(1)
    position[position == attraction.shape[1]] = -1
    return position


def _names(letter: str, count: int) -> pl.Series:
    digits = max(4, len(str(count - 1)))
    return pl.Series([f"{letter}{number:0{digits}d}" for number in range(count)])


def _item_table(topic_of: Int[np.ndarray, "N"]) -> pl.DataFrame:
    names = [TOPICS[topic] if topic < len(TOPICS) else f"Topic {topic}" for topic in topic_of.tolist()]
    ids = _names("i", len(topic_of))
    titles = [f"Item {item[1:]} (topic {name})" for item, name in zip(ids, names, strict=True)]
    return pl.DataFrame({"item_id": ids, "text": titles, "labels": [[name] for name in names]})
