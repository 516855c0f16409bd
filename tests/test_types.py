from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from slatewise.log import UNKNOWN, Vocabulary
from slatewise.testing import toy_catalog, toy_log, written_log
from slatewise.types import PADDING, Exploration, Step, Trajectories, used_at_once

LOG = toy_log(toy_catalog())


def test_a_step_of_every_user() -> None:
    step = LOG.step(2)
    for name in Step.__dataclass_fields__:
        assert torch.equal(getattr(step, name), getattr(LOG, name)[:, 2]), name


def test_what_was_seen_before_a_step_and_after_the_last() -> None:
    assert LOG.mask.shape[1] == 6
    for t in (0, 3, 6):
        seen = LOG.observation(t)
        assert torch.equal(seen.context, LOG.context[:, t])
        assert torch.equal(seen.user, LOG.user[:, 0])
        assert seen.candidates is None
    candidates = torch.arange(8 * 7 * 4).view(8, 7, 4)
    assert torch.equal(LOG.replace(candidates=candidates).observation(6).candidates, candidates[:, 6])  # type: ignore[arg-type]


def test_rows_by_slice_by_numbers_and_by_mask() -> None:
    every_second = torch.arange(8) % 2 == 0
    for index, numbers in (
        (slice(2, 5), [2, 3, 4]),
        (torch.tensor([3, 0, 3]), [3, 0, 3]),
        (every_second, [0, 2, 4, 6]),
    ):
        rows = LOG.rows(index)
        assert rows.candidates is None
        for name in LOG.__dataclass_fields__.keys() - {"candidates", "next_time"}:
            assert torch.equal(getattr(rows, name), getattr(LOG, name)[numbers]), name


def test_trimmed_rows_are_as_long_as_the_longest() -> None:
    assert LOG.mask[-2:].int().tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]]
    short = LOG.rows(slice(-2, None)).trim()
    assert short.slate.shape == (2, 5, 3)
    assert short.context.shape == (2, 6, 2)
    assert torch.equal(short.slate, LOG.slate[-2:, :5])
    assert LOG.trim().mask.shape == (8, 6)
    assert LOG.rows(slice(0, 0)).trim().context.shape == (0, 1, 2)
    # a gap is no end
    gap = LOG.replace(mask=torch.tensor([[True, False, True, False, False, False]]).expand(8, -1))
    assert gap.trim().mask.shape == (8, 3)


def test_padding_by_hand() -> None:
    step = torch.tensor([[True, False, True, False], [False, False, False, False]])
    shape = (2, 4, 3)
    whole = {name: torch.full((2, 4), 7) for name in ("event_id", "policy_id", "time")}
    whole |= {name: torch.ones(2, 4, dtype=torch.bool) for name in ("terminated", "truncated", "logp_known", "learn")}
    whole |= {name: torch.full(shape, 7) for name in ("slate", "used_time")}
    whole |= {name: torch.full(shape, 0.5) for name in ("logp", "reward", "cost", "use_reward")}
    batch = Trajectories(
        **whole,
        used=torch.ones(shape, dtype=torch.bool),
        user=torch.tensor([[3, 4, 5, 6], [8, 9, 8, 9]]),
        mask=step,
        context=torch.full((2, 5, 1), 0.5),
        candidates=torch.full((2, 5, 2), 7),
    ).pad()
    # everything is 0 where there is no step
    assert batch.choice.tolist() == [[0, -1, 0, -1], [-1, -1, -1, -1]]
    assert torch.equal(batch.used[..., 1], step)
    for name in ("event_id", "policy_id", "time"):
        assert getattr(batch, name).tolist() == [[7, 0, 7, 0], [0, 0, 0, 0]], name
    for name in ("terminated", "truncated", "logp_known", "learn", "mask"):
        assert torch.equal(getattr(batch, name), step), name
    for name in ("slate", "used_time"):
        assert getattr(batch, name)[..., 1].tolist() == [[7, 0, 7, 0], [0, 0, 0, 0]], name
    for name in ("logp", "reward", "cost", "use_reward"):
        assert getattr(batch, name)[..., 2].tolist() == [[0.5, 0, 0.5, 0], [0, 0, 0, 0]], name
    # a row is one user's; what was seen after the last step stands, also where a gap is before it
    assert batch.user.tolist() == [[3] * 4, [8] * 4]
    assert batch.context[..., 0].tolist() == [[0.5, 0.5, 0.5, 0.5, 0], [0.5, 0, 0, 0, 0]]
    assert batch.candidates is not None
    assert batch.candidates[..., 0].tolist() == [[7, 7, 7, 7, 0], [7, 0, 0, 0, 0]]


