from __future__ import annotations

from typing import Any

import pytest

from slatewise.config import convert, to_table
from slatewise.errors import InputError
from slatewise.methods import cloning, wolpertinger
from slatewise.schedules import Schedule, geometric, linear, value_at


def test_a_number_is_constant() -> None:
    assert [value_at(0.25, updates) for updates in (0, 1, 10**6)] == [0.25] * 3


def test_linear_by_hand() -> None:
    schedule = linear(8.0, 2.0, updates=3)
    assert [value_at(schedule, updates) for updates in range(5)] == [8.0, pytest.approx(6.0), 4.0, 2.0, 2.0]
    # 1 − n/4 of the first value, where the last one is 0
    assert [linear(0.1, 0.0, updates=4).at(n) for n in range(5)] == [0.1 * (1 - n / 4) for n in range(5)]


def test_geometric_by_hand() -> None:
    assert [geometric(8.0, 1.0, updates=3).at(n) for n in range(5)] == pytest.approx([8.0, 4.0, 2.0, 1.0, 1.0])
    assert geometric(1.0, 4.0, updates=2).at(1) == pytest.approx(2.0)


def test_updates_of_a_round_share_a_value_and_a_later_start_waits() -> None:
    rounds = linear(1.0, 0.0, updates=6, every=2)
    assert [rounds.at(n) for n in range(7)] == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 3, 1 / 3, 0])
    late = linear(1.0, 0.0, updates=2, start=3)
    assert [late.at(n) for n in range(6)] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": 1.0, "last": 0.0, "updates": 0}, "a schedule of 0 updates, 1 at a time, from update 0"),
        ({"first": 1.0, "last": 0.0, "updates": 3, "every": 0}, "3 updates, 0 at a time"),
        ({"first": 1.0, "last": 0.0, "updates": 3, "start": -1}, "from update -1"),
        (
            {"first": 1.0, "last": -1.0, "updates": 3},
            "a linear schedule from 1.0 to -1.0: expected numbers of 0 or more",
        ),
        (
            {"shape": "geometric", "first": 1.0, "last": 0.0, "updates": 3},
            "a geometric schedule from 1.0 to 0.0: expected numbers above 0",
        ),
    ],
)
def test_schedules_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)


def test_a_table_in_a_configuration_is_a_schedule() -> None:
    table = {"shape": "geometric", "first": 0.1, "last": 0.001, "updates": 50}
    config = convert(cloning.Config, {"lr": table}, where="method")
    assert config.lr == geometric(0.1, 0.001, updates=50)
    assert to_table(config)["lr"] == table | {"every": 1, "start": 0}
    assert convert(cloning.Config, {"lr": 0.01}, where="method").lr == 0.01
    nested = convert(wolpertinger.Config, {"actor": {"lr": table | {"shape": "linear"}}}, where="method")
    assert nested.actor.lr == linear(0.1, 0.001, updates=50)


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (
            {"first": 0.1, "last": 0.0, "update": 5},
            r'run\.toml \[method\.lr\].*unknown key "update".*did you mean "updates"',
        ),
        ({"first": 0.1, "last": 0.0, "updates": 0}, r"run\.toml \[method\.lr\].*a schedule of 0 updates"),
        ("fast", r"run\.toml \[method\]"),
    ],
)
def test_a_table_that_is_no_schedule_is_refused_by_its_place(lr: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(cloning.Config, {"lr": lr}, where="run.toml [method]")
