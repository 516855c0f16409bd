"""TPGR: a policy gradient that walks down a balanced tree of items.

Chen et al., "Large-scale Interactive Recommendation with Tree-structured Policy Gradient", AAAI 2019 (arXiv
1811.05869).

    π(a|s) = Π_level π_node(child | s)                                   on the path from the root to a  (sec. 4.2)
    ∇J = Σ_t (R_t − b_t) ∇ log π(a_t|s_t) + entropy · ∇ H(π(·|s_t)),     R_t = Σ_{t'≥t} γ^{t'−t} r_{t'}  (eq. 5–7)

With depth d and N items, a node has c = ⌈N^{1/d}⌉ children, and a decision costs d softmaxes over c in place of one
over N. Depth 1 is the softmax over the whole catalog. What a session showed before is taken out of the tree.

Two ways to serve. top_m below the number of items: a beam search finds about the top_m most likely items, and slots are
drawn from them (the procedure of every ranked policy). top_m at least the number of items: every slot is a walk of its
own down the tree without what was shown, and nothing of the size of the catalog is ever computed; this is how the
policy acts while it learns.

Deviations: a hidden layer per level is shared by its nodes; the state is one of the encoders' (the authors pretrain an
SRU); an optional baseline, the mean return of the batch at the same step or a network of the state; gains can be put on
one scale; the mean path entropy stands for that of π; from a log of single items with propensities, steps can be
weighted by min(π/β, weight_cap).

Unknown users: the slate of the state without history, which the first step of every user in the log trains.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.data.ratings import ratings
from slatewise.item_vectors.ratings import Kind, vectors_of
from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.methods.tpgr.beam_search import TreePolicy
from slatewise.methods.tpgr.other_catalog import move_tree
from slatewise.methods.tpgr.tree_softmax import CHUNK, Limits, TreeSoftmax, unique
from slatewise.nn.allocator import keep_freed_memory
from slatewise.nn.choice import network
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.item_table import RowWiseAdagrad, item_tables
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops.importance import importance_weight
from slatewise.ops.returns import discounted_returns, threshold
from slatewise.ops.shown_rows import at_rows, shown_rows
from slatewise.protocols import StateEncoder
from slatewise.retrieval.tree import Cut, arity_of
from slatewise.schedules import Schedule, value_at
from slatewise.types import Trajectories

DEFAULT_ENCODER = "gru"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""Of Adam, with a number for each weight."""


