"""A user's memory as bytes, and after some more uses."""

from __future__ import annotations

import numpy as np
import torch

from slatewise.protocols import Carry, StateEncoder
from slatewise.types import Uses


def carry_after_each(encoder: StateEncoder, carry: Carry, uses: Uses) -> Carry:
    """The memory after some uses, read one by one: the same bits whether they arrive together or over days."""
    for place in range(uses.item.shape[1]):
        carry = encoder.step(carry, uses.columns(slice(place, place + 1)))
    return carry


def carry_bytes(carry: Carry) -> bytes:
    """(1, M) float32 as bytes."""
    return carry.numpy().astype("<f4").tobytes()


def carry_from(raw: bytes) -> Carry:
    """Back from `carry_bytes`."""
    return torch.from_numpy(np.frombuffer(raw, "<f4").copy()).unsqueeze(0)
