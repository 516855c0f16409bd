from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import booleans, floats, integers, lists, sampled_from

from slatewise.config import DataConfig, SplitName
from slatewise.data.splits import PartName, Split, split_log
from slatewise.log import Interactions, LogPart
from slatewise.testing import written_log

PARTS: tuple[PartName, ...] = ("train", "valid", "test")
EVERY: tuple[SplitName, ...] = ("leave_one_out", "first_share", "random", "by_time", "by_user")


def log_of(*times: list[int]) -> Interactions:
    """A log of users with single items at these times."""
    return written_log([[{"items": [2], "time": moment} for moment in user] for user in times])


def split_of(name: SplitName, log: Interactions, *, clock: bool = True, **values: float) -> Split:
    return split_log(replace(DataConfig(path="", split=name), **values), log, clock=clock)  # type: ignore[arg-type]


def ends(split: Split) -> list[list[int]]:
    return [split.part(name).last.tolist() for name in PARTS]


def sizes(part: LogPart) -> list[int]:
    return [int(size) for size in part.last - part.first]


def test_leave_one_out_by_hand() -> None:
    # of two events or fewer nothing is held out: there would be nothing to learn from before them
    split = split_of("leave_one_out", log_of([1, 2, 3, 4], [1, 2, 3], [1, 2], [1], []))
    named = {name: (split.part(name).first.tolist(), split.part(name).last.tolist()) for name in PARTS}
    assert named == {
        "train": ([0, 0, 0, 0, 0], [2, 1, 2, 1, 0]),
        "valid": ([2, 1, 2, 1, 0], [3, 2, 2, 1, 0]),
        "test": ([3, 2, 2, 1, 0], [4, 3, 2, 1, 0]),
    }
    assert split.notes == ("2 users have fewer than 3 events: all of theirs train.",)


def test_first_share_by_hand() -> None:
    # .7 and .8 of 10 and of 4: 7 and 8, 2.8 and 3.2; fewer than three events are not split
    split = split_of("first_share", log_of(list(range(10)), [1, 2, 3, 4], [1], [1, 2]))
    assert ends(split) == [[7, 2, 1, 2], [8, 3, 1, 2], [10, 4, 1, 2]]
    assert split.notes == ("2 users have fewer than 3 events: all of theirs train.",)


@pytest.mark.parametrize("name", ["first_share", "random"])
@pytest.mark.parametrize(
    ("shares", "count", "expected"),
    [
        ((0.1, 0.2), 3, (1, 1, 1)),
        ((0.1, 0.2), 6, (4, 1, 1)),  # 4.2 and 4.8 are both 4: none would validate
        ((0.1, 0.2), 7, (4, 1, 2)),
        ((0.1, 0.2), 14, (9, 2, 3)),
        ((0.05, 0.05), 6, (4, 1, 1)),
        ((0.4, 0.5), 3, (1, 1, 1)),  # .3 events would train
        ((0.4, 0.5), 4, (1, 1, 2)),
        ((0.0, 0.2), 2, (1, 0, 1)),
        ((0.2, 0.0), 2, (1, 1, 0)),
        ((0.0, 0.9), 3, (1, 0, 2)),
        ((0.0, 0.0), 1, (1, 0, 0)),
        ((0.1, 0.2), 2, (2, 0, 0)),
        ((0.0, 0.2), 1, (1, 0, 0)),
    ],
)
def test_every_part_gets_an_event_where_there_are_enough(
    name: SplitName, shares: tuple[float, float], count: int, expected: tuple[int, int, int]
) -> None:
    split = split_of(name, log_of(list(range(count))), valid_share=shares[0], test_share=shares[1])
    assert tuple(sizes(split.part(part))[0] for part in PARTS) == expected


def test_few_events_and_few_users_are_rounded_alike() -> None:
    # six events in all, six users in all: 10 % of either would validate none
    assert ends(split_of("by_time", log_of([1, 2, 3], [4, 5, 6]))) == [[3, 1], [3, 2], [3, 3]]
    split = split_of("by_user", log_of(*[[1, 2]] * 6))
    assert [len(split.part(name).users()) for name in PARTS] == [4, 1, 1]


def test_by_time_by_hand() -> None:
    # ten events: seven before moment 8, one at 8, two from 9 on
    split = split_of("by_time", log_of([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]))
    assert ends(split) == [[4, 3], [4, 4], [5, 5]]
    assert split.notes == ()


def test_by_time_keeps_equal_times_together() -> None:
    split = split_of("by_time", log_of([1, 2, 5, 5], [3, 5, 5, 5, 5, 5]), valid_share=0.0, test_share=0.2)
    assert ends(split) == [[2, 1], [2, 1], [4, 6]]


