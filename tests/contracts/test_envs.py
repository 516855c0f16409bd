from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from slatewise import config as configs
from slatewise.sim import drift, toys
from slatewise.testing import ContractError, check_env
from slatewise.types import Observation, Slates, Step


@pytest.mark.parametrize("name", configs.components("sim"))
def test_every_env_keeps_the_contract(name: str) -> None:
    check_env(name)


def test_a_set_bandit_keeps_it_too() -> None:
    check_env("toys", config=toys.TWO_GOOD)


class Global(toys.Env):
    """Draws from the global generator."""

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        step, seen = super().step(slates)
        torch.rand(1)
        return step, seen


class Tolerant(toys.Env):
    """Shows whatever comes."""

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        if torch.isnan(slates.logp).any():
            slates = Slates(items=slates.items, logp=torch.zeros_like(slates.logp))
        return super().step(slates)


class Restless(drift.Env):
    """Changes its users in the middle of a session."""

    def _observe(self) -> Observation:
        seen = super()._observe()
        return replace(seen, user=seen.user + self._events)


class Shared(drift.Env):
    """Hands out the numbers it lives on."""

    def _observe(self) -> Observation:
        return Observation(user=self._user, context=torch.zeros(self.num_users, 0))


class Repeating(drift.Env):
    """Numbers its events per step."""

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        step, seen = super().step(slates)
        return replace(step, event_id=torch.arange(self.num_users)), seen


class Wild(drift.Env):
    """Differs from run to run."""

    runs = 0

    def reset(self, *, seed: int) -> Observation:
        Wild.runs += 1
        return super().reset(seed=seed + Wild.runs)


def _module(parent: ModuleType, env: type[Any]) -> ModuleType:
    module = ModuleType("stranger", doc="A stranger's environment.")
    vars(module).update(Config=parent.Config, Env=env)
    return module


SMALL = drift.Config(num_items=60, num_topics=5, slate_size=3, lifetime=7, width=4, memory=5)


@pytest.mark.parametrize(
    ("parent", "env", "config", "message"),
    [
        (toys, Global, None, "global random state of torch"),
        (toys, Tolerant, None, "a propensity that is NaN is taken"),
        (drift, Restless, SMALL, "the user changed within a session"),
        (drift, Shared, SMALL, "user"),
        (drift, Repeating, SMALL, "event numbers repeat"),
        (drift, Wild, SMALL, "reset with the same seed"),
    ],
)
def test_what_breaks_the_contract_is_found(parent: ModuleType, env: type[Any], config: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_env(_module(parent, env), config=config)


def test_a_good_env_of_a_stranger_passes() -> None:
    check_env(_module(drift, drift.Env), config=SMALL)


def test_something_else_is_no_env() -> None:
    class Nothing:
        num_users = 13

        def __init__(self, config: Any, *, num_users: int) -> None:
            self.seen: Tensor | None = None

    with pytest.raises(ContractError, match=r"no slatewise\.protocols\.Env"):
        check_env(_module(toys, Nothing))
