"""Wolpertinger: an actor names a point among the items, a critic chooses among the items nearest to it.

Dulac-Arnold et al., "Deep Reinforcement Learning in Large Discrete Action Spaces", 2015 (arXiv 1512.07679), trained by
DDPG (Lillicrap et al. 2016, arXiv 1509.02971):

    â = f(s),   g_k(â) = the k items nearest to â,   π(s) = argmax_{a ∈ g_k(â)} Q(s, a)             (eq. 5–7)
    Q(s, a) ← r + γ Q'(s', π'(s'))                           the whole of π' in it: neighbours and argmax
    f: up the gradient of Q(s, f(s)), at the proto-action    Q', f': follow softly, θ' ← τ θ + (1 − τ) θ'

The critic has two towers, Q(s, a) = ⟨f_Q(s), g(a)⟩ + b(a) + c(s), so that k = 100 % is one matrix product, without
a search. Items and proto-actions lie on the unit sphere, where the nearest are those of the largest inner product.

Variants: twin critics and noise on the target's proto-action (TD3, Fujimoto et al. 2018); a regularised form, L2 and
[Q(s, â) − Q(s, NN(â))]², which ties the critic between the items to what it says of the nearest item.

Deviations: the actor is bounded to the sphere (without a bound it runs off to where no item is); the state's encoder
learns from the critic alone; served through Boltzmann over the k values, so that the propensity is exact.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.item_vectors.catalog import catalog_vectors
from slatewise.log import FIRST_ITEM, Catalog
from slatewise.methods.wolpertinger.proto_action import (
    neighbour_gap,
    on_sphere,
    perturbed,
    td_target,
    td_target_without_draw,
)
from slatewise.methods.wolpertinger.proto_networks import FEW, Keys, ProtoNetworks
from slatewise.methods.wolpertinger.session_ends import SessionEnds
from slatewise.methods.wolpertinger.two_towers import TwoTowers
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.item_table import RowWiseAdagrad, item_tables
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops import sampling
from slatewise.ops.returns import threshold
from slatewise.ops.shown_rows import shown_rows
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Retriever, StateEncoder
from slatewise.retrieval import approximate
from slatewise.retrieval.exact import Exact
from slatewise.types import Exploration, SlateRequest, Trajectories

DEFAULT_ENCODER = "gru"
SMOOTHING_LIMIT = 2.0
"""Target smoothing cuts its noise at this many standard deviations (TD3: .5 / .2)."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of actor, critic and search."""

    neighbours: int | None = None
    """k; None = `neighbour_share` of the catalog. k = all items needs no search."""
    neighbour_share: float = 0.1
    """k / N, rounded up; the source's rule is to stay above 10 %."""
    embedding: Literal["learned", "catalog"] = "learned"
    """Vectors of the items: learned with the critic, or the catalog's features as they are (pretrained)."""
    item_width: int = 32
    """E of learned vectors."""
    retrieval: Literal["exact", "approximate"] = "exact"
    flat_below: int = 200_000
    """Approximate search compares every item up to this many, in 16 bits, and reads lists above."""
    probes: int = 32
    """Lists that approximate search reads."""
    refit_every: int = 100
    """Updates after which the index sees where learned vectors have moved."""
    critic_width: int = 32
    """Width of both towers' ends."""
    state_hidden: tuple[int, ...] = (64,)
    """Hidden widths of f_Q."""
    item_hidden: tuple[int, ...] = ()
    """Hidden widths of g; none = linear in the item's vector."""
    actor_hidden: tuple[int, ...] = (64,)
    item_bias: bool = True
    """b(a) has a number of each item's own beside what its vector says."""
    link: Literal["identity", "logistic"] = "identity"
    """What the product becomes: itself, or span · σ(product), for rewards that come or do not."""
    item_span: bool = False
    """With the logistic link: every item has a span of its own, because items that are taken alike may lead to places
    that are not worth the same."""
    initial_value: float = 0.0
    """Q before anything was learned, about."""
    value_unit: float = 1.0
    """The critic gives Q in this unit of reward."""
    gamma: float = 0.9
    """Discount per step of the session."""
    reward_at_least: float | None = None
    """Reward is 1 where the log's reward is at least this, else 0; None takes it as logged."""
    critic_loss: Literal["squared", "by_pick"] = "squared"
    """Of Q; or, with the logistic link, of what Q is made of: E[y | picked], E[y | not picked], and by log-loss the
    chance to be picked. Whether an item was picked then does not blur what picking it is worth."""
    ends: Literal["drawn", "expected"] = "drawn"
    """Whether a session went on is a coin that moves the target by all that follows. "expected" takes the share of ends
    among steps with the same outcome (something picked or nothing) in its place, and learns from the steps that went
    on: right where an end depends on nothing but the outcome."""
    target_rate: float = 0.01
    """τ."""
    serve: Literal["current", "target"] = "current"
    """Which networks serve: those that learn (DDPG), or those that follow, which are an average over about 1/τ updates
    and so free of most of the noise of single steps."""
    twin: bool = False
    """Two critics; the target is the smaller of their values."""
    smoothing: float = 0.0
    """Size of the noise on the target's proto-action; of the order of an angle."""
    actor_every: int = 1
    """Updates of the critic to one of the actor (TD3: 2)."""
    critic_l2: float = 0.0
    """Weight decay of the critic (L2 in the gradient)."""
    neighbour_penalty: float = 0.0
    """Factor of [Q(s, â) − Q(s, NN(â))]² in the critic's loss."""
    table_lr: float | None = None
    """Rate of row-wise Adagrad on the numbers that each item has of its own in the critics; None = Adam, as for all
    else, which moves a row that is rarely read as far as its rate goes, however small the error."""
    lr: float = 1e-3
    actor_lr: float = 1e-3
    clip_norm: float = 10.0
    """Upper limit of the gradient's norm."""

    def __post_init__(self) -> None:
        if self.neighbours is not None and self.neighbours < 1:
            raise ValueError(f"neighbours is {self.neighbours}; expected at least 1")
        if not 0 < self.neighbour_share <= 1:
            raise ValueError(f"neighbour_share is {self.neighbour_share}; expected a share in (0, 1]")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate is {self.target_rate}; expected a share in (0, 1]")
        if self.link != "logistic" and (self.item_span or self.critic_loss == "by_pick"):
            raise ValueError('item_span and critic_loss = "by_pick" need link = "logistic"')
        if not self.value_unit > 0:
            raise ValueError(f"value_unit is {self.value_unit}; expected a number above 0")
        for name in ("smoothing", "critic_l2", "neighbour_penalty"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("item_width", "critic_width", "probes", "refit_every", "actor_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.critic_width < 2:
            raise ValueError(f"critic_width is {self.critic_width}; expected at least 2: a product and a bias")
        if min((*self.state_hidden, *self.item_hidden, *self.actor_hidden), default=1) < 1:
            raise ValueError("hidden widths must be at least 1")


class Policy(RankedPolicy):
    """The critic's order of the k items nearest to the proto-action; nothing else is ever shown."""

    positions: Tensor

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        super().__init__(encoder, catalog.num_rows)
        self.config = config
        self.networks = _networks(config, encoder.width, catalog, generator)
        count = config.neighbours or math.ceil(config.neighbour_share * catalog.num_items)
        if count > catalog.num_items:
            raise ValueError(
                f"neighbours is {count}, the catalog has {catalog.num_items} items; choose 1 to {catalog.num_items}"
            )
        self.count = count
        """k."""
        # where the search believes the items are: part of the policy, because slates depend on it
        positions = on_sphere(self.networks.vectors().detach()[FIRST_ITEM:])
        self.register_buffer("positions", positions.clone(), persistent=config.embedding == "learned")
        self._keys: Keys | None = None

    @property
    def searches(self) -> bool:
        """False where k is the whole catalog."""
        return self.count < self.num_rows - FIRST_ITEM

    def vectors(self) -> Float[Tensor, "N E"]:
        """Where the items are on the sphere."""
        return self.positions

    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The proto-action."""
        return self.networks.proto(state)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Q of the first critic."""
        critic, keys = self.networks.critic(), self._all_keys().product
        query, level = critic.queries(state)
        if items is None:
            return critic.values(query @ keys.T, level, torch.arange(self.num_rows))
        if items.shape[1] * FEW <= self.num_rows:
            product = (keys[items] @ query.unsqueeze(2)).squeeze(2)
        else:
            product = (query @ keys.T).gather(1, items)
        return critic.values(product, level, items)

    def best(
        self, state: Float[Tensor, "B D"], proto: Float[Tensor, "B E"], networks: ProtoNetworks
    ) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """Largest Q among the k items nearest to proto-actions, and its item, by some networks."""
        keys = self._all_keys() if networks is self.networks else None
        if self.searches and not (self.config.retrieval == "exact" and isinstance(self.retriever, Exact | None)):
            return networks.best_of(state, self.nearest(proto, self.count)[0], keys)
        # to know the k nearest, their order is not needed: a tenth of the time of an exact search
        return networks.best_near(state, proto, self.positions, self.count, keys)

    def nearest(self, proto: Float[Tensor, "B E"], count: int) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Items nearest to proto-actions, nearest first, and the cosines; item 0 where a search found less."""
        if self.retriever is None:
            self.retrieve_with(_retriever(self.config))
        assert self.retriever is not None
        return self.retriever.search(proto.detach(), count)

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log-probability of each item in one draw by softmax of Q over the k nearest; −inf for all others."""
        if not self.searches:
            return super().log_pi(state, items)
        values, near = self.shortlist(state, SlateRequest(k=1, exploration=Exploration(top_m=self.count)))
        every = values.new_full((len(state), self.num_rows), sampling.NEG_INF)
        every.scatter_(1, near, torch.log_softmax(values, dim=1))
        return every.gather(1, items).masked_fill(items < FIRST_ITEM, sampling.NEG_INF)

    def shortlist(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Q (falling) and item numbers of the nearest items that may be shown; −inf where nothing is left.

        The k nearest are looked for among what may be shown; a slate longer than k looks for as many as it has places.
        """
        k, candidates, exclude, exploration = request.k, request.candidates, request.exclude, request.exploration
        if k == 1 and candidates is None and exclude is None and exploration is None:
            values, items = self.best(state, self.query(state), self.networks)
            return sampling.shortlist(values, 1, None)[0], items
        count = max(self.count, k)
        if count >= self.num_rows - FIRST_ITEM:
            return self._whole(state, request)
        proto = self.query(state)
        if candidates is None:
            wanted = count + (0 if exclude is None else exclude.shape[1])
            near, closeness = self.nearest(proto, min(wanted, self.num_rows - FIRST_ITEM))
        else:
            near = candidates
            places = self.positions[(candidates - FIRST_ITEM).clamp(min=0)]
            closeness = torch.einsum("be,bae->ba", proto, places)
        if candidates is None and exclude is None:
            # a search finds no item twice; where it finds less than k, that stands at the end
            scores = self.scores(state, near)
            if bool((near[:, -1] < FIRST_ITEM).any()):
                scores = scores.masked_fill(near < FIRST_ITEM, sampling.NEG_INF)
            values, columns = sampling.shortlist(scores, k, exploration)
            return values, near.gather(1, columns)
        free = sampling.available(near, exclude, first=FIRST_ITEM)
        if near.shape[1] > count:
            closeness, columns = torch.topk(closeness.masked_fill(~free, sampling.NEG_INF), count, dim=1)
            near, free = near.gather(1, columns), closeness > sampling.NEG_INF
        scores = self.scores(state, near).masked_fill(~free, sampling.NEG_INF)
        values, columns = sampling.shortlist(scores, k, exploration)
        return values, near.gather(1, columns)

    def _whole(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Every item is a neighbour: no search."""
        k, candidates, exclude, exploration = request.k, request.candidates, request.exclude, request.exploration
        if candidates is None:
            candidates = torch.arange(FIRST_ITEM, self.num_rows).expand(len(state), -1)
            scores = self.scores(state, None)[:, FIRST_ITEM:]
            if exclude is not None:
                padded = nn.functional.pad(scores, (FIRST_ITEM, 0))
                scores = padded.scatter_(1, exclude, sampling.NEG_INF)[:, FIRST_ITEM:]
        else:
            free = sampling.available(candidates, exclude, first=FIRST_ITEM)
            scores = self.scores(state, candidates).masked_fill(~free, sampling.NEG_INF)
        values, columns = sampling.shortlist(scores, k, exploration)
        return values, candidates.gather(1, columns)

    def moved(self) -> None:
        """Learned vectors have moved: let the search know where to."""
        self.positions.copy_(on_sphere(self.networks.vectors().detach()[FIRST_ITEM:]))
        self.retriever = None

    def train(self, mode: bool = True) -> Policy:
        """Whoever trains the weights makes what was computed from them worthless."""
        self._keys = None
        super().train(mode)
        return self

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Weights, and where the items were for the search."""
        loaded = super().load_state_dict(state, strict=strict, assign=assign)
        self._keys, self.retriever = None, None
        return loaded

    def _all_keys(self) -> Keys:
        """Of every row; kept between decisions."""
        if self._keys is not None and not torch.is_grad_enabled():
            return self._keys
        keys = self.networks.keys()
        if not self.training and not torch.is_grad_enabled():
            self._keys = keys
        return keys


class Learner:
    """DDPG: squared TD errors of the critics, the critic's value at the proto-action for the actor."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        other = copy.deepcopy(self.policy.networks)
        learns_here = config.serve == "current"
        self.networks, self.target = (self.policy.networks, other) if learns_here else (other, self.policy.networks)
        self.target.requires_grad_(False)
        self.other = other
        """Those that do not serve."""
        actor = list(self.networks.actor_net.parameters())
        encoder_weights = list(encoder.parameters()) if isinstance(encoder, nn.Module) else []
        others = [*encoder_weights, *self.networks.critics.parameters()]
        if self.networks.table is not None:
            others += self.networks.table.parameters()
        self.rows: RowWiseAdagrad | None = None
        if config.table_lr is not None:
            self.rows = RowWiseAdagrad(item_tables(self.networks.critics), learning_rate=config.table_lr)
            others = [weight for weight in others if weight.requires_grad]
        self.parameters = others + actor
        self.optimiser = torch.optim.Adam(
            [{"params": others, "weight_decay": config.critic_l2}, {"params": actor, "lr": config.actor_lr}],
            lr=config.lr,
            fused=True,
        )
        self.generator = generator
        self.updates = 0
        self.ends = SessionEnds()
        let_dropout_draw(encoder, generator)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; every shown item is an action, with what it earned.

        loss = mean squared TD error in value_unit² (of all critics), actor_loss = −mean Q(s, f(s)) in value_unit.

        Raises:
            FloatingPointError: a loss that is not finite; no weight has been touched.
        """
        config, policy, networks = self.config, self.policy, self.networks
        # where the record breaks off, the next state is not known
        rows = shown_rows(trajectories.slate, trajectories.learn & ~trajectories.truncated)
        if not len(rows):
            return {"loss": 0.0, "actor_loss": 0.0}
        policy.train()
        user, t, position = rows.unbind(dim=1)
        states = policy.encoder(trajectories)
        state, after = states[user, t], states[user, t + 1].detach()
        item = trajectories.slate[user, t, position]
        reward = threshold(trajectories.reward, config.reward_at_least)[user, t, position]
        picked, ended = trajectories.choice[user, t] == position, trajectories.terminated[user, t]
        following, counts = self._next_value(after), torch.ones_like(reward)
        if config.ends == "drawn":
            y = td_target(reward, following, ended, config.gamma)
        else:
            chance = self.ends.chance(trajectories.choice[user, t] >= 0, ended)
            y, counts = td_target_without_draw(reward, following, ended, chance, config.gamma)

        vectors, unit = networks.vectors(), config.value_unit
        losses = []
        for number in range(1 + config.twin):
            critic = networks.critic(number)
            if config.critic_loss == "by_pick":
                # E[y] = P(picked) E[y | picked] + P(not) E[y | not]: each part learns from its own steps
                logit, if_picked, if_not = critic.by_pick(state, vectors[item], item)
                error = torch.where(picked, if_picked, if_not) - y
                losses.append(nn.functional.binary_cross_entropy_with_logits(logit, picked.float()))
            else:
                error = critic.each(state, vectors[item], item) - y
            losses.append((counts * (error / unit).square()).mean())
        critic_loss = torch.stack(losses).sum()
        figures = {"loss": float(critic_loss.detach())}
        loss, here = critic_loss, state.detach()
        proto = networks.proto(here)
        if config.neighbour_penalty:
            gap = self._gap(here, proto.detach())
            figures["neighbour_gap"] = float(gap.detach())
            loss = loss + config.neighbour_penalty * gap
        # for the actor the critic stands still
        still = [weight.requires_grad_(False) for weight in networks.critic().parameters() if weight.requires_grad]
        actor_loss = -networks.critic().each(here, proto, None).mean() / unit
        for weight in still:
            weight.requires_grad_(True)
        figures["actor_loss"] = float(actor_loss.detach())
        if self.updates % config.actor_every == 0:
            loss = loss + actor_loss
        descend(loss, self.parameters, self.optimiser, config.clip_norm)
        if self.rows is not None:
            self.rows.step()

        self.updates += 1
        with torch.no_grad():
            for slow, fast in zip(self.target.parameters(), networks.parameters(), strict=True):
                slow.lerp_(fast, config.target_rate)
        if config.embedding == "learned" and self.updates % config.refit_every == 0:
            policy.moved()
        policy.eval()
        return figures

    @torch.no_grad()
    def _next_value(self, after: Float[Tensor, "P D"]) -> Float[Tensor, " P"]:
        """Q'(s', π'(s')), of twins the smaller one, at the item that the first chooses."""
        policy, target = self.policy, self.target
        proto = target.proto(after)
        if self.config.smoothing:
            proto = perturbed(proto, std=self.config.smoothing, limit=SMOOTHING_LIMIT, generator=self.generator)
        best, item = policy.best(after, proto, target)
        if self.config.twin:
            best = torch.minimum(best, target.values(after, item, number=1))
        return best.squeeze(1)

    def _gap(self, state: Float[Tensor, "P D"], proto: Float[Tensor, "P E"]) -> Float[Tensor, ""]:
        """The regulariser: the critic at the proto-action beside the critic at the nearest item, in value_unit²."""
        policy = self.policy
        if self.config.retrieval == "exact":
            nearest = (proto @ policy.positions.T).argmax(dim=1) + FIRST_ITEM
        else:
            nearest = policy.nearest(proto, 1)[0].squeeze(1)
        critic = self.networks.critic()
        at_nearest = critic.each(state, self.networks.vectors()[nearest], nearest)
        unit = self.config.value_unit
        return neighbour_gap(critic.each(state, proto, None) / unit, at_nearest / unit)

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, the networks that do not serve, moments, the count of updates and the generator."""
        other = {f"other.{name}": value.detach() for name, value in self.other.state_dict().items()}
        rows = {} if self.rows is None else {f"rows.{name}": sums for name, sums in self.rows.state_dict().items()}
        flat = flat_state(self.policy, self.optimiser, self.generator)
        return flat | other | {"updates": torch.tensor(self.updates), "ends": self.ends.counts} | rows

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
        self.other.load_state_dict(under("other.", state))
        self.updates = int(state["updates"])
        self.ends.counts = state["ends"].clone()
        if self.rows is not None:
            self.rows.load_state_dict(under("rows.", state))


def _networks(config: Config, state_width: int, catalog: Catalog, generator: Generator | None) -> ProtoNetworks:
    features = catalog_vectors(catalog) if config.embedding == "catalog" else None
    width = config.item_width if features is None else features.shape[1]
    critics = [
        TwoTowers(
            state_width,
            width,
            catalog.num_rows,
            width=config.critic_width,
            state_hidden=config.state_hidden,
            item_hidden=config.item_hidden,
            item_bias=config.item_bias,
            logistic=config.link == "logistic",
            item_span=config.item_span,
            unit=config.value_unit,
            level=config.initial_value,
            generator=generator,
        )
        for _ in range(1 + config.twin)
    ]
    return ProtoNetworks(
        state_width,
        features=features,
        num_rows=catalog.num_rows,
        item_width=width,
        actor_hidden=config.actor_hidden,
        critics=critics,
        generator=generator,
    )


def _retriever(config: Config) -> Retriever:
    if config.retrieval == "exact":
        return Exact()
    return approximate.Approximate(approximate.Config(flat_below=config.flat_below, probes=config.probes))
