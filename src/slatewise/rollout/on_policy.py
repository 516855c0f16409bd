"""Learning from what the policy itself has just done: play sessions, one update with them, play anew."""

from __future__ import annotations

from collections.abc import Callable

from slatewise.errors import located
from slatewise.protocols import Env, Learner
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.types import Exploration


def learn_on_policy(
    env: Env,
    learner: Learner,
    *,
    updates: int,
    steps: int,
    exploration: Exploration,
    seed: int,
    exclude_last: int = 0,
    on_update: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Let a policy gradient act and learn.

    Args:
        env: every update starts it anew, with a seed of its own.
        learner: its policy serves; what it showed is never shown to it twice.
        updates: how often.
        steps: played before each update; the length of a session, where sessions have one.
        exploration: how the policy draws while it learns.
        seed: of everything random here.
        exclude_last: how many of a user's last picks are not shown to him again.
        on_update: told the number of the update and its figures.

    Raises:
        InputError: no update.
    """
    if updates < 1:
        raise located(f"{updates} updates: expected at least 1")
    for number in range(updates):
        arms = [Arm(policy=learner.policy, exploration=exploration)]
        played = record_trajectories(env, arms, steps=steps, seed=stream_seed(seed, number), exclude_last=exclude_last)
        figures = learner.update(played)
        if on_update is not None:
            on_update(number, figures)
