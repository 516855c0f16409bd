"""Parts of a log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists

from slatewise.log import Interactions, LogPart
from slatewise.testing import written_log

# User 0: a slate of three of which the second is used, a slate of which nothing is, one item; user 1: nothing;
# user 2: one item twice.
LOG = written_log(
    [
        [
            {"items": [5, 6, 7], "rewards": [0, 4, 0], "used": [1], "context": [0.0, 1.0]},
            {"items": [8, 9], "rewards": [0, 0], "used": [], "context": [0.0, 1.0], "policy": 3},
            {"items": [4], "rewards": [2], "context": [0.0, 1.0]},
        ],
        [],
        [{"items": [6], "rewards": [1], "context": [0.0, 1.0]}, {"items": [6], "context": [0.0, 1.0]}],
    ]
)


def part(first: list[int], last: list[int], log: Interactions = LOG) -> LogPart:
    return LogPart(interactions=log, first=np.array(first), last=np.array(last))


def single_items(lengths: list[int]) -> Interactions:
    """A log of users with so many events."""
    return written_log([[{"items": [2]}] * length for length in lengths])


def test_a_whole_log_by_hand() -> None:
    whole = LogPart.whole(LOG)
    assert (whole.first.tolist(), whole.last.tolist()) == ([0, 0, 0], [3, 0, 2])
    assert whole.users().tolist() == [0, 2]
    assert whole.events().tolist() == [0, 1, 2, 3, 4]
    assert (whole.num_events, whole.empty) == (5, False)
    # the rows are 5 6 7 | 8 9 | 4 | 6 | 6
    assert whole.used_rows().tolist() == [1, 5, 6, 7]
    assert whole.rewards().tolist() == [4, 2, 1, 1]
    assert whole.counts(8).tolist() == [0, 0, 0, 0, 1, 0, 3, 0]
    assert (LOG.num_policies, LOG.context_width) == (4, 2)


def test_a_part_by_hand() -> None:
    held_out = part([1, 0, 1], [3, 0, 2])
    assert held_out.users().tolist() == [0, 2]
    assert held_out.events().tolist() == [1, 2, 4]
    assert held_out.num_events == 3
    assert held_out.rewards().tolist() == [2, 1]
    assert held_out.counts(7).tolist() == [0, 0, 0, 0, 1, 0, 1]


def test_several_uses_of_an_event_count_each() -> None:
    events = [
        {"items": [5, 6, 7], "rewards": [1, 9, 3], "used": [0, 2], "use_rewards": [1, 2]},
        {"items": [8, 9], "used": []},
        {"items": [5], "rewards": [-1]},
    ]
    whole = LogPart.whole(written_log([events]))
    assert whole.rows().tolist() == [0, 1, 2, 3, 4, 5]
    assert whole.used_rows().tolist() == [0, 2, 5]
    assert whole.num_used_events() == 2
    assert whole.rewards().tolist() == [1, 3, -1]
    assert whole.use_rewards().tolist() == [1, 2, -1]
    assert whole.counts(9).tolist() == [0, 0, 0, 0, 0, 2, 0, 1, 0]
    last = LogPart(interactions=whole.interactions, first=np.array([1]), last=np.array([3]))
    assert (last.rows().tolist(), last.used_rows().tolist(), last.num_used_events()) == ([3, 4, 5], [5], 1)


def test_an_empty_part_holds_nothing() -> None:
    empty = part([3, 0, 2], [3, 0, 2])
    assert (empty.empty, empty.num_events, empty.users().tolist(), empty.events().tolist()) == (True, 0, [], [])
    assert empty.rewards().tolist() == []
    assert empty.counts(3).tolist() == [0, 0, 0]
    assert len(empty.windows(max_length=1)) == 0


def test_histories_by_hand() -> None:
    held_out = part([2, 0, 1], [3, 0, 2])
    for max_history, start in ((0, [2, 1]), (1, [1, 0]), (None, [0, 0])):
        histories = held_out.histories(np.array([0, 2]), max_history=max_history)
        assert histories.user.tolist() == [0, 2]
        assert histories.start.tolist() == start
        assert histories.learn.tolist() == [2, 1]
        assert histories.stop.tolist() == [3, 2]


def test_windows_by_hand() -> None:
    windows = part([0, 0, 2], [5, 0, 4], single_items([5, 0, 4])).windows(max_length=2, burn_in=1)
    assert windows.user.tolist() == [0, 0, 0, 2]
    assert windows.learn.tolist() == [0, 2, 4, 2]
    assert windows.stop.tolist() == [2, 4, 5, 4]
    # the first window of a user has nothing before it to read, unless the part starts later
    assert windows.start.tolist() == [0, 1, 3, 1]


@settings(max_examples=30, deadline=None)
@given(lengths=lists(integers(0, 9), min_size=1, max_size=5), max_length=integers(1, 4), burn_in=integers(0, 3))
def test_every_event_is_in_one_window(lengths: list[int], max_length: int, burn_in: int) -> None:
    first = list(range(len(lengths)))  # user u's part starts at event u
    last = [start + length for start, length in zip(first, lengths, strict=True)]
    windows = part(first, last, single_items(last)).windows(max_length=max_length, burn_in=burn_in)
    events = sorted(
        (int(user), event)
        for user, learn, stop in zip(windows.user, windows.learn, windows.stop, strict=True)
        for event in range(learn, stop)
    )
    assert events == [(user, user + event) for user, length in enumerate(lengths) for event in range(length)]
    assert bool((windows.stop - windows.learn <= max_length).all())
    assert bool((windows.learn - windows.start <= burn_in).all())
    assert bool((windows.start >= 0).all())


def test_windows_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="max_length is 0, burn_in 0; expected at least 1 and at least 0"):
        LogPart.whole(LOG).windows(max_length=0)
    with pytest.raises(ValueError, match="burn_in -1"):
        LogPart.whole(LOG).windows(max_length=1, burn_in=-1)
