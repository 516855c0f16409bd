"""The Chaos Free Network over time, with hand-written forward and backward passes.

Laurent & von Brecht 2017 (arXiv 1612.06212) as used by Chen et al. 2019 (arXiv 1812.02353, sec. 4.1):

    z = σ(U_z s + W_z u + b_z),  i = σ(U_i s + W_i u + b_i),  s' = z ⊙ tanh(s) + i ⊙ tanh(W_a u)

Automatic differentiation records ten small operations per step; here a step costs seven in the forward and four in the
backward pass, in place, and everything that does not depend on the previous step is computed for all steps at once.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slatewise.ops.products import product
from slatewise.ops.squashing import tanh_


def cfn_states(
    inputs: Float[Tensor, "B T E"],
    initial: Float[Tensor, "B D"],
    weight: Float[Tensor, "D3 E"],
    bias: Float[Tensor, " D2"],
    recurrent: Float[Tensor, "D2 D"],
) -> Float[Tensor, "B T D"]:
    """States after each of T steps (arXiv 1812.02353, sec. 4.1); differentiable once in every argument.

    Args:
        inputs: u of each step.
        initial: state before the first step.
        weight: W_z over W_i over W_a.
        bias: b_z and b_i.
        recurrent: U_z over U_i.
    """
    states: Tensor = _CfnStates.apply(inputs, initial, weight, bias, recurrent)  # type: ignore[no-untyped-call]
    return states


def cfn_step(
    inputs: Float[Tensor, "B E"],
    state: Float[Tensor, "B D"],
    weight: Float[Tensor, "D3 E"],
    bias: Float[Tensor, " D2"],
    recurrent: Float[Tensor, "D2 D"],
) -> Float[Tensor, "B D"]:
    """State after one step: `cfn_states` with T = 1, in plain operations (arXiv 1812.02353, sec. 4.1).

    Args:
        inputs: (B, E) u.
        state: (B, D) s before the step.
        weight: (3D, E) W_z over W_i over W_a.
        bias: (2D,) b_z and b_i.
        recurrent: (2D, D) U_z over U_i.
    """
    gates = torch.addmm(bias, state, recurrent.t()).addmm(inputs, weight[: len(bias)].t())
    keep, take = torch.sigmoid(gates).chunk(2, dim=1)
    return torch.addcmul(take * torch.tanh(inputs @ weight[len(bias) :].t()), keep, torch.tanh(state))


class _CfnStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        inputs, initial, weight, bias, recurrent = arguments
        (batch, steps, reads), width = inputs.shape, initial.shape[1]
        by_time = inputs.transpose(0, 1).reshape(steps * batch, reads)  # each step's rows are contiguous
        read = product(by_time, weight, nn.functional.pad(bias, (0, width))).view(steps, batch, 3 * width)
        gates, new = read[:, :, : 2 * width], read[:, :, 2 * width :]  # become z, i and tanh(W_a u) in place
        tanh_(new)
        states = inputs.new_empty(steps + 1, batch, width)
        states[0] = initial
        squashed = inputs.new_empty(steps, batch, width)  # tanh of the state before each step
        keeps, takes, news = gates[:, :, :width].unbind(), gates[:, :, width:].unbind(), new.unbind()
        state, transposed = states.unbind(), recurrent.t()
        for t, (gate, tanh) in enumerate(zip(gates.unbind(), squashed.unbind(), strict=True)):
            gate.addmm_(state[t], transposed).sigmoid_()
            tanh_(tanh.copy_(state[t]))
            torch.mul(takes[t], news[t], out=state[t + 1]).addcmul_(keeps[t], tanh)
        ctx.save_for_backward(by_time, read, squashed, states, weight, recurrent)
        return states[1:].transpose(0, 1).clone(memory_format=torch.contiguous_format)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        by_time, read, squashed, states, weight, recurrent = ctx.saved_tensors
        steps, batch, width = squashed.shape
        gates, new = read[:, :, : 2 * width], read[:, :, 2 * width :]
        keep, take = gates[:, :, :width], gates[:, :, width:]
        # Derivatives of s' by the gates before their sigmoid, and by s directly: known for all steps before the loop.
        slope = torch.addcmul(gates, gates, gates, value=-1)
        slope_keep = slope[:, :, :width].mul_(squashed).unbind()
        slope_take = slope[:, :, width:].mul_(new).unbind()
        direct = torch.addcmul(keep, keep * squashed, squashed, value=-1).unbind()  # z (1 − tanh² s)
        grad_read = torch.empty_like(read)
        grad_keep, grad_take = grad_read[:, :, :width].unbind(), grad_read[:, :, width : 2 * width].unbind()
        grad_state = torch.zeros_like(states)  # gradient by the state before each step and after the last
        grad_state[1:] = grad_states.transpose(0, 1)
        by_state, by_gate = grad_state.unbind(), grad_read[:, :, : 2 * width].unbind()
        for t in range(steps - 1, -1, -1):
            grad = by_state[t + 1]
            torch.mul(grad, slope_keep[t], out=grad_keep[t])
            torch.mul(grad, slope_take[t], out=grad_take[t])
            by_state[t].addcmul_(grad, direct[t]).addmm_(by_gate[t], recurrent)
        torch.addcmul(take, take * new, new, value=-1, out=grad_read[:, :, 2 * width :]).mul_(grad_state[1:])
        flat = grad_read.view(steps * batch, 3 * width)
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = product(flat, weight.t()).view(steps, batch, weight.shape[1]).transpose(0, 1)
        gate_part = flat[:, : 2 * width]
        previous = states[:-1].reshape(steps * batch, width)
        return grad_inputs, grad_state[0], flat.t() @ by_time, gate_part.sum(dim=0), gate_part.t() @ previous
