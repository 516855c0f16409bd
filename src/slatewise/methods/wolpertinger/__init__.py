"""Wolpertinger: an actor names a point among the items, a critic chooses among the items nearest to it.

Dulac-Arnold et al., "Deep Reinforcement Learning in Large Discrete Action Spaces", 2015 (arXiv 1512.07679), trained by
DDPG (Lillicrap et al. 2016, arXiv 1509.02971):

    â = f(s),   g_k(â) = the k items nearest to â,   π(s) = argmax_{a ∈ g_k(â)} Q(s, a)             (eq. 5–7)
    Q(s, a) ← r + γ Q'(s', π'(s'))                           the whole of π' in it: neighbours and argmax
    f: up the gradient of Q(s, f(s)), at the proto-action    Q', f': θ' ← τ θ + (1 − τ) θ'

The critic has two towers, Q(s, a) = ⟨f_Q(s), g(a)⟩ + b(a) + c(s), so that k = 100 % is one matrix product, without
a search. Items and proto-actions lie on the unit sphere, where the nearest are those of the largest inner product.

Variants: twin critics and noise on the target's proto-action (`td3`, Fujimoto et al. 2018); a regularised form,
`critic.l2` and `neighbour_penalty` · [Q(s, â) − Q(s, NN(â))]², which ties the critic between the items to its value of
the nearest item; a critic that learns by outcome (`critic.loss`); ends integrated out of the target (`session_ends`).

Deviations: the actor is bounded to the sphere (without a bound it runs off to where no item is); the state's encoder
learns from the critic alone; served through Boltzmann over the k values, so that the propensity is exact.

Unknown users: the slate of the state without history, which the first step of every user in the log trains.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, Catalog
from slatewise.methods.wolpertinger.candidates import NearestItemsPolicy, SearchConfig
from slatewise.methods.wolpertinger.proto_action import neighbour_gap, perturb, td_target, td_target_without_draw
from slatewise.methods.wolpertinger.proto_networks import ActorConfig, ProtoNetworks
from slatewise.methods.wolpertinger.session_ends import SessionEnds
from slatewise.methods.wolpertinger.two_towers import TwoTowerConfig
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.item_table import RowWiseAdagrad, item_tables
from slatewise.nn.soft_update import soft_update
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops.returns import threshold
from slatewise.ops.shown_rows import shown_rows
from slatewise.protocols import StateEncoder
from slatewise.schedules import Schedule, value_at
from slatewise.types import Trajectories

__all__ = [
    "DEFAULT_ENCODER",
    "ActorConfig",
    "Config",
    "Learner",
    "Policy",
    "SearchConfig",
    "TD3Config",
    "TwoTowerConfig",
]
DEFAULT_ENCODER = "gru"
SMOOTHING_LIMIT = 2.0
"""Target smoothing cuts its noise at this many standard deviations (TD3: .5 / .2)."""


@dataclass(frozen=True, kw_only=True)
class TD3Config:
    """What TD3 adds to DDPG."""

    twin: bool = True
    """Two critics; the target is the smaller of their values."""
    smoothing: float = 0.2
    """Size of the noise on the target's proto-action; of the order of an angle."""
    actor_every: int = 2
    """Updates of the critic to one of the actor."""

    def __post_init__(self) -> None:
        if not self.smoothing >= 0:
            raise ValueError(f"smoothing is {self.smoothing}; expected 0 or more")
        if self.actor_every < 1:
            raise ValueError(f"actor_every is {self.actor_every}; expected at least 1")


