"""The gated recurrent unit over time, with hand-written forward and backward passes.

Cho et al. 2014 (arXiv 1406.1078), in the form that torch.nn.GRU has:

    r = σ(W_r x + U_r h + b_r),  z = σ(W_z x + U_z h + b_z),  n = tanh(W_n x + b_n + r ⊙ (U_n h + c_n)),
    h' = (1 − z) ⊙ n + z ⊙ h

Automatic differentiation records twenty small operations per step; here a step costs nine in the forward and three in
the backward pass, and everything that does not depend on the previous step is computed for all steps at once.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.ops.products import product
from slatewise.ops.squashing import tanh_


def gru_states(  # noqa: PLR0917  # in the order of the parameters of torch.nn.GRU
    inputs: Float[Tensor, "B T E"],
    initial: Float[Tensor, "B D"],
    weight: Float[Tensor, "D3 E"],
    recurrent: Float[Tensor, "D3 D"],
    bias: Float[Tensor, " D3"],
    recurrent_bias: Float[Tensor, " D3"],
) -> Float[Tensor, "B T D"]:
    """States after each of T steps (arXiv 1406.1078, eq. 5–8); differentiable once in every argument.

    Args:
        inputs: x of each step.
        initial: state before the first step.
        weight: W_r over W_z over W_n.
        recurrent: U_r over U_z over U_n.
        bias: of the inputs: b_r, b_z, b_n.
        recurrent_bias: of the state; its last third is c_n.
    """
    states: Tensor = _GruStates.apply(inputs, initial, weight, recurrent, bias, recurrent_bias)  # type: ignore[no-untyped-call]
    return states


class _GruStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        inputs, initial, weight, recurrent, bias, recurrent_bias = arguments
        (batch, steps, reads), width = inputs.shape, initial.shape[1]
        by_time = inputs.transpose(0, 1).reshape(steps * batch, reads)  # each step's rows are contiguous
        offset = bias.clone()
        offset[: 2 * width] += recurrent_bias[: 2 * width]
        read = product(by_time, weight, offset).view(steps, batch, 3 * width)  # becomes r, z and n in place
        states = inputs.new_empty(steps + 1, batch, width)
        states[0] = initial
        passed = inputs.new_empty(steps, batch, width)  # U_n h + c_n
        gates, resets, keeps = read[:, :, : 2 * width].unbind(), read[:, :, :width].unbind(), read[:, :, width:-width]
        by_state, by_gate = recurrent[-width:].t(), recurrent[: 2 * width].t()
        rest = recurrent_bias[-width:]
        for t, (state, keep, new) in enumerate(
            zip(states.unbind(), keeps.unbind(), read[:, :, -width:].unbind(), strict=False)
        ):
            gates[t].addmm_(state, by_gate).sigmoid_()
            torch.addmm(rest, state, by_state, out=passed[t])
            tanh_(new.addcmul_(resets[t], passed[t]))
            torch.lerp(new, state, keep, out=states[t + 1])
        ctx.save_for_backward(by_time, read, passed, states, weight, recurrent)
        return states[1:].transpose(0, 1).clone(memory_format=torch.contiguous_format)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        by_time, read, passed, states, weight, recurrent = ctx.saved_tensors
        steps, batch, width = passed.shape
        reset, keep, new = read.split(width, dim=2)
        # Derivatives of h' by U's terms in r, z and n (before σ and tanh), and by W's term in n: known for all steps.
        by_new = torch.addcmul(torch.ones_like(new), new, new, value=-1).mul_(1 - keep)
        slopes = torch.empty_like(read)
        torch.addcmul(reset, reset, reset, value=-1, out=slopes[:, :, :width]).mul_(passed).mul_(by_new)
        torch.addcmul(keep, keep, keep, value=-1, out=slopes[:, :, width:-width]).mul_(states[:-1] - new)
        torch.mul(by_new, reset, out=slopes[:, :, -width:])
        grad_state = torch.zeros_like(states)  # gradient by the state before each step and after the last
        grad_state[1:] = grad_states.transpose(0, 1)
        by_state, keeps, parts = grad_state.unbind(), keep.unbind(), slopes.view(steps, batch, 3, width).unbind()
        flat = slopes.view(steps * batch, 3 * width)  # becomes the gradient by U h, in place
        rows = slopes.unbind()
        for t in range(steps - 1, -1, -1):
            grad = by_state[t + 1]
            parts[t].mul_(grad.unsqueeze(1))
            by_state[t].addcmul_(grad, keeps[t]).addmm_(rows[t], recurrent)
        previous = states[:-1].reshape(steps * batch, width)
        grad_recurrent, grad_recurrent_bias = flat.t() @ previous, flat.sum(dim=0)
        # r and z see W x as they see U h; in n, only U h is reset
        torch.mul(by_new, grad_state[1:], out=slopes[:, :, -width:])
        grad_inputs = None
        if ctx.needs_input_grad[0]:
            grad_inputs = product(flat, weight.t()).view(steps, batch, weight.shape[1]).transpose(0, 1)
        return grad_inputs, grad_state[0], flat.t() @ by_time, grad_recurrent, flat.sum(dim=0), grad_recurrent_bias
