from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from slatewise.ope.verdict import Evidence, decide_verdict

GOOD = Evidence(
    trajectories=10_000,
    steps=40_000,
    ess=4000.0,
    max_weight=0.001,
    pareto_k=0.3,
    mean_weight=1.01,
    mean_weight_stderr=0.01,
)


def verdict(**changed: Any) -> tuple[str, tuple[str, ...]]:
    return decide_verdict(dataclasses.replace(GOOD, **changed))


def test_a_good_log_can_judge() -> None:
    assert verdict() == ("can judge", ())


@pytest.mark.parametrize(
    ("changed", "expected", "reason"),
    [
        ({"steps": 0}, "cannot judge", "no step of the log has a propensity"),
        (
            {"steps": 0, "slate_size": 5},
            "cannot judge",
            "the log's propensities are of slates of up to 5, not of single draws: no step has a propensity of a "
            "single item",
        ),
        (
            {"only_uses": True},
            "cannot judge",
            "the log holds only what users used, not what they were shown: a choice of the user is taken for an "
            "action of a policy",
        ),
        (
            {"constant_reward": True},
            "cannot judge",
            "every reward is the same: nothing is known of how others vary",
        ),
        (
            {"ess": 14.94},
            "cannot judge",
            "only 14.9 effective trajectories of 10,000 are left (at least 15)",
        ),
        ({"max_weight": 0.24}, "cannot judge", "one trajectory carries 24.0% of the estimate (at most 20%)"),
        (
            {"mean_weight": 0.5},
            "cannot judge",
            "the mean weight is 0.50 where 1 is expected: the log does not cover what the policy does, or the "
            "propensities are wrong",
        ),
        (
            {"mean_weight": 0.95},
            "weak",
            "the mean weight is 0.950 where 1 is expected, more than four standard errors away",
        ),
        (
            {"pareto_k": 1.2},
            "weak",
            "the tail of the weights is so heavy that they may have no mean (k̂ = 1.20, below 1 it has one)",
        ),
        ({"propensities": "fitted"}, "weak", "the propensities were fitted to the log, not logged"),
        (
            {"propensities": "fitted", "slate_size": 10},
            "weak",
            "the log's propensities are of slates of up to 10, not of single draws; those used were fitted to the log",
        ),
    ],
)
def test_each_doubt_in_its_words(changed: dict[str, Any], expected: str, reason: str) -> None:
    assert verdict(**changed) == (expected, (reason,))


def test_thresholds_are_still_good() -> None:
    assert verdict(ess=15.0, max_weight=0.2, pareto_k=0.99)[0] == "can judge"
    assert verdict(pareto_k=-math.inf)[0] == "can judge"


def test_noise_excuses_a_mean_weight_only_within_limits() -> None:
    # off by less than four standard errors is no proof of anything …
    assert verdict(mean_weight=0.85, mean_weight_stderr=0.04)[0] == "can judge"
    assert verdict(mean_weight=0.85, mean_weight_stderr=0.03)[0] == "cannot judge"
    # … but further off than .2 is too far, and the noisier the log the less it is known to be good
    assert verdict(mean_weight=0.79, mean_weight_stderr=0.5)[0] == "cannot judge"
    assert verdict(mean_weight=1.21, mean_weight_stderr=10.0)[0] == "cannot judge"
    # a difference of two per cent matters to no estimate
    assert verdict(mean_weight=1.019, mean_weight_stderr=0.0001)[0] == "can judge"


def test_what_is_fatal_stands_before_what_is_doubtful() -> None:
    name, reasons = verdict(propensities="fitted", max_weight=0.5)
    assert name == "cannot judge"
    assert [reason.split()[0] for reason in reasons] == ["one", "the"]
