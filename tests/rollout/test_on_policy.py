from __future__ import annotations

import pytest
import torch
from torch import Tensor

from slatewise.errors import InputError
from slatewise.policies.fixed import FixedPolicy
from slatewise.protocols import Policy
from slatewise.rollout.on_policy import learn_on_policy
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.sim import toys
from slatewise.types import Exploration, Trajectories

DRAW = Exploration(top_m=10)


class Keeping:
    """Keeps what it is given to learn from."""

    single_pass = False

    def __init__(self) -> None:
        self.policy: Policy = FixedPolicy(toys.BIASED.behaviour)
        self.batches: list[Trajectories] = []

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        self.batches.append(trajectories)
        return {"users": float(len(trajectories.mask))}

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        return None


@pytest.mark.parametrize(("batch_size", "sizes"), [(None, [10, 10]), (4, [4, 4, 2, 4, 4, 2])])
def test_every_round_is_learned_from_once(batch_size: int | None, sizes: list[int]) -> None:
    env, learner = toys.Env(toys.BIASED, num_users=10), Keeping()
    updates: list[tuple[int, float]] = []
    learn_on_policy(
        env,
        learner,
        rounds=2,
        steps=1,
        exploration=DRAW,
        seed=3,
        batch_size=batch_size,
        on_update=lambda update, metrics: updates.append((update, metrics["users"])),
    )
    assert updates == list(enumerate(sizes, start=1))
    # a round is what the policy plays with a seed of the round's own, in the order of the places
    slates = torch.cat([batch.slate for batch in learner.batches])
    rounds = [
        record_trajectories(env, [Arm(policy=learner.policy, exploration=DRAW)], steps=1, seed=stream_seed(3, number))
        for number in range(2)
    ]
    assert torch.equal(slates, torch.cat([played.slate for played in rounds]))


def test_nothing_to_play_is_refused() -> None:
    with pytest.raises(InputError, match="0 rounds: expected at least 1"):
        learn_on_policy(toys.Env(toys.BIASED, num_users=2), Keeping(), rounds=0, steps=1, exploration=DRAW, seed=0)
