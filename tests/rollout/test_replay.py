from __future__ import annotations

import pytest
import torch

from slatewise.errors import InputError
from slatewise.rollout.replay import Replay
from slatewise.types import Observation, Step, used_at_once


def moment(clock: int, users: list[int], *, ends: list[bool] | None = None) -> tuple[Observation, Step]:
    """What was seen and done at a time; every number says when and to whom it was."""
    user = torch.tensor(users)
    count = len(users)
    stamp = torch.full((count,), float(clock)) + user * 100
    seen = Observation(user=user, context=stamp.unsqueeze(1), candidates=torch.full((count, 2), 2 + clock))
    zeros = torch.zeros(count, 1)
    step = Step(
        event_id=user * 100 + clock,
        policy_id=torch.zeros_like(user),
        user=user,
        time=torch.full_like(user, clock),
        terminated=torch.tensor(ends or [False] * count),
        truncated=torch.zeros(count, dtype=torch.bool),
        slate=torch.full((count, 1), 2 + clock),
        logp=zeros,
        logp_known=torch.ones(count, dtype=torch.bool),
        reward=stamp.unsqueeze(1),
        cost=zeros,
        **used_at_once(
            torch.ones(count, 1, dtype=torch.bool), time=torch.full_like(user, clock), reward=stamp.unsqueeze(1)
        ),
    )
    return seen, step


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_stretches_are_consecutive_and_recent() -> None:
    replay = Replay(5)
    for clock in range(12):
        replay.add(*moment(clock, [0, 1, 2]))
    assert len(replay) == 5
    drawn = replay.sample(500, steps=2, generator=generator())
    assert drawn.slate.shape == (500, 2, 1)
    assert drawn.context.shape == (500, 3, 1)
    # kept: 7 … 11; the last step of a stretch needs one after it
    assert set(drawn.time[:, 0].tolist()) == {7, 8, 9}
    assert torch.equal(drawn.time[:, 1], drawn.time[:, 0] + 1)
    stamp = drawn.user[:, :1] * 100 + drawn.time[:, :1] + torch.arange(3)
    assert torch.equal(drawn.context[..., 0], stamp.float())
    assert torch.equal(drawn.reward[..., 0], stamp[:, :2].float())
    assert drawn.candidates is not None
    assert torch.equal(drawn.candidates[:, :, 0], 2 + drawn.time[:, :1] + torch.arange(3))
    assert bool(drawn.mask.all())
    assert set(drawn.user.flatten().tolist()) == {0, 1, 2}


def test_a_stretch_ends_where_somebody_else_comes() -> None:
    replay = Replay(4)
    replay.add(*moment(0, [0, 1], ends=[True, False]))
    replay.add(*moment(1, [10, 11]))  # place 0 was left with a report, place 1 without
    replay.add(*moment(2, [10, 11]))
    replay.add(*moment(3, [10, 11]))
    drawn = replay.sample(200, steps=2, generator=generator())
    first = drawn.time[:, 0] == 0
    assert bool(first.any())
    assert torch.equal(drawn.mask[:, 1], ~first)
    assert not bool(drawn.learn[first, 1].any())
    for user, terminated in ((0, True), (1, False)):
        rows = first & (drawn.user[:, 0] == user)
        assert bool((drawn.terminated[rows, 0] == terminated).all())
        assert bool((drawn.truncated[rows, 0] != terminated).all())
    assert not bool(drawn.slate[first, 1].any())
    assert not bool(drawn.used[first, 1].any())
    assert not bool(drawn.truncated[~first].any())


def test_nothing_is_shared_with_the_replay() -> None:
    replay = Replay(4)
    seen, step = moment(0, [0])
    replay.add(seen, step)
    seen.context.fill_(9.0)
    replay.add(*moment(1, [0]))
    drawn = replay.sample(1, generator=generator())
    assert drawn.context[0, 0, 0] == 0.0
    drawn.context.fill_(7.0)
    assert replay.sample(1, generator=generator()).context[0, 0, 0] == 0.0


def test_too_little_to_draw_from() -> None:
    with pytest.raises(InputError, match="a replay of 1 steps"):
        Replay(1)
    replay = Replay(3)
    replay.add(*moment(0, [0]))
    with pytest.raises(InputError, match="1 steps are kept; stretches of 1 need at least 2"):
        replay.sample(1, generator=generator())
