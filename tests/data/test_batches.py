from __future__ import annotations

from typing import Any

import numpy as np
import torch

from slatewise.data.batches import shuffled_batches, shuffled_windows, trajectories
from slatewise.log import FIRST_ITEM, LogPart, Windows
from slatewise.testing import written_log
from slatewise.types import NEVER

# User 0: a slate of three, nothing used of one of two, a session that ends; user 1: one item; user 2: nothing.
LOG = written_log(
    [
        [
            {
                "items": [5, 6, 7],
                "rewards": [0, 4, 0],
                "cost": [1, 0, 0],
                "used": [1],
                "used_times": [15],
                "use_rewards": [3],
                "time": 10,
                "logp": [-1, -2, -3],
            },
            {"items": [8, 9], "rewards": [0, 0], "used": [], "time": 20, "end": True},
            {"items": [4], "rewards": [2], "time": 30, "logp": [-0.5]},
        ],
        [{"items": [3], "rewards": [1], "time": 15, "policy": 2}],
        [],
    ]
)


def window(**columns: list[int]) -> Windows:
    return Windows(**{name: np.array(values, np.int64) for name, values in columns.items()})


def test_slates_of_different_sizes_by_hand() -> None:
    batch = trajectories(LOG, window(user=[0, 1], start=[0, 0], learn=[0, 0], stop=[3, 1]))
    assert batch.slate.tolist() == [[[5, 6, 7], [8, 9, 0], [4, 0, 0]], [[3, 0, 0], [0, 0, 0], [0, 0, 0]]]
    assert batch.reward.tolist() == [[[0, 4, 0], [0, 0, 0], [2, 0, 0]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]]
    assert batch.cost[0].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert batch.choice.tolist() == [[1, -1, 0], [0, -1, -1]]
    assert batch.used_time[0].tolist() == [[0, 15, 0], [0, 0, 0], [30, 0, 0]]
    assert batch.use_reward[0].tolist() == [[0, 3, 0], [0, 0, 0], [2, 0, 0]]
    assert batch.next_time is not None
    assert batch.next_time.tolist() == [NEVER, NEVER]
    inner = trajectories(LOG, window(user=[0, 0], start=[0, 1], learn=[0, 1], stop=[2, 3])).next_time
    assert inner is not None
    assert inner.tolist() == [30, NEVER]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.learn.tolist() == batch.mask.tolist()
    assert batch.time.tolist() == [[10, 20, 30], [15, 0, 0]]
    assert batch.event_id.tolist() == [[100, 101, 102], [103, 0, 0]]
    assert batch.policy_id.tolist() == [[1, 1, 1], [2, 0, 0]]
    assert batch.user.tolist() == [[0] * 3, [1] * 3]


def test_propensities_by_hand() -> None:
    batch = trajectories(LOG, window(user=[0, 1], start=[0, 0], learn=[0, 0], stop=[3, 1]))
    assert batch.logp_known.tolist() == [[True, False, True], [False, False, False]]
    assert batch.logp[0].tolist() == [[-1, -2, -3], [0, 0, 0], [-0.5, 0, 0]]


def test_one_unknown_factor_makes_the_propensity_of_a_slate_unknown() -> None:
    known = LOG.logp_known.copy()
    known[1] = False
    half = written_log([[{"items": [5, 6, 7], "logp": [-1, -2, -3]}]])
    half = type(half)(**{**vars(half), "logp_known": known[:3]})
    batch = trajectories(half, window(user=[0], start=[0], learn=[0], stop=[1]))
    assert batch.logp_known.tolist() == [[False]]


def test_ends_by_hand() -> None:
    batch = trajectories(LOG, window(user=[0, 1], start=[0, 0], learn=[0, 0], stop=[3, 1]))
    # a named session ended; the record of a user ends, whose session may have gone on
    assert batch.terminated.tolist() == [[False, True, False], [False, False, False]]
    assert batch.truncated.tolist() == [[False, False, True], [True, False, False]]
    # a session that ended with the record did end
    last = written_log([[{"items": [2]}, {"items": [3], "end": True}]])
    ended = trajectories(last, window(user=[0], start=[0], learn=[0], stop=[2]))
    assert (ended.terminated.tolist(), ended.truncated.tolist()) == ([[False, True]], [[False, False]])
    # a window that stops before the user's last event ends nothing
    inner = trajectories(LOG, window(user=[0], start=[0], learn=[0], stop=[1]))
    assert not bool((inner.terminated | inner.truncated).any())


