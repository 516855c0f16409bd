"""Users at topics, who go where the item they accept leads: a world of 10⁶ items whose optimum is known exactly.

The accept graph of Wolpertinger (Dulac-Arnold et al. 2015, sec. 7.3) has as many states as items, so that value
iteration costs N² and no catalog of 10⁶ can be solved. Here states are topics, a fixed number of them, however many
items there are. A step at topic s, item j of topic g(j) shown:

    accept  with σ(slope · q_sᵀ e_j + mood_s + offset): reward 1, the next state is g(j); ends with chance .1
    reject  else: the next state is any topic, all alike; ends with chance .2

    q_s ~ N(0, 1/E)      e_j = √share · centre_g(j) + √(1 − share) · own_j,   both ~ N(0, 1/E)
    mood_s = liveliness · √E ⟨m, centre_s⟩, m a fixed direction: at some topics people accept nearly anything

So what is accepted now is one thing, where it leads another, and both can be read off an item's vector. Observed are
√E q_s and mood_s (the context); the features of item j are e_j in a rotated basis, so that their product with what is
observed says nothing before something was learned.

Items are drawn one after another: a larger catalog of the same `world_seed` begins with the smaller one, and its
optimum is at least as good. For every state only the best item of each topic can be optimal, so `best_of_topics` makes
a table of states × topics, on which `optimum` is exact. `value_of` is exact for every policy that shows one item at
each state, `drawn_value` for draws "first a topic, then an item of it, whatever the state".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD, Catalog, Vocabulary
from slatewise.policies.topic import TopicDraws
from slatewise.protocols import StateEncoder
from slatewise.sim._slates import check_slates
from slatewise.sim._slots import Places, check_users, must_be_reset
from slatewise.sim._solution import Solution
from slatewise.types import Observation, Slates, Step


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the world.

    Raises:
        ValueError: a count below 1, a share outside [0, 1], or chances of an end outside (0, 1].
    """

    num_items: int = 10_000
    num_topics: int = 128
    """States, and groups of items."""
    width: int = 20
    """E: numbers of q_s and of e_j."""
    slope: float = 6.0
    offset: float = -3.0
    topic_share: float = 0.5
    """How much of an item's vector is its topic's."""
    liveliness: float = 1.0
    """Standard deviation of mood_s."""
    end_after_accept: float = 0.1
    end_after_reject: float = 0.2
    popularity: float = 1.0
    """`logging_policy` shows an item of popularity rank ρ within its topic in proportion to about ρ^−popularity."""
    world_seed: int = 0
    """Of everything that does not change while it is played."""

    def __post_init__(self) -> None:
        for name in ("num_items", "num_topics", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 <= self.topic_share <= 1:
            raise ValueError(f"topic_share is {self.topic_share}; expected a share in [0, 1]")
        for name in ("end_after_accept", "end_after_reject"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a chance in (0, 1], else none ends")


class World:
    """Topics and items; row i of an array over items belongs to item number i + 2."""

    def __init__(self, config: Config) -> None:
        self.config = config
        count, topics, width = config.num_items, config.num_topics, config.width

        def normal(number: int, *shape: int) -> Float[Tensor, "*_"]:
            # numpy draws number after number, so a longer array begins with the shorter one
            draw = np.random.default_rng([config.world_seed, number])
            return torch.from_numpy(draw.standard_normal(shape, dtype=np.float32))

        self.stand = normal(0, topics, width) / math.sqrt(width)
        self.centre = normal(1, topics, width) / math.sqrt(width)
        direction = torch.nn.functional.normalize(normal(2, width), dim=0)
        self.mood = config.liveliness * math.sqrt(width) * self.centre @ direction
        self.topic = torch.from_numpy(np.random.default_rng([config.world_seed, 3]).integers(topics, size=count))
        individual = normal(4, count, width) / math.sqrt(width)
        self.vector = (
            math.sqrt(config.topic_share) * self.centre[self.topic] + math.sqrt(1 - config.topic_share) * individual
        )
        self.rotation: Float[Tensor, "E E"] = torch.linalg.qr(normal(5, width, width)).Q
        uniform = 1 - np.random.default_rng([config.world_seed, 6]).random(count, dtype=np.float32)
        self.weight = torch.from_numpy(uniform) ** -config.popularity
        """How often the logging policy shows an item, up to a factor of its topic; the ρ-th of n is about (n/ρ)^p."""

    @cached_property
    def features(self) -> Float[Tensor, "N E"]:
        """What an item looks like."""
        return self.vector @ self.rotation

    @cached_property
    def appearance(self) -> Float[Tensor, "S X"]:
        """What a user at each topic looks like: √E q and the mood, numbers of size 1."""
        return torch.cat([self.stand * math.sqrt(self.config.width), self.mood.unsqueeze(1)], dim=1)

    def accepts(self, at: Int[Tensor, " B"], row: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Chance that the item of a row is accepted at a topic."""
        config = self.config
        product = (self.stand[at] * self.vector[row]).sum(dim=1)
        return torch.sigmoid(config.slope * product + self.mood[at] + config.offset)

    def by_topic(self) -> Iterator[tuple[int, Int[Tensor, " n"], Float[Tensor, "S n"]]]:
        """Every topic that has items: its number, their rows, and how they are accepted at every state."""
        config = self.config
        order = torch.argsort(self.topic, stable=True)
        number: list[int] = torch.bincount(self.topic, minlength=config.num_topics).tolist()
        for topic, rows in enumerate(torch.split(order, number)):
            if len(rows):
                logit = config.slope * self.stand @ self.vector[rows].T + self.mood.unsqueeze(1) + config.offset
                yield topic, rows, logit.sigmoid_()


def best_of_topics(world: World) -> tuple[Float[Tensor, "S G"], Int[Tensor, "S G"]]:
    """At every state, for every topic, the item of it that is accepted most often: chance (float64) and row.

    −1 as chance and row where a topic has no item.
    """
    topics = world.config.num_topics
    chance = torch.full((topics, topics), -1.0, dtype=torch.float64)
    shown = torch.full((topics, topics), -1)
    for topic, rows, accept in world.by_topic():
        best = accept.max(dim=1)
        chance[:, topic], shown[:, topic] = best.values.double(), rows[best.indices]
    return chance, shown


def value_of(world: World, shown: Int[Tensor, " S"]) -> Solution:
    """Exact value of showing the item of row `shown[s]` at topic s: V = p (1 + .9 V[g]) + (1 − p) .8 mean(V).

    Raises:
        InputError: not one row of an item for each state.
    """
    topics, count = world.config.num_topics, world.config.num_items
    if shown.shape != (topics,) or bool((shown < 0).any()) or bool((shown >= count).any()):
        raise input_error(f"expected one item row from 0 to {count - 1} for each of the {topics} topics")
    p = world.accepts(torch.arange(topics), shown).double()
    leads = torch.zeros(topics, topics, dtype=torch.float64)
    leads[torch.arange(topics), world.topic[shown]] = p
    return Solution(shown=shown, values=_solve(world.config, leads))


def greedy(world: World) -> Solution:
    """The item that is most likely accepted, whatever comes after: one step is all that counts."""
    chance, rows = best_of_topics(world)
    return value_of(world, rows.gather(1, chance.argmax(dim=1, keepdim=True)).squeeze(1))


def optimum(world: World) -> Solution:
    """The best policy there is, by policy iteration over the best items of topics; values are solved for exactly."""
    config = world.config
    chance, rows = best_of_topics(world)
    anywhere = chance.new_tensor(1 - config.end_after_reject)
    choice = chance.argmax(dim=1, keepdim=True)
    while True:
        solution = value_of(world, rows.gather(1, choice).squeeze(1))
        rejected = anywhere * solution.values.mean()
        worth = rejected + chance * (1 + (1 - config.end_after_accept) * solution.values - rejected)
        worth = worth.masked_fill(rows < 0, -math.inf)
        better = worth.argmax(dim=1, keepdim=True)
        # a choice is only left for one that is better by more than rounding, so that this ends
        gain = worth.gather(1, better) - worth.gather(1, choice)
        if float(gain.max()) < 1e-10:
            return solution
        choice = torch.where(gain > 1e-10, better, choice)


def drawn_value(world: World, chance: Float[Tensor, "S G"], weight: Float[Tensor, " N"]) -> float:
    """Exact value of drawing a topic with `chance`, then an item of it in proportion to `weight`."""
    leads = torch.zeros(world.config.num_topics, world.config.num_topics, dtype=torch.float64)
    for topic, rows, accept in world.by_topic():
        share = (weight[rows] / weight[rows].sum()).double()
        leads[:, topic] = chance[:, topic].double() * (accept.double() @ share)
    return float(_solve(world.config, leads).mean())


def random_value(world: World) -> float:
    """Exact value of showing every item equally often."""
    number = torch.bincount(world.topic, minlength=world.config.num_topics).double()
    share = (number / number.sum()).expand(world.config.num_topics, -1)
    return drawn_value(world, share, torch.ones(world.config.num_items))


def logged_value(world: World) -> float:
    """Exact value of the logging policy."""
    return drawn_value(world, _Taste(world)(world.appearance), world.weight)


class Env:
    """B users, each at a topic; where a session ends, somebody else starts anywhere."""

    def __init__(self, config: Config, *, num_users: int, world: World | None = None) -> None:
        """Open the world.

        Args:
            config: its constants.
            num_users: B.
            world: one that was made from the same constants, to share its arrays.

        Raises:
            ValueError: no users, or a world of other constants.
        """
        check_users(num_users)
        if world is not None and world.config != config:
            raise ValueError("the given world was made from other constants; leave it out, or take its own config")
        self.config = config
        self.num_users = num_users
        self.slate_size = 1
        self.world = World(config) if world is None else world
        self.catalog = _catalog(self.world)
        self._generator = Generator()
        self._places: Places | None = None
        self._at = torch.zeros(num_users, dtype=torch.int64)

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        self._generator = Generator().manual_seed(seed)
        self._places = Places(self.num_users)
        self._at = self._anywhere()
        return self._observe(self._places)

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show one item to everybody; every random number is drawn in the same order whatever is shown."""
        config, places = self.config, must_be_reset(self._places)
        check_slates(slates, num_users=self.num_users, slate_size=1, num_rows=self.catalog.num_rows)
        chance = torch.rand(2, self.num_users, generator=self._generator)
        anywhere, start = self._anywhere(), self._anywhere()
        item = slates.items[:, 0]
        row = (item - FIRST_ITEM).clamp(min=0)
        accepted = (chance[0] < self.world.accepts(self._at, row)) & (item != PAD)
        ends = chance[1] < torch.where(accepted, config.end_after_accept, config.end_after_reject)
        step = places.record(
            slates,
            reward=accepted.float().unsqueeze(1).numpy(),
            used=accepted.unsqueeze(1).numpy(),
            terminated=ends,
        )
        self._at = torch.where(ends, start, torch.where(accepted, self.world.topic[row], anywhere))
        return step, self._observe(places)

    def _anywhere(self) -> Int[Tensor, " B"]:
        return torch.randint(self.config.num_topics, (self.num_users,), generator=self._generator)

    def _observe(self, places: Places) -> Observation:
        return Observation(user=places.users(), context=self.world.appearance[self._at])


class _Taste:
    """Chances of topics from what is observed: half by how well the topic's centre is liked, half all alike."""

    def __init__(self, world: World) -> None:
        self._liking = world.config.slope * math.sqrt(world.config.topic_share / world.config.width) * world.centre
        self._filled = torch.bincount(world.topic, minlength=world.config.num_topics) > 0

    def __call__(self, context: Float[Tensor, "B X"]) -> Float[Tensor, "B G"]:
        logits = (context[:, : self._liking.shape[1]] @ self._liking.T).double()
        liked = torch.softmax(logits.masked_fill(~self._filled, -math.inf), dim=1)
        return 0.5 * liked + 0.5 * self._filled / self._filled.sum()


class _Logging(TopicDraws):
    def __init__(self, env: Env, encoder: StateEncoder) -> None:
        world = env.world
        topic, weight = (torch.nn.functional.pad(x, (FIRST_ITEM, 0)) for x in (world.topic, world.weight))
        super().__init__(encoder, topic, weight, num_topics=world.config.num_topics)
        self._taste = _Taste(world)

    def _preference(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B G"]:
        return self._taste(state)


def logging_policy(env: Env, encoder: StateEncoder) -> TopicDraws:
    """Who writes the log: a topic by taste (half of the time any), and of it an item by popularity, whatever its worth.

    Args:
        env: whose items it shows.
        encoder: must give the context as the state.
    """
    return _Logging(env, encoder)


def _solve(config: Config, leads: Float[Tensor, "S G"]) -> Float[Tensor, " S"]:
    """V of being accepted into topic g with chance leads[s, g] at s: V = a + .9 leads V + .8 (1 − a) mean(V)."""
    accepted = leads.sum(dim=1)
    step = (1 - config.end_after_accept) * leads
    step = step + ((1 - config.end_after_reject) * (1 - accepted) / len(leads)).unsqueeze(1)
    values: Float[Tensor, " S"] = torch.linalg.solve(torch.eye(len(leads), dtype=torch.float64) - step, accepted)
    return values


def _catalog(world: World) -> Catalog:
    count, topics = world.config.num_items, world.config.num_topics
    reserved = torch.zeros(FIRST_ITEM, world.config.width)
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"item-{i}" for i in range(1, count + 1)])),
        text=("",) * (count + FIRST_ITEM),
        group=np.concatenate([np.zeros(FIRST_ITEM, np.int64), world.topic.numpy() + 1]),
        group_names=("", *(f"topic-{i}" for i in range(1, topics + 1))),
        features=torch.cat([reserved, world.features]).numpy(),
    )