def test_every_field_has_its_padding() -> None:
    assert PADDING.keys() == Trajectories.__dataclass_fields__.keys() - {"user", "next_time"}


def test_the_choice_is_the_use_that_came_to_most() -> None:
    used = torch.tensor([[True, True, True], [False, True, True], [True, True, False], [False, False, False]])
    reward = torch.tensor([[1.0, 4.0, 4.0], [9.0, 2.0, 1.0], [-1.0, -2.0, 5.0], [1.0, 2.0, 3.0]])
    time = torch.tensor([[1, 9, 8], [0, 7, 6], [5, 5, 0], [0, 0, 0]])
    # the earlier of two fours; what was not used does not count; the better of two bad ones; nothing
    expected = [2, 1, 0, -1]
    batch = LOG.rows(slice(0, 4)).trim()
    batch = batch.replace(
        **{
            name: value.unsqueeze(1).expand(-1, 6, -1)
            for name, value in (("used", used), ("reward", reward), ("used_time", time))
        }
    )
    assert batch.choice[:, 2].tolist() == expected
    assert batch.step(2).choice.tolist() == expected
    # of equal rewards at one time the first
    assert batch.replace(reward=torch.ones_like(batch.reward), used_time=0 * batch.used_time).step(
        0
    ).choice.tolist() == [
        0,
        1,
        0,
        -1,
    ]


def test_items_that_are_used_when_they_are_shown_by_hand() -> None:
    used = torch.tensor([[True, False], [False, False]])
    columns = used_at_once(used, time=torch.tensor([7, 8]), reward=torch.tensor([[2.0, 3.0], [4.0, 5.0]]))
    assert columns["used_time"].tolist() == [[7, 0], [0, 0]]
    assert columns["use_reward"].tolist() == [[2.0, 0.0], [0.0, 0.0]]
    assert columns["used"] is used


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top_m": 0}, r"exploration\.top_m is 0; expected at least 1 candidate"),
        ({"keep": -1}, r"exploration\.keep is -1; expected 0 or more"),
        ({"temperature": 0.0}, r"exploration\.temperature is 0\.0; expected a number above 0"),
        ({"temperature": float("nan")}, r"exploration\.temperature is nan"),
    ],
)
def test_explorations_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Exploration(**settings)


def test_names_and_numbers() -> None:
    words = Vocabulary(names=pa.array(["tea", "rum", "gin"], pa.string()))
    assert len(words) == 3
    assert [words.number(name) for name in ("tea", "gin", "ale", "")] == [2, 4, UNKNOWN, UNKNOWN]
    assert words.encode(pa.array(["gin", None, "ale", "tea"])).tolist() == [4, UNKNOWN, UNKNOWN, 2]
    assert [words.name(number) for number in (2, 3, 4)] == ["tea", "rum", "gin"]
    for number in (0, 1, 5, -1):
        with pytest.raises(IndexError, match=rf"number {number} has no name; names have numbers 2…4"):
            words.name(number)
    users = Vocabulary(names=pa.array(["ann"], pa.string()), first=0, unknown=-1)
    assert (users.number("ann"), users.number("bob"), users.name(0)) == (0, -1, "ann")


def test_titles() -> None:
    catalog = toy_catalog(2)
    assert [catalog.title(item) for item in range(-1, 5)] == [
        "(unknown item)", "(unknown item)", "(unknown item)", "Item 0", "Item 1", "(unknown item)",
    ]  # fmt: skip
    bare = type(catalog)(**{**vars(catalog), "text": ("", "", "", "Item 1")})
    assert bare.title(2) == "i0"
    assert (catalog.num_items, catalog.num_rows) == (2, 4)


def test_a_log_counts_itself() -> None:
    log = written_log([[{"items": [2, 3]}, {"items": [4]}], [], [{"items": [5, 6, 7]}]])
    assert (log.num_users, log.num_events, log.num_rows, log.slate_size) == (3, 3, 6, 3)
    empty = written_log([])
    assert (empty.num_users, empty.num_events, empty.num_rows, empty.slate_size) == (0, 0, 0, 1)


def test_shapes_are_checked_in_tests() -> None:
    # the hook is at work: a slate with a missing axis is no Step
    fields = {name: getattr(LOG, name)[:, 0] for name in Step.__dataclass_fields__}
    with pytest.raises(Exception, match="slate"):
        Step(**fields | {"slate": torch.zeros(8, dtype=torch.int64)})
    with pytest.raises(Exception, match="user_offsets"):
        type(written_log([]))(**{**vars(written_log([])), "user_offsets": np.zeros((1, 1), np.int64)})
