"""How often the interval of an off-policy estimator covers the truth, on simulated logs of which the truth is known.

A user has a topic: it is the state of 70 % of the steps, the others have any state. The logging policy is
softmax(sharpness · z), the evaluation policy softmax(sharpness · z + distance · y), with z, y standard normal for each
(state, item). A click has probability σ(base + x + u): x standard normal for each (state, item), u normal for each
user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.random import Generator, default_rng

from slatewise.log import FIRST_ITEM
from slatewise.protocols import Estimator
from slatewise.types import Trajectories, used_at_once

STATES, ITEMS = 20, 20
LOYALTY = 0.7
"""Share of the steps whose state is the user's topic."""
GRADES = 4
"""Graded rewards are 1 + Binomial(4, p)."""
LOGS_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True)
class CoverageSetting:
    """Logs of one kind: how many users and steps, how far apart the policies are, how users reward."""

    name: str
    users: int
    steps: int = 1
    """Of each user; the most where lengths vary."""
    lengths: Literal["equal", "geometric"] = "equal"
    """Geometric lengths have a mean of a quarter of `steps`."""
    sharpness: float = 1.0
    """Of the logging policy."""
    distance: float = 1.0
    """Of the evaluation policy from it."""
    alignment: float = 0.0
    """How far y is x, what users like: the evaluation policy is then better than the log's."""
    exploration: float | None = None
    """ε: an ε-greedy log and a deterministic evaluation policy instead of two softmaxes."""
    uncovered: float = 0.0
    """Probability with which the evaluation policy shows an item that the log never shows."""
    base: float = -1.0
    """Logit of an average click."""
    user_effect: float = 0.0
    """Standard deviation of u."""
    rewards: Literal["clicks", "grades", "amounts"] = "clicks"
    """Amounts are clicks times a log-normal number."""
    tail: float | None = None
    """Weights from a Pareto distribution of this index instead of two policies; of 2 or less it has no variance."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What an estimator did on many logs of one setting."""

    setting: CoverageSetting
    truth: float
    logs: int
    speaks: int
    """Logs with the verdict "can judge"."""
    covered: int
    """Of these, how many intervals cover the truth."""
    covered_silent: int
    """The same of the other logs."""
    effective: int
    """Logs in which the effective trajectories are at least a tenth."""
    speaks_effective: int
    """Logs with the verdict "can judge" among these."""
    median_ess: float


@dataclass(frozen=True, kw_only=True)
class _World:
    logged: Float[np.ndarray, "states items"]
    evaluated: Float[np.ndarray, "states items"]
    logit: Float[np.ndarray, "states items"]
    truth: float


def measure_coverage(estimator: Estimator, setting: CoverageSetting, *, logs: int, seed: int) -> Coverage:
    """Estimate off-policy on simulated logs and count the verdicts and the intervals that cover the truth.

    Args:
        estimator: of the mean reward of a step.
        setting: kind of logs.
        logs: how many.
        seed: of the policies, the rewards and the logs.
    """
    world, generator = _world(setting, seed), default_rng([seed, 1])
    verdicts, covers, ess = [], [], []
    for trajectories, evaluation_logp in _logs(setting, world, logs, generator):
        estimate = estimator.estimate(trajectories, evaluation_logp)
        verdicts.append(estimate.verdict == "can judge")
        covers.append(estimate.interval[0] <= world.truth <= estimate.interval[1])
        ess.append(estimate.ess)
    speaks, covered, effective = np.array(verdicts), np.array(covers), np.array(ess) >= 0.1 * setting.users
    return Coverage(
        setting=setting,
        truth=world.truth,
        logs=logs,
        speaks=int(speaks.sum()),
        covered=int((speaks & covered).sum()),
        covered_silent=int((~speaks & covered).sum()),
        effective=int(effective.sum()),
        speaks_effective=int((speaks & effective).sum()),
        median_ess=float(np.median(ess)),
    )


def _world(setting: CoverageSetting, seed: int) -> _World:
    """Both policies, how users reward, and what the evaluation policy earns per step, summed over states and items."""
    generator = default_rng([seed, 0])
    logit = setting.base + generator.standard_normal((STATES, ITEMS))
    preference = setting.sharpness * generator.standard_normal((STATES, ITEMS))
    other = generator.standard_normal((STATES, ITEMS))
    liked = setting.alignment * (logit - setting.base) + (1 - setting.alignment) * other
    logged, evaluated = _softmax(preference), _softmax(preference + setting.distance * liked)
    if setting.exploration is not None:
        greedy, chosen = np.eye(ITEMS)[preference.argmax(axis=1)], liked.argmax(axis=1)
        logged = (1 - setting.exploration) * greedy + setting.exploration / ITEMS
        evaluated = np.eye(ITEMS)[chosen]
    if setting.uncovered:
        # the log never shows item 0
        logged[:, 0] = 0
        logged /= logged.sum(axis=1, keepdims=True)
        evaluated[:, 0] = 0
        evaluated *= (1 - setting.uncovered) / evaluated.sum(axis=1, keepdims=True)
        evaluated[:, 0] = setting.uncovered
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(61)
    click = _sigmoid(logit[..., None] + setting.user_effect * nodes) @ (node_weights / node_weights.sum())
    truth = float((evaluated * _mean_reward(setting, click)).sum(axis=1).mean())
    if setting.tail is not None:
        # w = (1 − u)^(−1/ν) (ν − 1)/ν, click probability .1 + .4 u; ∫ u (1 − u)^(−1/ν) du = B(2, 1 − 1/ν)
        power = 1 / setting.tail
        truth = 0.1 + 0.4 * (1 - power) / ((1 - power) * (2 - power))
    return _World(logged=logged, evaluated=evaluated, logit=logit, truth=truth)


