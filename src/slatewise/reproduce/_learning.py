"""Learning by interaction, as several experiments do it: how long, and what the policy earns on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.encoders import observed
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import FIRST_ITEM, Catalog
from slatewise.methods import random
from slatewise.protocols import Env, Learner, Policy
from slatewise.rollout.off_policy import OffPolicyConfig, learn_off_policy
from slatewise.types import SlateRequest

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much interaction."""

    users: int
    """Places of the environment that is learned in."""
    interaction: OffPolicyConfig
    curve_points: int
    """Points of the learning curve; 0 = none."""


def learn_with_curve(
    env: Env, learner: Learner, size: Size, *, seed: int, measure: Callable[[], float]
) -> tuple[list[tuple[int, float]], float]:
    """Learn in an environment, and measure at equal distances.

    Args:
        env: to learn in.
        learner: is changed in place.
        size: how long; how many measurements.
        seed: of everything random in learning.
        measure: what the policy is worth now.

    Returns:
        transitions so far and the measurement there; CPU seconds of learning alone.
    """
    curve: list[tuple[int, float]] = []
    every = max(1, size.interaction.steps // max(1, size.curve_points))
    measuring = 0.0

    def watch(step: int, metrics: dict[str, float]) -> None:
        nonlocal measuring
        del metrics
        if size.curve_points and (step + 1) % every == 0:
            start = time.process_time()
            curve.append(((step + 1) * env.num_users, measure()))
            measuring += time.process_time() - start

    start = time.process_time()
    learn_off_policy(env, learner, size.interaction, seed=seed, on_step=watch)
    return curve, time.process_time() - start - measuring


def cpu_timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What some work returns, and the CPU seconds it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def context_encoder(catalog: Catalog, width: int) -> observed.Encoder:
    """What is observed is the state."""
    return observed.Encoder(observed.Config(history=False, context_width=width), catalog)


@torch.no_grad()
def greedy_items(
    policy: Policy, states: Float[Tensor, "S D"], *, at_a_time: int, candidates: Int[Tensor, " C"] | None = None
) -> Int[Tensor, " S"]:
    """Row of the item that a greedy policy shows in each state, from that of the first item on.

    Args:
        policy: shows one item.
        states: where it decides.
        at_a_time: states of one call, for memory.
        candidates: what it chooses from, the same in every state; None = all items.
    """
    items = []
    for batch in torch.split(states, at_a_time):
        choice = None if candidates is None else candidates.expand(len(batch), -1)
        items.append(policy.recommend(batch, SlateRequest(k=1, candidates=choice)).items[:, 0])
    return torch.cat(items) - FIRST_ITEM


def random_policy(catalog: Catalog) -> random.Policy:
    """Items at random."""
    return random.Policy(random.Config(), StatelessEncoder(), catalog)
