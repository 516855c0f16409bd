"""What every environment must keep: its own randomness, fresh tensors, sessions that restart, bad slates refused."""

from __future__ import annotations

from dataclasses import fields, replace
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor

from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, PAD, UNKNOWN
from slatewise.protocols import Env
from slatewise.testing._contract import expect, expect_close, no_global_randomness
from slatewise.testing._parts import expect_config, load_component
from slatewise.testing._trajectories import check_uses
from slatewise.types import Observation, Slates, Step


def check_env(component: str | ModuleType, *, config: Any = None, num_users: int = 13, steps: int = 60) -> None:
    """Hold an environment against `slatewise.protocols.Env`.

    Args:
        component: file name in sim/, or a module with `Config` and `Env(config, *, num_users)`.
        config: settings; None = the defaults.
        num_users: B.
        steps: how long it is played.

    Raises:
        ContractError: something is not as the protocol promises.
    """
    module = load_component("sim", component)
    name = module.__name__
    config = module.Config() if config is None else config
    expect_config(config, where=name)
    env = module.Env(config, num_users=num_users)
    expect(isinstance(env, Env), f"{name}: Env is no slatewise.protocols.Env; expected {_members()}")
    expect(env.num_users == num_users, f"{name}: num_users is {env.num_users}; expected {num_users}")
    _expect_refusal(env, _slates(env, None, 0), f"{name}: a step before the first reset")
    with no_global_randomness(name):
        first = _play(env, seed=3, steps=steps, name=name)
        again = _play(env, seed=3, steps=steps, name=name)
        other = _play(module.Env(config, num_users=num_users), seed=3, steps=steps, name=name, careless=True)
    for record, what in ((again, "reset with the same seed"), (other, "another env, whose tensors the caller changed")):
        for t, (expected, actual) in enumerate(zip(first, record, strict=True)):
            _same(expected[0], actual[0], f"{name}: {what}: observation {t}")
            _same(expected[1], actual[1], f"{name}: {what}: step {t}")
    observation = env.reset(seed=3)
    good = _slates(env, observation, 0)
    for what, bad in _bad(env, good).items():
        _expect_refusal(env, bad, f"{name}: {what}")
    step, _ = env.step(good)
    _same(step, first[0][1], f"{name}: a refused slate changed the env: step 0")


def _play(env: Env, *, seed: int, steps: int, name: str, careless: bool = False) -> list[tuple[Observation, Step]]:
    """Play random slates and check every step; `careless` overwrites whatever the env gave or was given."""
    observation = env.reset(seed=seed)
    record: list[tuple[Observation, Step]] = []
    events: list[Tensor] = []
    for t in range(steps):
        _check_observation(env, observation, f"{name}, observation {t}")
        slates = _slates(env, observation, t)
        slates_before, observation_before = _copy(slates), _copy(observation)
        step, next_observation = env.step(slates)
        _check_step(env, slates_before, observation, step, f"{name}, step {t}")
        _same(observation, observation_before, f"{name}, step {t} changed the observation before it")
        goes_on = ~(step.terminated | step.truncated)
        expect(
            bool((next_observation.user == observation.user)[goes_on].all()),
            f"{name}, step {t}: the user changed within a session; expected the same number until it ends",
        )
        record.append((observation_before, _copy(step)))
        events.append(step.event_id.clone())
        if careless:
            for value in (*_tensors(slates), *_tensors(step), *_tensors(observation)):
                value.zero_()
        observation = next_observation
    numbers = torch.cat(events)
    expect(len(set(numbers.tolist())) == len(numbers), f"{name}: event numbers repeat; expected each once")
    return record


def _check_observation(env: Env, observation: Observation, where: str) -> None:
    expect(observation.user.shape == (env.num_users,), f"{where}: user has the shape {tuple(observation.user.shape)}")
    expect(observation.context.ndim == 2, f"{where}: context has {observation.context.ndim} axes; expected (B, X)")
    if observation.candidates is not None:
        inside = (observation.candidates == PAD) | (
            (observation.candidates >= FIRST_ITEM) & (observation.candidates < env.catalog.num_rows)
        )
        expect(bool(inside.all()), f"{where}: candidates hold numbers that the catalog does not have")