DDPG = TD3Config(twin=False, smoothing=0.0, actor_every=1)
"""Without any of it."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of actor, critic and search."""

    neighbours: int | None = None
    """k; None = `neighbour_share` of the catalog. k = all items needs no search."""
    neighbour_share: float = 0.1
    """k / N, rounded up; the source's rule is to stay above 10 %."""
    gamma: float = 0.9
    """Discount per step of the session."""
    target_rate: float = 0.01
    """τ."""
    embedding: Literal["learned", "catalog"] = "learned"
    """Vectors of the items: learned with the critic, or the catalog's features as they are (pretrained)."""
    item_width: int = 32
    """E of learned vectors."""
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: TwoTowerConfig = field(default_factory=TwoTowerConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    lr: float | Schedule = 1e-3
    """Learning rate of the critic, the state's encoder and the items' vectors."""
    clip_norm: float = 10.0
    """Upper limit of the gradient's norm."""
    reward_at_least: float | None = None
    """Reward is 1 where the log's reward is at least this, else 0; None takes it as logged."""
    td3: TD3Config | None = None
    """None = DDPG, as in the paper."""
    neighbour_penalty: float = 0.0
    """Factor of [Q(s, â) − Q(s, NN(â))]² in the critic's loss."""
    session_ends: Literal["drawn", "expected"] = "drawn"
    """Whether a session went on is a Bernoulli draw, which adds variance to the target. "expected" takes the share of
    ends among steps with the same outcome (something chosen or nothing) in its place, and learns from the steps that
    went on: right where an end depends on nothing but the outcome."""
    serve: Literal["current", "target"] = "current"
    """Which networks serve: those that learn (DDPG), or the target networks, which are an average over about 1/τ
    updates and so free of most of the noise of single steps."""

    def __post_init__(self) -> None:
        if self.neighbours is not None and self.neighbours < 1:
            raise ValueError(f"neighbours is {self.neighbours}; expected at least 1")
        if not 0 < self.neighbour_share <= 1:
            raise ValueError(f"neighbour_share is {self.neighbour_share}; expected a share in (0, 1]")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate is {self.target_rate}; expected a share in (0, 1]")
        if self.item_width < 1:
            raise ValueError(f"item_width is {self.item_width}; expected at least 1")
        if not self.neighbour_penalty >= 0:
            raise ValueError(f"neighbour_penalty is {self.neighbour_penalty}; expected 0 or more")


class Policy(NearestItemsPolicy):
    """π(s) = argmax_{a ∈ g_k(f(s))} Q(s, a)."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        if not catalog.num_items:
            raise ValueError("the catalog is empty: a policy needs at least one item")
        networks = ProtoNetworks(
            encoder.width,
            catalog,
            embedding=config.embedding,
            item_width=config.item_width,
            actor=config.actor,
            critic=config.critic,
            num_critics=1 + (config.td3 or DDPG).twin,
            generator=generator,
        )
        count = config.neighbours or math.ceil(config.neighbour_share * catalog.num_items)
        if count > catalog.num_items:
            raise ValueError(
                f"neighbours is {count}, the catalog has {catalog.num_items} items; choose 1 to {catalog.num_items}"
            )
        vectors_move = config.embedding == "learned"
        super().__init__(encoder, networks, count=count, search=config.search, vectors_move=vectors_move)


class Transitions(NamedTuple):
    """Every shown item of a batch as an action, with what followed."""

    state: Float[Tensor, "P D"]
    next_state: Float[Tensor, "P D"]
    item: Int[Tensor, " P"]
    reward: Float[Tensor, " P"]
    chosen: Bool[Tensor, " P"]
    """The user used this item; of a slate, several may be."""
    any_chosen: Bool[Tensor, " P"]
    """The user used an item of the slate."""
    terminated: Bool[Tensor, " P"]


class Learner:
    """DDPG: squared TD errors of the critics, the critic's value at the proto-action for the actor."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.td3 = config.td3 or DDPG
        self.policy = Policy(config, encoder, catalog, generator=generator)
        self.idle_networks = copy.deepcopy(self.policy.networks)
        """Those that do not serve."""
        self.networks, self.target = self.policy.networks, self.idle_networks
        if config.serve == "target":
            self.networks, self.target = self.target, self.networks
        self.target.requires_grad_(False)
        actor_weights = list(self.networks.actor.parameters())
        critic_weights = list(encoder.parameters()) if isinstance(encoder, nn.Module) else []
        critic_weights += self.networks.critics.parameters()
        if self.networks.table is not None:
            critic_weights += self.networks.table.parameters()
        self.item_rows: RowWiseAdagrad | None = None
        if config.critic.item_lr is not None:
            self.item_rows = RowWiseAdagrad(item_tables(self.networks.critics), learning_rate=config.critic.item_lr)
            critic_weights = [weight for weight in critic_weights if weight.requires_grad]
        self.parameters = critic_weights + actor_weights
        self.optimiser = torch.optim.Adam(
            [
                {"params": critic_weights, "weight_decay": config.critic.l2},
                {"params": actor_weights, "lr": value_at(config.actor.lr, 0)},
            ],
            lr=value_at(config.lr, 0),
            fused=True,
        )
        self.generator = generator
        self.updates = 0
        self.ends = SessionEnds()
        for part in (encoder, self.networks):
            let_dropout_draw(part, generator)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; every shown item is an action, with what it earned.

        loss = mean squared TD error in value_unit² (of all critics), actor_loss = −mean Q(s, f(s)) in value_unit.

        Raises:
            FloatingPointError: a loss that is not finite; no weight has been touched.
        """
        # where the record breaks off, the next state is not known
        rows = shown_rows(trajectories.slate, trajectories.learn & ~trajectories.truncated)
        if not len(rows):
            return {"loss": 0.0, "actor_loss": 0.0}
        self.policy.train()
        batch = self._transitions(trajectories, rows)
        y, weight = self._critic_target(batch)
        critic_loss = loss = self._critic_loss(batch, y, weight)
        figures = {"loss": float(critic_loss.detach())}

        state = batch.state.detach()  # the encoder learns from the critic alone
        proto = self.networks.proto(state)
        if self.config.neighbour_penalty:
            gap = self._neighbour_gap(state, proto.detach())
            figures["neighbour_gap"] = float(gap.detach())
            loss = loss + self.config.neighbour_penalty * gap
        actor_loss = self._actor_loss(state, proto)
        figures["actor_loss"] = float(actor_loss.detach())
        if self.updates % self.td3.actor_every == 0:
            loss = loss + actor_loss

        for group, lr in zip(self.optimiser.param_groups, (self.config.lr, self.config.actor.lr), strict=True):
            group["lr"] = value_at(lr, self.updates)
        descend(loss, self.parameters, self.optimiser, self.config.clip_norm)
        if self.item_rows is not None:
            self.item_rows.step()
        self.updates += 1
        self.policy.eval()
        self._move_targets()
        return figures

    def _transitions(self, trajectories: Trajectories, rows: Int[Tensor, "P 3"]) -> Transitions:
        """(s, a, r, s') of the shown items at these users, steps and positions."""
        user, t, position = rows.unbind(dim=1)
        states = self.policy.encoder(trajectories)
        return Transitions(
            state=states[user, t],
            next_state=states[user, t + 1].detach(),
            item=trajectories.slate[user, t, position],
            reward=threshold(trajectories.reward, self.config.reward_at_least)[user, t, position],
            chosen=trajectories.used[user, t, position],
            any_chosen=trajectories.used[user, t].any(dim=1),
            terminated=trajectories.terminated[user, t],
        )

    def _critic_target(self, batch: Transitions) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
        """The target y = r + γ Q'(s', π'(s')), and the weight of its error."""
        next_value = self._next_value(batch.next_state)
        if self.config.session_ends == "drawn":
            y = td_target(batch.reward, next_value, batch.terminated, self.config.gamma)
            return y, torch.ones_like(batch.reward)
        end_chance = self.ends.chance(batch.any_chosen, batch.terminated)
        return td_target_without_draw(batch.reward, next_value, batch.terminated, end_chance, self.config.gamma)

    @torch.no_grad()
    def _next_value(self, state: Float[Tensor, "P D"]) -> Float[Tensor, " P"]:
        """Q'(s', π'(s')), of twins the smaller one, at the item that the first chooses."""
        proto = self.target.proto(state)
        if self.td3.smoothing:
            proto = perturb(proto, std=self.td3.smoothing, limit=SMOOTHING_LIMIT, generator=self.generator)
        value, item = self.policy.best(state, proto, self.target)
        if self.td3.twin:
            value = torch.minimum(value, self.target.values(state, item, number=1))
        return value.squeeze(1)

    def _critic_loss(
        self, batch: Transitions, y: Float[Tensor, " P"], weight: Float[Tensor, " P"]
    ) -> Float[Tensor, ""]:
        """Mean of weight · (Q(s, a) − y)², summed over the critics; by outcome, with the log-loss of the choice."""
        vectors, unit = self.networks.vectors(), self.config.critic.value_unit
        losses = []
        for number in range(1 + self.td3.twin):
            critic = self.networks.critic(number)
            if self.config.critic.loss == "by_outcome":
                # E[y] = P(chosen) E[y | chosen] + P(not) E[y | not]: each part learns from its own steps
                logit, if_chosen, if_not = critic.by_outcome(batch.state, vectors[batch.item], batch.item)
                error = torch.where(batch.chosen, if_chosen, if_not) - y
                losses.append(nn.functional.binary_cross_entropy_with_logits(logit, batch.chosen.float()))
            else:
                error = critic.action_values(batch.state, vectors[batch.item], batch.item) - y
            losses.append((weight * (error / unit).square()).mean())
        return torch.stack(losses).sum()

    def _neighbour_gap(self, state: Float[Tensor, "P D"], proto: Float[Tensor, "P E"]) -> Float[Tensor, ""]:
        """The regulariser: the critic at the proto-action beside the critic at the nearest item, in value_unit²."""
        if self.config.search.index == "exact":
            nearest = (proto @ self.policy.positions.T).argmax(dim=1) + FIRST_ITEM
        else:
            nearest = self.policy.nearest(proto, 1)[0].squeeze(1)
        critic, unit = self.networks.critic(), self.config.critic.value_unit
        at_nearest = critic.action_values(state, self.networks.vectors()[nearest], nearest)
        return neighbour_gap(critic.action_values(state, proto, None) / unit, at_nearest / unit)

    def _actor_loss(self, state: Float[Tensor, "P D"], proto: Float[Tensor, "P E"]) -> Float[Tensor, ""]:
        """−mean Q(s, f(s)); the critic does not move for it."""
        critic = self.networks.critic()
        fixed = [weight.requires_grad_(False) for weight in critic.parameters() if weight.requires_grad]
        loss = -critic.action_values(state, proto, None).mean() / self.config.critic.value_unit
        for weight in fixed:
            weight.requires_grad_(True)
        return loss

    @torch.no_grad()
    def _move_targets(self) -> None:
        """θ' ← τ θ + (1 − τ) θ'; and, when it is due, the index follows learned vectors."""
        soft_update(self.target.parameters(), self.networks.parameters(), self.config.target_rate)
        if self.config.embedding == "learned" and self.updates % self.config.search.refit_every == 0:
            self.policy.refresh_positions()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, the networks that do not serve, moments, the count of updates and the generator."""
        idle = {f"idle.{name}": value.detach() for name, value in self.idle_networks.state_dict().items()}
        rows = {} if self.item_rows is None else self.item_rows.state_dict()
        flat = flat_state(self.policy, self.optimiser, self.generator)
        flat |= idle | {"updates": torch.tensor(self.updates), "ends": self.ends.counts}
        return flat | {f"rows.{name}": sums for name, sums in rows.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
        self.idle_networks.load_state_dict(under("idle.", state))
        self.updates = int(state["updates"])
        self.ends.counts = state["ends"].clone()
        if self.item_rows is not None:
            self.item_rows.load_state_dict(under("rows.", state))
