"""Logs and data sets small enough to be written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from slatewise.data import prepared
from slatewise.data.manifest import Kind, Provenance
from slatewise.data.prepared import Dataset
from slatewise.log import Catalog, Interactions, Vocabulary
from slatewise.testing._toys import toy_catalog

Event = Mapping[str, Any]


def written_log(users: Sequence[Sequence[Event]]) -> Interactions:
    """A log of the events of each user, every event a mapping.

    `items` are the numbers of the items shown, `rewards`, `cost` and `logp` go with them; `used` are the positions that
    were used, `used_times` and `use_rewards` go with those; `time`, `end` (of a session), `context`, `id` and `policy`
    belong to the event. Only `items` is needed: without more, the first item was used when it was shown and paid 1, the
    propensity is unknown, and time is the number of the event.

    Args:
        users: the events of each user, in the order of time.
    """
    events = [event for user in users for event in user]

    def of_events(name: str, default: Callable[[int], Any], dtype: type[np.generic]) -> Any:
        return np.array([event.get(name, default(place)) for place, event in enumerate(events)], dtype)

    def of_rows(name: str, first: float) -> Any:
        values = [event.get(name, [first] + [0.0] * (len(event["items"]) - 1)) for event in events]
        return np.array([value for row in values for value in row], np.float32)

    def of_uses(name: str, default: Callable[[int], Any], dtype: type[np.generic]) -> Any:
        """A column that is 0 where nothing was used; `default` of a row of the log."""
        column = np.zeros(int(event_offsets[-1]), dtype)
        for event, start in zip(events, event_offsets[:-1], strict=True):
            rows = [int(start) + place for place in event.get("used", [0])]
            for row, value in zip(rows, event.get(name, [default(row) for row in rows]), strict=True):
                column[row] = value
        return column

    event_offsets = np.cumsum([0, *(len(event["items"]) for event in events)])
    time = of_events("time", lambda place: place, np.int64)
    time_of_row = np.repeat(time, np.diff(event_offsets))
    rewards = of_rows("rewards", 1.0)
    context = np.array([event.get("context", ()) for event in events], np.float32)
    return Interactions(
        user_offsets=np.cumsum([0, *map(len, users)]),
        event_offsets=event_offsets,
        event_id=of_events("id", lambda place: 100 + place, np.int64),
        policy_id=of_events("policy", lambda _: 1, np.int32),
        time=time,
        session_end=of_events("end", lambda _: False, np.bool_),
        context=context.reshape(len(events), -1 if context.size else 0),
        item=np.array([item for event in events for item in event["items"]], np.int32),
        reward=rewards,
        cost=of_rows("cost", 0.0),
        logp=of_rows("logp", 0.0),
        logp_known=np.array(["logp" in event for event in events for _ in event["items"]], np.bool_),
        used=of_uses("", lambda _: True, np.bool_),
        used_time=of_uses("used_times", lambda row: time_of_row[row], np.int64),
        use_reward=of_uses("use_rewards", lambda row: rewards[row], np.float32),
    )


def toy_dataset(
    path: Path, interactions: Interactions | None = None, *, catalog: Catalog | None = None, kind: Kind = "uses"
) -> Dataset:
    """A prepared data set on disk: of a log, or of 24 users of two tastes who rate 12 of 20 items.

    Args:
        path: folder to make.
        interactions: None = the users of two tastes: one likes the even item numbers, one the odd ones.
        catalog: its items; None = `toy_catalog`.
        kind: what the log holds.
    """
    log = interactions or _tastes()
    users = [f"u{number}" for number in range(log.num_users)]
    return prepared.write(
        path,
        name="toy",
        interactions=log,
        catalog=catalog or toy_catalog(),
        users=Vocabulary(names=pa.array(users, pa.string()), first=0, unknown=-1),
        policies=Vocabulary(names=pa.array(["", "log"], pa.string()), first=0, unknown=0),
        kind=kind,
        provenance=Provenance(source={"generator": "slatewise.testing.toy_dataset"}, simulated=True),
    )


def _tastes() -> Interactions:
    generator = np.random.default_rng(0)
    users: list[list[Event]] = []
    for user in range(24):
        liked = generator.permutation(np.arange(2 + user % 2, 22, 2))[:9]
        other = generator.permutation(np.arange(3 - user % 2, 22, 2))[:3]
        items = generator.permutation(np.concatenate([liked, other])).tolist()
        users.append(
            [
                {"items": [item], "rewards": [5.0 if item in liked else 1.0 + step % 3], "time": 60_000_000 * step}
                for step, item in enumerate(items)
            ]
        )
    return written_log(users)
