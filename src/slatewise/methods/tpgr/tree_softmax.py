"""Softmax over a catalog by way of a balanced tree: d small choices in place of one among all items.

Chen et al., AAAI 2019 (arXiv 1811.05869), sec. 4.2. Every inner node is a softmax over its children, and

    log π(a|s) = Σ_level log π_node(child|s)     along the path from the root to the leaf of a

All nodes of a level lie in one table, one row a node; a batch of states goes down the tree by gathers. A node with no
item below is never chosen: what is open below a node are its items without those that are taken, counted exactly.

Leaves and nodes are numbers in base c: the children of node n are n·c … n·c + c − 1. A leaf of −1 is no leaf.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, PAD
from slatewise.nn.item_table import ItemTable
from slatewise.ops.initial import fan_in_, normal_
from slatewise.ops.sampling import NEG_INF
from slatewise.retrieval.tree import Tree, in_order

CHUNK = 1024
"""Rows that walk at the same time: what they read of a level fits the cache."""
ELEMENTS = 1 << 24
"""Numbers of node tables that a beam reads at the same time."""


@dataclass(frozen=True)
class Held:
    """How many items that may be chosen lie below every node of a tree, by level."""

    counts: list[Int[Tensor, "_ c"]]
    """Items below each child of each node."""
    full: list[bool]
    """Whether every node of a level has items below every child."""
    fewest: list[int]
    """Items below that child of a level which has the fewest, of those that have any; 0 where there is no item."""

    @classmethod
    def below(cls, filled: Bool[Tensor, " M"], *, depth: int, arity: int) -> Held:
        """The items at some leaves of a tree."""
        counts = [filled.view(arity ** (level + 1), -1).sum(dim=1).view(-1, arity) for level in range(depth)]
        return cls(
            counts=counts,
            full=[bool((count > 0).all()) for count in counts],
            fewest=[int(count[count > 0].min()) if bool((count > 0).any()) else 0 for count in counts],
        )


@dataclass(frozen=True)
class Limits:
    """What each state may choose from: all leaves or only some, without those that are excluded."""

    excluded: Int[Tensor, "B X"]
    """Leaves, each once; −1 where there is none."""
    only: Int[Tensor, "B C"] | None = None
    """Leaves, each once, none of them excluded; −1 where there is none. None = all of the tree."""
    held: Held | None = None
    """What may be chosen of the tree by everybody, the excluded leaves among it; None = all of it."""

    def rows(self, states: slice | Int[Tensor, " V"]) -> Limits:
        """The limits of some states."""
        return Limits(self.excluded[states], None if self.only is None else self.only[states], self.held)

    def without(self, leaf: Int[Tensor, "B Y"]) -> Limits:
        """The same with more leaves excluded."""
        if self.only is None:
            return Limits(unique(torch.cat([self.excluded, leaf], dim=1)), held=self.held)
        newly_excluded = (self.only.unsqueeze(2) == leaf.unsqueeze(1)).any(dim=2)
        return Limits(self.excluded, self.only.masked_fill(newly_excluded, -1))


class TreeSoftmax(nn.Module):
    """Node policies over states of width D, and which item stands at which leaf.

    A node's logits are linear in [h ; 1], with h = tanh of one layer per level, or the state itself (hidden = 0).
    """

    leaf_item: Tensor
    leaf_of: Tensor

    def __init__(
        self,
        width: int,
        num_rows: int,
        *,
        depth: int,
        arity: int,
        hidden: int = 32,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_rows, self.depth, self.arity, self.hidden = num_rows, depth, arity, hidden
        self.inner = hidden or width
        self.read = nn.Parameter(torch.zeros(depth * hidden, width))
        self.read_bias = nn.Parameter(torch.zeros(depth * hidden))
        self.nodes = nn.ModuleList(ItemTable(arity**level, arity * (self.inner + 1)) for level in range(depth))
        """Row n of level l: (c, H + 1) weights and biases of node n."""
        if generator is not None:
            if hidden:
                fan_in_(self.read, generator)
            for table in self.nodes:
                assert isinstance(table, ItemTable)
                normal_(table.weight, self.inner**-0.5, generator)
                with torch.no_grad():
                    table.weight.view(-1, self.inner + 1)[:, -1] = 0.0
        self.register_buffer("leaf_item", torch.zeros(arity**depth, dtype=torch.int64))
        self.register_buffer("leaf_of", torch.zeros(num_rows, dtype=torch.int64), persistent=False)
        self.held = Held([], [], [])
        """All items."""
        self.register_load_state_dict_post_hook(lambda module, _: module.look_up())  # type: ignore[no-untyped-call]
        self.plant(in_order(torch.arange(FIRST_ITEM, num_rows), depth=depth, arity=arity))

    def plant(self, tree: Tree) -> None:
        """Put the items at the leaves of a tree; the node policies stay as they are.

        Raises:
            ValueError: a tree of another shape, or with items that the catalog does not have.
        """
        if (tree.depth, tree.arity) != (self.depth, self.arity):
            raise ValueError(
                f"the tree has depth {tree.depth} and arity {tree.arity}; the policy has {self.depth} and {self.arity}"
            )
        held = tree.leaf_item[tree.leaf_item != PAD]
        if not len(held) or int(held.min()) < FIRST_ITEM or int(held.max()) >= self.num_rows:
            raise ValueError(f"the tree holds no items, or others than {FIRST_ITEM} … {self.num_rows - 1}")
        self.leaf_item.copy_(tree.leaf_item)
        self.look_up()

    def look_up(self) -> None:
        """Everything that follows from `leaf_item`."""
        filled = self.leaf_item != PAD
        self.leaf_of.fill_(-1)
        self.leaf_of[self.leaf_item[filled]] = filled.nonzero().squeeze(1)
        self.held = Held.below(filled, depth=self.depth, arity=self.arity)

    def limits(
        self,
        states: int,
        *,
        candidates: Int[Tensor, "B C"] | None = None,
        allowed: Bool[Tensor, " rows"] | None = None,
        exclude: Int[Tensor, "B X"] | None = None,
    ) -> Limits:
        """What may be chosen, as leaves.

        Args:
            states: for how many users.
            candidates: items to choose from.
            allowed: True for the item numbers to choose from; without candidates.
            exclude: items that must not be shown.
        """
        none = torch.zeros(states, 0, dtype=torch.int64)
        excluded = none if exclude is None else unique(self.leaf_of[exclude])
        if allowed is not None:
            held = Held.below(allowed[self.leaf_item] & (self.leaf_item != PAD), depth=self.depth, arity=self.arity)
            # what is not held is not counted, so nothing is taken away for it
            outside = (excluded < 0) | ~allowed[self.leaf_item[excluded.clamp(min=0)]]
            return Limits(excluded.masked_fill(outside, -1), held=held)
        if candidates is None:
            return Limits(excluded)
        only = unique(self.leaf_of[candidates])
        if exclude is not None and exclude.shape[1]:
            sorted_ = torch.sort(excluded, dim=1).values
            at = torch.searchsorted(sorted_, only).clamp(max=sorted_.shape[1] - 1)
            only = only.masked_fill(sorted_.gather(1, at) == only, -1)
        return Limits(none, only)

    def layer(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B d H"]:
        """[h ; 1] of every level."""
        bias_input = state.new_ones(len(state), self.depth, 1)
        if not self.hidden:
            return torch.cat([state.unsqueeze(1).expand(-1, self.depth, -1), bias_input], dim=2)
        read = torch.tanh(torch.addmm(self.read_bias, state, self.read.T))
        return torch.cat([read.view(len(state), self.depth, self.hidden), bias_input], dim=2)

    def path_log_prob(
        self,
        layer: Float[Tensor, "B d H"],
        leaf: Int[Tensor, "B"],
        *,
        limits: Limits | None = None,
        temperature: float = 1.0,
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        """Log-probability of walking to a leaf, and the entropies of the choices on the way, summed.

        Their mean over walks is the entropy of π. −inf where the leaf is −1, taken, or not among the only ones.
        """
        parts = [
            self._path(layer[rows], leaf[rows], limits and limits.rows(rows), temperature)
            for rows in _slices(len(leaf), CHUNK)
        ]
        if not parts:
            return layer.new_zeros(0), layer.new_zeros(0)
        log_prob, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
        return log_prob, entropy

    def draw(
        self,
        layer: Float[Tensor, "B d H"],
        *,
        limits: Limits | None = None,
        temperature: float = 1.0,
        generator: Generator,
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        """A walk from the root to a leaf, and its log-probability; leaf −1 with 0 where nothing is open."""
        parts = [
            self._walk(layer[rows], limits and limits.rows(rows), temperature, generator)
            for rows in _slices(len(layer), CHUNK)
        ]
        if len(parts) == 1:
            return parts[0]
        leaf, log_prob = (torch.cat(column) for column in zip(*parts, strict=True))
        return leaf, log_prob

    def beam(
        self, layer: Float[Tensor, "B d H"], width: int, *, limits: Limits
    ) -> tuple[Float[Tensor, "B W"], Int[Tensor, "B W"]]:
        """The open leaves that a beam of some width finds, best first: log π and number; −inf and −1 past their end.

        Never fewer than there are, up to the width: a node that is kept has something open below it.
        """
        each = max(1, ELEMENTS // (width * self.arity * (self.inner + 1)))
        parts = [self._beam(layer[rows], width, limits.rows(rows)) for rows in _slices(len(layer), each)]
        values, leaves = (torch.cat(column) for column in zip(*parts, strict=True))
        return values, leaves

    def log_pi(self, layer: Float[Tensor, "B d H"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log π of some items; −inf for those that are not in the tree."""
        leaf = self.leaf_of[items]
        if items.shape[1] * self.arity >= self.num_rows:
            every = torch.nn.functional.pad(self.whole(layer), (0, 1), value=NEG_INF)
            return every.gather(1, torch.where(leaf < 0, len(self.leaf_item), leaf))
        each = layer.unsqueeze(1).expand(-1, items.shape[1], -1, -1).flatten(0, 1)
        return self.path_log_prob(each, leaf.flatten())[0].view(items.shape)

    def whole(self, layer: Float[Tensor, "B d H"]) -> Float[Tensor, "B M"]:
        """Log π of every leaf; −inf where it is empty."""
        log_prob = layer.new_zeros(len(layer), 1)
        for level, table in enumerate(self.nodes):
            assert isinstance(table, ItemTable)
            weight = table.whole().view(-1, self.inner + 1)
            logits = (layer[:, level] @ weight.T).view(len(layer), -1, self.arity)
            log_prob = log_prob.unsqueeze(2) + _log_softmax(logits, self.held.counts[level] > 0)
            log_prob = log_prob.flatten(1)
        return log_prob

    def _logits(self, level: int, layer: Float[Tensor, "B d H"], node: Int[Tensor, "B W"]) -> Float[Tensor, "B W c"]:
        table = self.nodes[level]
        if level == 0:
            # everybody stands at the root
            row: Tensor = table(node.new_zeros(1)).view(self.arity, self.inner + 1)
            return (layer[:, 0] @ row.T).unsqueeze(1).expand(-1, node.shape[1], -1)
        rows: Tensor = table(node.flatten()).view(len(node), -1, self.inner + 1)
        return torch.bmm(rows, layer[:, level].unsqueeze(2)).view(*node.shape, self.arity)

    def _open(self, level: int, node: Int[Tensor, "B W"], limits: Limits | None) -> Bool[Tensor, "B W c"] | None:
        """Which children have something open below; None = all of them."""
        if limits is not None and limits.only is not None:
            return self._below(level, node, limits.only) > 0
        held_items = (limits and limits.held) or self.held
        counts = held_items.counts[level]
        if limits is None or limits.excluded.shape[1] < held_items.fewest[level]:
            # too few are taken to close anything that has items
            return None if held_items.full[level] else counts[node] > 0
        if level < self.depth - 1:
            return counts[node] > self._below(level, node, limits.excluded)
        # every child is a leaf: what is taken is closed
        place = limits.excluded.unsqueeze(1) - (node * self.arity).unsqueeze(2)
        elsewhere = (place < 0) | (place >= self.arity) | (limits.excluded < 0).unsqueeze(1)
        held = torch.nn.functional.pad(counts[node] > 0, (0, 1))
        return held.scatter_(2, place.masked_fill(elsewhere, self.arity), False)[:, :, :-1]

    def _below(self, level: int, node: Int[Tensor, "B W"], leaf: Int[Tensor, "B X"]) -> Int[Tensor, "B W c"]:
        """How many of some leaves lie below each child."""
        child = torch.div(leaf, self.arity ** (self.depth - level - 1), rounding_mode="floor")
        place = child.unsqueeze(1) - (node * self.arity).unsqueeze(2)
        inside = (place >= 0) & (place < self.arity) & (leaf >= 0).unsqueeze(1)
        number = torch.zeros(*node.shape, self.arity, dtype=torch.int64)
        return number.scatter_add_(2, place.clamp(0, self.arity - 1), inside.long())

    def _path(
        self, layer: Float[Tensor, "B d H"], leaf: Int[Tensor, "B"], limits: Limits | None, temperature: float
    ) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
        path = leaf.clamp(min=0)
        log_prob = layer.new_zeros(len(leaf)).masked_fill(leaf < 0, NEG_INF)
        entropy = layer.new_zeros(len(leaf))
        for level in range(self.depth):
            below = self.arity ** (self.depth - level)
            node = torch.div(path, below, rounding_mode="floor").unsqueeze(1)
            child = torch.div(path, below // self.arity, rounding_mode="floor") % self.arity
            choice = _log_softmax(self._logits(level, layer, node) / temperature, self._open(level, node, limits))
            choice = choice.squeeze(1)
            log_prob = log_prob + choice.gather(1, child.unsqueeze(1)).squeeze(1)
            entropy = entropy - (choice.exp() * choice.clamp(min=-1e9)).sum(dim=1)
        return log_prob, entropy

    def _walk(
        self, layer: Float[Tensor, "B d H"], limits: Limits | None, temperature: float, generator: Generator
    ) -> tuple[Int[Tensor, "B"], Float[Tensor, "B"]]:
        node = torch.zeros(len(layer), 1, dtype=torch.int64)
        log_prob = layer.new_zeros(len(layer), 1)
        stuck = None
        for level in range(self.depth):
            logits = self._logits(level, layer, node).squeeze(1)
            if temperature != 1.0:
                logits = logits / temperature
            open_ = self._open(level, node, limits)
            if open_ is not None:
                logits = logits.masked_fill(~open_.squeeze(1), NEG_INF)
                if level == 0:
                    stuck = ~open_.squeeze(1).any(dim=1, keepdim=True)
            # a uniform number falls into one of the pieces that the probabilities cut [0, 1) into; Gumbel noise would
            # need a logarithm for every child
            share = torch.softmax(logits, dim=1).cumsum_(dim=1)
            uniform = torch.rand(len(layer), 1, generator=generator, dtype=share.dtype) * share[:, -1:]
            child = torch.searchsorted(share, uniform, right=True).clamp_(max=self.arity - 1)
            if open_ is not None:
                # rounding can end past the last piece that has a length
                child = torch.where(logits.gather(1, child) > NEG_INF, child, logits.argmax(dim=1, keepdim=True))
            log_prob = log_prob + logits.gather(1, child) - logits.logsumexp(dim=1, keepdim=True)
            node = node * self.arity + child
        if stuck is not None:
            node, log_prob = node.masked_fill(stuck, -1), log_prob.masked_fill(stuck, 0.0)
        return node.squeeze(1), log_prob.squeeze(1)

    def _beam(
        self, layer: Float[Tensor, "B d H"], width: int, limits: Limits
    ) -> tuple[Float[Tensor, "B W"], Int[Tensor, "B W"]]:
        batch = len(layer)
        node = torch.zeros(batch, 1, dtype=torch.int64)
        value = layer.new_zeros(batch, 1)
        for level in range(self.depth):
            held = self.held.counts[level][node] > 0
            below = value.unsqueeze(2) + _log_softmax(self._logits(level, layer, node), held)
            open_ = self._open(level, node, limits)
            if open_ is not None:
                below = below.masked_fill(~open_, NEG_INF)
            value, at = below.flatten(1).topk(min(width, below[0].numel()), dim=1)
            node = node.gather(1, torch.div(at, self.arity, rounding_mode="floor")) * self.arity + at % self.arity
        return value, node.masked_fill(value == NEG_INF, -1)


def unique(leaf: Int[Tensor, "B X"]) -> Int[Tensor, "B X"]:
    """Every number of a row once, in rising order; −1 in place of the others."""
    ordered = torch.sort(leaf, dim=1).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return ordered.masked_fill(again, -1)


def _log_softmax(logits: Float[Tensor, "*B c"], open_: Bool[Tensor, "*#B c"] | None) -> Float[Tensor, "*B c"]:
    """Over the open children; −inf for the others, also where none is open."""
    if open_ is None:
        return torch.log_softmax(logits, dim=-1)
    # a finite floor first: a row without anything open must have no NaN, not even in its gradient
    log_prob = torch.log_softmax(logits.masked_fill(~open_, -1e30), dim=-1)
    return log_prob.masked_fill(~open_, NEG_INF)


def _slices(length: int, each: int) -> list[slice]:
    return [slice(at, at + each) for at in range(0, length, each)]
