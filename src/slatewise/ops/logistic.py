"""The logistic function on arrays."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def sigmoid(value: Float[np.ndarray, "*B"]) -> Float[np.ndarray, "*B"]:
    """σ(x) = 1 / (1 + e^−x), without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * value))).astype(np.float32)
