"""The written-out GRU: numbers by hand, torch's own cell, and the gradient by differences."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis.strategies import integers
from torch import Tensor
from torch.autograd import gradcheck

from slatewise.ops.gru import gru_states
from slatewise.ops.squashing import tanh_

LN3 = math.log(3)  # σ(ln 3) = ¾, tanh(½ ln 3) = ½


def gru_cell(reads: list[float], state: float, recurrent: list[float], rest: list[float]) -> float:
    """State of width 1 after one step; W is the identity, so the gates read their inputs as they stand."""
    states = gru_states(
        torch.tensor([[reads]]),
        torch.tensor([[state]]),
        torch.eye(3),
        torch.tensor(recurrent).unsqueeze(1),
        torch.zeros(3),
        torch.tensor(rest),
    )
    return float(states[0, 0, 0])


def test_what_is_kept_and_what_is_new_by_hand() -> None:
    # z = ¾ keeps three quarters of h = 1; n = tanh(½ ln 3) = ½: ¼ · ½ + ¾ · 1
    torch.testing.assert_close(gru_cell([0.0, LN3, LN3 / 2], 1.0, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]), 0.875)


def test_the_reset_gate_scales_what_the_state_says_by_hand() -> None:
    # r = ¾, z = ½: n = tanh(0 + ¾ · (U_n h + c_n)) with U_n h = ½ ln 3, c_n = ln 3 / 6: tanh(½ ln 3) = ½
    result = gru_cell([LN3, 0.0, 0.0], 1.0, [0.0, 0.0, LN3 / 2], [0.0, 0.0, LN3 / 6])
    torch.testing.assert_close(result, 0.5 * 0.5 + 0.5 * 1.0)


def test_gates_read_the_state_and_both_biases_by_hand() -> None:
    # z reads U_z h = ½ ln 3 and a bias of the same size: z = ¾; n = 0
    torch.testing.assert_close(gru_cell([0.0, 0.0, 0.0], 1.0, [0.0, LN3 / 2, 0.0], [0.0, LN3 / 2, 0.0]), 0.75)


def arguments(batch: int, steps: int, width: int, reads: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    parts = draw(3 * width, reads), draw(3 * width, width), draw(3 * width), draw(3 * width)
    return draw(batch, steps, reads), draw(batch, width), *parts


@settings(max_examples=25, deadline=None)
@given(batch=integers(1, 4), steps=integers(1, 6), width=integers(1, 5), reads=integers(1, 4), seed=integers(0, 1000))
def test_values_and_gradients_are_those_of_torchs_own_cell(
    batch: int, steps: int, width: int, reads: int, seed: int
) -> None:
    args = arguments(batch, steps, width, reads, seed)
    inputs, initial, *parts = args
    # with its weights given, the layer's own first values are never looked at
    cell = torch.nn.GRU(reads, width, batch_first=True, device="meta")
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    call = (inputs, initial.unsqueeze(0))
    expected, _ = torch.func.functional_call(cell, dict(zip(names, parts, strict=True)), call)
    result = gru_states(*args)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for ours, theirs in zip(
        torch.autograd.grad(result, args, upstream), torch.autograd.grad(expected, args, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_written_out_backward_is_the_gradient() -> None:
    assert gradcheck(gru_states, arguments(batch=2, steps=4, width=3, reads=2, seed=0))


def test_the_arguments_are_left_as_they_were() -> None:
    args = arguments(batch=2, steps=3, width=2, reads=2, seed=0)
    copies = [argument.detach().clone() for argument in args]
    gru_states(*args).sum().backward()  # type: ignore[no-untyped-call]
    for argument, old in zip(args, copies, strict=True):
        assert torch.equal(argument.detach(), old)


def test_same_arguments_same_bits() -> None:
    args = [argument.detach().float().requires_grad_() for argument in arguments(8, 20, 16, 16, seed=1)]
    runs = []
    for _ in range(2):
        states = gru_states(*args)
        runs.append([states, *torch.autograd.grad(states.square().sum(), args)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_tanh_is_tanh() -> None:
    torch.testing.assert_close(tanh_(torch.tensor([LN3 / 2, 0.0, -LN3 / 2])), torch.tensor([0.5, 0.0, -0.5]))
    wide = torch.linspace(-30, 30, 2_001)
    torch.testing.assert_close(tanh_(wide.clone()), torch.tanh(wide), atol=2e-7, rtol=0)
