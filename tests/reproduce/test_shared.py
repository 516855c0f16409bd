"""What all experiments share: rows, checks and curves over seeds, results by name, times in turns."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slatewise.reproduce._cells import Cell, by_kind
from slatewise.reproduce._learning import Size, cpu_timed, learn_with_curve
from slatewise.reproduce._results import Results, differences, seed_range, shares
from slatewise.reproduce._story import (
    Row,
    above_zero,
    at_least,
    at_most,
    chart,
    check,
    curve,
    learning_curve,
    line,
)
from slatewise.reproduce._timing import cpu_seconds
from slatewise.rollout.off_policy import OffPolicyConfig
from slatewise.stats import MeanInterval, student_t

HALF = 4.302653 / 3**0.5
"""Of the interval of 1, 2, 3: their standard deviation is 1, t(.975; 2) is 4.302653."""


def test_a_row_of_seeds() -> None:
    row = Row.of("ours", "return", [1.0, 2.0, 3.0], 2.5)
    assert (row.name, row.metric, row.published, row.ours) == ("ours", "return", 2.5, 2.0)
    assert (row.low, row.high) == pytest.approx((2 - HALF, 2 + HALF))
    slope = Row.of("growth", "exponent", MeanInterval(0.5, 0.25, 0.75))
    assert (slope.published, slope.ours, slope.low, slope.high) == (None, 0.5, 0.25, 0.75)
    exact = Row.of("optimum", "return", 8.5)
    assert exact.ours == 8.5
    assert math.isnan(exact.low)
    assert math.isnan(exact.high)


def test_a_check_shows_the_mean_that_it_is_about() -> None:
    holds = check("at least 2", [1.0, 2.0, 3.0], lambda mean: mean.mean >= 2, "+.1f", unit=" %")
    assert holds.holds
    assert holds.figure == "+2.0 % [-0.5, +4.5]"
    fails = check("all above 0", [1.0, 2.0, 3.0], lambda mean: mean.low > 0)
    assert not fails.holds
    # one seed has no interval to show, and shows nothing where an interval is asked for
    one = check("all above 0", [1.0], lambda mean: mean.low > 0)
    assert (one.holds, one.figure) == (False, "1.000")


def test_a_curve_of_seeds() -> None:
    line = curve("ours", (1, 10), [[1.0, 2.0, 3.0], [5.0]])
    assert (line.x, line.y) == ((1.0, 10.0), (2.0, 5.0))
    assert line.half == pytest.approx((HALF, 0.0))
    assert student_t([5.0]).half == 0.0


def test_a_line_of_numbers_has_no_intervals_unless_they_are_given() -> None:
    plain = line("optimum", range(2), [3.0, 3.0])
    assert (plain.x, plain.y, plain.half) == ((0.0, 1.0), (3.0, 3.0), ())
    assert line("price", [0.2], [1.5], [0.25]).half == (0.25,)


def test_learning_curves_of_two_seeds() -> None:
    one_seed = [[100, 1.0], [200, 3.0]]
    other_seed = [[100, 2.0], [200, 5.0]]
    mean = learning_curve("ours", [one_seed, other_seed])
    assert (mean.x, mean.y) == ((100.0, 200.0), (1.5, 4.0))
    assert mean.half[0] == pytest.approx(12.706205 / 2)  # t(.975; 1) times .5^.5 / 2^.5


def test_axes_of_a_chart() -> None:
    curves = [line("ours", [1], [2.0])]
    axes = {log: chart("return", "Return", "items", "minutes", curves, log=log) for log in ("", "x", "xy")}
    assert [(each.log_x, each.log_y) for each in axes.values()] == [(False, False), (True, False), (True, True)]
    named = chart("table", "Table", "policy", "minutes", curves, labels={"a": 1})
    assert (named.name, named.title, named.x, named.y) == ("table", "Table", "policy", "minutes")
    assert (named.labels, named.curves) == (("a",), tuple(curves))


def test_bars_of_a_mean() -> None:
    mean = MeanInterval(0.5, 0.0, 1.0)
    assert [at_least(bar)(mean) for bar in (0.4, 0.5, 0.6)] == [True, True, False]
    assert [at_most(bar)(mean) for bar in (0.4, 0.5, 0.6)] == [False, True, True]
    assert not above_zero(mean)
    assert above_zero(MeanInterval(0.5, 0.1, 0.9))


def test_differences_and_shares_by_seed() -> None:
    assert differences([3.0, 5.0], [1.0, 6.0]) == [2.0, -1.0]
    # (3 − 1) / (5 − 1); (7 − 2) / (4 − 2)
    assert shares([3.0, 7.0], [1.0, 2.0], [5.0, 4.0]) == [0.5, 2.5]
    with pytest.raises(ValueError, match="longer"):
        differences([1.0], [1.0, 2.0])


def test_a_cell_goes_to_the_function_of_its_kind() -> None:
    cell = Cell.of("k-1", "train", 3, items=20)
    assert (cell.name, cell.settings) == ("k-1-3", {"kind": "train", "seed": 3, "items": 20})
    run = by_kind(train=lambda settings: {"items": settings["items"]}, lemma=lambda _: {})
    assert run(cell) == {"items": 20}


def test_cpu_seconds_come_with_the_result() -> None:
    result, seconds = cpu_timed(lambda: 5)
    assert result == 5
    assert seconds >= 0


def test_results_by_name_in_the_order_of_the_seeds() -> None:
    cells: dict[str, dict[str, Any]] = {
        "k-1-percent-10": {"curve": [[1, 0.5], [2, 0.75]], "seconds": 3},
        "k-1-percent-9": {"curve": [[1, 0.25], [2, 1.5]], "seconds": 4},
        "references": {"optimum": 8.0},
        "k-1-9": {"curve": [], "seconds": 1},
    }
    results = Results(cells)
    assert results.values("k-1-percent", "seconds") == [4.0, 3.0]
    assert results.values("k-1-percent", "curve", -1, 1) == [1.5, 0.75]
    assert "k-1-percent" in results
    assert "references" not in results
    assert results.cells["references"] == {"optimum": 8.0}
    assert results["nothing"] == []
    assert results.values("nothing", "seconds") == []


def test_seeds_of_the_two_forms() -> None:
    assert list(seed_range(3, True)) == [3, 4]
    assert list(seed_range(3, False)) == [3, 4, 5, 6, 7]
    assert len(seed_range(0, False, full=20)) == 20


def test_works_take_turns_and_the_first_turn_is_not_kept() -> None:
    turns: list[tuple[str, int]] = []

    def work(name: str, block: int) -> None:
        turns.append((name, block))

    seconds = cpu_seconds({"a": lambda block: work("a", block), "b": lambda block: work("b", block)}, blocks=2)
    assert turns == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}
    assert all(0 <= each < 1 for values in seconds.values() for each in values)


def test_a_curve_is_measured_at_equal_distances() -> None:
    from torch import Generator

    from slatewise.encoders import observed
    from slatewise.methods import slateq
    from slatewise.sim import interest_evolution

    env = interest_evolution.Env(interest_evolution.Config(choice="mnl", budget=30.0), num_users=10)
    encoder = observed.Encoder(observed.Config(history=False, context_width=20), env.catalog)
    learner = slateq.Learner(slateq.Config(hidden=(4,)), encoder, env.catalog, generator=Generator().manual_seed(0))
    interaction = OffPolicyConfig(steps=13, batch_size=8, replay=10, epsilon_steps=15)
    values = iter((0.5, 0.25))
    size = Size(users=10, interaction=interaction, curve_points=2)
    line, seconds = learn_with_curve(env, learner, size, seed=0, measure=lambda: next(values))
    assert line == [(60, 0.5), (120, 0.25)]
    assert math.isfinite(seconds)
    none = Size(users=10, interaction=interaction, curve_points=0)
    assert learn_with_curve(env, learner, none, seed=0, measure=lambda: next(values))[0] == []
