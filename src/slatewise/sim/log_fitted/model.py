"""What a user does with a slate, in parts that a log can teach: the choice, its reward, the next state, the end.

    choice   P(position k) ∝ v(s, i_k) e^{b_k}, nothing: 1             v a network, b one number a position, b_0 = 0
             without slates: P(i) ∝ v(s, i), against items drawn at random
    reward   P(level | s, i), the levels as the log has them (or its quantiles, where there are many)
    end      P(end) = σ(e^β (c − θ)), c = Σ wear of what was picked since the session began, of ⊥ where nothing was;
             wear is linear in the item's features (its group, where it has none), so that complete sessions sum to 1
    context  x' = x with some probability, else x + Δ, Δ a mixture of normal moves, both given x and the pick; kept
             within what the log has seen

The wear is a budget that is used up: what a policy that shows better items than the log's does to the length of
sessions follows from the wear of its items, also where sessions get longer than any in the log. With a flat slope e^β
it is a constant chance of leaving.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import logsigmoid, one_hot, pad

from slatewise.log import FIRST_ITEM, PAD, Catalog
from slatewise.nn.choice import ChoiceHead, ItemReader, Reads, network
from slatewise.ops.sessions import mixture_draw, mixture_log_density

SHARPNESS = 10.0
"""e^β before anything was learned."""
MOST_TRAITS = 128
"""Most features or groups that the wear of an item is made of; with more of them it is the same for all items."""
NARROWEST = math.log(0.005)
"""Log of the smallest deviation of a move, in units of half the context's range."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a user model must know of a log before it learns from it."""

    slate_size: int
    """K."""
    slates: bool
    """Whether the log shows what was not picked."""
    levels: tuple[float, ...]
    """Values that rewards take."""
    session_steps: float
    """Mean length of a session."""
    ends: bool
    """Whether the log says where sessions end."""
    low: tuple[float, ...]
    """Smallest value of each context column."""
    high: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Moves:
    """The distribution of each column's move."""

    stays: Float[Tensor, "B X"]
    """Logit of not moving at all."""
    logits: Float[Tensor, "B X M"]
    """Of the parts of the mixture otherwise."""
    mean: Float[Tensor, "B X M"]
    log_std: Float[Tensor, "B X M"]