def _mean_reward(setting: CoverageSetting, click: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    if setting.rewards == "grades":
        return 1 + GRADES * click
    return click * np.exp(0.5) if setting.rewards == "amounts" else click


def _logs(
    setting: CoverageSetting, world: _World, logs: int, generator: Generator
) -> Iterator[tuple[Trajectories, Float[torch.Tensor, "B T 1"]]]:
    for begin in range(0, logs, LOGS_AT_ONCE):
        shape = (min(LOGS_AT_ONCE, logs - begin), setting.users, setting.steps)
        if setting.tail is not None:
            item, weight, reward = _heavy_tail(setting.tail, shape, generator)
        else:
            item, weight, reward = _play(setting, world, shape, generator)
        mask = np.ones(shape, dtype=bool)
        if setting.lengths == "geometric":
            mask = np.arange(setting.steps) < generator.geometric(4 / setting.steps, shape[:2])[..., None]
        for log in range(shape[0]):
            yield _trajectories(item[log], weight[log], reward[log], mask[log])


def _play(
    setting: CoverageSetting, world: _World, shape: tuple[int, int, int], generator: Generator
) -> tuple[Int[np.ndarray, "L U T"], Float[np.ndarray, "L U T"], Float[np.ndarray, "L U T"]]:
    """Items shown by the logging policy, their weights and rewards."""
    topic = generator.integers(STATES, size=(*shape[:2], 1))
    state = np.where(generator.random(shape) < LOYALTY, topic, generator.integers(STATES, size=shape))
    cumulative = world.logged.cumsum(axis=1)[state]
    item = (cumulative < generator.random(shape)[..., None] * cumulative[..., -1:]).sum(axis=-1)
    effect = setting.user_effect * generator.standard_normal((*shape[:2], 1))
    click = _sigmoid(world.logit[state, item] + effect)
    if setting.rewards == "grades":
        reward = 1.0 + generator.binomial(GRADES, click)
    else:
        reward = (generator.random(shape) < click).astype(float)
        if setting.rewards == "amounts":
            reward *= np.exp(generator.standard_normal(shape))
    return item, world.evaluated[state, item] / world.logged[state, item], reward


def _heavy_tail(
    tail: float, shape: tuple[int, int, int], generator: Generator
) -> tuple[Int[np.ndarray, "L U T"], Float[np.ndarray, "L U T"], Float[np.ndarray, "L U T"]]:
    uniform = generator.random(shape)
    weight = (1 - uniform) ** (-1 / tail) * (tail - 1) / tail
    reward = (generator.random(shape) < 0.1 + 0.4 * uniform).astype(float)
    return np.zeros(shape, dtype=np.int64), weight, reward


def _trajectories(
    item: Int[np.ndarray, "U T"],
    weight: Float[np.ndarray, "U T"],
    reward: Float[np.ndarray, "U T"],
    mask: Bool[np.ndarray, "U T"],
) -> tuple[Trajectories, Float[torch.Tensor, "U T 1"]]:
    """A log of single items, and log-probabilities whose difference is the logarithm of the weight."""
    users, steps = item.shape
    number = torch.arange(users * steps).view(users, steps)
    exists, nothing = torch.from_numpy(mask), torch.zeros(users, steps, dtype=torch.bool)
    rewards = torch.from_numpy(reward).float().unsqueeze(2)
    with np.errstate(divide="ignore"):
        log_weight = torch.from_numpy(np.log(weight)).unsqueeze(2)
    log = Trajectories(
        event_id=number,
        policy_id=torch.ones_like(number),
        user=number[:, :1] // steps + torch.zeros_like(number),
        time=number,
        terminated=nothing,
        truncated=nothing,
        slate=torch.from_numpy(item).unsqueeze(2) + FIRST_ITEM,
        logp=(-log_weight).clamp(max=0),
        logp_known=exists,
        reward=rewards,
        cost=torch.zeros_like(rewards),
        **used_at_once(rewards > 0, time=number, reward=rewards),
        mask=exists,
        learn=exists,
        context=torch.zeros(users, steps + 1, 0),
    )
    return log, log_weight.clamp(max=0)


def _softmax(logits: Float[np.ndarray, "*B N"]) -> Float[np.ndarray, "*B N"]:
    power = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(power / power.sum(axis=-1, keepdims=True))


def _sigmoid(logits: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    return np.asarray(1 / (1 + np.exp(-logits)))
