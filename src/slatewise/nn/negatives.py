"""Samplers of negatives, whose distributions follow the counts of shown items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM
from slatewise.ops import negatives
from slatewise.ops.negatives import Negatives

Sampler = Literal["uniform", "log_uniform", "popularity", "in_batch"]


class NegativeSampler:
    """Negatives for one training step, shared by all positions of the batch.

    uniform: equal probabilities. log_uniform: Zipf's law over the items ordered by count. popularity: count to the
    power .75 (Mikolov et al. 2013), a tenth of the draws uniform. in_batch: the items of the batch, weighted by their
    share of the log; items that the log never shows get no negative gradient.

    Counts come from the batches; the distribution is recomputed after 1, 2, 4, … steps and then every `refresh` steps,
    because its cost grows with the catalog.
    """

    def __init__(
        self,
        kind: Sampler,
        count: int,
        num_rows: int,
        *,
        refresh: int = 512,
        power: float = 0.75,
        uniform_share: float = 0.1,
    ) -> None:
        if count < 1:
            raise ValueError(f"num_negatives is {count}; expected at least 1")
        self.kind = kind
        self.count = count
        self.refresh = refresh
        self.power = power
        self.uniform_share = uniform_share
        self.last = num_rows - 1
        size = num_rows - FIRST_ITEM
        self.steps = torch.zeros((), dtype=torch.int64)
        self.uses = torch.zeros(0 if kind == "uniform" else size, dtype=torch.int64)
        self.cumulative = torch.arange(1, size + 1, dtype=torch.float64).div_(size) if kind == "popularity" else None
        self.ranked = torch.arange(FIRST_ITEM, num_rows) if kind == "log_uniform" else None

    def draw(self, shown: Int[Tensor, " P"], generator: Generator) -> Negatives:
        """Draw the negatives of this step and count the shown items.

        Args:
            shown: (P,) the items of the batch's positions, with repetitions.
            generator: source of the draws.
        """
        self._count(shown)
        if self.cumulative is not None:
            return negatives.popular(self.count, cumulative=self.cumulative, first=FIRST_ITEM, generator=generator)
        if self.ranked is not None:
            return negatives.log_uniform(self.count, ranked=self.ranked, generator=generator)
        if self.kind == "in_batch":
            share = self.uses[shown - FIRST_ITEM] / self.uses.sum()
            return negatives.in_batch(shown, share=share)
        return negatives.uniform(self.count, first=FIRST_ITEM, last=self.last, generator=generator)

    def state_dict(self) -> dict[str, Tensor]:
        """The state that the next draw depends on; not copied."""
        state = {"steps": self.steps, "uses": self.uses}
        if self.cumulative is not None:
            state["cumulative"] = self.cumulative
        if self.ranked is not None:
            state["ranked"] = self.ranked
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state.

        Raises:
            ValueError: the state belongs to another sampler or catalog.
        """
        for name, tensor in self.state_dict().items():
            stored = state.get(name)
            if stored is None or stored.shape != tensor.shape:
                raise ValueError(
                    f'the checkpoint\'s sampler is not "{self.kind}" over {self.last - 1:,} items: "{name}"'
                )
            tensor.copy_(stored)

    def _count(self, shown: Int[Tensor, " P"]) -> None:
        if self.kind == "uniform":
            return
        self.uses.index_add_(0, shown - FIRST_ITEM, torch.ones_like(shown))
        self.steps += 1
        steps = int(self.steps)
        # neither a multiple of `refresh` nor a power of two: nothing to recompute
        if steps % self.refresh and steps & (steps - 1):
            return
        if self.cumulative is not None:
            self.cumulative.copy_(
                negatives.cumulative_share(self.uses.double(), power=self.power, uniform_share=self.uniform_share)
            )
        if self.ranked is not None:
            self.ranked.copy_(torch.argsort(self.uses, descending=True, stable=True) + FIRST_ITEM)
