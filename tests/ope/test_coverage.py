"""The interval covers the truth, on logs on which the verdict speaks; `bench/ope_coverage.py` measures it in full."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.ope.ips import Snips
from slatewise.stats import Z95, ratio
from slatewise.testing import CoverageSetting, measure_coverage
from slatewise.types import Estimate, Trajectories

LOGS = 250
MARGIN = 4 * math.sqrt(0.95 * 0.05 / LOGS)
"""Four standard errors of a coverage of 95 %: 5.5 %."""
LONG = CoverageSetting(name="few long trajectories", users=20, steps=50, user_effect=1.0)
RARE = CoverageSetting(name="rare and far", users=500, base=-4.5, distance=1.2)


@pytest.mark.parametrize("setting", [LONG, RARE], ids=lambda setting: setting.name)
def test_the_interval_covers_the_truth(setting: CoverageSetting) -> None:
    coverage = measure_coverage(Snips(), setting, logs=LOGS, seed=0)
    assert coverage.speaks > 0.9 * LOGS
    assert abs(coverage.covered / coverage.speaks - 0.95) < MARGIN
    assert (coverage.logs, coverage.effective) == (LOGS, LOGS)


class OfSteps(Snips):
    """Takes each step for a trajectory of its own."""

    def estimate(self, trajectories: Trajectories, evaluation_logp: Tensor, values: Tensor | None = None) -> Estimate:
        steps = torch.arange(trajectories.user.numel()).view_as(trajectories.user)
        return super().estimate(trajectories.replace(user=steps), evaluation_logp, values)


class Normal(Snips):
    """The delta method and a normal quantile."""

    def estimate(self, trajectories: Trajectories, evaluation_logp: Tensor, values: Tensor | None = None) -> Estimate:
        estimate = super().estimate(trajectories, evaluation_logp, values)
        weight = (evaluation_logp - trajectories.logp).double().exp()
        earned, total = ((weight * factor).sum(dim=(1, 2)) for factor in (trajectories.reward, torch.ones(())))
        value, stderr = ratio(earned, total)
        return replace(estimate, interval=(value - Z95 * stderr, value + Z95 * stderr))


@pytest.mark.parametrize(
    ("estimator", "setting"), [(OfSteps(), LONG), (Normal(), RARE)], ids=["of steps", "normal quantile"]
)
def test_a_wrong_interval_does_not(estimator: Snips, setting: CoverageSetting) -> None:
    coverage = measure_coverage(estimator, setting, logs=LOGS, seed=0)
    assert coverage.covered / coverage.speaks < 0.95 - MARGIN


def test_the_verdict_is_silent_where_the_log_does_not_show_what_the_policy_does() -> None:
    setting = CoverageSetting(name="uncovered", users=1000, distance=0.5, uncovered=0.2)
    coverage = measure_coverage(Snips(), setting, logs=50, seed=0)
    assert (coverage.speaks, coverage.effective) == (0, 50)


@pytest.mark.parametrize(
    "setting",
    [
        CoverageSetting(name="clicks", users=20_000, user_effect=1.0),
        CoverageSetting(name="grades", users=20_000, rewards="grades", alignment=0.5),
        CoverageSetting(name="amounts", users=20_000, rewards="amounts"),
        CoverageSetting(name="deterministic", users=20_000, exploration=0.9),
        CoverageSetting(name="tail", users=20_000, tail=3.0),
        CoverageSetting(name="lengths", users=5_000, steps=16, lengths="geometric"),
    ],
    ids=lambda setting: setting.name,
)
def test_the_truth_of_a_setting_is_what_its_logs_say(setting: CoverageSetting) -> None:
    estimates: list[Estimate] = []

    class Recording(Snips):
        def estimate(
            self, trajectories: Trajectories, evaluation_logp: Tensor, values: Tensor | None = None
        ) -> Estimate:
            estimates.append(super().estimate(trajectories, evaluation_logp, values))
            return estimates[-1]

    truth = measure_coverage(Recording(), setting, logs=4, seed=1).truth
    mean = np.mean([estimate.value for estimate in estimates])
    stderr = math.sqrt(sum(estimate.stderr**2 for estimate in estimates)) / 4
    assert abs(mean - truth) < 4 * stderr
    assert stderr < 0.03 * truth
