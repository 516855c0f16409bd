from __future__ import annotations

import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.log import Catalog
from slatewise.policies.fixed import FixedPolicy
from slatewise.protocols import StateEncoder
from slatewise.rollout.play import Arm, play
from slatewise.rollout.returns import returns
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim import toys
from slatewise.types import Exploration, Observation, SlateRequest, Slates, Step, Trajectories, Uses, used_at_once


class Shifts:
    """Place b has sessions of b + 1 steps; every second session of a place belongs to the same person as the first."""

    def __init__(self, num_users: int, *, endless: bool = False) -> None:
        self.num_users = num_users
        self.slate_size = 1
        self.catalog: Catalog = toys.catalog(5)
        self.endless = endless
        self.age = torch.zeros(num_users, dtype=torch.int64)
        self.session = torch.zeros(num_users, dtype=torch.int64)
        self.clock = 0

    def _seen(self) -> Observation:
        user = self.session // 2 * self.num_users + torch.arange(self.num_users)
        return Observation(
            user=user,
            context=torch.full((self.num_users, 1), float(self.clock)),
            candidates=torch.full((self.num_users, 2), 2 + self.clock % 5).index_fill_(1, torch.tensor([1]), 0),
        )

    def reset(self, *, seed: int) -> Observation:
        self.age.zero_()
        self.session.zero_()
        self.clock = 0
        return self._seen()

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        user = self._seen().user
        ends = (self.age + 1 > torch.arange(self.num_users)) & ~torch.tensor(self.endless)
        reward = torch.full((self.num_users, 1), float(self.clock + 1))
        step = Step(
            event_id=torch.arange(self.num_users) + 100 * self.clock,
            policy_id=torch.zeros_like(user),
            user=user,
            time=torch.full_like(user, self.clock),
            terminated=ends,
            truncated=torch.zeros_like(ends),
            slate=slates.items.clone(),
            logp=slates.logp.clone(),
            logp_known=torch.ones_like(ends),
            reward=reward,
            cost=torch.zeros(self.num_users, 1),
            **used_at_once(
                torch.ones(reward.shape, dtype=torch.bool), time=torch.full_like(user, self.clock), reward=reward
            ),
        )
        self.age = (self.age + 1).masked_fill(ends, 0)
        self.session = self.session + ends.long()
        self.clock += 1
        return step, self._seen()


class First:
    """Always shows the first candidate; remembers how many steps it saw of a user."""

    class Counting(StatelessEncoder):
        def initial(self, num_users: int) -> Tensor:
            return torch.zeros(num_users, 1)

        def step(self, carry: Tensor, uses: Uses) -> Tensor:
            return carry + uses.present.sum(dim=1, keepdim=True)

        def state(self, carry: Tensor, observation: Observation) -> Tensor:
            return carry.clone()

    def __init__(self) -> None:
        self.encoder: StateEncoder = self.Counting()
        self.states: list[list[int]] = []

    def log_pi(self, state: Tensor, items: Tensor) -> Tensor:
        return torch.zeros(items.shape)

    def recommend(self, state: Tensor, request: SlateRequest, *, generator: Generator | None = None) -> Slates:
        assert request.candidates is not None
        self.states.append(state[:, 0].long().tolist())
        return Slates(items=request.candidates[:, : request.k].clone(), logp=torch.zeros(len(state), request.k))

    def log_prob(self, state: Tensor, slate: Tensor, request: SlateRequest) -> Tensor:
        return torch.zeros(slate.shape)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


