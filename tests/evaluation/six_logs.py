"""Six small logs of different kinds, as their files would stand on a disk, and the same events as plain Python."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from slatewise.data import Options

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Event:
    """What one user was shown, or used without being shown anything, at once."""

    user: str
    seconds: int
    shown: tuple[str, ...]
    uses: tuple[tuple[str, float], ...]
    """Used items and their rewards."""


@dataclass(frozen=True)
class Log:
    """A file with the options of its import, and its events in the order of the file."""

    file: Path
    options: Options
    events: tuple[Event, ...]


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _in_order(events: list[Event]) -> tuple[Event, ...]:
    """As a log is written: by time; seconds are all different."""
    return tuple(sorted(events, key=lambda event: event.seconds))


def _popular(chance: np.random.Generator, number: int, *, items: int, again: bool) -> list[str]:
    weight = 1 / np.arange(1, items + 1)
    return [f"i{item}" for item in chance.choice(items, size=number, replace=again, p=weight / weight.sum())]


def ratings(folder: Path) -> Log:
    """30 users rate 6 to 14 of 25 items from 1 to 5."""
    chance = np.random.default_rng(1)
    events = []
    for user in range(30):
        for item in _popular(chance, int(chance.integers(6, 15)), items=25, again=False):
            stars = float(chance.integers(1, 6))
            events.append(Event(f"u{user}", int(chance.integers(10**7)) * 30 + user, (item,), ((item, stars),)))
    ordered = _in_order(events)
    rows = [
        {
            "user_id": e.user,
            "item_id": e.shown[0],
            "timestamp": int(START.timestamp()) + e.seconds,
            "rating": e.uses[0][1],
        }
        for e in ordered
    ]
    return Log(_write(folder / "ratings.csv", rows), Options(), ordered)


def impressions(folder: Path) -> Log:
    """Slates of four with none to three clicks, events and users with names, times in the zones of the users."""
    chance = np.random.default_rng(2)
    events = []
    for user in range(25):
        for _ in range(int(chance.integers(4, 10))):
            shown = tuple(_popular(chance, 4, items=20, again=False))
            clicked = tuple((item, 1.0) for item in shown if chance.random() < 0.3)
            events.append(Event(f"Zoë {user}", int(chance.integers(10**7)) * 25 + user, shown, clicked))
    ordered = _in_order(events)
    rows = []
    for number, e in enumerate(ordered):
        zone = timezone(timedelta(hours=int(e.user.split()[1]) % 12 - 6))
        time = (START + timedelta(seconds=e.seconds)).astimezone(zone).isoformat()
        clicks = dict(e.uses)
        rows += [
            {
                "user_id": e.user,
                "item_id": item,
                "timestamp": time,
                "event_id": f"request-{number}",
                "position": position,
                "reward": clicks.get(item, 0),
            }
            for position, item in enumerate(e.shown)
        ]
    return Log(_write(folder / "impressions.csv", rows), Options(), ordered)


def plays(folder: Path) -> Log:
    """20 listeners play 8 to 30 times, old favourites again and again; nothing says how they liked it."""
    chance = np.random.default_rng(3)
    events = []
    for user in range(20):
        events += [
            Event(f"u{user}", int(chance.integers(10**7)) * 20 + user, (item,), ((item, 1.0),))
            for item in _popular(chance, int(chance.integers(8, 31)), items=40, again=True)
        ]
    return _uses(folder / "plays.csv", events)


def robot(folder: Path) -> Log:
    """Twelve people, and one robot of 10,000 plays."""
    chance = np.random.default_rng(4)
    events = []
    for user in range(13):
        number = 10_000 if user == 5 else int(chance.integers(6, 12))
        events += [
            Event(f"u{user}", int(chance.integers(10**7)) * 13 + user, (item,), ((item, 1.0),))
            for item in _popular(chance, number, items=60, again=True)
        ]
    return _uses(folder / "robot.csv", events)


def _uses(path: Path, events: list[Event]) -> Log:
    ordered = _in_order(events)
    rows = [
        {"user_id": e.user, "item_id": e.shown[0], "timestamp": int(START.timestamp()) + e.seconds} for e in ordered
    ]
    return Log(_write(path, rows), Options(), ordered)


def no_clock(folder: Path) -> Log:
    """25 users rate 5 to 12 of 20 items; rows in any order, and nothing says when."""
    chance = np.random.default_rng(5)
    events = []
    for user in range(25):
        events += [
            Event(f"u{user}", 0, (item,), ((item, float(chance.integers(1, 6))),))
            for item in _popular(chance, int(chance.integers(5, 13)), items=20, again=False)
        ]
    ordered = tuple(events[place] for place in chance.permutation(len(events)))
    rows = [{"user_id": e.user, "item_id": e.shown[0], "rating": e.uses[0][1]} for e in ordered]
    return Log(_write(folder / "no_clock.csv", rows), Options(time=False), ordered)


def propensities(folder: Path) -> Log:
    """Slates of three with their propensities, some of them blank, and rewards from −1 to 4: those above 0 are uses."""
    chance = np.random.default_rng(6)
    events, rows = [], []
    for user in range(25):
        for _ in range(int(chance.integers(5, 10))):
            shown = tuple(_popular(chance, 3, items=18, again=False))
            rewards = [float(value) for value in chance.choice([-1, 0, 0, 1, 4], size=3)]
            used = tuple((item, reward) for item, reward in zip(shown, rewards, strict=True) if reward > 0)
            events.append((Event(f"u{user}", int(chance.integers(10**7)) * 25 + user, shown, used), rewards))
    events.sort(key=lambda pair: pair[0].seconds)
    for number, (e, rewards) in enumerate(events):
        blank = chance.random() < 0.2
        rows += [
            {
                "user_id": e.user,
                "item_id": item,
                "timestamp": int(START.timestamp()) + e.seconds,
                "event_id": number,
                "position": position,
                "reward": rewards[position],
                "propensity": "" if blank else 0.25,
            }
            for position, item in enumerate(e.shown)
        ]
    return Log(_write(folder / "propensities.csv", rows), Options(), tuple(event for event, _ in events))


LOGS: dict[str, Callable[[Path], Log]] = {
    "ratings": ratings,
    "impressions": impressions,
    "plays": plays,
    "no_clock": no_clock,
    "robot": robot,
    "propensities": propensities,
}
