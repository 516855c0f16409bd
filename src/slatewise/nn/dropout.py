"""Dropout that draws from an explicit generator, so that training is reproducible bit for bit."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn


class Dropout(nn.Module):
    """Dropout masks; draws only in training mode and once a generator has been set.

    Args:
        share: probability that an entry is dropped, in [0, 1).
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.generator: Generator | None = None

    def keep_mask(self, like: Tensor) -> Tensor | None:
        """1 where an entry is kept, else 0; None where nothing is dropped."""
        if not self.training or self.share == 0 or self.generator is None:
            return None
        return torch.empty(like.shape).bernoulli_(1 - self.share, generator=self.generator)


def let_dropout_draw(part: object, generator: Generator) -> None:
    """Set the generator of every `Dropout` module of a policy, an encoder or a network."""
    if isinstance(part, nn.Module):
        for module in part.modules():
            if isinstance(module, Dropout):
                module.generator = generator
