"""SlateQ: the value of a slate from the values of its items.

Ie et al., "SlateQ: A Tractable Decomposition for Reinforcement Learning with Recommendation Sets", IJCAI 2019
(arXiv 1905.12767). A user picks at most one item of a slate A, and only what he picks matters afterwards, so

    Q(s, A) = Σ_{i ∈ A ∪ {⊥}} P(i|s, A) Q̄(s, i),   P(i|s, A) = v(s, i) / (v(s, ⊥) + Σ_{j∈A} v(s, j))     (eq. 11)
    Q̄(s, i) ← r + γ max_{A'} Σ_j P(j|s', A') Q̄(s', j)                                                    (eq. 14, 19)

with ⊥ = nothing picked. Names as in the paper's tables: MYOP (γ = 0), SARSA (A' = the next slate of the log), QL with
the maximum by top-K (TT), greedy (GT) or optimal (OT) slates; served by top-K (TS), greedy (GS) or optimal (OS).

Deviations: ⊥ has a long-term value of its own, learned like an item's (`null_value = "zero"` is the paper's);
TS sorts by v (Q̄ − Q̄_⊥), which is the paper's v Q̄ where Q̄_⊥ = 0; double Q-learning (van Hasselt et al. 2016); the
target network follows softly; a log may say that several items of a slate were used (`choice.several_uses`).

Unknown users: the slate of the state without history, which the first step of every user in the log trains.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.nn.choice import ChoiceHead, ItemReader, Reads, network
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.soft_update import soft_update
from slatewise.nn.state_dict import flat_state, restore_state, under
from slatewise.ops import sampling
from slatewise.ops.choices import SeveralUses, check_several_uses, choice_rows, several_uses_note
from slatewise.ops.slates import Optimiser, best_slates, slate_value
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.schedules import Schedule, value_at
from slatewise.types import SlateRequest, Trajectories

DEFAULT_ENCODER = "gru"
NEG_INF = float("-inf")
SEVERAL_USES = "method.choice.several_uses"


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """The weights v of the conditional choice model."""

    model: Literal["learned", "proportional", "mnl"] = "learned"
    """Learned from choices, or that of a known user model whose tastes the state begins with."""
    null_mass: float = 1.0
    """Affinity of choosing nothing in a known user model."""
    several_uses: SeveralUses = "largest"
    """A slate of which several items were used: refuse the log; take the item with the largest reward as the choice,
    and count its reward alone; or learn from each as a choice of its own, with its own reward."""

    def __post_init__(self) -> None:
        if self.model == "proportional" and not self.null_mass > -1:
            raise ValueError(f"null_mass is {self.null_mass}; expected more than −1, else all weights can be 0")


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Form and start of Q̄."""

    linear: bool = False
    """Add one linear term in what is read of the state as it is, shared by all items and ⊥: a price on time left."""
    initial_value: float = 0.0
    """Q̄ at the start; high values explore."""
    value_unit: float = 1.0
    """The networks give Q̄ in this unit of reward."""

    def __post_init__(self) -> None:
        if not self.value_unit > 0:
            raise ValueError(f"value_unit is {self.value_unit}; expected a number above 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the critic, the choice model and the slates."""

    training: Literal["myopic", "sarsa", "q"] = "q"
    """myopic: γ = 0; sarsa: the value of the logging policy; q: of the best one."""
    training_slates: Optimiser = "optimal"
    """How the best next slate is found: top_k (TT), greedy (GT), optimal (OT)."""
    serving_slates: Optimiser = "optimal"
    """How slates are served: top_k (TS), greedy (GS), optimal (OS)."""
    null_value: Literal["learned", "zero"] = "learned"
    """Q̄(s, ⊥); zero as in the paper's experiments."""
    gamma: float = 0.99
    """Discount per step of the session."""
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    """v."""
    critic: CriticConfig = field(default_factory=CriticConfig)
    reads: Reads = "whole"
    """What the networks about an item read of the state; see ItemReader."""
    item_width: int = 32
    """E, where the catalog has no features."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the critic's hidden layers; those of the choice model are the same."""
    double: bool = True
    """Next slates are chosen by the network that learns, valued by the one that follows it."""
    target_rate: float = 0.01
    """How far the target network goes towards the critic in one update; 1 = no target network."""
    target_candidates: int = 100
    """Where a log does not say what could be shown: items drawn at random as the next step's candidates."""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    """rmsprop is the paper's, centred."""
    lr: float | Schedule = 1e-3
    clip_norm: float = 10.0
    """Upper limit of the gradient's norm."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; expected a discount in [0, 1]")
        if not 0 < self.target_rate <= 1:
            raise ValueError(f"target_rate is {self.target_rate}; expected a share in (0, 1]")
        if self.target_candidates < 1 or self.item_width < 1 or any(width < 1 for width in self.hidden):
            raise ValueError("target_candidates, item_width and hidden widths must be at least 1")


class Critic(nn.Module):
    """Q̄(s, i) and Q̄(s, ⊥), two networks."""

    def __init__(self, config: Config, reader: ItemReader, *, generator: Generator | None) -> None:
        super().__init__()
        self.reader = reader
        self.unit = config.critic.value_unit
        # with a linear term that is where the first value stands: no time left, nothing to come
        price = config.critic.initial_value / config.critic.value_unit
        start = 0.0 if config.critic.linear else price
        self.item = network([reader.width, *config.hidden, 1], generator=generator, bias=start)
        learned = config.null_value == "learned"
        # where all of the state is taste, ⊥ has one value for everybody
        null_sizes = [reader.rest_width, *config.hidden, 1] if reader.rest_width else [1, 1]
        self.null = network(null_sizes, generator=generator, bias=start) if learned else None
        self.linear = nn.Parameter(torch.full((reader.rest_width,), price)) if config.critic.linear else None

    def values(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Q̄ of some items."""
        value: Tensor = self.item(self.reader(state, items)).squeeze(2)
        return self.unit * (value + self._price(state).unsqueeze(1))

    def null_value(self, state: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """Q̄ of picking nothing."""
        if self.null is None:
            return state.new_zeros(len(state))
        rest = self.reader.rest(state) if self.reader.rest_width else state.new_zeros(len(state), 1)
        value: Tensor = self.null(rest).squeeze(1)
        return self.unit * (value + self._price(state))

    def _price(self, state: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        return state.new_zeros(len(state)) if self.linear is None else self.reader.rest(state) @ self.linear


class Policy(RankedPolicy):
    """Slates by the critic and the choice model; exploration draws by softmax of v (Q̄ − μ), what an item adds."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        super().__init__(encoder, catalog.num_rows)
        self.serving: Optimiser = config.serving_slates
        reader = ItemReader(
            encoder.width, catalog, reads=config.reads, item_width=config.item_width, generator=generator
        )
        if config.choice.model != "learned" and not 0 < catalog.features.shape[1] <= encoder.width:
            raise ValueError(
                f'choice.model = "{config.choice.model}" needs a state that begins with tastes for the '
                f"{catalog.features.shape[1]} features of the items; the state has {encoder.width} numbers"
            )
        self.critic = Critic(config, reader, generator=generator)
        self.choice = ChoiceHead(
            reader,
            model=config.choice.model,
            null_mass=config.choice.null_mass,
            hidden=config.hidden,
            generator=generator,
        )

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Scores v (Q̄ − Q̄_⊥): what an item adds to picking nothing."""
        weight, value, _, null_value = self.problem(state, self._all(state) if items is None else items)
        return weight * (value - null_value.unsqueeze(1))

    def problem(
        self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B A"], Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Everything that slates are made of: v, Q̄, v_⊥, Q̄_⊥."""
        weight, null_weight = self.choice.weight(state, items), self.choice.null_weight(state)
        return weight, self.critic.values(state, items), null_weight, self.critic.null_value(state)

    def shortlist(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Scores v (Q̄ − μ) in falling order, μ = Q̄_⊥ (TS) or the value of the slate (GS, OS); −inf: nothing is left.

        The K best of OS's scores are the optimal slate. GS has an order of its own; its scores rank what exploration
        draws.
        """
        k, exploration = request.k, request.exploration
        items = self._all(state) if request.candidates is None else request.candidates
        free = sampling.available(items, request.exclude, first=FIRST_ITEM)
        if request.allowed is not None:
            free &= request.allowed[items]
        problem = weight, value, null_weight, null_value = self.problem(state, items)
        if bool(torch.isnan(value).any()) or bool(torch.isnan(weight).any()):
            raise ValueError("scores hold NaN: the policy's weights or its state are broken")
        mu = null_value
        if self.serving != "top_k":
            size = min(k, items.shape[1])
            columns = best_slates(*problem, size, optimiser=self.serving, free=free)
            if self.serving == "greedy" and exploration is None:
                # falling numbers that stand for an order
                order = torch.arange(size, 0, -1, device=state.device).to(value.dtype).expand(len(state), -1)
                return order.masked_fill(columns < 0, NEG_INF), items.gather(1, columns.clamp(min=0))
            mu = slate_value(weight, value, null_weight, null_value, columns)
        scores = (weight * (value - mu.unsqueeze(1))).masked_fill(~free, NEG_INF)
        values, columns = sampling.shortlist(scores, k, exploration)
        return values, items.gather(1, columns)

    def _all(self, state: Float[Tensor, "B D"]) -> Int[Tensor, "B A"]:
        return torch.arange(self.num_rows, device=state.device).expand(len(state), -1)


class Learner:
    """Temporal differences on the picked item's Q̄ (or ⊥'s), and the likelihood of picks for v if that is learned."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.config = config
        self.policy = Policy(config, encoder, catalog, generator=generator)
        self.target = copy.deepcopy(self.policy.critic).requires_grad_(False)
        self.parameters: list[nn.Parameter] = list(self.policy.parameters())
        lr = value_at(config.lr, 0)
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.Adam(self.parameters, lr=lr, fused=True)
            if config.optimiser == "adam"
            else torch.optim.RMSprop(self.parameters, lr=lr, alpha=0.95, eps=1e-5, centered=True)
        )
        self.generator = generator
        self.num_items = catalog.num_items
        self.num_several_uses = 0
        """Slates of the training part of which several items were used."""
        let_dropout_draw(self.policy, generator)

    def check_log(self, part: LogPart) -> None:
        """Count slates of which several items were used.

        Raises:
            ValueError: there are some, and `choice.several_uses` refuses them.
        """
        self.num_several_uses = part.num_several_uses()
        check_several_uses(self.num_several_uses, self.config.choice.several_uses, setting=SEVERAL_USES)

    def notes(self) -> tuple[str, ...]:
        """What was made of slates of which several items were used."""
        return several_uses_note(self.num_several_uses, self.config.choice.several_uses, setting=SEVERAL_USES)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; loss = mean squared TD error in value_unit², choice_loss = −mean log P(pick | slate).

        Raises:
            InputError: the log shows one item at a time, so there are no slates to learn from.
            FloatingPointError: a loss or value that is not finite.
        """
        if trajectories.slate.shape[2] == 1:
            raise input_error(
                "the log shows one item at a time; SlateQ learns from slates, of which at most one item is picked",
                advice="Use a method for single items (reinforce, cloning), or a log of impressions.",
            )
        rule = self.config.choice.several_uses
        rows = choice_rows(trajectories.used, trajectories.choice, self._learnable(trajectories), rule)
        if not len(rows):
            return {"loss": 0.0}
        policy, config = self.policy, self.config
        policy.train()
        user, t, choice = rows.unbind(dim=1)
        states = policy.encoder(trajectories)
        state = states[user, t]
        slate = trajectories.slate[user, t]
        picked = choice >= 0
        item = slate.gather(1, choice.clamp(min=0).unsqueeze(1))

        # r + γ max_{A'} Σ_j P(j|s', A') Q̄(s', j)
        other_uses = trajectories.used[user, t].scatter(1, choice.clamp(min=0).unsqueeze(1), False)
        target = trajectories.reward[user, t].masked_fill(other_uses, 0.0).sum(dim=1)
        if config.training != "myopic":
            goes_on = ~trajectories.terminated[user, t]
            target = target + config.gamma * goes_on * self._next_value(trajectories, states.detach(), rows)

        value = policy.critic.values(state, item).squeeze(1)
        if config.null_value == "learned":
            learns = torch.ones_like(picked)
            value = torch.where(picked, value, policy.critic.null_value(state))
        else:
            learns = picked
        error = ((value - target) / config.critic.value_unit)[learns]
        loss = error.square().mean() if len(error) else value.sum() * 0
        figures = {"loss": float(loss.detach())}
        if config.choice.model == "learned":
            shown = slate >= FIRST_ITEM
            choice_loss = -policy.choice.log_likelihood(state, slate, shown, choice).mean()
            figures["choice_loss"] = float(choice_loss.detach())
            loss = loss + choice_loss
        descend(loss, self.parameters, self.optimiser, config.clip_norm, lr=config.lr)
        soft_update(self.target.parameters(), policy.critic.parameters(), config.target_rate)
        policy.eval()
        return figures

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, target network, moments and the generator."""
        slow = {f"target.{name}": value.detach() for name, value in self.target.state_dict().items()}
        return flat_state(self.policy, self.optimiser, self.generator) | slow

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
        self.target.load_state_dict(under("target.", state))

    def _learnable(self, trajectories: Trajectories) -> Bool[Tensor, "B T"]:
        """Steps whose slate is known and, unless they end a session, whose target is."""
        steps = trajectories.learn & (trajectories.slate >= FIRST_ITEM).any(dim=2)
        if self.config.training == "myopic":
            return steps
        if self.config.training == "q":
            # where the record breaks off, the next state is not known
            return steps & ~trajectories.truncated
        followed = torch.zeros_like(trajectories.mask)
        followed[:, :-1] = trajectories.mask[:, 1:] & ~trajectories.truncated[:, :-1]
        return steps & (followed | trajectories.terminated)

    @torch.no_grad()
    def _next_value(
        self, trajectories: Trajectories, states: Float[Tensor, "B S D"], rows: Int[Tensor, "P 3"]
    ) -> Float[Tensor, " P"]:
        """Σ_j P(j|s', A') Q̄(s', j) of the next slate: the logged one, or the best."""
        user, next_step = rows[:, 0], rows[:, 1] + 1
        state, policy = states[user, next_step], self.policy
        if self.config.training == "sarsa":
            items = trajectories.slate[user, next_step.clamp(max=trajectories.slate.shape[1] - 1)]
            columns = torch.arange(items.shape[1]).expand(items.shape).masked_fill(items < FIRST_ITEM, -1)
        else:
            items = self._next_candidates(trajectories, rows)
            free = sampling.available(items, None, first=FIRST_ITEM)
            size = min(trajectories.slate.shape[2], items.shape[1])
            critic = policy.critic if self.config.double else self.target
            values = critic.values(state, items)
            if not bool(torch.isfinite(values).all()):
                raise FloatingPointError("the critic's values are not finite: lower method.lr")
            columns = best_slates(
                policy.choice.weight(state, items),
                values,
                policy.choice.null_weight(state),
                critic.null_value(state),
                size,
                optimiser=self.config.training_slates,
                free=free,
            )
        return slate_value(
            policy.choice.weight(state, items),
            self.target.values(state, items),
            policy.choice.null_weight(state),
            self.target.null_value(state),
            columns,
        )

    def _next_candidates(self, trajectories: Trajectories, rows: Int[Tensor, "P 3"]) -> Int[Tensor, "P C"]:
        """What could be shown next: as the log says, else some items drawn at random."""
        if trajectories.candidates is not None:
            return trajectories.candidates[rows[:, 0], rows[:, 1] + 1]
        if self.num_items <= self.config.target_candidates:
            return torch.arange(FIRST_ITEM, FIRST_ITEM + self.num_items).expand(len(rows), -1)
        shape = (len(rows), self.config.target_candidates)
        return torch.randint(FIRST_ITEM, FIRST_ITEM + self.num_items, shape, generator=self.generator)