@dataclass(frozen=True, kw_only=True)
class TreeConfig:
    """The tree, and what it is built from before training."""

    depth: int = 2
    """d: choices on the way to an item; 1 = a softmax over the catalog. The paper: 2."""
    arity: int | None = None
    """c; None = ⌈N^{1/d}⌉. A larger one leaves room for items that come later."""
    cut: Cut = "pca"
    """How a node's items are parted: principal components, balanced k-means, or at random."""
    vectors: Kind | Literal["features"] = "factors"
    """What the tree is built from before training: rating columns, a variational code of them, matrix factorisation;
    features of the catalog (text embeddings, for instance)."""
    vector_width: int = 8
    """Width of codes and factors."""

    def __post_init__(self) -> None:
        for name in ("depth", "vector_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.arity is not None and self.arity < 2:
            raise ValueError(f"arity is {self.arity}; a node with one child decides nothing, expected 2 or more")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the tree and of the gradient."""

    tree: TreeConfig = field(default_factory=TreeConfig)
    hidden: int = 32
    """Width of the layer between state and nodes, one per level; 0 = the nodes read the state."""
    gamma: float = 0.6
    """γ."""
    entropy: float = 0.01
    """Weight of the entropy of π, in units of the return (of its deviation, with `unit_advantage`)."""
    baseline: Literal["none", "step", "value"] = "none"
    """step: subtract the mean return of the batch at the same step of the session; value: subtract what a network of
    the state expects, which is fitted to the returns along the way. For learning in an environment."""
    value_hidden: int = 64
    value_lr: float = 3e-3
    """Learning rate of that network."""
    unit_advantage: bool = False
    """Divide R_t − b_t by its standard deviation over the batch, so that settings do not depend on the reward's."""
    weight_cap: float | None = None
    """Upper limit of π/β for single items of known propensity; None = every step counts as if π had served it."""
    no_repeats: bool = True
    """A session shows no item twice: what it showed is closed to π as well."""
    reward_at_least: float | None = None
    """Reward is 1 where the log's reward is at least this, else 0; None takes it as logged."""
    beam: int = 32
    """Paths that the search for the best items follows, at least."""
    by_row: bool | None = None
    """Learn node tables by the rows that a step reads (row-wise Adagrad); None = above 50,000 items."""
    lr: float | Schedule = 1e-3
    table_lr: float = 0.05
    """Learning rate of node tables that are learned by row."""
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ValueError(f"beam is {self.beam}; expected at least 1")
        if self.value_hidden < 1:
            raise ValueError(f"value_hidden is {self.value_hidden}; expected at least 1")
        if self.hidden < 0:
            raise ValueError(f"hidden is {self.hidden}; expected 0 (none) or a width")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if self.entropy < 0:
            raise ValueError(f"entropy is {self.entropy}; expected 0 or more")
        if self.weight_cap is not None and not self.weight_cap > 0:
            raise ValueError(f"weight_cap is {self.weight_cap}; expected a number above 0")


class Policy(TreePolicy):
    """π(a|s) = Π_level π_node(child | s) over the leaves of a tree."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        settings = config.tree
        if not catalog.num_items:
            raise ValueError("the catalog is empty: a policy needs at least one item")
        arity = settings.arity or arity_of(catalog.num_items, settings.depth)
        if arity**settings.depth < catalog.num_items:
            raise ValueError(
                f"arity {arity} and depth {settings.depth} have {arity**settings.depth:,} leaves for "
                f"{catalog.num_items:,} items; choose a larger arity, or leave it open"
            )
        tree = TreeSoftmax(
            encoder.width,
            catalog.num_rows,
            depth=settings.depth,
            arity=arity,
            hidden=config.hidden,
            generator=generator,
        )
        super().__init__(encoder, tree, catalog.num_rows, cut=settings.cut, beam=config.beam)
        self.config = config


class Learner:
    """REINFORCE on the paths that were walked."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        self.catalog = catalog
        by_row = catalog.num_items > 50_000 if config.by_row is None else config.by_row
        if by_row:
            keep_freed_memory()
        tables = item_tables(self.policy) if by_row else {}
        # rows of the encoder's table are items, of which the reserved ones stay 0; rows of the nodes' are nodes
        nodes = {name: table for name, table in tables.items() if name.startswith("tree.nodes.")}
        items = {name: table for name, table in tables.items() if name not in nodes}
        self.tables = RowWiseAdagrad(nodes, learning_rate=config.table_lr)
        self.item_tables = RowWiseAdagrad(items, learning_rate=config.table_lr, frozen=FIRST_ITEM)
        self.parameters: list[nn.Parameter] = [weight for weight in self.policy.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.Adam(self.parameters, lr=value_at(config.lr, 0), fused=True)
        self.value: nn.Sequential | None = None
        if config.baseline == "value":
            self.value = network([encoder.width, config.value_hidden, 1], generator=generator)
            self.value_optimiser = torch.optim.Adam(self.value.parameters(), lr=config.value_lr, fused=True)
        self.generator = generator
        self.num_twins = 0
        """Items whose vector, in building the tree, was that of an earlier one."""
        self._vectors: Tensor | None = None
        """What the tree was built from, up to the first update."""
        let_dropout_draw(encoder, generator)

    def prepare(self, part: LogPart) -> None:
        """Build the tree from the training part of a log, before the first update.

        Raises:
            InputError: vectors from ratings, and no rating in the training part.
            ValueError: vectors from features, and the catalog has none.
        """
        settings = self.config.tree
        if settings.vectors == "features":
            if not self.catalog.features.shape[1]:
                raise ValueError('vectors = "features", but the catalog has none; choose ratings, vae or factors')
            vectors = torch.from_numpy(np.ascontiguousarray(self.catalog.features, dtype=np.float32))
        else:
            training_ratings = ratings(part, num_rows=self.catalog.num_rows)
            vectors = vectors_of(
                training_ratings, settings.vectors, width=settings.vector_width, generator=self.generator
            )
        self.num_twins = self.catalog.num_items - len(torch.unique(vectors[FIRST_ITEM:], dim=0))
        self.policy.plant_vectors(vectors, generator=self.generator)
        self._vectors = vectors

    def notes(self) -> tuple[str, ...]:
        """How many items the tree could only tell apart by their order."""
        if not self.num_twins:
            return ()
        return (
            f"{self.num_twins:,} of {self.catalog.num_items:,} items have the vector of another item: the tree parts "
            "them by their number alone",
        )

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; loss is the surrogate −(gain · log π + entropy · H) per shown item.

        Returns:
            loss; entropy: mean of the path's, in nats; weight: mean of min(π/β, cap), 1 without correction.
        """
        rows = shown_rows(trajectories.slate, trajectories.learn)
        leaf = self.policy.tree.leaf_of[trajectories.slate]
        rows = rows[leaf[rows[:, 0], rows[:, 1], rows[:, 2]] >= 0]
        if not len(rows):
            return {"loss": 0.0, "entropy": 0.0, "weight": 0.0}
        policy, config = self.policy, self.config
        self._vectors = None
        policy.train()
        for tables in (self.tables, self.item_tables):
            tables.forget()
        state = at_rows(policy.encoder(trajectories), rows)
        layer = policy.tree.layer(state)
        user, step, position = rows.unbind(dim=1)
        parts = []
        for chunk in torch.split(torch.arange(len(rows)), CHUNK):
            limits = self._session(trajectories, rows[chunk], leaf) if config.no_repeats else None
            chunk_leaf = leaf[user[chunk], step[chunk], position[chunk]]
            parts.append(policy.tree.path_log_prob(layer[chunk], chunk_leaf, limits=limits))
        log_pi, entropy = (torch.cat(column) for column in zip(*parts, strict=True))
        gain = self._advantage(trajectories)[user, step, position]
        if self.value is not None:
            gain = self._above_expected(gain, state.detach())
        if config.unit_advantage:
            gain = gain / gain.std(correction=0).clamp(min=1e-6)
        weight = torch.ones_like(gain)
        if config.weight_cap is not None and trajectories.slate.shape[2] == 1:
            ratio = importance_weight(log_pi.detach(), trajectories.logp[user, step, 0], cap=config.weight_cap)
            weight = torch.where(trajectories.logp_known[user, step], ratio, weight)
        loss = -(weight * gain * log_pi + config.entropy * entropy).mean()
        descend(loss, self.parameters, self.optimiser, config.clip_norm, lr=config.lr)
        for tables in (self.tables, self.item_tables):
            tables.step()
        policy.eval()
        return {
            "loss": float(loss.detach()),
            "entropy": float(entropy.detach().mean()),
            "weight": float(weight.mean()),
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, the tree, moments, accumulators and the generator."""
        flat = flat_state(self.policy, self.optimiser, self.generator)
        for tables in (self.tables, self.item_tables):
            flat |= {f"rows.{name}": value for name, value in tables.state_dict().items()}
        if self.value is not None:
            value_state = flat_state(self.value, self.value_optimiser, self.generator)
            flat |= {f"value.{name}": value for name, value in value_state.items()}
        return flat

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
        for tables in (self.tables, self.item_tables):
            tables.load_state_dict(under("rows.", state))
        if self.value is not None:
            restore_state(self.value, self.value_optimiser, self.generator, under("value.", state))

    def move_items(self, state: dict[str, Tensor], source: Int[Tensor, "rows"]) -> dict[str, Tensor]:
        """The tree and its nodes: an item keeps its leaf, a new one takes an empty leaf.

        Raises:
            ValueError: a tree of another depth, or with more children per node.
        """
        policy = self.policy
        trained = [name for name, weight in policy.named_parameters() if weight.requires_grad]
        entries = {f"policy.{name}": name for name in policy.state_dict()}
        entries |= {f"rows.{name}": f"{name}.weight" for name in self.tables.tables}
        entries |= {f"optimiser.{index}.{moment}": name for index, name in enumerate(trained) for moment in MOMENTS}
        by_weight: dict[str, dict[str, Tensor]] = {}
        for key in entries.keys() & state.keys():
            by_weight.setdefault(entries[key], {})[key] = state[key]
        return move_tree(state["policy.tree.leaf_item"], by_weight, source, policy.tree, vectors=self._vectors)

    def _above_expected(self, gain: Float[Tensor, " P"], state: Float[Tensor, "P D"]) -> Float[Tensor, " P"]:
        """R_t − V(s_t) with V as it was before this batch, to which it is then fitted by one step."""
        assert self.value is not None
        expected: Tensor = self.value(state).squeeze(1)
        descend(
            (expected - gain).square().mean(),
            list(self.value.parameters()),
            self.value_optimiser,
            self.config.clip_norm,
        )
        return gain - expected.detach()

    def _advantage(self, trajectories: Trajectories) -> Float[Tensor, "B T K"]:
        """R_t − b_t of every shown item: its own reward and all that followed its step."""
        config = self.config
        reward = threshold(trajectories.reward, config.reward_at_least) * trajectories.mask.unsqueeze(2)
        total = reward.sum(dim=2)
        returns = discounted_returns(total, config.gamma, ends=trajectories.terminated | trajectories.truncated)
        gain = (returns - total).unsqueeze(2) + reward
        if config.baseline != "step":
            return gain
        shown = (trajectories.learn.unsqueeze(2) & (trajectories.slate >= FIRST_ITEM)).float()
        mean = (gain * shown).sum(dim=(0, 2)) / shown.sum(dim=(0, 2)).clamp(min=1)
        return gain - mean.view(1, -1, 1)

    def _session(self, trajectories: Trajectories, rows: Int[Tensor, "P 3"], leaf: Int[Tensor, "B T K"]) -> Limits:
        """What each row's session showed before its step is taken, but never the row's own item."""
        ends = (trajectories.terminated | trajectories.truncated) & trajectories.mask
        session = torch.cumsum(ends, dim=1) - ends.long()
        shown = leaf.masked_fill(~trajectories.mask.unsqueeze(2), -1)
        user, step, position = rows.unbind(dim=1)
        is_earlier = torch.arange(leaf.shape[1]) < step.unsqueeze(1)
        is_earlier &= session[user] == session[user, step].unsqueeze(1)
        earlier = shown[user].masked_fill(~is_earlier.unsqueeze(2), -1).flatten(1)
        row_leaf = leaf[user, step, position].unsqueeze(1)
        return Limits(unique(earlier.masked_fill(earlier == row_leaf, -1)))
