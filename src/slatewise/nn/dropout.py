"""Dropout that draws from a generator of its own, so that training is the same bits every time."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from slatewise.protocols import StateEncoder


class Dropout(nn.Module):
    """Which entries stay, in training; everything stays otherwise, and until somebody lends a generator.

    Args:
        share: of the entries that go, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: Generator | None = None

    def kept(self, like: Tensor) -> Tensor | None:
        """1 where an entry stays, else 0; None where all stay."""
        if not self.training or self.share == 0 or self.generator is None:
            return None
        return torch.empty(like.shape).bernoulli_(1 - self.share, generator=self.generator)


def let_dropout_draw(encoder: StateEncoder, generator: Generator) -> None:
    """Give the learner's generator to the parts of an encoder that draw while training."""
    if isinstance(encoder, nn.Module):
        for part in encoder.modules():
            if isinstance(part, Dropout):
                part.generator = generator
