"""Four small logs that are always the same: ratings, served slates, shown lists and single shown items.

Of a slate at most one item is used, and its outcome arrives before the user's next decision; so what a state reads does
not depend on how several or late uses are treated.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

START = 1_700_000_000
"""First second of every log."""
ITEMS, TOPICS = 40, 4


def write_logs(folder: Path) -> dict[str, Path]:
    """Write every log below a folder; their places by name."""
    writers = {"ratings": _ratings, "slates": _slates, "lists": _lists, "singles": _singles}
    places = {}
    for seed, (name, writer) in enumerate(writers.items()):
        places[name] = folder / name
        places[name].mkdir(parents=True, exist_ok=True)
        writer(places[name], np.random.default_rng(seed))
    return places


def _ratings(folder: Path, rng: np.random.Generator) -> None:
    """48 users who rate 4 to 30 films of favourite topics, in the order of a favourite topic's films."""
    rows = []
    for user in range(48):
        favourite, time = user % TOPICS, START + int(rng.integers(0, 500))
        order = rng.permutation(ITEMS)[: int(rng.integers(4, 31))]
        for item in sorted(order.tolist(), key=lambda number: (number % TOPICS != favourite, number)):
            liked = 4 if item % TOPICS == favourite else 2
            rows.append(
                {
                    "user_id": f"u{user}",
                    "movie_id": f"i{item}",
                    "rating": liked + int(rng.integers(-1, 2)),
                    "timestamp": time,
                }
            )
            time += int(rng.integers(1, 4000))
    _csv(folder / "ratings.csv", rows)
    # item_id, title, genres and numbers: a table of items by its columns
    features = rng.random((ITEMS, 3)).round(3).tolist()
    _csv(
        folder / "movies.csv",
        [
            {"movie_id": f"i{item}", "title": f"Film {item}", "genres": f"topic{item % TOPICS}"}
            | {f"feature_{place}": value for place, value in enumerate(features[item])}
            for item in range(ITEMS)
        ],
    )


def _slates(folder: Path, rng: np.random.Generator) -> None:
    """Decisions of two policies with context and propensities, half of them with one outcome a second later."""
    records: list[dict[str, Any]] = []
    event = 0
    for user in range(40):
        taste, time = rng.random(2).round(3).tolist(), START + int(rng.integers(0, 500))
        for step in range(int(rng.integers(4, 15))):
            event += 1
            slate, logp = _draw(rng, 4, tilt=1.0 + user % 2)
            records.append(
                {
                    "record": "decision",
                    "event_id": f"e{event}",
                    "timestamp": time * 1_000_000,
                    "user_id": f"u{user}",
                    "session_id": f"u{user}-{step // 5}",
                    "slate": [f"i{item}" for item in slate],
                    "logp": logp,
                    "policy_version": f"p{user % 2}",
                    "context": taste,
                }
            )
            pick = int(rng.integers(0, 8))
            if pick < 4:
                minutes = round(float(rng.random()) * 5 + 0.5, 2)
                records.append(
                    {
                        "record": "outcome",
                        "event_id": f"e{event}",
                        "timestamp": (time + 1) * 1_000_000,
                        "position": pick,
                        "type": "watch",
                        "value": minutes,
                    }
                )
            time += int(rng.integers(60, 4000))
    (folder / "events.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    features = rng.random((ITEMS, 2)).round(3)
    table = {"item_id": [f"i{item}" for item in range(ITEMS)], "text": [f"Film {item}" for item in range(ITEMS)]}
    pl.DataFrame({**table, "feature_0": features[:, 0], "feature_1": features[:, 1]}).write_parquet(
        folder / "items.parquet"
    )


def _lists(folder: Path, rng: np.random.Generator) -> None:
    """Rows of shown lists of three, with the probability of each place, clicks and costs."""
    rows = []
    event = 0
    for user in range(40):
        time = START + int(rng.integers(0, 500))
        for step in range(int(rng.integers(4, 12))):
            event += 1
            slate, logp = _draw(rng, 3, tilt=1.0)
            pick = int(rng.integers(0, 5))
            for place, item in enumerate(slate):
                rows.append(
                    {
                        "event_id": f"e{event}",
                        "user_id": f"u{user}",
                        "item_id": f"i{item}",
                        "timestamp": time,
                        "session_id": f"u{user}-{step // 4}",
                        "position": place,
                        "logp": logp[place],
                        "click": int(place == pick),
                        "cost": int(item < 8),
                    }
                )
            time += int(rng.integers(60, 4000))
    _csv(folder / "lists.csv", rows)


def _singles(folder: Path, rng: np.random.Generator) -> None:
    """Rows of single shown items with their probability under two policies, clicked more often where the taste fits."""
    rows = []
    event = 0
    for user in range(60):
        time = START + int(rng.integers(0, 500))
        for step in range(int(rng.integers(5, 20))):
            event += 1
            (item,), (logp,) = _draw(rng, 1, tilt=0.5 + user % 2)
            fits = item % TOPICS == user % TOPICS
            rows.append(
                {
                    "event_id": f"e{event}",
                    "user_id": f"u{user}",
                    "item_id": f"i{item}",
                    "timestamp": time,
                    "session_id": f"u{user}-{step // 6}",
                    "logp": logp,
                    "policy": f"p{user % 2}",
                    "click": int(rng.random() < (0.8 if fits else 0.2)),
                }
            )
            time += int(rng.integers(60, 4000))
    _csv(folder / "singles.csv", rows)


def _draw(rng: np.random.Generator, size: int, *, tilt: float) -> tuple[list[int], list[float]]:
    """Items drawn without replacement, small numbers more often, and the log-probability of each given those before."""
    weight = (1.0 / np.arange(1, ITEMS + 1)) ** tilt
    slate, logp = [], []
    for _ in range(size):
        chance = weight / weight.sum()
        item = min(int(np.searchsorted(np.cumsum(chance), rng.random())), ITEMS - 1)
        slate.append(item)
        logp.append(float(np.float32(np.log(chance[item]))))
        weight[item] = 0.0
    return slate, logp


def _csv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    table: Sequence[Mapping[str, object]] = list(rows)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
