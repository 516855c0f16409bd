"""Conditional choice model: the weights v(s, i), learned from choices or given (Ie et al. 2019, sec. 5.1)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.nn.item_table import ItemTable
from slatewise.ops.choice import choice_weight
from slatewise.ops.initial import fan_in_

Reads = Literal["whole", "match"]


class ItemReader(nn.Module):
    """Input features of a network over pairs of state and item.

    whole: [state ; f_i]. match: the first E components of the state are the user's taste for the E features, and the
    input is [⟨taste, f_i⟩ ; f_i ; rest of the state]: the taste enters only through its match with the item.
    f_i are the catalog's features, or learned where it has none; with content, learned rows with a map of it.

    Raises:
        ValueError: match with a state narrower than the features, with a catalog that has none, or with content;
            features that are not finite.
    """

    features: Tensor

    def __init__(
        self,
        state_width: int,
        catalog: Catalog,
        *,
        reads: Reads,
        item_width: int,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.reads = reads
        width = catalog.features.shape[1]
        broken = np.argwhere(~np.isfinite(catalog.features))
        if len(broken):
            row, column = broken[0].tolist()
            raise ValueError(
                f'feature {column + 1} of item "{catalog.title(row)}" is {catalog.features[row, column]:g} '
                f"({len(broken)} such numbers); expected finite numbers: correct the table of items, or leave the "
                "column out"
            )
        # not a weight: it is stored with the catalog
        self.register_buffer(
            "features", torch.from_numpy(np.ascontiguousarray(catalog.features, dtype=np.float32)), persistent=False
        )
        content = catalog.content
        if content is not None and reads == "match":
            raise ValueError('reads = "match" takes the features as they are; items.content needs reads = "whole"')
        is_learned = content is not None or not width
        self.learned = ItemTable(catalog.num_rows, item_width, content) if is_learned else None
        if self.learned is not None and generator is not None:
            self.learned.reset(1.0, generator)
        self.item_width = item_width if is_learned else width
        if reads == "match" and not 0 < width <= state_width:
            raise ValueError(
                f'reads = "match" needs items with features and a state at least as wide; there are {width} features '
                f"and {state_width} numbers of state"
            )
        self.rest_width = state_width - width if reads == "match" else state_width
        self.width = self.item_width + self.rest_width + (reads == "match")

    def forward(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A I"]:
        """Input features, one row per user and item."""
        rows = self.features[items] if self.learned is None else self.learned(items)
        rest = self.rest(state).unsqueeze(1).expand(-1, items.shape[1], -1)
        if self.reads == "whole":
            return torch.cat([rest, rows], dim=2)
        match = torch.einsum("bae,be->ba", rows, state[:, : self.item_width]).unsqueeze(2)
        return torch.cat([match, rows, rest], dim=2)

    def rest(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B R"]:
        """The part of the state that enters unchanged, the same for every item."""
        return state[:, self.item_width :] if self.reads == "match" else state

    def affinity(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """⟨taste, f_i⟩ for a state that begins with the user's taste."""
        return torch.einsum("bae,be->ba", self.features[items], state[:, : self.features.shape[1]])


def network(sizes: Sequence[int], *, generator: Generator | None, bias: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between them; the last bias starts at `bias`.

    Args:
        sizes: widths from input to output.
        generator: draws the initial weights; None = zeros.
        bias: initial bias of the output, which is about what the untrained network returns.
    """
    layers: list[nn.Module] = []
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        # skip torch's initialisation, which draws from the global generator
        layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(bias if number == len(sizes) - 2 else 0.0)
        if generator is not None and fan_in:
            fan_in_(layer.weight, generator)
        layers += [nn.ReLU(), layer] if number else [layer]
    return nn.Sequential(*layers)


class ChoiceHead(nn.Module):
    """v(s, i) and v(s, ⊥) of the conditional choice model.

    Given model: choice_weight(⟨taste, f_i⟩). Learned: log v is a network and log v(s, ⊥) = 0, as only ratios matter;
    it is fitted by the likelihood of the choices.
    """

    def __init__(
        self,
        reader: ItemReader,
        *,
        model: Literal["learned", "proportional", "mnl"],
        null_mass: float,
        hidden: Sequence[int],
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.reader = reader
        self.model = model
        self.null_mass = null_mass
        self.net = network([reader.width, *hidden, 1], generator=generator) if model == "learned" else None

    def weight(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Weights v of items."""
        if self.model == "learned":
            return torch.exp(self.log_weight(state, items))
        return choice_weight(self.reader.affinity(state, items), self.model)

    def null_weight(self, state: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Weight v_⊥ of choosing nothing."""
        mass = state.new_full((len(state),), 0.0 if self.model == "learned" else self.null_mass)
        return torch.exp(mass) if self.model == "learned" else choice_weight(mass, self.model)

    def log_weight(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log v as the network gives it, clamped to ±15."""
        assert self.net is not None
        logits: Tensor = self.net(self.reader(state, items)).squeeze(2)
        return logits.clamp(-15.0, 15.0)

    def log_likelihood(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        shown: Bool[Tensor, "P K"],
        choice: Int[Tensor, " P"],
    ) -> Float[Tensor, " P"]:
        """Log P(choice | slate) under the learned weights.

        Args:
            state: (P, D) the state of each slate.
            slate: (P, K) item numbers.
            shown: (P, K) True where a position shows an item.
            choice: (P,) chosen position, −1 for none.
        """
        logits = self.log_weight(state, slate).masked_fill(~shown, -torch.inf)
        # "no choice" is column 0, with log v = 0
        logits = nn.functional.pad(logits, (1, 0))
        return torch.log_softmax(logits, dim=1).gather(1, (choice + 1).unsqueeze(1)).squeeze(1)
