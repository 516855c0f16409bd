"""The six logs of default_settings.py: two of MovieLens-100K, four of a made-up world with something to learn.

In the world, items lie in clusters, each with popular items and a fixed successor of every item. A user has a taste for
a few clusters and moves between them; within one, the next item is often the successor of the last. Settings of the
library were not chosen on these numbers, nor these numbers on the library.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from slatewise.data import Dataset, Options, import_path, prepared

NAMES = ("ml-5-percent", "ml-clicks", "plays", "no-clock", "slates", "few-events")
DAY = 86_400


class World:
    """Items in clusters, and users who walk among them."""

    def __init__(self, chance: np.random.Generator, *, items: int, clusters: int) -> None:
        self.chance = chance
        self.cluster = chance.permutation(np.arange(items) % clusters)
        self.members = [np.flatnonzero(self.cluster == number) for number in range(clusters)]
        self.successor = np.zeros(items, np.int64)
        for members in self.members:
            order = chance.permutation(members)
            self.successor[order] = np.roll(order, 1)
        weight = 1 / (1 + chance.permutation(items)) ** 0.7
        self.weight = [weight[members] / weight[members].sum() for members in self.members]
        self.size = chance.dirichlet(np.full(clusters, 2.0))

    def walk(self, *, moves: float = 0.15, follows: float = 0.35) -> Iterator[tuple[int, int]]:
        """Items that a user would like next, and the cluster they are in, for ever."""
        taste = self.chance.dirichlet(4 * self.size + 0.05)
        mood, last = int(self.chance.choice(len(taste), p=taste)), -1
        while True:
            if self.chance.random() < moves:
                mood = int(self.chance.choice(len(taste), p=taste))
            if last >= 0 and self.cluster[last] == mood and self.chance.random() < follows:
                last = int(self.successor[last])
            else:
                last = int(self.chance.choice(self.members[mood], p=self.weight[mood]))
            yield last, mood


def build(name: str, seed: int, folder: Path, movielens: Path) -> Dataset:
    """One of the logs, imported.

    Args:
        name: one of NAMES.
        seed: of the users that are drawn, or of the world.
        folder: where files and data sets go.
        movielens: MovieLens-100K as a prepared data set.
    """
    chance = np.random.default_rng([NAMES.index(name), seed])
    file = folder / f"{name}-{seed}.csv"
    if name.startswith("ml"):
        rows = _movielens(prepared.load(movielens), chance, name)
    else:
        rows = {"plays": _plays, "no-clock": _no_clock, "slates": _slates, "few-events": _few_events}[name](chance)
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows(rows)
    return import_path(file, folder / f"{name}-{seed}", options=Options(time=name != "no-clock"))


def _movielens(dataset: Dataset, chance: np.random.Generator, name: str) -> list[Sequence[object]]:
    """5 % of the users with their ratings, or all ratings of 4 and 5 as clicks."""
    log = dataset.interactions
    user = np.repeat(np.arange(log.num_users), np.diff(log.user_offsets))
    columns = user, np.asarray(log.item), np.asarray(log.time) // 1_000_000, np.asarray(log.reward)
    if name == "ml-clicks":
        chosen = columns[3] >= 4
        return [("user", "item", "time"), *zip(*(column[chosen].tolist() for column in columns[:3]), strict=True)]
    users = chance.choice(log.num_users, size=round(0.05 * log.num_users), replace=False)
    chosen = np.isin(user, users)
    return [("user", "item", "time", "rating"), *zip(*(column[chosen].tolist() for column in columns), strict=True)]


def _plays(chance: np.random.Generator) -> list[Sequence[object]]:
    """300 listeners, 40 plays each of 200 tracks; two of five plays are of a track played before."""
    world = World(chance, items=200, clusters=10)
    rows: list[Sequence[object]] = [("user", "item", "time")]
    for user in range(300):
        walk = world.walk()
        played: list[int] = []
        for step in range(40):
            again = played and chance.random() < 0.4
            played.append(played[int(chance.integers(len(played)))] if again else next(walk)[0])
            rows.append((user, f"i{played[-1]}", step * DAY + user))
    return rows


def _no_clock(chance: np.random.Generator) -> list[Sequence[object]]:
    """300 users used 20 of 200 items, in no order."""
    world = World(chance, items=200, clusters=10)
    rows = [(user, f"i{item}") for user in range(300) for item in _different(world, 20)]
    return [("user", "item"), *(rows[place] for place in chance.permutation(len(rows)))]


def _few_events(chance: np.random.Generator) -> list[Sequence[object]]:
    """200 users, 8 uses each of 100 items."""
    world = World(chance, items=100, clusters=8)
    rows = [
        (user, f"i{item}", step * DAY + user) for user in range(200) for step, item in enumerate(_different(world, 8))
    ]
    return [("user", "item", "time"), *rows]


def _different(world: World, number: int) -> list[int]:
    """The first different items of a walk."""
    items: dict[int, None] = {}
    for item, _ in world.walk():
        items[item] = None
        if len(items) == number:
            break
    return list(items)


def _slates(chance: np.random.Generator) -> list[Sequence[object]]:
    """300 users, 15 slates each of 5 from 150 items; of the cluster of the mood, several are clicked at once."""
    world = World(chance, items=150, clusters=10)
    popular = np.zeros(150)
    for members, weight, size in zip(world.members, world.weight, world.size, strict=True):
        popular[members] = weight * size
    rows: list[Sequence[object]] = [("user", "item", "time", "event", "position", "click")]
    for user in range(300):
        walk = world.walk()
        for step in range(15):
            wanted, mood = next(walk)
            slate = chance.choice(150, size=5, replace=False, p=popular / popular.sum())
            if chance.random() < 0.5 and wanted not in slate:
                slate[int(chance.integers(5))] = wanted
            for position, item in enumerate(slate.tolist()):
                likes = 0.8 if item == wanted else 0.5 if world.cluster[item] == mood else 0.04
                click = int(chance.random() < likes)
                rows.append((user, f"i{item}", step * DAY + user, f"e{user}-{step}", position, click))
    return rows
