"""Examples of the reported part: what was used before, what is recommended, what was used next."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from slatewise.config.run import RunConfig
from slatewise.data.manifest import Counts, Manifest, TimeRange
from slatewise.data.prepared import Dataset
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import LogPart, Vocabulary
from slatewise.methods import popularity
from slatewise.report.examples import MOST_BEFORE, examples
from slatewise.report.page import Example, Examples
from slatewise.testing import toy_catalog, written_log

MINUTE = 60_000_000


def show(
    users: list[list[dict[str, Any]]], *, held_out: int = 1, clock: bool = True, number: int = 4, **tables: Any
) -> Examples | None:
    """Examples of the last events of every user; items 2, 3, … 7 are recommended in this order, three a list."""
    log = written_log(users)
    count = np.diff(log.user_offsets)
    catalog = toy_catalog(6)
    policy = popularity.Policy(popularity.Config(), StatelessEncoder(), catalog)
    # scores log 16, log 8, log 4, log 2, 0, 0: single draws of 16/32, 8/32, 4/32 …
    policy.count[2:] = torch.tensor([15, 7, 3, 1, 0, 0])
    empty = Vocabulary(names=pa.array([""], pa.string()), first=0)
    dataset = Dataset(
        path=Path("data"),
        name="toy",
        interactions=log,
        catalog=catalog,
        users=Vocabulary(names=pa.array([f"u{user}" for user in range(len(users))], pa.string()), first=0, unknown=-1),
        policies=empty,
        catalogs=empty,
        manifest=Manifest(
            name="toy",
            kind="impressions",
            simulated=False,
            counts=Counts(users=len(users), items=6, events=0, rows=0, policies=0, known_propensities=0, sessions=0),
            slate_size=log.slate_size,
            time=TimeRange(first="", last="", clock=clock),
            context=(),
            source={},
            licence="",
            citation="",
            versions={},
            files={},
            fingerprint="",
        ),
    )
    config = RunConfig.from_tables({"method": {"name": "popularity"}, "evaluate": {"k": [3]}, **tables})
    part = LogPart(interactions=log, first=count - held_out, last=count)
    return examples(policy, config, dataset, part, label="popularity", number=number)


def only(shown: Examples | None) -> Example:
    assert shown is not None
    (example,) = shown.users
    return example


def test_the_slate_stands_beside_what_was_used_before_and_next() -> None:
    # item 3 was used before; of the four items shown last, 2 (recommended), 3 (a repeat) and 6 were used
    example = only(
        show(
            [
                [
                    {"items": [3, 4], "used": [0], "rewards": [2, 0], "time": 0},
                    {
                        "items": [2, 3, 6, 7],
                        "used": [0, 1, 2],
                        "rewards": [5, 1, 1, 0],
                        "time": 2 * MINUTE,
                        "used_times": [3 * MINUTE, 4 * MINUTE, 5 * MINUTE],
                    },
                ]
            ]
        )
    )
    assert [(use.title, use.reward, use.time) for use in example.history] == [
        ("Item 1", "reward 2", "1970-01-01 00:00 UTC")
    ]
    assert [item.title for item in example.slate] == ["Item 0", "Item 2", "Item 3"]
    assert [item.used for item in example.slate] == ["used next, reward 5", "", ""]
    assert [(use.title, use.reward, use.time, use.remark, use.recommended) for use in example.next] == [
        ("Item 0", "reward 5", "1970-01-01 00:03 UTC", "position 1", True),
        ("Item 1", "reward 1", "1970-01-01 00:04 UTC", "used before, so not recommended", False),
        ("Item 4", "reward 1", "1970-01-01 00:05 UTC", "", False),
    ]
    assert example.next_note == "3 uses of 4 shown items; 1 of the items in the slate."
    assert "at 1970-01-01 00:02 UTC just before the held-out events; 1 items excluded" in example.slate_note


def test_one_kind_of_propensity_a_column() -> None:
    shown = show([[{"items": [5]}, {"items": [2]}]], serve={"keep": 1, "top_m": 3})
    example = only(shown)
    # nothing is excluded from a single draw
    assert [item.probability for item in example.slate] == pytest.approx([16 / 32, 8 / 32, 4 / 32])
    # the service keeps the first position and draws 8 : 4 for the second; the last item left is certain
    assert [item.log_propensity for item in example.slate] == pytest.approx([0.0, math.log(8 / 12), 0.0], abs=1e-6)
    assert shown is not None
    assert "drawn from all 6; nothing is excluded, nothing explored" in shown.probability
    request = "k = 3, exploration (top_m 3, keep 1, temperature 1), items used before excluded"
    assert request in shown.log_propensity


def test_a_greedy_service_is_certain_of_its_slate_and_never_shows_what_it_excludes() -> None:
    shown = show([[{"items": [2]}, {"items": [3]}]], serve={"greedy": True}, evaluate={"k": [3], "exclude_seen": False})
    example = only(shown)
    assert [item.title for item in example.slate] == ["Item 0", "Item 1", "Item 2"]
    assert example.slate[0].log_propensity == -math.inf, "the service excludes what was used before"
    assert shown is not None
    assert "k = 3, no exploration" in shown.log_propensity


def test_history_is_what_had_arrived_and_the_newest_of_it() -> None:
    late = {"items": [7], "time": 50, "used_times": [99]}
    events = [{"items": [2 + place % 4], "time": place} for place in range(MOST_BEFORE + 1)]
    example = only(show([[*events, late, {"items": [2], "time": 60}]], clock=False))
    assert len(example.history) == MOST_BEFORE
    assert "Item 5" not in {use.title for use in example.history}, "its use arrived after the decision"
    assert example.history_note == f"The newest {MOST_BEFORE} of {MOST_BEFORE + 1} uses."
    assert {use.time for use in (*example.history, *example.next)} == {""}, "the log has no clock"
    assert "1970" not in example.slate_note


def test_an_item_used_twice_counts_once_with_its_largest_reward() -> None:
    twice = [{"items": [2], "rewards": [1]}, {"items": [2], "rewards": [3]}]
    example = only(show([[{"items": [7]}, *twice]], held_out=2))
    assert example.slate[0].used == "used next, reward 3"
    assert [use.reward for use in example.next] == ["reward 1", "reward 3"]
    assert example.next_note == "2 uses of 2 shown items; 1 of the items in the slate."


def test_examples_are_of_users_who_used_something() -> None:
    users = [[{"items": [2]}, {"items": [3], "used": [0] if user % 2 else []}] for user in range(6)]
    shown = show(users, number=2)
    assert shown is not None
    assert [example.user for example in shown.users] == ["u1", "u5"]
    assert shown.note == "Users spread evenly over the 3 of 6 who used something in this part of the log."
    nobody = show([[{"items": [2]}, {"items": [3, 4], "used": []}]])
    assert only(nobody).next_note == "Used none of 2 shown items."
    assert nobody is not None
    assert "nobody used anything" in nobody.note
