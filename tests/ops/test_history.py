from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, lists
from torch import Generator

from slatewise.data.batches import trajectories
from slatewise.log import LogPart
from slatewise.ops.history import arrivals, at_count, decision_times, history_of, pushed_left, uses_of
from slatewise.testing import toy_catalog, toy_log, written_log
from slatewise.testing._encoders import histories
from slatewise.types import NEVER, Trajectories


def read(*users: list[dict[str, object]]) -> Trajectories:
    log = written_log(users)
    return trajectories(log, LogPart.whole(log).windows(max_length=100))


def test_a_late_purchase_is_not_seen_by_the_decision_before_it() -> None:
    # slate 1 at 0, slate 2 at 10, the purchase from slate 1 arrives at 20
    late = read([{"items": [2, 3], "used": [1], "used_times": [20], "time": 0}, {"items": [4], "used": [], "time": 10}])
    assert history_of(late).count.tolist() == [[0, 0, 1]]
    in_time = late.replace(used_time=late.used_time.clamp(max=10))
    assert history_of(in_time).count.tolist() == [[0, 1, 1]]


def test_several_late_and_crossing_uses_by_hand() -> None:
    batch = read(
        [
            {"items": [2, 3, 4], "used": [0, 1, 2], "used_times": [35, 5, 5], "rewards": [1, 2, 3], "time": 0},
            {"items": [5, 6], "used": [1], "used_times": [12], "rewards": [0, 4], "time": 10},
            {"items": [7], "used": [], "time": 20},
            {"items": [8], "used_times": [30], "use_rewards": [5], "rewards": [50], "time": 30},
        ],
        [{"items": [9], "time": 0}],
    )
    assert arrivals(batch)[0].tolist() == [[4, 1, 1], [5, 2, 5], [5, 5, 5], [4, 5, 5]]
    history = history_of(batch)
    # 3 and 4 arrive at one time, in the order of their positions; 8 at 30 before 2 at 35, which was shown before it
    assert history.uses.item.tolist() == [[3, 4, 6, 8, 2], [9, 0, 0, 0, 0]]
    assert history.uses.reward.tolist() == [[2, 3, 4, 5, 1], [1, 0, 0, 0, 0]]
    assert history.uses.time.tolist() == [[5, 5, 12, 30, 35], [0, 0, 0, 0, 0]]
    assert history.uses.present.tolist() == [[True] * 5, [True, False, False, False, False]]
    assert history.count.tolist() == [[0, 2, 3, 3, 5], [0, 1, 1, 1, 1]]


def test_what_arrives_after_the_next_decision_of_the_log_is_not_read() -> None:
    events = [
        {"items": [2, 3], "used": [0, 1], "used_times": [1, 25], "time": 0},
        {"items": [4], "used_times": [30], "time": 10},
        {"items": [5], "time": 30},
    ]
    log = written_log([events])
    head = trajectories(
        log,
        LogPart(interactions=log, first=torch.zeros(1).long().numpy(), last=torch.tensor([1]).numpy()).windows(
            max_length=1
        ),
    )
    assert head.next_time is not None
    assert head.next_time.tolist() == [10]
    assert history_of(head).uses.item.tolist() == [[2]]
    assert arrivals(head).tolist() == [[[1, 2]]]
    two = trajectories(log, LogPart.whole(log).windows(max_length=2))
    assert two.next_time is not None
    assert two.next_time.tolist() == [30, NEVER]
    # at 30, when the third slate is decided on, all three have arrived
    assert history_of(two).uses.item[0].tolist() == [2, 3, 4]
    assert history_of(two).count.tolist() == [[0, 1, 3], [0, 1, 1]]


def test_gaps_keep_the_state_and_end_with_the_next_step() -> None:
    one = {"items": [2], "time": 0, "used_times": [15]}
    batch = read([one, {"items": [3], "time": 10}, {"items": [4], "time": 20}, {"items": [5], "time": 30}])
    gap = batch.replace(mask=torch.tensor([[True, False, True, False]])).pad()
    assert decision_times(gap).tolist() == [[0, 20, 20, NEVER, NEVER]]
    # item 2 has arrived by the time of the step after the gap; item 4 by the end
    assert history_of(gap).uses.item.tolist() == [[2, 4]]
    assert history_of(gap).count.tolist() == [[0, 1, 1, 2, 2]]


