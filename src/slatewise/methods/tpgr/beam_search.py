"""Slates from a tree of items: a beam search for the best ones, or a walk of its own for every slot."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, PAD
from slatewise.methods.tpgr.tree_softmax import Limits, TreeSoftmax
from slatewise.ops import sampling
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.retrieval.tree import Cut, Tree, build
from slatewise.types import Exploration, SlateRequest, Slates


class TreePolicy(RankedPolicy):
    """π over the leaves of a tree; until one is planted, items stand in the order of their numbers.

    Args:
        encoder: of the state.
        tree: node networks.
        num_rows: rows of the item table.
        cut: how a tree is built from vectors.
        beam: paths that the search for the best items follows, at least.
    """

    def __init__(self, encoder: StateEncoder, tree: TreeSoftmax, num_rows: int, *, cut: Cut, beam: int) -> None:
        super().__init__(encoder, num_rows)
        self.tree = tree
        self.cut: Cut = cut
        self.beam_width = beam

    def plant(self, tree: Tree) -> None:
        """Put the items at the leaves of a tree of the same depth and arity; see `plant_vectors`."""
        self.tree.plant(tree)

    def plant_vectors(self, vectors: Float[Tensor, "rows E"], *, generator: Generator) -> Tree:
        """Build a tree from vectors, row i for item number i, and plant it."""
        items = torch.arange(FIRST_ITEM, self.num_rows)
        tree = build(
            vectors[FIRST_ITEM:],
            items,
            depth=self.tree.depth,
            arity=self.tree.arity,
            cut=self.cut,
            generator=generator,
        )
        self.plant(tree)
        return tree

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Log π of some items, or of every row for None."""
        layer = self.tree.layer(state)
        if items is not None:
            return self.tree.log_pi(layer, items)
        filled = self.tree.leaf_item != PAD
        every = state.new_full((len(state), self.num_rows), sampling.NEG_INF)
        every[:, self.tree.leaf_item[filled]] = self.tree.whole(layer)[:, filled]
        return every

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log-probability of each item in one walk down the whole tree; −inf for items that are not in it."""
        return self.tree.log_pi(self.tree.layer(state), items)

    def shortlist(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Log π (falling) and numbers of what a beam search finds; of all candidates where they are given."""
        if request.candidates is not None:
            return super().shortlist(state, request)
        k, exploration = request.k, request.exploration
        size = k if exploration is None else exploration.top_m
        limits = self._limits(len(state), request)
        values, leaves = self.tree.beam(self.tree.layer(state), max(size, self.beam_width), limits=limits)
        values, places = sampling.shortlist(values, k, exploration)
        return values, self._items(leaves.gather(1, places))

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """Ranked slates of k items; drawn slot by slot from the whole tree where top_m is the catalog or more.

        Raises:
            ValueError: as every ranked policy's.
        """
        k, exploration = request.k, request.exploration
        if exploration is None or not self._walks(exploration):
            return super().draw_slates(state, request, generator)
        if generator is None:
            raise ValueError("a slate cannot be drawn without a generator; pass generator=torch.Generator()")
        layer = self.tree.layer(state)
        limits = self._limits(len(state), request)
        fixed, logp = self._certain_slots(layer, min(exploration.keep, k), limits)
        leaves = [fixed]
        factors = [logp]
        for _ in range(k - fixed.shape[1]):
            limits = limits.without(leaves[-1])
            leaf, log_prob = self.tree.draw(
                layer, limits=limits, temperature=exploration.temperature, generator=generator
            )
            leaves.append(leaf.unsqueeze(1))
            factors.append(log_prob.unsqueeze(1))
        return Slates(items=self._items(torch.cat(leaves, dim=1)), logp=torch.cat(factors, dim=1))

    def slate_factors(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """Log-propensity factor of each position under the served procedure; −inf where it could not show that."""
        exploration = request.exploration
        if exploration is None or not self._walks(exploration):
            return super().slate_factors(state, slate, request)
        layer = self.tree.layer(state)
        limits = self._limits(len(state), request)
        leaf = self.tree.leaf_of[slate]
        fixed, logp = self._certain_slots(layer, min(exploration.keep, slate.shape[1]), limits)
        num_certain = fixed.shape[1]
        empty = torch.where(slate[:, :num_certain] == PAD, -1, -2)
        shown = torch.where(leaf[:, :num_certain] < 0, empty, leaf[:, :num_certain])
        factors = [logp.masked_fill(shown != fixed, sampling.NEG_INF)]
        limits = limits.without(fixed)
        for slot in range(num_certain, slate.shape[1]):
            log_prob = self.tree.path_log_prob(
                layer, leaf[:, slot], limits=limits, temperature=exploration.temperature
            )[0]
            nothing_left = self._is_exhausted(limits)
            right = torch.where(slate[:, slot] == PAD, 0.0, sampling.NEG_INF)
            factors.append(torch.where(nothing_left, right, log_prob).unsqueeze(1))
            limits = limits.without(leaf[:, slot : slot + 1])
        return torch.cat(factors, dim=1)

    def _limits(self, states: int, request: SlateRequest) -> Limits:
        return self.tree.limits(states, candidates=request.candidates, allowed=request.allowed, exclude=request.exclude)

    def _walks(self, exploration: Exploration) -> bool:
        return exploration.top_m >= self.num_rows - FIRST_ITEM

    def _certain_slots(
        self, layer: Float[Tensor, "B d H"], keep: int, limits: Limits
    ) -> tuple[Int[Tensor, "B F"], Float[Tensor, "B F"]]:
        """Leaves of the slots that are not drawn; shown with certainty."""
        if not keep:
            return torch.zeros(len(layer), 0, dtype=torch.int64), layer.new_zeros(len(layer), 0)
        leaves = self.tree.beam(layer, max(keep, self.beam_width), limits=limits)[1][:, :keep]
        leaves = nn.functional.pad(leaves, (0, keep - leaves.shape[1]), value=-1)
        return leaves, layer.new_zeros(leaves.shape)

    def _is_exhausted(self, limits: Limits) -> Tensor:
        """(B,) True where nothing is open."""
        if limits.only is not None:
            return ~(limits.only >= 0).any(dim=1)
        held = self.tree.leaf_item[limits.excluded.clamp(min=0)] != PAD
        open_items = int((limits.held or self.tree.held).counts[0].sum())
        return (held & (limits.excluded >= 0)).sum(dim=1) >= open_items

    def _items(self, leaf: Int[Tensor, "B A"]) -> Int[Tensor, "B A"]:
        return self.tree.leaf_item[leaf.clamp(min=0)].masked_fill(leaf < 0, PAD)
