from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch import Tensor
from torch.autograd import gradcheck

from slatewise.ops import full_softmax
from slatewise.ops.full_softmax import log_softmax_at


def test_log_softmax_by_hand() -> None:
    # scores 0 + ln 1, 1 · ln 2 + 0, 0 + ln 5: probabilities 1/8, 2/8, 5/8
    weight = torch.tensor([[0.0], [math.log(2)], [0.0]])
    bias = torch.tensor([0.0, 0.0, math.log(5)])
    log_pi = log_softmax_at(torch.tensor([[1.0], [1.0]]), weight, bias, torch.tensor([1, 2]))
    torch.testing.assert_close(log_pi.exp(), torch.tensor([0.25, 0.625]))


def _arguments(rows: int, items: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return draw(rows, 3), draw(items, 3), draw(items)


def test_the_written_out_backward_is_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_softmax, "CHUNK_ELEMENTS", 8)  # two rows of four items a chunk
    state, weight, bias = _arguments(rows=5, items=4, seed=0)
    target = torch.tensor([0, 3, 1, 1, 2])
    assert gradcheck(lambda s, w, b: log_softmax_at(s, w, b, target), (state, weight, bias))


@settings(max_examples=20, deadline=None)
@given(rows=integers(0, 6), items=integers(1, 5), seed=integers(0, 1000))
def test_it_is_the_log_softmax_of_torch(rows: int, items: int, seed: int) -> None:
    state, weight, bias = _arguments(rows, items, seed)
    target = torch.randint(0, items, (rows,), generator=torch.Generator().manual_seed(seed))
    expected = torch.log_softmax(state @ weight.T + bias, dim=1).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(log_softmax_at(state, weight, bias, target), expected)


def test_large_scores_do_not_overflow() -> None:
    weight = torch.tensor([[1.0], [-1.0]])
    log_pi = log_softmax_at(torch.tensor([[500.0]]), weight, torch.zeros(2), torch.tensor([1]))
    assert log_pi.tolist() == [-1000.0]


def test_a_state_without_gradient_gets_none() -> None:
    state, weight, bias = _arguments(rows=2, items=3, seed=1)
    log_softmax_at(state.detach(), weight, bias, torch.tensor([0, 1])).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert bias.grad is not None
    # Σ_a (rows that want a) − p_a over all items is 0
    torch.testing.assert_close(bias.grad.sum(), torch.zeros((), dtype=torch.float64))
