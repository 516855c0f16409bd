from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from slatewise.config import components, find
from slatewise.ope.ips import Snips
from slatewise.protocols import Estimator
from slatewise.testing import ContractError, check_estimator
from slatewise.types import Estimate, Trajectories


def estimators() -> list[Callable[[], Estimator]]:
    """Every class in ope/ that estimates and needs nothing to be made."""
    found: list[Any] = []
    for room in components("ope"):
        for _, member in inspect.getmembers(find("ope", room), inspect.isclass):
            own = member.__module__ == f"slatewise.ope.{room}" and hasattr(member, "estimate")
            if own and all(p.default is not p.empty for p in inspect.signature(member).parameters.values()):
                found.append(member)
    return found


@pytest.mark.parametrize("estimator", estimators())
def test_an_estimator_keeps_its_contract(estimator: Callable[[], Estimator]) -> None:
    check_estimator(estimator())


@pytest.mark.parametrize(
    "estimator",
    [Snips(normalise=False), Snips(weight_cap=50.0), Snips(propensities="fitted"), Snips(only_uses=True)],
    ids=["plain", "capped high", "fitted", "only uses"],
)
def test_its_settings_keep_it_too(estimator: Snips) -> None:
    check_estimator(estimator)


class Counting(Snips):
    """Calls every step known."""

    def estimate(self, trajectories: Trajectories, evaluation_logp: Tensor, values: Tensor | None = None) -> Estimate:
        known = torch.ones_like(trajectories.logp_known)
        return super().estimate(trajectories.replace(logp_known=known), evaluation_logp, values)


class Sure(Snips):
    """Has no doubts."""

    def estimate(self, trajectories: Trajectories, evaluation_logp: Tensor, values: Tensor | None = None) -> Estimate:
        found = super().estimate(trajectories, evaluation_logp, values)
        return dataclasses.replace(found, verdict="can judge", reasons=())


class Unweighted(Snips):
    def estimate(self, trajectories: Trajectories, evaluation_logp: Tensor, values: Tensor | None = None) -> Estimate:
        return super().estimate(trajectories, trajectories.logp, values)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Counting(), "half of the log has no known propensity, and 4000 steps count; expected 2000"),
        (Sure(), 'verdict "can judge".*on a log without propensities; expected "cannot judge"'),
        (Unweighted(), r"evaluating another policy: 2\.\d+ with a standard error of .* the value is 3\.2"),
        (Snips(weight_cap=0.5), "evaluating another policy|evaluating the policy"),
    ],
    ids=["counting", "sure", "unweighted", "capped low"],
)
def test_a_broken_estimator_is_told_what_was_expected(estimator: Snips, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_estimator(estimator)