def test_no_use_and_no_step() -> None:
    batch = read([{"items": [2], "used": []}] * 3)
    assert history_of(batch).uses.item.shape == (1, 0)
    assert history_of(batch).count.tolist() == [[0, 0, 0, 0]]
    nothing = batch.replace(mask=batch.mask & False).pad().trim()
    assert history_of(nothing).uses.item.shape == (1, 0)
    assert history_of(nothing).count.tolist() == [[0]]


def test_uses_of_one_step_by_hand() -> None:
    batch = read(
        [{"items": [2, 3, 4], "used": [0, 2], "used_times": [9, 5], "rewards": [1, 2, 3], "time": 4}],
        [{"items": [5, 6, 7], "used": [1], "time": 4, "rewards": [1, 2, 3]}],
        [{"items": [5, 6, 7], "used": [], "time": 4}],
    )
    uses = uses_of(batch.step(0))
    assert uses.item.tolist() == [[4, 2], [6, 0], [0, 0]]
    assert uses.reward.tolist() == [[3, 1], [2, 0], [0, 0]]
    assert uses.time.tolist() == [[5, 9], [4, 0], [0, 0]]
    assert uses.present.tolist() == [[True, True], [True, False], [False, False]]
    assert uses.columns(slice(1, 2)).item.tolist() == [[2], [0], [0]]


def test_pushed_left_by_hand() -> None:
    order = pushed_left(torch.tensor([[False, True, False, True], [True, False, False, False]]))
    assert order[0].tolist() == [1, 3]
    assert order[1, 0].item() == 0
    assert pushed_left(torch.zeros(2, 3, dtype=torch.bool)).shape == (2, 0)
    assert pushed_left(torch.zeros(2, 0, dtype=torch.bool)).shape == (2, 0)


def test_at_count_by_hand() -> None:
    states = torch.arange(8.0).view(2, 4, 1)
    assert at_count(states, torch.tensor([[0, 2], [3, 1]])).squeeze(2).tolist() == [[0, 2], [7, 5]]


def plainly(batch: Trajectories, user: int) -> tuple[list[int], list[int]]:
    """Items in the order in which they are read, and how many are read before each step: by the definition."""
    steps, places = batch.slate.shape[1:]
    following = [*range(steps), steps]
    time = [int(batch.time[user, t]) if t < steps and batch.mask[user, t] else None for t in following]
    end = NEVER if batch.next_time is None else int(batch.next_time[user])
    uses = []
    for e in range(steps):
        for k in range(places):
            if batch.mask[user, e] and batch.used[user, e, k]:
                at = int(batch.used_time[user, e, k])
                arrives = [t for t in range(e + 1, steps) if (moment := time[t]) is not None and moment >= at]
                if arrives or at <= end:
                    uses.append((min(arrives, default=steps), at, e, k))
    uses.sort()
    count = [sum(arrival <= t for arrival, *_ in uses) for t in following]
    return [int(batch.slate[user, e, k]) for _, _, e, k in uses], count


@settings(max_examples=40, deadline=None)
@given(seed=integers(0, 2**32), delays=lists(integers(0, 9), min_size=1, max_size=4))
def test_it_is_what_the_definition_says(seed: int, delays: list[int]) -> None:
    g = Generator().manual_seed(seed)
    log = histories(toy_log(toy_catalog(), seed=seed % 1000))
    used = (torch.rand(log.used.shape, generator=g) < 0.5) & log.mask.unsqueeze(2)
    delay = torch.tensor(delays)[torch.randint(len(delays), log.used.shape, generator=g)] * 20_000_000
    batch = log.replace(used=used, used_time=torch.where(used, log.time.unsqueeze(2) + delay, 0))
    history = history_of(batch)
    for user in range(len(batch.mask)):
        items, count = plainly(batch, user)
        present = history.uses.present[user]
        assert history.uses.item[user, present].tolist() == items
        exists = [*batch.mask[user].tolist(), True]
        assert [n for n, here in zip(history.count[user].tolist(), exists, strict=True) if here] == [
            n for n, here in zip(count, exists, strict=True) if here
        ]
