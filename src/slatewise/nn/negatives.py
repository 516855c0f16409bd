"""Where a step's negatives come from, learned from what the log shows as it goes by."""

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
    """Shared negatives for one step at a time.

    uniform: equal chances. log_uniform: Zipf's law over the items ordered by use. popularity: by use to the power .75
    (Mikolov et al. 2013), a tenth of the draws uniform. in_batch: what the batch shows, each item by its share of the
    log; items that the log never shows are never pushed down.

    Use is counted from the batches; the distribution is drawn up anew after 1, 2, 4, … steps and then every `refresh`
    steps, so that its cost, which grows with the catalog, does not.
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
        """Negatives for this step; counts what is shown.

        Args:
            shown: the items of the batch's positions, repeats and all.
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
        """What the next draw depends on; no copies."""
        state = {"steps": self.steps, "uses": self.uses}
        if self.cumulative is not None:
            state["cumulative"] = self.cumulative
        if self.ranked is not None:
            state["ranked"] = self.ranked
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put it back.

        Raises:
            ValueError: it belongs to another sampler or catalog.
        """
        for name, own in self.state_dict().items():
            found = state.get(name)
            if found is None or found.shape != own.shape:
                raise ValueError(
                    f'the checkpoint\'s sampler is not "{self.kind}" over {self.last - 1:,} items: "{name}"'
                )
            own.copy_(found)

    def _count(self, shown: Int[Tensor, " P"]) -> None:
        if self.kind == "uniform":
            return
        self.uses.index_add_(0, shown - FIRST_ITEM, torch.ones_like(shown))
        self.steps += 1
        steps = int(self.steps)
        if steps % self.refresh and steps & (steps - 1):
            return
        if self.cumulative is not None:
            self.cumulative.copy_(
                negatives.cumulative_share(self.uses.double(), power=self.power, uniform_share=self.uniform_share)
            )
        if self.ranked is not None:
            self.ranked.copy_(torch.argsort(self.uses, descending=True, stable=True) + FIRST_ITEM)