class UserModel(nn.Module):
    """The parts; every method is about B rows of states."""

    levels: Tensor
    low: Tensor
    high: Tensor
    traits: Tensor
    prior: Tensor
    wear: Tensor

    def __init__(
        self,
        shape: Shape,
        state_width: int,
        catalog: Catalog,
        *,
        reads: Reads,
        item_width: int,
        hidden: Sequence[int],
        modes: int,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.shape = shape
        reader = ItemReader(state_width, catalog, reads=reads, item_width=item_width, generator=generator)
        self.reader = reader
        self.modes = modes
        self.choice = ChoiceHead(reader, model="learned", null_mass=0.0, hidden=hidden, generator=generator)
        self.position = nn.Parameter(torch.zeros(shape.slate_size - 1))
        self.reward = network([reader.width, *hidden, len(shape.levels)], generator=generator)
        traits = _traits(catalog)
        self.register_buffer("traits", traits, persistent=False)
        # per pick, per trait of the item, per slate from which nothing is picked
        prior = torch.zeros(traits.shape[1], dtype=torch.float64)
        prior[[0, -1]] = 1 / shape.session_steps
        self.register_buffer("prior", prior, persistent=False)
        self.register_buffer("wear", prior.clone())
        self.slope = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.threshold = nn.Parameter(torch.ones(()))
        width = len(shape.low)
        self.matched = reader.item_width if reads == "match" else 0
        free = width - self.matched
        if free < 0:
            raise ValueError(
                f'reads = "match" needs a context that begins with tastes for the {self.matched} features of the '
                f"items; it has {width} columns"
            )
        matched_sizes = [3, *hidden, 1 + 3 * modes]
        self.own_moves = network(matched_sizes, generator=generator) if self.matched else None
        free_sizes = [width + reader.item_width + 1, *hidden, (1 + 3 * modes) * free]
        self.free_moves = network(free_sizes, generator=generator) if free > 0 else None
        for name, values in (("levels", shape.levels), ("low", shape.low), ("high", shape.high)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def choice_logits(self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """Log v + b of every place, −inf where it is empty; the logit of nothing is 0."""
        bias = pad(self.position, (1, 0))
        at = torch.arange(slate.shape[1]).clamp(max=len(bias) - 1)
        logits = self.choice.log_weight(state, slate) + bias[at]
        return logits.masked_fill(slate < FIRST_ITEM, -torch.inf)

    def reward_logits(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A L"]:
        """Logits of the levels, given that the item is picked."""
        logits: Tensor = self.reward(self.reader(state, items))
        return logits

    def expected_reward(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Mean of the reward, given that the item is picked."""
        return torch.softmax(self.reward_logits(state, items), dim=2) @ self.levels

    def level(self, reward: Float[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """Number of the nearest level."""
        middle = (self.levels[1:] + self.levels[:-1]) / 2
        return torch.bucketize(reward.contiguous(), middle)

    def wear_of(self, item: Int[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Wear of a pick (item 0: of nothing), as a share of what a session bears."""
        wear_of = (self.traits[item] @ self.wear).clamp_min(0.02 / self.shape.session_steps)
        return wear_of.to(torch.float32)

    def end_logit(self, wear: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Logit of the session's end after this much wear."""
        return torch.exp(self.slope) * (wear - self.threshold)

    def moves(self, context: Float[Tensor, "B X"], item: Int[Tensor, " B"]) -> Moves:
        """How each column moves, in units of half its range.

        Columns that are tastes for features of the items share one network, which sees the taste and the feature of
        the pick; the others see everything.
        """
        rows, picked = self._rows(item), (item >= FIRST_ITEM).to(context.dtype)
        rows = rows * picked.unsqueeze(1)
        parts = []
        if self.own_moves is not None:
            taste = context[:, : self.matched]
            inputs = torch.stack([taste, rows, picked.unsqueeze(1).expand_as(taste)], dim=2)
            parts.append(self.own_moves(inputs))
        if self.free_moves is not None:
            out = self.free_moves(torch.cat([context, rows, picked.unsqueeze(1)], dim=1))
            parts.append(out.view(len(context), -1, 1 + 3 * self.modes))
        both = torch.cat(parts, dim=1)
        logits, mean, log_std = both[:, :, 1:].chunk(3, dim=2)
        # parts of a mixture that start alike would stay alike
        spread = torch.linspace(-0.1, 0.1, self.modes)
        return Moves(
            stays=both[:, :, 0], logits=logits, mean=mean + spread, log_std=(log_std - 2.0).clamp(NARROWEST, 1.0)
        )

    def move_log_density(
        self, context: Float[Tensor, "B X"], next_context: Float[Tensor, "B X"], item: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Mean over the columns of the log-likelihood of how the context moved."""
        moves, move = self.moves(context, item), (next_context - context) / self._unit()
        density = mixture_log_density(move, moves.logits, moves.mean, moves.log_std)
        went = logsigmoid(-moves.stays) + density
        return torch.where(move == 0, logsigmoid(moves.stays), went).mean(dim=1)

    def draw_next_context(
        self,
        context: Float[Tensor, "B X"],
        item: Int[Tensor, " B"],
        uniform: Float[Tensor, "B X"],
        normal: Float[Tensor, "B X"],
    ) -> Float[Tensor, "B X"]:
        """The next context."""
        if not context.shape[1]:
            return context
        moves = self.moves(context, item)
        stays = torch.sigmoid(moves.stays)
        # what is left of the uniform number is one again
        rest = ((uniform - stays) / (1 - stays).clamp_min(1e-6)).clamp(0.0, 1.0)
        move = mixture_draw(moves.logits, moves.mean, moves.log_std, rest, normal) * self._unit()
        next_context = torch.minimum(torch.maximum(context + move, self.low), self.high)
        return torch.where(uniform < stays, context, next_context)

    def _unit(self) -> Float[Tensor, " X"]:
        return ((self.high - self.low) / 2).clamp_min(1e-6)

    def _rows(self, item: Int[Tensor, "*B"]) -> Float[Tensor, "*B E"]:
        return self.reader.features[item] if self.reader.learned is None else self.reader.learned(item)


def _traits(catalog: Catalog) -> Float[Tensor, "rows P"]:
    """What the wear of an item may depend on: 1, its features or group, and 1 for no item."""
    features = np.asarray(catalog.features, np.float64)
    if not 0 < features.shape[1] <= MOST_TRAITS:
        groups = len(catalog.group_names) - 1
        features = np.eye(groups + 1)[np.asarray(catalog.group)][:, 1:] if groups <= MOST_TRAITS else features[:, :0]
    traits = np.concatenate([np.ones((len(features), 1)), features, np.zeros((len(features), 1))], axis=1)
    traits[PAD] = 0.0
    traits[PAD, -1] = 1.0
    return torch.from_numpy(traits)


def level_counts(level: Int[Tensor, " P"], valid: Bool[Tensor, " P"], levels: int) -> Float[Tensor, " L"]:
    """How often each level stands where it is known."""
    return one_hot(level[valid], levels).sum(dim=0).to(torch.float32)
