"""What a policy earns in an environment, with an interval over users."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.errors import input_error
from slatewise.protocols import Env, Policy
from slatewise.rollout.play import Arm, play
from slatewise.stats import quantile_t
from slatewise.types import Exploration


@dataclass(frozen=True, kw_only=True)
class Returns:
    """What a policy earned: one entry per session, and the mean with its 95 % interval over users."""

    session_return: Float[Tensor, "U J"]
    """Sum of rewards of the j-th session at each of the U places."""
    session_length: Int[Tensor, "U J"]
    picks: Int[Tensor, "U J"]
    """Slates of the session from which something was picked."""
    user_mean: Float[Tensor, " U"] = field(init=False, repr=False)
    """Mean return of each place: places are independent, sessions of one place need not be."""
    value: float = field(init=False)
    stderr: float = field(init=False)
    interval: tuple[float, float] = field(init=False)

    def __post_init__(self) -> None:
        mean = self.session_return.double().mean(dim=1)
        value = float(mean.mean())
        count = len(mean)
        stderr = float(mean.std()) / math.sqrt(count) if count > 1 else math.inf
        half = stderr * quantile_t(count - 1) if count > 1 else math.inf
        for name, entry in (("user_mean", mean), ("value", value), ("stderr", stderr)):
            object.__setattr__(self, name, entry)
        object.__setattr__(self, "interval", (value - half, value + half))

    @property
    def pick_rate(self) -> float:
        """Picks per slate shown."""
        return float(self.picks.sum()) / max(1, int(self.session_length.sum()))


def returns(
    env: Env,
    policy: Policy,
    *,
    seed: int,
    sessions: int = 1,
    exploration: Exploration | None = None,
    exclude_last: int = 0,
    max_steps: int = 100_000,
) -> Returns:
    """What a policy earns in the first `sessions` sessions of every place, each played to its end.

    A fixed number of sessions per place, not of steps: else short sessions would be counted too often.

    Raises:
        InputError: fewer than one session, or a place whose sessions did not end within `max_steps`.
    """
    if sessions < 1:
        raise input_error(f"{sessions} sessions: expected at least 1")
    shape = (env.num_users, sessions)
    total, length, picks = torch.zeros(shape), torch.zeros(shape).long(), torch.zeros(shape).long()
    place, number = torch.arange(env.num_users), torch.zeros(env.num_users, dtype=torch.int64)
    arms = [Arm(policy=policy, exploration=exploration)]
    for steps, (_, step, _) in enumerate(play(env, arms, seed=seed, exclude_last=exclude_last), start=1):
        open_ = number < sessions
        at = (place[open_], number[open_])
        total[at] += step.reward.sum(dim=1)[open_]
        length[at] += 1
        picks[at] += step.used.any(dim=1).long()[open_]
        number = number + (step.terminated | step.truncated).long()
        if bool((number >= sessions).all()):
            return Returns(session_return=total, session_length=length, picks=picks)
        if steps >= max_steps:
            break
    unfinished = int((number < sessions).sum())
    raise input_error(
        f"{unfinished} of {env.num_users} places did not finish {sessions} sessions in {max_steps} steps",
        advice="Raise max_steps, or use an environment whose sessions end.",
    )
