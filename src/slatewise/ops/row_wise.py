"""Row-wise Adagrad for large tables: gradients summed per row in a fixed order, one accumulator per row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def sum_by_row(rows: Int[Tensor, " P"], grads: Float[Tensor, "P D"]) -> tuple[Int[Tensor, " R"], Float[Tensor, "R D"]]:
    """Distinct rows in ascending order and the sum of the gradients of each.

    Gradients are added in the order of the positions, so the result does not depend on the number of threads.

    Args:
        rows: (P,) table row of each position, with repetitions.
        grads: (P, D) gradient of each position.
    """
    ordered, position = torch.sort(rows, stable=True)
    distinct, times = torch.unique_consecutive(ordered, return_counts=True)
    start = torch.cumsum(times, dim=0) - times
    return distinct, F.embedding_bag(position, grads, start, mode="sum")


def row_wise_adagrad(
    weight: Float[Tensor, "R D"],
    accumulator: Float[Tensor, " R"],
    grad: Float[Tensor, "R D"],
    *,
    learning_rate: float,
    epsilon: float = 1e-10,
) -> tuple[Float[Tensor, "R D"], Float[Tensor, " R"]]:
    """G ← G + mean_d g_d²,  w ← w − η g / (√G + ε): Adagrad with one accumulator per row (Naumov et al. 2019).

    A row whose gradient is zero does not change.

    Args:
        weight: rows before the step.
        accumulator: G of each row.
        grad: summed gradient of each row.
        learning_rate: η, above 0.
        epsilon: ε, above 0.

    Returns:
        rows and accumulators after the step.
    """
    accumulator = accumulator + grad.square().mean(dim=1)
    step = learning_rate / (accumulator.sqrt() + epsilon)
    return torch.addcmul(weight, grad, step.unsqueeze(1), value=-1), accumulator
