"""Initial values of parameters, drawn from an explicit generator."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor


def uniform_(values: Float[Tensor, "*A"], bound: float, generator: Generator) -> None:
    """Fill in place with U(−bound, bound).

    Args:
        values: tensor to fill.
        bound: half the width of the distribution.
        generator: source of the draws.
    """
    with torch.no_grad():
        values.uniform_(-bound, bound, generator=generator)


def normal_(values: Float[Tensor, "*A"], std: float, generator: Generator) -> None:
    """Fill in place with N(0, std²).

    Args:
        values: tensor to fill.
        std: standard deviation.
        generator: source of the draws.
    """
    with torch.no_grad():
        values.normal_(0.0, std, generator=generator)


def fan_in_(weight: Float[Tensor, "out in"], generator: Generator) -> None:
    """Fill a weight matrix in place with U(−1/√in, 1/√in), torch's default for a linear layer."""
    uniform_(weight, 1.0 / math.sqrt(weight.shape[1]), generator)
