from __future__ import annotations

import torch

from slatewise.ops.shown_rows import at_rows, at_steps, shown_rows

#                        unlearned       a gap, the unknown     padding
SLATE = torch.tensor([[[5, 6], [7, 0], [8, 9]], [[1, 4], [3, 2], [0, 0]]])
LEARN = torch.tensor([[False, True, True], [True, True, False]])


def test_shown_rows_by_hand() -> None:
    assert shown_rows(SLATE, LEARN).tolist() == [[0, 1, 0], [0, 2, 0], [0, 2, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]]


def test_rows_name_their_items() -> None:
    rows = shown_rows(SLATE, LEARN)
    assert SLATE[rows[:, 0], rows[:, 1], rows[:, 2]].tolist() == [7, 8, 9, 4, 3, 2]


def test_at_rows_reads_the_state_before_the_step() -> None:
    # T = 3, so there are 4 states a user; the state of step t of user u is 10 u + t
    states = torch.tensor([[[0.0], [1.0], [2.0], [3.0]], [[10.0], [11.0], [12.0], [13.0]]])
    assert at_rows(states, shown_rows(SLATE, LEARN)).flatten().tolist() == [1, 2, 2, 10, 11, 11]


def test_gradients_come_back_to_the_states_read() -> None:
    states = torch.zeros(2, 4, 1, requires_grad=True)
    at_rows(states, shown_rows(SLATE, LEARN)).sum().backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
    assert states.grad[..., 0].tolist() == [[0, 1, 2, 0], [1, 2, 0, 0]]


def test_at_steps_reads_the_state_before_each_marked_step() -> None:
    states = torch.arange(8.0).view(2, 4, 1)  # three steps and the state after the last
    marked = torch.tensor([[True, False, True], [False, False, True]])
    assert at_steps(states, marked).flatten().tolist() == [0, 2, 6]
