"""Learning from what the policy itself has just done: play sessions, learn from each of them once, play again."""

from __future__ import annotations

from collections.abc import Callable

import torch

from slatewise.errors import input_error
from slatewise.protocols import Env, Learner
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.types import Exploration


def learn_on_policy(
    env: Env,
    learner: Learner,
    *,
    rounds: int,
    steps: int,
    exploration: Exploration,
    seed: int,
    exclude_last: int = 0,
    batch_size: int | None = None,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Let a policy gradient act and learn.

    Args:
        env: every round starts it again, with a seed of its own.
        learner: its policy serves; what it showed is never shown to it twice.
        rounds: how often to play and learn.
        steps: played in each round; the length of a session, where sessions have one.
        exploration: how the policy draws while it learns.
        seed: of everything random here.
        exclude_last: how many of the items that a user used last are not shown to them again.
        batch_size: users of one update, in the order of their places; None = all in one.
        on_update: called after each update with its number, from 1, and its metrics.

    Raises:
        InputError: no round.
    """
    if rounds < 1:
        raise input_error(f"{rounds} rounds: expected at least 1")
    update = 0
    for number in range(rounds):
        arms = [Arm(policy=learner.policy, exploration=exploration)]
        played = record_trajectories(env, arms, steps=steps, seed=stream_seed(seed, number), exclude_last=exclude_last)
        for index in torch.split(torch.arange(len(played.mask)), batch_size or len(played.mask)):
            metrics = learner.update(played.rows(index))
            update += 1
            if on_update is not None:
                on_update(update, metrics)
