"""The environment: users who do what a fitted user model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise import artifact
from slatewise.encoders import observed
from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD, Catalog
from slatewise.ops.choice import pick
from slatewise.ops.choices import at_choice
from slatewise.ops.history import uses_of
from slatewise.sim._oracle import Privileged
from slatewise.sim._slates import check_slates
from slatewise.sim.log_fitted.learner import Config as ModelConfig
from slatewise.sim.log_fitted.learner import Policy
from slatewise.sim.toys import catalog as numbered_items
from slatewise.types import Observation, Slates, Step, used_at_once

START = 1_600_000_000_000_000
SECOND = 1_000_000
METHOD = "slatewise.sim.log_fitted.learner"
"""What config.toml of a user model names as its method."""
DENSE_ROWS = 4096
"""Catalogs up to here draw candidates by a key for every item; larger ones draw again what came twice."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Whose user model, and what is asked of it.

    Raises:
        ValueError: a count below 1, or a share outside (0, 1).
    """

    run: str | None = None
    """Run folder of `slatewise train` with a user model; None = users made up, who learned nothing from anybody."""
    slate_size: int | None = None
    """K; None = as the log has it."""
    num_candidates: int | None = None
    """C: items that may be shown at a step, drawn as often as the log shows them; None = the whole catalog."""
    max_steps: int = 1000
    """Sessions are cut off here."""
    null_share: float = 0.5
    """Share of random slates from which nothing is picked, where the log does not say what was passed over."""

    def __post_init__(self) -> None:
        for name in ("slate_size", "num_candidates", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        if not 0 < self.null_share < 1:
            raise ValueError(f"null_share is {self.null_share}; expected a share in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A user model with the items it knows."""

    policy: Policy
    catalog: Catalog


