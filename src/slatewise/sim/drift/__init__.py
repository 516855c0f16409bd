"""A video site of 10⁴ items and more: interests drift with what is watched, repetition tires, popular is not best.

Made for policies that learn from other policies' logs (Chen et al. 2019, arXiv 1812.02353, shows its results live only;
this world shows them in kind). What a user does with a slate, at affinity x = ⟨interest z, item vector v⟩:

    utility   u_i = sensitivity · x_i + appeal_i − tiring · fatigue_topic(i)
    pick      P(i) ∝ position_decay^position · e^{u_i};  nothing: e^{null_utility};  never a watched item again
    reward    minutes = length_i · σ(bias + affinity · x_i + quality · quality_i + noise)
    interest  z ← z + growth · tanh(quality_i) · v_i, then cut to norm `interest.cap`
    fatigue   f ← fatigue_decay · f, and + 1 in the topic of the pick

So good items make interests grow and bad ones wear them down, which pays (or costs) later; an item's length and appeal
pay now. Appeal, length and quality are independent. Popularity goes along with appeal alone (correlation
`popularity_appeal`): what the logging policies favour gets picked more easily, but is no better.

The constants were fixed before any learned policy was compared here, from what policies without learning and the
privileged oracles do; `WORLDS` says how the log is biased, and nothing else differs between the three.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn.functional import embedding, normalize, pad

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD
from slatewise.policies.topic import TopicDraws, TopicHistory
from slatewise.protocols import StateEncoder
from slatewise.rollout.play import Arm
from slatewise.sim._slates import check_slates
from slatewise.sim.drift.config import (
    WORLDS,
    ChoiceConfig,
    Config,
    InterestConfig,
    ItemsConfig,
    VisitConfig,
    WatchConfig,
    World,
)
from slatewise.sim.drift.items import Items, item_catalog
from slatewise.types import Observation, SlateRequest, Slates, Step, used_at_once

SECOND = 1_000_000
START = 1_600_000_000 * SECOND
GROWTH_PRICE = 5.0
"""Minutes that the oracle pays for a unit of growth; of 0, 2, 5, 10, 20, 40 the one that earns most."""


class Env:
    """B users of the site; a session is a user's whole stay of `lifetime` slates."""

    def __init__(self, config: Config, *, num_users: int) -> None:
        if num_users < 1:
            raise ValueError(f"num_users is {num_users}; expected at least 1")
        self.config = config
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.items = Items(config)
        self.catalog = item_catalog(config, self.items)
        positions = torch.arange(config.slate_size, dtype=torch.float32)
        self._attention = positions * math.log(max(config.choice.position_decay, 1e-30))
        self._generator: Generator | None = None
        self._events = 0
        self._user = torch.zeros(num_users, dtype=torch.int64)
        self._age = torch.zeros(num_users, dtype=torch.int64)
        self._clock = torch.zeros(num_users, dtype=torch.int64)
        self._interest = torch.zeros(num_users, config.width)
        self._fatigue = torch.zeros(num_users, config.num_topics)
        self._watched = torch.zeros(num_users, config.memory, dtype=torch.int32)

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        self._generator = Generator().manual_seed(seed)
        self._events = 0
        self._user = torch.arange(self.num_users)
        self._renew(torch.ones(self.num_users, dtype=torch.bool))
        return self._observe()

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates; every random number is drawn in the same order whatever they hold."""
        config, generator = self.config, self._generator
        if generator is None:
            raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")
        check_slates(slates, num_users=self.num_users, slate_size=self.slate_size, num_rows=len(self.items.topic))
        # the users pick
        slate = slates.items
        affinity = torch.bmm(embedding(slate, self.items.vector), self._interest.unsqueeze(2)).squeeze(2)
        fatigue = self._fatigue.gather(1, self.items.topic[slate])
        utility = self._utility(affinity, self.items.appeal[slate], fatigue)
        utility = (utility + self._attention).masked_fill(slate == PAD, float("-inf"))
        logits = pad(utility, (0, 1), value=config.choice.null_utility)
        noise = torch.rand(logits.shape, generator=generator).log_().neg_().log_()
        position = self._pick(slate, logits - noise)  # Gumbel: a draw from the softmax
        nothing = position == self.slate_size
        at = position.masked_fill(nothing, 0).unsqueeze(1)
        item = slate.gather(1, at).squeeze(1).masked_fill(nothing, PAD)
        # … and watch
        taste = affinity.gather(1, at).squeeze(1)
        watch = config.watch.bias + config.watch.affinity * taste + config.watch.quality * self.items.quality[item]
        watch = watch + config.watch.noise * torch.randn(self.num_users, generator=generator)
        minutes = self.items.length[item] * torch.sigmoid(watch)  # nothing picked: item 0 has length 0
        reward = torch.zeros(self.num_users, self.slate_size).scatter_(1, at, minutes.unsqueeze(1))
        step = Step(
            event_id=torch.arange(self.num_users) + self._events,
            policy_id=torch.zeros(self.num_users, dtype=torch.int64),
            user=self._user.clone(),
            time=self._clock.clone(),
            terminated=self._age + 1 >= config.lifetime,
            truncated=torch.zeros(self.num_users, dtype=torch.bool),
            slate=slate.clone(),
            logp=slates.logp.clone(),
            logp_known=torch.ones(self.num_users, dtype=torch.bool),
            reward=reward,
            cost=torch.zeros(self.num_users, self.slate_size),
            **used_at_once(torch.arange(self.slate_size) == position.unsqueeze(1), time=self._clock, reward=reward),
        )
        self._live_on(item, minutes)
        self._events += self.num_users
        if bool(step.terminated.any()):
            self._user = torch.where(step.terminated, self._user + self.num_users, self._user)
            self._renew(step.terminated)
        return step, self._observe()

    def scores(self, *, growth_price: float = 0.0) -> Float[Tensor, "B rows"]:
        """What nobody outside can know: e^{u} · (expected minutes + growth_price · tanh(quality)) of every item.

        Its largest entries are the greedy slate of a user model that is known; watched items score −1.
        """
        config, items = self.config, self.items
        affinity = self._interest @ items.vector.T
        utility = self._utility(affinity, items.appeal, self._fatigue[:, items.topic])
        watch = config.watch.bias + config.watch.affinity * affinity + config.watch.quality * items.quality
        worth = items.length * torch.sigmoid(watch) + growth_price * torch.tanh(items.quality)
        score = torch.exp(utility) * worth
        score[:, :FIRST_ITEM] = -1.0
        return score.scatter_(1, self._watched.long(), -1.0)

    def _utility(
        self, affinity: Float[Tensor, "B A"], appeal: Float[Tensor, "*A"], fatigue: Float[Tensor, "B A"]
    ) -> Float[Tensor, "B A"]:
        """The logit u of an item that is shown alone, in first position."""
        return self.config.choice.sensitivity * affinity + appeal - self.config.choice.tiring * fatigue

    def myopic(self) -> Oracle:
        """The greedy slate of the true user model: expected minutes of the pick alone."""
        return Oracle(self)

    def oracle(self) -> Oracle:
        """The greedy slate of the true user model, where growing interests are worth minutes too."""
        return Oracle(self, growth_price=GROWTH_PRICE)

    def reference_policies(self) -> dict[str, Callable[[], Oracle]]:
        """Policies that look into this environment."""
        return {"myopic": self.myopic, "oracle": self.oracle}

    def _pick(self, slate: Int[Tensor, "B K"], logits: Float[Tensor, "B K1"]) -> Int[Tensor, " B"]:
        """Position of the largest entry that is no watched item; K = nothing."""
        position = logits.argmax(dim=1)
        open_ = torch.arange(len(slate))
        ended = pad(slate.to(torch.int32), (0, 1))
        while len(open_):
            # looking only at what would be picked spares a comparison of all slates with all memories
            at = position[open_]
            watched = (ended[open_, at].unsqueeze(1) == self._watched[open_]).any(dim=1) & (at < self.slate_size)
            open_, at = open_[watched], at[watched]
            logits[open_, at] = float("-inf")
            position[open_] = logits[open_].argmax(dim=1)
        return position

    def _live_on(self, item: Int[Tensor, " B"], minutes: Float[Tensor, " B"]) -> None:
        config, items = self.config, self.items
        moved = self._interest + (config.interest.growth * torch.tanh(items.quality[item])).unsqueeze(1) * embedding(
            item, items.vector
        )
        norm = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
        self._interest = moved * (config.interest.cap / norm.clamp_min(config.interest.cap))
        picked = (item != PAD).to(torch.float32).unsqueeze(1)
        self._fatigue = (config.choice.fatigue_decay * self._fatigue).scatter_add_(
            1, items.topic[item].unsqueeze(1), picked
        )
        slot = (self._age % config.memory).unsqueeze(1)
        self._watched.scatter_(1, slot, item.to(torch.int32).unsqueeze(1))
        leaves = torch.rand(self.num_users, generator=self._generator) < config.visit.end
        gap = config.visit.gap_hours * 3600 * torch.exp(0.7 * torch.randn(self.num_users, generator=self._generator))
        seconds = 30 + 60 * minutes + torch.where(leaves, gap, 0.0)
        self._clock = self._clock + (seconds.double() * SECOND).long()
        self._age = self._age + 1

    def _renew(self, leaving: Tensor) -> None:
        """Somebody new where `who` is True; numbers are drawn for everybody, so that they do not depend on `who`."""
        config, generator = self.config, self._generator
        topic = torch.rand(self.num_users, config.num_topics, generator=generator).argsort(dim=1)
        topic = topic[:, : config.interest.favourites]
        weight = torch.empty(topic.shape).exponential_(generator=generator)
        liked = torch.einsum("bf,bfe->be", weight, self.items.centres[topic])
        arrival = torch.rand(self.num_users, generator=generator, dtype=torch.float64) * 86_400
        column = leaving.unsqueeze(1)
        self._interest = torch.where(column, normalize(liked, dim=1), self._interest)
        self._fatigue = self._fatigue.masked_fill(column, 0.0)
        self._watched = self._watched.masked_fill(column, PAD)
        self._age = self._age.masked_fill(leaving, 0)
        self._clock = torch.where(leaving, START + (arrival * SECOND).long(), self._clock)

    def _observe(self) -> Observation:
        return Observation(user=self._user.clone(), context=torch.zeros(self.num_users, 0))


class Oracle:
    """A policy that looks into an env: the greedy slate of the true user model, for the ceiling of a table."""

    def __init__(self, env: Env, *, growth_price: float = 0.0) -> None:
        """Look into `env`; `growth_price`: minutes that a full unit of growth is worth, 0 = only the pick itself."""
        self.encoder: StateEncoder = StatelessEncoder()
        self._env = env
        self._price = growth_price

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Always the best item."""
        best = self._env.scores(growth_price=self._price).argmax(dim=1, keepdim=True)
        return torch.where(items == best, 0.0, float("-inf"))

    def recommend(
        self, state: Float[Tensor, "B D"], request: SlateRequest, *, generator: Generator | None = None
    ) -> Slates:
        """The k best for every user of the env, whose row `state` must hold.

        Raises:
            InputError: rows for other than all users of the env, or anything else asked for than k.
        """
        if any(part is not None for part in (request.candidates, request.allowed, request.exclude, request.fixed)):
            raise input_error("the oracle shows the best of the whole catalog", advice="Ask for nothing but k.")
        if len(state) != self._env.num_users:
            raise input_error(f"the oracle serves all {self._env.num_users} users of its env at once, not {len(state)}")
        items = self._env.scores(growth_price=self._price).topk(request.k, dim=1).indices
        return Slates(items=items, logp=torch.zeros(items.shape))

    def log_prob(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """0 where the slate is the one it shows now, −inf elsewhere."""
        return torch.where(slate == self.recommend(state, request).items, 0.0, float("-inf"))

    def state_dict(self) -> dict[str, Any]:
        """Nothing is learned."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is learned."""


def logging_arms(env: Env, world: World) -> list[Arm]:
    """The policies of a world with their shares: 1 = popular, 2 = topical, 3 = uniform."""
    items, rows = env.items, len(env.items.topic)
    single_topic = torch.zeros(rows, dtype=torch.int64)
    favour = torch.ones(rows)
    favour[FIRST_ITEM:] = items.popularity_rank[FIRST_ITEM:].float() ** -world.exponent
    topics = env.config.num_topics
    policies = (
        (world.popular, TopicDraws(StatelessEncoder(), single_topic, favour, num_topics=1)),
        (world.topical, TopicDraws(TopicHistory(items.topic, topics), items.topic, favour, num_topics=topics)),
        (world.uniform, TopicDraws(StatelessEncoder(), single_topic, torch.ones(rows), num_topics=1)),
    )
    return [
        Arm(policy=policy, policy_id=number, share=share)
        for number, (share, policy) in enumerate(policies, start=1)
        if share > 0
    ]


__all__ = [
    "WORLDS",
    "ChoiceConfig",
    "Config",
    "Env",
    "InterestConfig",
    "Items",
    "ItemsConfig",
    "Oracle",
    "VisitConfig",
    "WatchConfig",
    "World",
    "logging_arms",
]