def test_by_time_counts_those_who_come_later() -> None:
    split = split_of("by_time", log_of([1, 2, 3, 4, 5, 6, 7], [9, 9, 9]))
    words = "They start from the state of an unknown user, and the metrics are over them, too."
    assert split.notes == (f"users without an event before the part: valid 0 of 0, test 1 of 1. {words}",)
    # validation from 7, test from 9: the second user validates without a history and tests with one
    split = split_of("by_time", log_of([1, 2, 3, 4, 5, 6, 7, 10], [8, 9], [10]), valid_share=0.2)
    assert split.notes == (f"users without an event before the part: valid 1 of 2, test 1 of 3. {words}",)


DAY = 86_400_000_000


def test_by_time_at_dates() -> None:
    log = log_of([0, DAY, 3 * DAY], [2 * DAY, 4 * DAY])
    config = DataConfig(path="", split="by_time", valid_from="1970-01-03", test_from="1970-01-04T02:00:00+02:00")
    assert ends(split_log(config, log)) == [[2, 0], [2, 1], [3, 2]]
    assert ends(split_log(replace(config, valid_from=None), log)) == [[2, 1], [2, 1], [3, 2]]
    with pytest.raises(
        ValueError, match=r"to test: the log runs from 1970-01-01T00:00:00\+00:00 to 1970-01-05T00:00:00"
    ):
        split_log(replace(config, test_from="1970-02-01"), log)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "by_time", "test_from": "last May"}, r'"last May" is not a date or time \(expected ISO 8601'),
        ({"split": "by_time", "valid_from": "2026-05-01"}, "valid_from needs test_from"),
        ({"split": "random", "test_from": "2026-05-01"}, 'valid_from and test_from belong to split = "by_time"'),
        ({"fold_in": 1.0}, r"fold_in 1\.0; expected shares of at least 0, fold_in below 1"),
        ({"test_share": -0.1}, r"test_share -0\.1"),
    ],
)
def test_settings_that_cannot_be_meant(values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig(path="", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["first_share", "random", "by_time", "by_user"])
def test_a_share_of_nothing_is_nothing(name: SplitName) -> None:
    split = split_of(name, log_of(*[list(range(5))] * 4), valid_share=0.0, test_share=0.0)
    assert split.train.last.tolist() == [5] * 4
    assert split.valid.empty
    assert split.test.empty
    assert split.notes == ()


def test_by_user_by_hand() -> None:
    log = log_of(*[[1, 2, 3]] * 10)
    split = split_of("by_user", log, split_seed=5)
    # of ten users two test, one validates, seven train; of three events of a held-out user one is history, two are left
    assert sorted(sizes(split.train)) == [0] * 3 + [3] * 7
    assert sorted(sizes(split.valid)) == [0] * 9 + [2]
    assert sorted(sizes(split.test)) == [0] * 8 + [2] * 2
    held_out = split.test.users()
    assert split.test.first[held_out].tolist() == [1, 1]
    assert split.train.last[held_out].tolist() == [0, 0]
    assert ends(split_of("by_user", log, split_seed=5)) == ends(split)
    assert any(ends(split_of("by_user", log, split_seed=seed)) != ends(split) for seed in range(3))


def test_by_user_holds_nothing_of_a_single_event_out() -> None:
    split = split_of("by_user", log_of(*[[1]] * 10))
    assert sum(sizes(split.train)) == 7
    assert split.test.empty
    assert split.notes == ("3 users have a single event, which leaves nothing to evaluate after a history.",)
    without = split_of("by_user", log_of(*[[1]] * 10), fold_in=0.0)
    assert sorted(sizes(without.test)) == [0] * 8 + [1] * 2
    assert without.notes == ("held-out users are evaluated without a history: [data] fold_in = 0.",)


def slates_of(users: int, events: int) -> Interactions:
    """Item numbers and rewards say which event a row came from; every second row was used 5 after its slate."""
    return written_log(
        [
            [
                {
                    "items": [10 * event + 2, 10 * event + 3],
                    "rewards": [float(user), float(event)],
                    "used": [1],
                    "used_times": [100 * event + 5],
                    "time": 100 * event,
                    "id": 100 * user + event,
                    "end": event == 1,
                }
                for event in range(events)
            ]
            for user in range(users)
        ]
    )


@pytest.mark.parametrize("clock", [True, False])
def test_random_holds_events_at_random_places_out(clock: bool) -> None:
    log = slates_of(40, 10)
    split = split_of("random", log, clock=clock)
    assert sizes(split.train) == [7] * 40
    assert sizes(split.valid) == [1] * 40
    assert sizes(split.test) == [2] * 40
    drawn = split.test.interactions
    for user in range(40):
        assert sorted(drawn.event_id[10 * user : 10 * user + 10]) == [100 * user + event for event in range(10)]
    tested = drawn.event_id[split.test.events()] % 100
    # each place of ten is held out in 8 of 40 cases: within 4 σ of √(40 · .2 · .8)
    assert np.abs(np.bincount(tested, minlength=10) - 8).max() <= 4 * np.sqrt(6.4)
    trained = drawn.event_id[split.train.events()].reshape(40, 7)
    assert bool((np.diff(trained) > 0).all()) == clock


def test_random_moves_whole_events_and_keeps_delays() -> None:
    log = slates_of(3, 5)
    drawn = split_of("random", log).test.interactions
    event = drawn.event_id % 100
    assert drawn.item.tolist() == [10 * place + row for place in event for row in (2, 3)]
    assert drawn.reward.reshape(15, 2)[:, 1].tolist() == event.tolist()
    assert drawn.time.tolist() == log.time.tolist()
    assert (drawn.used_time.reshape(15, 2)[:, 1] - drawn.time).tolist() == [5] * 15
    assert drawn.used_time.reshape(15, 2)[:, 0].tolist() == [0] * 15
    assert not drawn.session_end.any()


def test_the_default_asks_for_a_clock() -> None:
    log = log_of(list(range(10)))
    assert ends(split_log(DataConfig(path=""), log)) == ends(split_of("leave_one_out", log))
    assert ends(split_log(DataConfig(path=""), log, clock=False)) == ends(split_of("random", log))
    assert split_log(DataConfig(path=""), log, clock=False).notes == ()
    (note,) = split_of("leave_one_out", log, clock=False).notes
    assert note.startswith('the log has no clock: "leave_one_out" takes the order of the file for that of time')


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=sampled_from(EVERY),
    users=lists(lists(integers(0, 9), max_size=6), min_size=1, max_size=5),
    valid=floats(0, 0.4),
    test=floats(0, 0.5),
    clock=booleans(),
)
def test_no_event_is_in_two_parts_and_parts_follow_each_other(
    name: SplitName, users: list[list[int]], valid: float, test: float, clock: bool
) -> None:
    log = log_of(*map(sorted, users))
    split = split_of(name, log, valid_share=valid, test_share=test, clock=clock)
    events = [set(split.part(part).events().tolist()) for part in PARTS]
    assert sum(map(len, events)) == len(set.union(*events))
    if name == "by_user":
        assert not {*split.train.users()} & {*split.valid.users(), *split.test.users()}
        assert bool((split.test.first[split.test.users()] > 0).all())
        return
    assert sum(map(len, events)) == log.num_events
    first, last = ([split.part(part).__dict__[side].tolist() for part in PARTS] for side in ("first", "last"))
    assert first == [[0] * len(users), last[0], last[1]]
    if name == "by_time":
        flat = [log.time[split.part(part).events()] for part in PARTS]
        for one, other in ((flat[0], flat[1]), (flat[0], flat[2]), (flat[1], flat[2])):
            assert not len(one) or not len(other) or one.max() < other.min()
    else:
        # whoever has something held out has a history
        assert all(train > 0 for train, end in zip(last[0], last[2], strict=True) if end > train)


