"""Learning in an environment off policy: serve, keep what happened, learn from what was kept.

The policy serves ε-greedily: with probability ε a user's whole slate is drawn at random from his candidates, all slates
alike. The propensity of such a mixture is exact: P(a_1 … a_j) = (1 − ε) 1[greedy begins like that] + ε Π 1/(C − i).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM
from slatewise.policies.epsilon_greedy import epsilon_greedy
from slatewise.protocols import Env, Learner
from slatewise.rollout.play import carry_after
from slatewise.rollout.replay import Replay
from slatewise.seeds import stream_seed
from slatewise.types import SlateRequest


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig:
    """How serving and learning take turns.

    Raises:
        ValueError: a count below 1, or an ε outside [0, 1].
    """

    steps: int = 300
    """Steps of the environment; every one is a transition of each of its users."""
    warm_up: int = 10
    """Steps before the first update, served at random."""
    updates: int = 1
    """Updates after each step."""
    batch_size: int = 256
    """Segments a batch."""
    segment: int = 1
    """Steps of a segment; 2 where the next slate is needed (SARSA)."""
    replay: int = 300
    """Steps kept per user."""
    epsilon: float = 0.1
    """ε from `epsilon_steps` on; it falls linearly from 1 at the end of the warm-up."""
    epsilon_steps: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "updates", "batch_size", "segment"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon is {self.epsilon}; expected a number in [0, 1]")
        if self.warm_up <= self.segment or self.replay <= self.segment:
            raise ValueError(f"warm_up and replay must be longer than a segment of {self.segment}")

    def exploration(self, step: int) -> float:
        """ε at a step."""
        if step < self.warm_up:
            return 1.0
        done = (step - self.warm_up) / max(1, self.epsilon_steps - self.warm_up)
        return 1.0 - (1.0 - self.epsilon) * min(1.0, done)


def learn_off_policy(
    env: Env,
    learner: Learner,
    config: OffPolicyConfig,
    *,
    seed: int,
    generator: Generator | None = None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Let a learner act and learn in an environment.

    Args:
        env: is reset with `seed`.
        learner: its policy serves, its `update` learns.
        config: when what happens.
        seed: of the env, the draws of slates and of the replay, each with a stream of its own.
        generator: source of both draws in place of their own streams.
        on_step: called with the number of the step and the metrics of its last update, after each step.
    """
    drawing, sampling = (generator or Generator().manual_seed(stream_seed(seed, number)) for number in (1, 2))
    replay, policy = Replay(config.replay), learner.policy
    observation = env.reset(seed=seed)
    with torch.no_grad():
        carry = policy.encoder.initial(env.num_users)
        state = policy.encoder.state(carry, observation)
    for number in range(config.steps):
        with torch.no_grad():
            slates = policy.recommend(state, SlateRequest(k=env.slate_size, candidates=observation.candidates))
            slates = epsilon_greedy(
                slates, config.exploration(number), candidates=_all(env, observation.candidates), generator=drawing
            )
            happened, next_observation = env.step(slates)
            replay.add(observation, happened)
            carry, observation = (
                carry_after(policy.encoder, carry, happened, next_observation.user != observation.user),
                next_observation,
            )
            state = policy.encoder.state(carry, observation)
        metrics: dict[str, float] = {}
        if number >= config.warm_up:
            for _ in range(config.updates):
                metrics = learner.update(replay.sample(config.batch_size, steps=config.segment, generator=sampling))
        if on_step is not None:
            on_step(number, metrics)


def _all(env: Env, candidates: Int[Tensor, "B C"] | None) -> Int[Tensor, "B C"]:
    if candidates is not None:
        return candidates
    return torch.arange(FIRST_ITEM, env.catalog.num_rows).expand(env.num_users, -1)