def test_burn_in_moves_and_does_not_teach() -> None:
    batch = trajectories(LOG, window(user=[0], start=[0], learn=[2], stop=[3]))
    assert batch.mask.tolist() == [[True, True, True]]
    assert batch.learn.tolist() == [[False, False, True]]


def test_contexts_stand_before_each_step_and_after_the_last() -> None:
    event: dict[str, Any] = {"items": [2]}
    log = written_log([[event | {"context": [1, 2]}, event | {"context": [3, 4]}], [event | {"context": [5, 6]}]])
    inner = trajectories(log, window(user=[0], start=[0], learn=[0], stop=[1]))
    assert inner.context.tolist() == [[[1, 2], [3, 4]]]
    # after the last event of a user nothing was seen, least of all the context of the next user
    whole = trajectories(log, window(user=[0, 1], start=[0, 0], learn=[0, 0], stop=[2, 1]))
    assert whole.context.tolist() == [[[1, 2], [3, 4], [0, 0]], [[5, 6], [0, 0], [0, 0]]]


def test_a_batch_without_events() -> None:
    batch = trajectories(LOG, window(user=[0, 2], start=[0, 0], learn=[0, 0], stop=[0, 0]))
    assert batch.slate.shape == (2, 0, 3)
    assert batch.context.shape == (2, 1, 0)
    assert batch.mask.shape == (2, 0)
    assert trajectories(LOG, window(user=[], start=[], learn=[], stop=[])).slate.shape == (0, 0, 3)


def test_steps_are_the_rows_of_the_log_again() -> None:
    batch = trajectories(LOG, window(user=[0, 1], start=[0, 0], learn=[0, 0], stop=[3, 1]))
    real = batch.slate >= FIRST_ITEM
    for name, column in (("slate", LOG.item), ("reward", LOG.reward), ("cost", LOG.cost), ("logp", LOG.logp)):
        assert getattr(batch, name)[real].tolist() == column.tolist(), name


MANY = written_log([[{"items": [2 + user % 7]}] * (1 + user % 9) for user in range(70)])
WINDOWS = LogPart.whole(MANY).windows(max_length=4)


def epoch(seed: int, *, batch_size: int = 2, skip: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    batches = shuffled_batches(MANY, WINDOWS, batch_size=batch_size, generator=generator, skip=skip)
    return [batch.event_id[batch.learn].tolist() for batch in batches]


def test_an_epoch_teaches_every_event_once_in_an_order_of_its_own() -> None:
    one, other = epoch(0), epoch(1)
    assert sorted(event for batch in one for event in batch) == (100 + np.arange(MANY.num_events)).tolist()
    assert len(one) == -(-len(WINDOWS) // 2)
    assert epoch(0) == one
    assert one != other


def test_a_resumed_epoch_goes_on_where_it_stopped() -> None:
    assert epoch(3, skip=5) == epoch(3)[5:]
    assert epoch(3, skip=1000) == []


def test_windows_of_like_length_share_a_batch() -> None:
    generator = np.random.default_rng(0)
    padding = [int((~batch.mask).sum()) for batch in shuffled_batches(MANY, WINDOWS, batch_size=8, generator=generator)]
    steps = int((WINDOWS.stop - WINDOWS.start).sum())
    assert sum(padding) < 0.1 * steps  # a random order pads about half


def test_a_batch_of_too_many_events_is_cut() -> None:
    lengths = np.array([1, 1, 2, 3, 3, 100, 7, 8])
    zeros = np.zeros_like(lengths)
    wins = Windows(user=np.arange(8), start=zeros, learn=zeros, stop=lengths)
    cut = shuffled_windows(wins, batch_size=4, generator=np.random.default_rng(0), most_events=16)
    # 1, 1, 2, 3 fit; 3, 7, 8 and 100 make 400 with their padding
    assert sorted(batch.stop.tolist() for batch in cut) == [[1, 1, 2, 3], [3], [7], [8], [100]]
    whole = shuffled_windows(wins, batch_size=4, generator=np.random.default_rng(0))
    assert sorted(batch.stop.tolist() for batch in whole) == [[1, 1, 2, 3], [3, 7, 8, 100]]


def test_a_batch_is_made_of_copies() -> None:
    batch = trajectories(LOG, window(user=[0], start=[0], learn=[0], stop=[3]))
    batch.reward.fill_(9.0)
    batch.slate.fill_(9)
    assert LOG.reward.tolist() == [0, 4, 0, 0, 0, 2, 1]
    assert torch.equal(batch.slate, torch.full((1, 3, 3), 9))
    assert LOG.item.tolist() == [5, 6, 7, 8, 9, 4, 3]