def _check_step(env: Env, slates: Slates, observation: Observation, step: Step, where: str) -> None:
    expect_close(step.user, observation.user, f"{where}: user", tolerance=0.0)
    expect_close(step.slate, slates.items, f"{where}: slate", tolerance=0.0)
    expect_close(step.logp, slates.logp, f"{where}: logp", tolerance=0.0)
    expect(bool(step.logp_known.all()), f"{where}: logp_known is False; the slates came with propensities")
    for name in ("reward", "cost", "used", "used_time", "use_reward"):
        value = getattr(step, name)
        expect(value.shape == step.slate.shape, f"{where}: {name} has the shape {tuple(value.shape)}; expected (B, K)")
        expect(bool(torch.isfinite(value).all()), f"{where}: {name} holds NaN or infinity")
        expect(bool((value[step.slate == PAD] == 0).all()), f"{where}: an empty place has a {name}")
    check_uses(step, where=where)


def _slates(env: Env, observation: Observation | None, t: int) -> Slates:
    """Distinct items at random, the last place empty now and then."""
    generator = Generator().manual_seed(1000 + t)
    if observation is None or observation.candidates is None:
        start = torch.randint(env.catalog.num_items, (env.num_users, 1), generator=generator)
        items = (start + torch.arange(env.slate_size)) % env.catalog.num_items + FIRST_ITEM
    else:
        order = torch.rand(observation.candidates.shape, generator=generator) + (observation.candidates == PAD)
        items = observation.candidates.gather(1, order.argsort(dim=1)[:, : env.slate_size])
    if env.slate_size > 1 and t % 5 == 4:
        items[0, -1] = PAD
    return Slates(items=items, logp=-torch.rand(items.shape, generator=generator))


def _bad(env: Env, good: Slates) -> dict[str, Slates]:
    def with_item(value: int, position: int = 0) -> Slates:
        items = good.items.clone()
        items[-1, position] = value
        return replace(good, items=items)

    wide = torch.cat([good.items, torch.zeros_like(good.items[:, :1])], dim=1)
    bad = {
        "a slate that is too long": Slates(items=wide, logp=torch.zeros(wide.shape)),
        "slates for too few users": Slates(items=good.items[1:], logp=good.logp[1:]),
        "an item beyond the catalog": with_item(env.catalog.num_rows),
        "the number of unknown items": with_item(UNKNOWN),
        "a negative item number": with_item(-1),
        "a propensity that is NaN": replace(good, logp=torch.full_like(good.logp, float("nan"))),
        "a log-propensity above 0": replace(good, logp=good.logp + 2.0),
    }
    if env.slate_size > 1:
        bad["an item twice"] = with_item(int(good.items[-1, 0]), 1)
        bad["an item behind an empty place"] = with_item(PAD)
    return bad


def _expect_refusal(env: Env, slates: Slates, what: str) -> None:
    try:
        env.step(slates)
    except InputError:
        return
    expect(False, f"{what} is taken; expected an InputError")


def _same(expected: Any, actual: Any, message: str) -> None:
    for f in fields(expected):
        left, right = getattr(expected, f.name), getattr(actual, f.name)
        expect((left is None) == (right is None), f"{message}: {f.name} is there only once")
        if left is not None:
            expect_close(right, left, f"{message}: {f.name}", tolerance=0.0)


def _copy(record: Any) -> Any:
    return replace(
        record, **{f.name: value.clone() for f in fields(record) if (value := getattr(record, f.name)) is not None}
    )


def _tensors(record: Any) -> list[Tensor]:
    return [value for f in fields(record) if (value := getattr(record, f.name)) is not None]


def _members() -> str:
    return "num_users, slate_size, catalog, reset(*, seed) and step(slates)"
