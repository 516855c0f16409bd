"""A graph of items: who accepts an item goes on from it, who rejects it turns up anywhere (Wolpertinger's environment).

Dulac-Arnold et al., "Deep Reinforcement Learning in Large Discrete Action Spaces", 2015 (arXiv 1512.07679), sec. 7.3:
13,138 items, one of them shown at a time, states = items. A step at item i, item j shown:

    accept  with W_ij: reward 1, the next state is j; the session ends with chance .1
    reject  else: the next state is any item, all alike; the session ends with chance .2

The paper's W was estimated from logs and is not published. Ours is made: W_ij = σ(6 q_iᵀ e_j − 3) with two vectors of
20 numbers an item, q_i as where one stands and e_j as what is shown, all drawn from N(0, 1/20) by `world_seed`.

What is observed is √20 q_i of the current item (the context); the features of item j are e_j. What an item leads to,
q_j, is seen only after it was accepted.

As W is known, so is the value of every policy that shows one item at each state: `value_of` computes it exactly, and
`optimum` the largest. W itself is never stored: at 13,138 items it would be 690 MB; it is made in blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD, Catalog, Vocabulary
from slatewise.seeds import stream_seed
from slatewise.sim._slates import check_slates
from slatewise.sim._solution import Solution
from slatewise.types import Observation, Slates, Step, used_at_once

MINUTE = 60_000_000
START = 1_600_000_000_000_000
BLOCK = 512
"""States whose row of W is made at a time: 27 MB at 13,138 items."""
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the environment.

    Raises:
        ValueError: a count below 1, or chances of an end outside (0, 1].
    """

    num_items: int = 13_138
    width: int = 20
    """Numbers of q_i and of e_j."""
    slope: float = 6.0
    offset: float = -3.0
    end_after_accept: float = 0.1
    end_after_reject: float = 0.2
    world_seed: int = 0
    """Of q and e."""

    def __post_init__(self) -> None:
        for name in ("num_items", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("end_after_accept", "end_after_reject"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a chance in (0, 1], else none ends")


class World:
    """Where one stands (q), what is shown (e), and W; row i belongs to item number i + 2."""

    def __init__(self, config: Config) -> None:
        self.config = config
        draw = Generator().manual_seed(stream_seed(config.world_seed, 0))
        shape, scale = (config.num_items, config.width), 1 / math.sqrt(config.width)
        self.stand = scale * torch.randn(shape, generator=draw)
        self.shown = scale * torch.randn(shape, generator=draw)

    def accepts(self, at: Int[Tensor, " B"], item: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """W of pairs of rows."""
        config = self.config
        return torch.sigmoid(config.slope * (self.stand[at] * self.shown[item]).sum(dim=1) + config.offset)

    def appearance(self, at: Int[Tensor, " B"]) -> Float[Tensor, "B E"]:
        """What a user at an item looks like: √E q, numbers of size 1."""
        return self.stand[at] * math.sqrt(self.config.width)

    def rows(self) -> Iterator[tuple[slice, Float[Tensor, "P N"]]]:
        """W, some states at a time."""
        config = self.config
        for start in range(0, config.num_items, BLOCK):
            block = slice(start, start + BLOCK)
            yield block, (config.slope * self.stand[block] @ self.shown.T + config.offset).sigmoid_()


def value_of(world: World, shown: Int[Tensor, " N"]) -> Solution:
    """Exact value of showing item `shown[i]` at state i: V = p (1 + .9 V[shown]) + (1 − p) .8 mean(V).

    Raises:
        InputError: not one row of an item for each state.
    """
    config, count = world.config, world.config.num_items
    if shown.shape != (count,) or bool((shown < 0).any()) or bool((shown >= count).any()):
        raise input_error(f"expected one item row from 0 to {count - 1} for each of the {count} states")
    p = world.accepts(torch.arange(count), shown).double()
    go_on, restart = 1 - config.end_after_accept, 1 - config.end_after_reject
    values, change = torch.zeros(count, dtype=torch.float64), math.inf
    while change > TOLERANCE:
        next_values = p * (1 + go_on * values[shown]) + (1 - p) * restart * values.mean()
        change = float((next_values - values).abs().max())
        values = next_values
    return Solution(shown=shown, values=values)


def best_against(world: World, values: Float[Tensor, " N"]) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """The best item at each state where what follows is worth `values`, and what it is worth then."""
    config = world.config
    anywhere = float(values.mean()) * (1 - config.end_after_reject)
    advantage = (1 + (1 - config.end_after_accept) * values - anywhere).float()
    best_in_block = [(accept * advantage).max(dim=1) for _, accept in world.rows()]
    return torch.cat([best.indices for best in best_in_block]), anywhere + torch.cat(
        [best.values for best in best_in_block]
    ).double()


def greedy(world: World) -> Solution:
    """The item that is most likely accepted, whatever comes after: one step is all that counts."""
    return value_of(world, best_against(world, torch.zeros(world.config.num_items, dtype=torch.float64))[0])


def optimum(world: World) -> Solution:
    """The best policy there is: value iteration, each step followed by the exact value of the items it chose.

    Ends where no state's value rises by more than 10⁻⁵.
    """
    solution = greedy(world)
    while True:
        shown, values = best_against(world, solution.values)
        if float((values - solution.values).max()) < 1e-5:
            return solution
        solution = value_of(world, shown)


def random_value(world: World) -> float:
    """Expected return where every item is shown equally often: V_i = mean_j W_ij (1 + .9 V_j) + (1 − mean_j W_ij) …"""
    config, count = world.config, world.config.num_items
    go_on, restart = 1 - config.end_after_accept, 1 - config.end_after_reject
    mean = torch.cat([accept.mean(dim=1) for _, accept in world.rows()]).double()
    values, change = torch.zeros(count, dtype=torch.float64), math.inf
    while change > 1e-4:
        led = torch.cat([accept @ values.float() for _, accept in world.rows()]).double() / count
        fixed = mean + go_on * (led - mean * values.mean())
        # the mean appears on both sides: it is solved for, so that a few rounds are enough
        level = float(fixed.mean() / (1 - go_on * mean.mean() - restart * (1 - mean.mean())))
        next_values = fixed + (go_on * mean + restart * (1 - mean)) * level
        change = float((next_values - values).abs().max())
        values = next_values
    return float(values.mean())


class Env:
    """B users, each at an item; where a session ends, somebody else starts anywhere."""

    def __init__(self, config: Config, *, num_users: int) -> None:
        if num_users < 1:
            raise ValueError(f"num_users is {num_users}; expected at least 1")
        self.config = config
        self.num_users = num_users
        self.slate_size = 1
        self.world = World(config)
        self.catalog = _catalog(self.world)
        self._generator: Generator | None = None
        self._events = 0
        self._user = torch.zeros(num_users, dtype=torch.int64)
        self._at = torch.zeros(num_users, dtype=torch.int64)
        self._clock = torch.zeros(num_users, dtype=torch.int64)

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        self._generator = Generator().manual_seed(seed)
        self._events = 0
        self._user = torch.arange(self.num_users)
        self._at = self._anywhere(self._generator)
        self._clock = torch.full((self.num_users,), START)
        return self._observe()

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show one item to everybody; every random number is drawn in the same order whatever is shown."""
        config, generator = self.config, self._generator
        if generator is None:
            raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")
        check_slates(slates, num_users=self.num_users, slate_size=1, num_rows=self.catalog.num_rows)
        chance = torch.rand(2, self.num_users, generator=generator)
        anywhere, start = self._anywhere(generator), self._anywhere(generator)
        item = slates.items[:, 0]
        row = (item - FIRST_ITEM).clamp(min=0)
        accepted = (chance[0] < self.world.accepts(self._at, row)) & (item != PAD)
        ends = chance[1] < torch.where(accepted, config.end_after_accept, config.end_after_reject)
        step = Step(
            event_id=torch.arange(self.num_users) + self._events,
            policy_id=torch.zeros(self.num_users, dtype=torch.int64),
            user=self._user.clone(),
            time=self._clock.clone(),
            terminated=ends,
            truncated=torch.zeros(self.num_users, dtype=torch.bool),
            slate=slates.items.clone(),
            logp=slates.logp.clone(),
            logp_known=torch.ones(self.num_users, dtype=torch.bool),
            reward=accepted.float().unsqueeze(1),
            cost=torch.zeros(self.num_users, 1),
            **used_at_once(accepted.unsqueeze(1), time=self._clock, reward=accepted.float().unsqueeze(1)),
        )
        self._events += self.num_users
        self._at = torch.where(ends, start, torch.where(accepted, row, anywhere))
        self._user = torch.where(ends, self._user + self.num_users, self._user)
        self._clock = self._clock + MINUTE
        return step, self._observe()

    def _anywhere(self, generator: Generator) -> Int[Tensor, " B"]:
        return torch.randint(self.config.num_items, (self.num_users,), generator=generator)

    def _observe(self) -> Observation:
        return Observation(user=self._user.clone(), context=self.world.appearance(self._at))


def _catalog(world: World) -> Catalog:
    count = world.config.num_items
    reserved = torch.zeros(FIRST_ITEM, world.config.width)
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"item-{i}" for i in range(1, count + 1)])),
        text=("",) * (count + FIRST_ITEM),
        group=np.zeros(count + FIRST_ITEM, np.int64),
        group_names=("",),
        features=torch.cat([reserved, world.shown]).numpy(),
    )
