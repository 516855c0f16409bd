"""What kind of log a data set holds, on logs written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slatewise.data.log_kind import LogKind, kind_of, liked_threshold
from slatewise.testing import toy_dataset, written_log


def kind(path: Path, users: list[list[dict[str, object]]], *, shown: bool = False) -> LogKind:
    return kind_of(toy_dataset(path / "data", written_log(users), kind="impressions" if shown else "uses"))


@pytest.mark.parametrize(
    ("rewards", "threshold"),
    [
        ([1, 2, 3, 4, 5], 4.0),
        ([0.5, 2.5, 4.0, 4.5, 5.0], 4.0),  # .5 + .75 · 4.5 = 3.875
        ([1, 5, 8, 10], 8.0),  # 1 + .75 · 9 = 7.75
        ([1, 2, 3], 3.0),
        ([0, 1], 1.0),
        ([-1, 1], 1.0),
        ([1, 1, 1], None),
        ([], None),
        ([1.0] * 60 + [2.0] * 39 + [5.0], 1.0),  # one of a hundred reaches 4: the median says more
        (list(range(1, 101)), 51.0),  # a hundred values are amounts
    ],
)
def test_what_counts_as_liked(rewards: list[float], threshold: float | None) -> None:
    assert liked_threshold(np.array(rewards, np.float64)) == threshold


def test_ratings(tmp_path: Path) -> None:
    ratings = [[{"items": [2], "rewards": [5.0]}, {"items": [3], "rewards": [1.0]}], [{"items": [2], "rewards": [4.0]}]]
    found = kind(tmp_path, ratings)
    assert (found.feedback, found.liked_at_least, found.lowest, found.highest) == ("ratings", 4.0, 1.0, 5.0)
    assert (found.uses, found.users, found.repeats, found.propensities, found.size) == (3, 2, 0.0, "none", "small")
    assert found.traits == (
        "always", "small", "sparse", "no_slates", "ratings", "no_repeats", "clock", "no_propensities",
    )  # fmt: skip


def test_plays_of_which_two_of_five_are_repeats(tmp_path: Path) -> None:
    found = kind(tmp_path, [[{"items": [item]} for item in (2, 3, 2)], [{"items": [2]}, {"items": [2]}]])
    assert (found.feedback, found.liked_at_least) == ("uses", None)
    assert found.repeats == pytest.approx(0.4)
    assert found.has_repeats
    assert "5 uses by 2 users" in found.sentence()
    assert "40% repeats" in found.sentence()


def test_slates_with_several_uses_and_factors(tmp_path: Path) -> None:
    several = {"items": [2, 3], "used": [0, 1], "rewards": [1.0, 1.0], "logp": [-0.5, -0.5]}
    found = kind(tmp_path, [[several, {"items": [4, 5], "used": [], "rewards": [0.0, 0.0]}]], shown=True)
    assert (found.feedback, found.slate_size, found.several_uses) == ("slates", 2, 0.5)
    assert (found.propensities, found.known_propensities) == ("slates", 0.5)
    assert "no_propensities" in found.traits, "factors of slates are no propensities of single draws"


def test_single_items_with_propensities(tmp_path: Path) -> None:
    shown = [{"items": [2], "logp": [-1.0]}, {"items": [3], "used": [], "rewards": [0.0], "logp": [-1.0]}]
    found = kind(tmp_path, [shown], shown=True)
    assert (found.feedback, found.propensities, found.known_propensities) == ("single_items", "single_draws", 1.0)
    assert "propensities" in found.traits


def test_a_log_in_which_nothing_was_used(tmp_path: Path) -> None:
    found = kind(tmp_path, [[{"items": [2, 3], "used": [], "rewards": [0.0, 0.0]}]], shown=True)
    assert (found.uses, found.repeats, found.lowest, found.highest) == (0, 0.0, 0.0, 0.0)