@pytest.mark.parametrize("name", ["first_share", "random", "by_time", "by_user"])
def test_shares_that_leave_nothing_to_train_on(name: SplitName) -> None:
    with pytest.raises(ValueError, match=r"valid_share 0\.5 \+ test_share 0\.5 must stay below 1"):
        split_of(name, log_of([1, 2]), valid_share=0.5, test_share=0.5)


@pytest.mark.parametrize("name", EVERY)
def test_a_log_without_events(name: SplitName) -> None:
    split = split_of(name, log_of([], []))
    assert ends(split) == [[0, 0]] * 3


def test_learning_may_begin_later_than_the_history() -> None:
    log = log_of([0, DAY, 2 * DAY, 3 * DAY, 4 * DAY], [0, DAY, DAY + 1, DAY + 2])
    config = DataConfig(path="", learn_from="1970-01-02T12:00")
    train = split_log(config, log).train
    assert (train.first.tolist(), train.last.tolist()) == ([2, 2], [3, 2])
    assert split_log(config, log).test.first.tolist() == [4, 3]
    for name, clock in (("random", True), ("leave_one_out", False)):
        with pytest.raises(ValueError, match="learn_from needs a clock and a split in the order of time"):
            split_log(replace(config, split=name), log, clock=clock)  # type: ignore[arg-type]
