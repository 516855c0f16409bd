from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import floats, integers, lists, sampled_from

from slatewise.config import SplitName
from slatewise.data import splits
from slatewise.data.splits import PartName
from slatewise.log import Interactions
from slatewise.testing import written_log

PARTS: tuple[PartName, ...] = ("train", "valid", "test")


def log_of(*times: list[int]) -> Interactions:
    """A log of users with single items at these times."""
    return written_log([[{"items": [2], "time": moment} for moment in user] for user in times])


def parts(split: splits.Split) -> list[list[int]]:
    return [split.train_end.tolist(), split.valid_end.tolist(), split.test_end.tolist()]


def test_leave_one_out_by_hand() -> None:
    # of two events or fewer nothing is held out: there would be nothing to learn from before them
    split = splits.make("leave_one_out", log_of([1, 2, 3, 4], [1, 2, 3], [1, 2], [1], []))
    assert parts(split) == [[2, 1, 2, 1, 0], [3, 2, 2, 1, 0], [4, 3, 2, 1, 0]]
    named = {name: (split.part(name).first.tolist(), split.part(name).last.tolist()) for name in PARTS}
    assert named == {
        "train": ([0, 0, 0, 0, 0], [2, 1, 2, 1, 0]),
        "valid": ([2, 1, 2, 1, 0], [3, 2, 2, 1, 0]),
        "test": ([3, 2, 2, 1, 0], [4, 3, 2, 1, 0]),
    }


def test_first_share_by_hand() -> None:
    # .7 and .8 of 10 and of 4: 7 and 8, 2.8 and 3.2
    split = splits.make("first_share", log_of(list(range(10)), [1, 2, 3, 4]))
    assert parts(split) == [[7, 2], [8, 3], [10, 4]]


def test_by_time_by_hand() -> None:
    # ten events: seven before moment 8, one at 8, two from 9 on
    split = splits.make("by_time", log_of([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]))
    assert parts(split) == [[4, 3], [4, 4], [5, 5]]


def test_by_time_keeps_equal_times_together() -> None:
    split = splits.make("by_time", log_of([1, 2, 5, 5], [3, 5, 5, 5, 5, 5]), valid_share=0.0, test_share=0.2)
    assert parts(split) == [[2, 1], [2, 1], [4, 6]]


@pytest.mark.parametrize("name", ["first_share", "by_time", "by_user"])
def test_a_share_of_nothing_is_nothing(name: SplitName) -> None:
    log = log_of(*[list(range(5))] * 4)
    split = splits.make(name, log, valid_share=0.0, test_share=0.0)
    assert parts(split)[0] == [5] * 4


def test_by_user_by_hand() -> None:
    log = log_of(*[[1, 2, 3]] * 10)
    split = splits.make("by_user", log, seed=5)
    # of ten users two test, one validates, seven train, each with all they did
    assert sorted(split.train_end.tolist()) == [0] * 3 + [3] * 7
    assert sorted((split.valid_end - split.train_end).tolist()) == [0] * 9 + [3]
    assert sorted((split.test_end - split.valid_end).tolist()) == [0] * 8 + [3] * 2
    assert parts(splits.make("by_user", log, seed=5)) == parts(split)
    assert any(parts(splits.make("by_user", log, seed=seed)) != parts(split) for seed in range(3))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=sampled_from(["leave_one_out", "first_share", "by_time", "by_user"]),
    users=lists(lists(integers(0, 9), max_size=6), min_size=1, max_size=5),
    valid=floats(0, 0.4),
    test=floats(0, 0.5),
)
def test_every_event_is_in_one_part_and_parts_follow_each_other(
    name: SplitName, users: list[list[int]], valid: float, test: float
) -> None:
    log = log_of(*map(sorted, users))
    split = splits.make(name, log, valid_share=valid, test_share=test)
    count = np.diff(log.user_offsets)
    assert bool((split.train_end >= 0).all())
    assert bool((split.train_end <= split.valid_end).all())
    assert bool((split.valid_end <= split.test_end).all())
    assert split.test_end.tolist() == count.tolist()
    if name == "by_time":
        flat = [log.time[split.part(part).events()] for part in PARTS]
        for one, other in ((flat[0], flat[1]), (flat[0], flat[2]), (flat[1], flat[2])):
            assert not len(one) or not len(other) or one.max() < other.min()


@pytest.mark.parametrize("name", ["first_share", "by_time", "by_user"])
def test_shares_that_leave_nothing_to_train_on(name: SplitName) -> None:
    with pytest.raises(ValueError, match=r"valid_share 0\.5 \+ test_share 0\.5 must stay below 1"):
        splits.make(name, log_of([1, 2]), valid_share=0.5, test_share=0.5)


def test_a_log_without_events() -> None:
    for name in ("leave_one_out", "first_share", "by_time", "by_user"):
        assert parts(splits.make(name, log_of([], []))) == [[0, 0]] * 3
