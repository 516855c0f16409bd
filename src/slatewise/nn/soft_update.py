"""Target networks that follow slowly."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def soft_update(target: Iterable[Tensor], online: Iterable[Tensor], rate: float) -> None:
    """θ' ← τ θ + (1 − τ) θ' (Polyak averaging; Lillicrap et al. 2016, sec. 3), in place.

    Args:
        target: weights θ' of the target network.
        online: weights θ of the network that learns, in the same order.
        rate: τ; 1 copies θ, 0 leaves θ' as it is.

    Raises:
        ValueError: networks with different numbers of weights.
    """
    for slow, fast in zip(target, online, strict=True):
        slow.lerp_(fast, rate)