def test_one_row_per_user_by_hand() -> None:
    # two places, five steps. Place 0: sessions of 1 step, two per person; place 1: sessions of 2 steps, two per person
    record: Trajectories = record_trajectories(Shifts(2), [Arm(policy=First(), policy_id=7)], steps=5, seed=0)
    assert record.user[:, 0].tolist() == [0, 2, 4, 1, 3]
    assert record.mask.int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 0, 0, 0],
    ]
    assert torch.equal(record.learn, record.mask)
    assert record.terminated.int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
    ]
    # only user 3 was cut off by the end of the recording: user 4's session was over
    assert record.truncated.nonzero().tolist() == [[4, 0]]
    assert record.reward[3, :, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert record.event_id[1].tolist() == [200, 300, 0, 0]
    assert record.policy_id[1].tolist() == [7, 7, 0, 0]
    # what is seen: before each step; after the last only where the same user is still there, else the last view again
    assert record.context[:, :, 0].tolist() == [
        [0.0, 1.0, 1.0, 0.0, 0.0],
        [2.0, 3.0, 3.0, 0.0, 0.0],
        [4.0, 5.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 2.0, 3.0, 3.0],
        [4.0, 5.0, 0.0, 0.0, 0.0],
    ]
    assert record.candidates is not None
    assert record.candidates[1, :, 0].tolist() == [4, 5, 5, 0, 0]
    assert bool((record.slate[:, 0, 0] == record.candidates[:, 0, 0]).all())


def test_memory_goes_on_with_the_person() -> None:
    policy = First()
    for _ in islice(play(Shifts(2), [Arm(policy=policy)], seed=0), 5):
        pass
    assert policy.states == [[0, 0], [1, 1], [0, 2], [1, 3], [0, 0]]


def test_places_whose_sessions_are_over_are_not_served() -> None:
    # place 0 has sessions of one step, place 1 of two
    policy = First()
    steps = [step for _, step, _ in play(Shifts(2), [Arm(policy=policy, policy_id=7)], seed=0, sessions=1)]
    assert policy.states == [[0, 0], [1]]
    assert [step.policy_id.tolist() for step in steps] == [[7, 7], [0, 7]]
    # until the other one is done, it is shown its first candidate
    assert [step.slate[:, 0].tolist() for step in steps] == [[2, 2], [3, 3]]
    policy = First()
    assert len(list(play(Shifts(2), [Arm(policy=policy)], seed=0, sessions=2))) == 4
    assert policy.states == [[0, 0], [1, 1], [2], [3]]


def test_arms_share_the_users_and_propensities_are_theirs() -> None:
    env = toys.Env(toys.BIASED, num_users=1000)
    even, biased = FixedPolicy((0.1,) * 10), FixedPolicy(toys.BIASED.behaviour)
    draw = Exploration(top_m=10, temperature=1.0)
    arms = [
        Arm(policy=biased, policy_id=1, share=90.0, exploration=draw),
        Arm(policy=even, policy_id=2, share=5.0, exploration=draw),
        Arm(policy=biased, policy_id=3, share=5.0),
    ]
    record = record_trajectories(env, arms, steps=2, seed=0)
    assert record.mask.shape == (2000, 1)  # every step is somebody else's
    assert torch.bincount(record.policy_id[:, 0]).tolist() == [0, 1800, 100, 100]
    rows = record.policy_id[:, 0] == 2
    torch.testing.assert_close(record.logp[rows].exp(), torch.full((100, 1, 1), 0.1))
    rows = record.policy_id[:, 0] == 3
    assert set(record.slate[rows].flatten().tolist()) == {2}
    assert bool((record.logp[rows] == 0).all())
    again = record_trajectories(env, arms, steps=2, seed=0)
    assert torch.equal(again.slate, record.slate)
    assert not torch.equal(record_trajectories(env, arms, steps=2, seed=1).slate, record.slate)


def test_last_picks_are_not_shown_again() -> None:
    class Loyal(toys.Env):
        """The same people all the time."""

        def _observe(self) -> Observation:
            return Observation(user=torch.arange(self.num_users), context=torch.zeros(self.num_users, 0))

    policy = FixedPolicy(tuple(i / 55 for i in range(1, 11)))
    shown = record_trajectories(
        Loyal(toys.BIASED, num_users=1), [Arm(policy=policy)], steps=6, seed=0, exclude_last=3
    ).slate.flatten()
    assert shown.tolist() == [11, 10, 9, 8, 11, 10]


def test_returns_by_hand() -> None:
    # place 0 earns 1, then 2; place 1 earns 1 + 2, then 3 + 4
    earned = returns(Shifts(2), First(), seed=0, sessions=2)
    assert earned.session_return.tolist() == [[1.0, 2.0], [3.0, 7.0]]
    assert earned.session_length.tolist() == [[1, 1], [2, 2]]
    assert earned.pick_rate == 1.0
    assert earned.user_mean.tolist() == [1.5, 5.0]
    assert earned.value == 3.25
    assert earned.stderr == pytest.approx(1.75)  # |5 − 1.5| / 2
    assert earned.interval[1] - earned.value == pytest.approx(12.7062 * 1.75, rel=1e-4)  # t with 1 degree of freedom


def test_what_is_refused() -> None:
    env = toys.Env(toys.BIASED, num_users=2)
    policy = FixedPolicy(toys.BIASED.behaviour)
    with pytest.raises(InputError, match="recording of 0 steps"):
        record_trajectories(env, [Arm(policy=policy)], steps=0, seed=0)
    with pytest.raises(InputError, match="0 arms for 2 users"):
        record_trajectories(env, [], steps=1, seed=0)
    with pytest.raises(InputError, match="3 arms for 2 users"):
        record_trajectories(env, [Arm(policy=policy)] * 3, steps=1, seed=0)
    with pytest.raises(InputError, match=r"share 0\.0"):
        Arm(policy=policy, share=0.0)
    with pytest.raises(InputError, match="share inf"):
        Arm(policy=policy, share=math.inf)
    with pytest.raises(InputError, match="0 sessions"):
        returns(env, policy, seed=0, sessions=0)
    with pytest.raises(InputError, match="2 of 2 places did not finish 1 sessions in 9 steps"):
        returns(Shifts(2, endless=True), First(), seed=0, max_steps=9)