class Env:
    """B users at once; a place whose session ends gets somebody new in the same step."""

    def __init__(self, config: Config, *, num_users: int, fitted: Fitted | None = None) -> None:
        """Open the world of a config.

        Args:
            config: see Config.
            num_users: B.
            fitted: the user model; None = the one that `config.run` names.

        Raises:
            ValueError: fewer than one user, or a slate larger than the candidates or the catalog.
            InputError: no user model there.
        """
        if num_users < 1:
            raise ValueError(f"num_users is {num_users}; expected at least 1")
        fitted = fitted or (_made_up() if config.run is None else load(Path(config.run)))
        self.config = config
        self.num_users = num_users
        self.catalog = fitted.catalog
        self.policy = fitted.policy.eval()
        self.slate_size = config.slate_size or self.policy.user.shape.slate_size
        may_be_shown = min(config.num_candidates or self.catalog.num_items, self.catalog.num_items)
        if self.slate_size > may_be_shown:
            raise ValueError(
                f"slate_size is {self.slate_size} with {may_be_shown} candidates; a slate cannot be larger"
            )
        weight = self.policy.shown.double().clone()
        weight[:FIRST_ITEM] = 0.0
        if not bool((weight > 0).sum() >= may_be_shown):
            weight[FIRST_ITEM:] += 1.0  # too few items were ever shown: the others come in as well
        self._weight = weight
        self._candidate_count = config.num_candidates and may_be_shown
        seconds = self.policy.gap[0] / self.policy.gap[1].clamp_min(1.0)
        self._tick = max(1, int(float(seconds) * SECOND))
        self._null_logit = self._nothing()
        self._generator: Generator | None = None
        self._observation = Observation(user=torch.zeros(0, dtype=torch.int64), context=torch.zeros(0, 0))

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        count = self.num_users
        self._generator = Generator().manual_seed(seed)
        self._events = 0
        self._user = torch.arange(count)
        self._age = torch.zeros(count, dtype=torch.int64)
        self._clock = torch.full((count,), START)
        self._wear = torch.zeros(count)
        self._observation = self._look(self._starts())
        with torch.no_grad():
            self._carry = self.policy.encoder.initial(count)
            self._state = self.policy.encoder.state(self._carry, self._observation)
        return _copy(self._observation)

    @torch.no_grad()
    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates; where a session ends, the observation is the first of somebody else's."""
        if self._generator is None:
            raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")
        check_slates(
            slates,
            num_users=self.num_users,
            slate_size=self.slate_size,
            num_rows=self.catalog.num_rows,
            candidates=self._observation.candidates,
        )
        user, slate = self.policy.user, slates.items.clone()
        luck = torch.rand(3, self.num_users, generator=self._generator)
        weight = torch.exp(user.choice_logits(self._state, slate))
        choice = pick(weight, self._null_logit.exp().expand(self.num_users), luck[0])
        item = at_choice(slate, choice)
        at = choice.clamp(min=0).unsqueeze(1)
        worth = self._reward(item, luck[1])
        self._wear = self._wear + user.wear_of(item)
        over = luck[2] < torch.sigmoid(user.end_logit(self._wear)) if user.shape.ends else torch.zeros_like(item) > 0
        self._age = self._age + 1
        cut = ~over & (self._age >= self.config.max_steps)
        reward = torch.zeros(slate.shape).scatter_(1, at, worth.unsqueeze(1))
        step = Step(
            event_id=torch.arange(self.num_users) + self._events,
            policy_id=torch.zeros(self.num_users, dtype=torch.int64),
            user=self._user.clone(),
            time=self._clock.clone(),
            terminated=over,
            truncated=cut,
            slate=slate,
            logp=slates.logp.detach().to(torch.float32).clone(),
            logp_known=torch.ones(self.num_users, dtype=torch.bool),
            reward=reward,
            cost=torch.zeros(slate.shape),
            **used_at_once(torch.arange(self.slate_size) == choice.unsqueeze(1), time=self._clock, reward=reward),
        )
        self._events += self.num_users
        self._live_on(step, item, over | cut)
        return replace(step, terminated=over.clone()), _copy(self._observation)

    def _reward(self, item: Int[Tensor, " B"], luck: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """What the picks were worth; 0 where nothing was picked."""
        user = self.policy.user
        chance = torch.softmax(user.reward_logits(self._state, item.unsqueeze(1)).squeeze(1), dim=1)
        level = (luck.unsqueeze(1) >= chance.cumsum(dim=1)).sum(dim=1).clamp(max=len(user.levels) - 1)
        return user.levels[level].masked_fill(item == PAD, 0.0)

    def _live_on(self, step: Step, item: Int[Tensor, " B"], ended: Tensor) -> None:
        """Move everybody's context and memory; somebody new comes where `gone`."""
        context = self._observation.context
        luck = torch.rand(context.shape, generator=self._generator)
        noise = torch.randn(context.shape, generator=self._generator)
        draw_next_context = self.policy.user.draw_next_context(context, item, luck, noise)
        column = ended.unsqueeze(1)
        self._user = torch.where(ended, self._user + self.num_users, self._user)
        self._age, self._wear = self._age.masked_fill(ended, 0), self._wear.masked_fill(ended, 0.0)
        self._clock = self._clock + self._tick
        self._observation = self._look(torch.where(column, self._starts(), draw_next_context))
        encoder = self.policy.encoder
        carry = encoder.step(self._carry, uses_of(step))
        self._carry = torch.where(column, encoder.initial(self.num_users), carry)
        self._state = encoder.state(self._carry, self._observation)

    def _starts(self) -> Float[Tensor, "B X"]:
        """How sessions of the log began, drawn at random for every place."""
        num_starts = min(int(self.policy.num_starts), len(self.policy.starts))
        if not num_starts:
            return torch.zeros(self.num_users, self.policy.context_width)
        return self.policy.starts[torch.randint(num_starts, (self.num_users,), generator=self._generator)]

    def _look(self, context: Float[Tensor, "B X"]) -> Observation:
        return Observation(user=self._user.clone(), context=context, candidates=self._candidates())

    def _candidates(self) -> Int[Tensor, "B C"] | None:
        count = self._candidate_count
        if count is None:
            return None
        shape = (self.num_users, count)
        if len(self._weight) <= DENSE_ROWS:
            # exponential clocks with these rates ring in the order of draws without replacement
            clocks = torch.empty(self.num_users, len(self._weight)).exponential_(generator=self._generator)
            return (clocks / self._weight.float()).topk(count, dim=1, largest=False).indices
        edges = torch.cumsum(self._weight, dim=0)

        def draws() -> Int[Tensor, "B C"]:
            point = torch.rand(shape, generator=self._generator, dtype=torch.float64) * edges[-1]
            return torch.searchsorted(edges, point, right=True).clamp(max=len(edges) - 1)

        items = draws()
        while bool((again := _is_repeat(items)).any()):
            items = torch.where(again, draws(), items)
        return items

    @torch.no_grad()
    def _nothing(self) -> Float[Tensor, ""]:
        """Logit of picking nothing: 0 where the log taught it; else what `null_share` makes of a random slate."""
        if self.policy.user.shape.slates:
            return torch.zeros(())
        spread = np.unique(np.linspace(FIRST_ITEM, self.catalog.num_rows - 1, 256).astype(np.int64))
        nobody = Observation(user=torch.zeros(1, dtype=torch.int64), context=torch.zeros(1, self.policy.context_width))
        state = self.policy.encoder.state(self.policy.encoder.initial(1), nobody)
        share, items = self.config.null_share, torch.from_numpy(spread).unsqueeze(0)
        mean = torch.exp(self.policy.user.choice.log_weight(state, items)).mean()
        return torch.log(mean * self.slate_size * share / (1 - share))

    def myopic(self) -> Privileged:
        """The items of highest expected reward by the fitted user model: v times the mean reward of a pick."""

        def scores() -> Float[Tensor, "B A"]:
            user, state, items = self.policy.user, self._state, self._observation.candidates
            if items is None:
                items = torch.arange(self.catalog.num_rows).expand(self.num_users, -1)
            return torch.exp(user.choice.log_weight(state, items)) * user.expected_reward(state, items)

        return Privileged(self, scores)

    def reference_policies(self) -> dict[str, Callable[[], Privileged]]:
        """Policies that look into this environment."""
        return {"myopic": self.myopic}


def load(path: Path) -> Fitted:
    """The user model of a run folder.

    Raises:
        InputError: no finished run there, or a run of something else.
    """
    folder = path / "artifact" if (path / "artifact").is_dir() else path
    loaded = artifact.load(folder)
    if not isinstance(loaded.policy, Policy):
        raise input_error(
            f'a run of the method "{loaded.config.method.name}", which is no user model',
            file=path,
            advice=f'`slatewise train` fits one: [method] name = "{METHOD}".',
        )
    return Fitted(policy=loaded.policy, catalog=loaded.catalog)


def _made_up() -> Fitted:
    """Forty items with random features and users who like some of them: to see the environment without a log."""
    generator = Generator().manual_seed(0)
    plain = numbered_items(40)
    features = torch.randn(plain.num_rows, 4, generator=generator)
    features[:FIRST_ITEM] = 0.0
    items = replace(plain, features=features.numpy())
    config = ModelConfig(
        hidden=(16,),
        slate_size=3,
        slates=True,
        levels=(1.0, 2.0, 3.0),
        session_steps=12.0,
        ends=True,
        low=(-1.0, -1.0),
        high=(1.0, 1.0),
    )
    encoder = observed.Encoder(observed.Config(context_width=2), items)
    policy = Policy(config, encoder, items, generator=generator)
    policy.starts.uniform_(-1.0, 1.0, generator=generator)
    policy.num_starts += len(policy.starts)
    policy.gap += torch.tensor([30.0, 1.0])
    return Fitted(policy=policy, catalog=items)


def _is_repeat(items: Int[Tensor, "B C"]) -> Tensor:
    """True where an item stands for a second time in its row."""
    order = items.sort(dim=1, stable=True)
    again = torch.zeros_like(items, dtype=torch.bool)
    again[:, 1:] = order.values[:, 1:] == order.values[:, :-1]
    return torch.zeros_like(again).scatter(1, order.indices, again)


def _copy(observation: Observation) -> Observation:
    candidates = None if observation.candidates is None else observation.candidates.clone()
    return Observation(user=observation.user.clone(), context=observation.context.clone(), candidates=candidates)
