"""Topic boredom: a taste that follows every click, and topics one gets tired of (the simulator of GeMS).

Deffayet et al., "Generative Slate Recommendation with Reinforcement Learning", WSDM 2023 (arXiv 2301.08632), sec. 5.1;
constants as in the code released with it. Items and users are vectors of G topics × 2 numbers, e_i and e_u ≥ 0:

    items     |clip(N(0, .4²), ±1)| · weight of the topic (U(0, 1), summing to 1), to a power; |e_i| = 1
    user      |clip(N(0, .4²), ±1)| · weight of the topic (U(0, 1)³, summing to 1); the norms of the topics sum to 1
    bored     a topic that 5 or more of the last 10 clicks (of the last 5 turns) belong to is worth 0 for 5 turns
    relevance σ(100 (e_iᵀ e_u − .28)), e_u without the topics he is bored by
    click     each item with the chance relevance · .85^position, on its own: a slate may get many clicks
    taste     e_u ← .9 e_u + .1 e_i for every click from the top, and back to norms that sum to 1
    session   100 slates; what counts is the number of clicks

An item belongs to the topic in which its vector is longest. A session begins with a look at the best item of each
topic: those clicks count for boredom, not for taste or reward, and the context shows them (all that is ever seen of a
new user). Published agents learn with a discount of .8; returns are not discounted.

Every clicked position is used, with the reward 1; nothing else earns one.

The released vectors of the items are data and not shipped: items are drawn by the recipe in the released code and
`world_seed`. With the power 1.5, which stands there beside the word "focused", the short-term oracle (`myopic`) earns
72.2 ± 0.5, not the published 107.7; with the power 1 it earns 97 to 110 in ten such draws, 107.6 ± 1.2 in draw 0.
So the power 1 is the default here. Random slates earn 32.5.
Published beside this world ("TopDown"): `examination` mixed, and mixed with `diversity_penalty` 3.

Deviation: clicks of the first look are forgotten after 5 turns like others (in the code they have no time, and stay
until others push them out).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from slatewise.log import FIRST_ITEM, PAD, Catalog, Vocabulary
from slatewise.ops.logistic import sigmoid
from slatewise.sim._oracle import Privileged
from slatewise.sim._slates import check_slates
from slatewise.sim._slots import Places, check_users, must_be_reset
from slatewise.types import Observation, Slates, Step

NEVER = -(1 << 20)


@dataclass(frozen=True, kw_only=True)
class BoredomConfig:
    """When a topic bores, and for how long."""

    threshold: int = 5
    """Recent clicks in one topic from which on it bores."""
    recent_clicks: int = 10
    """Clicks that are remembered."""
    recent_turns: int = 5
    """Turns that clicks are remembered for."""
    turns: int = 5
    """Turns that boredom lasts."""

    def __post_init__(self) -> None:
        for name in ("threshold", "recent_clicks", "recent_turns", "turns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the environment; the defaults are those of the published world "TopDown".

    Raises:
        ValueError: a count below 1, a slate larger than the catalog, or a share outside [0, 1].
    """

    num_items: int = 1000
    num_topics: int = 10
    topic_width: int = 2
    slate_size: int = 10
    session_length: int = 100
    """Slates of a session."""
    world_seed: int = 0
    """Of the items; users are drawn by the seed of `reset`."""
    concentration: float = 1.0
    """Power to which item vectors are raised before they get norm 1: the higher, the fewer topics an item has."""
    offset: float = 0.28
    """Score at which half of the examined items are clicked."""
    slope: float = 100.0
    examination: Literal["top_down", "mixed"] = "top_down"
    """.85^position, or the mean of that and the same from the bottom."""
    attention: float = 0.85
    """ε: how much less each position is examined than the one before."""
    diversity_penalty: float = 1.0
    """Relevance is divided by it in slates with too many items of one topic; 3 in the published DivPen worlds."""
    diversity_limit: int = 4
    """Items of one topic that are too many."""
    taste_memory: float = 0.9
    """ω: share of the taste that is left after a click."""
    boredom: BoredomConfig = field(default_factory=BoredomConfig)
    catalog_shows: Literal["names", "topics", "vectors"] = "names"
    """What a policy may know of the items: nothing, as the published agents, their topics, or the true vectors too."""

    def __post_init__(self) -> None:
        counts = ("num_items", "num_topics", "topic_width", "slate_size", "session_length", "diversity_limit")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.slate_size > self.num_items:
            raise ValueError(f"slate_size is {self.slate_size}, the catalog has {self.num_items} items")
        for name in ("attention", "taste_memory"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number in [0, 1]")
        if not 0 < self.concentration <= 10:
            raise ValueError(f"concentration is {self.concentration}; expected a number in (0, 10]")
        if not self.diversity_penalty >= 1:
            raise ValueError(f"diversity_penalty is {self.diversity_penalty}; expected 1 (none) or more")


class Env:
    """B users at once; a place whose session ends gets somebody new in the same step.

    The context shows what a user clicked at first look.
    """

    def __init__(self, config: Config, *, num_users: int) -> None:
        check_users(num_users)
        self.config = config
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.vector = _vectors(config)
        """(N + 2, G · width) of every item number; the reserved ones are 0."""
        length = np.linalg.norm(self.vector.reshape(len(self.vector), config.num_topics, -1), axis=2)
        self.topic: NDArray[np.int64] = length.argmax(axis=1)
        """(N + 2,) topic of every item number."""
        self.first_look: NDArray[np.int64] = length[FIRST_ITEM:].argmax(axis=0)[: config.slate_size] + FIRST_ITEM
        """Items that a new user looks at."""
        self.catalog = _catalog(config, self.vector, self.topic)
        fading = config.attention ** np.arange(config.slate_size)
        if config.examination == "mixed":
            fading = (fading + fading[::-1]) / 2
        self._examined = fading.astype(np.float32)
        self._places: Places | None = None

    @property
    def taste(self) -> Float[Tensor, "B E"]:
        """Hidden vector of every user, topics he is bored by included."""
        must_be_reset(self._places)
        return torch.from_numpy(self._taste.copy())

    @property
    def boring_topics(self) -> Bool[Tensor, "B G"]:
        """Topics that are worth nothing to every user at the next slate."""
        must_be_reset(self._places)
        return torch.from_numpy(self._bored_for > 0)

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        config, users = self.config, self.num_users
        self._generator = np.random.Generator(np.random.SFC64(seed))
        self._places = Places(users)
        self._taste = np.empty((users, config.num_topics * config.topic_width), np.float32)
        self._bored_for = np.empty((users, config.num_topics), np.int64)
        self._looked = np.empty((users, len(self.first_look)), np.float32)
        # the last clicks of everybody, in a ring: topic, turn (the first look is turn 0), and where the next one goes
        self._click_topic = np.zeros((users, config.boredom.recent_clicks), np.int64)
        self._click_turn = np.empty((users, config.boredom.recent_clicks), np.int64)
        self._next = np.zeros(users, np.int64)
        self._renew(np.arange(users))
        return self._observe(self._places)

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates; where a session ends, the observation is the first of somebody else's."""
        places = must_be_reset(self._places)
        check_slates(slates, num_users=self.num_users, slate_size=self.slate_size, num_rows=self.catalog.num_rows)
        items = slates.items.numpy()
        row = np.arange(self.num_users)
        clicked = self._click(items, self._worth(), row)
        self._remember(row, self.topic[items], clicked, places.turn + 1)
        self._follow(items, clicked)
        over = places.turn + 1 >= self.config.session_length
        step = places.record(slates, reward=clicked.astype(np.float32), used=clicked, terminated=torch.from_numpy(over))
        self._tire(row, places.turn + 1)
        if over.any():
            self._renew(np.flatnonzero(over))
        return step, self._observe(places)

    def scores(self) -> Float[Tensor, "B rows"]:
        """e_iᵀ e_u of every item number, topics that bore left out: what is clicked most in the next slate."""
        must_be_reset(self._places)
        return torch.from_numpy(self._worth()) @ torch.from_numpy(self.vector).T

    def _worth(self) -> NDArray[np.float32]:
        """Taste without the topics that bore."""
        worth: NDArray[np.float32] = self._taste * np.repeat(self._bored_for == 0, self.config.topic_width, axis=1)
        return worth

    def _click(
        self, items: Int[np.ndarray, "R K"], worth: Float[np.ndarray, "R E"], row: Int[np.ndarray, " R"]
    ) -> Bool[np.ndarray, "R K"]:
        config = self.config
        score = np.matmul(self.vector[items], worth[:, :, None])[:, :, 0]
        chance = sigmoid(config.slope * (score - config.offset)) * self._examined[: items.shape[1]]
        if config.diversity_penalty > 1:
            same = self.topic[items]
            same = np.where(items == PAD, -1 - np.arange(items.shape[1]), same)
            crowd = (same[:, :, None] == same[:, None, :]).sum(axis=2).max(axis=1)
            chance /= np.where(crowd >= config.diversity_limit, config.diversity_penalty, 1.0)[:, None]
        luck = self._generator.random(items.shape, dtype=np.float32)
        clicked: NDArray[np.bool_] = (luck < chance) & (items != PAD)
        return clicked

    def _remember(
        self,
        row: Int[np.ndarray, " R"],
        topic: Int[np.ndarray, "R K"],
        clicked: Bool[np.ndarray, "R K"],
        turn: Int[np.ndarray, " R"],
    ) -> None:
        """Write the clicks of these users into their rings, from the top."""
        for position in range(clicked.shape[1]):
            which = np.flatnonzero(clicked[:, position])
            users = row[which]
            self._click_topic[users, self._next[users]] = topic[which, position]
            self._click_turn[users, self._next[users]] = turn[which]
            self._next[users] = (self._next[users] + 1) % self.config.boredom.recent_clicks

    def _follow(self, items: Int[np.ndarray, "B K"], clicked: Bool[np.ndarray, "B K"]) -> None:
        """Move the tastes towards what was clicked, from the top."""
        config = self.config
        for position in range(clicked.shape[1]):
            users = np.flatnonzero(clicked[:, position])
            clicked_vectors = self.vector[items[users, position]]
            self._taste[users] = _normalize(
                config.taste_memory * self._taste[users] + (1 - config.taste_memory) * clicked_vectors,
                config.num_topics,
            )

    def _tire(self, users: NDArray[np.int64], turn: NDArray[np.int64]) -> None:
        """What bores these users at their turn `turn`, which comes next."""
        config = self.config
        fresh = self._click_turn[users] >= (turn - 1 - config.boredom.recent_turns)[:, None]
        place = self._click_topic[users] + config.num_topics * np.arange(len(users))[:, None]
        count = np.bincount(place[fresh], minlength=len(users) * config.num_topics).reshape(len(users), -1)
        left = np.maximum(self._bored_for[users] - 1, 0)
        self._bored_for[users] = np.where((left == 0) & (count >= config.boredom.threshold), config.boredom.turns, left)

    def _renew(self, slots: NDArray[np.int64]) -> None:
        """Somebody new at these places, who takes his first look."""
        config, generator = self.config, self._generator
        shape = (len(slots), config.num_topics)
        spread = generator.standard_normal((*shape, config.topic_width), dtype=np.float32)
        weight = generator.random(shape, dtype=np.float32) ** 3
        weight /= weight.sum(axis=1, keepdims=True)
        taste = np.abs(np.clip(0.4 * spread, -1, 1)) * weight[:, :, None]
        self._taste[slots] = _normalize(taste.reshape(len(slots), -1), config.num_topics)
        self._bored_for[slots] = 0
        self._click_turn[slots] = NEVER
        items = np.broadcast_to(self.first_look, (len(slots), len(self.first_look)))
        clicked = self._click(items, self._taste[slots], slots)
        self._looked[slots] = clicked
        self._remember(slots, self.topic[items], clicked, np.zeros(len(slots), np.int64))
        self._tire(slots, np.ones(len(slots), np.int64))

    def _observe(self, places: Places) -> Observation:
        return Observation(user=places.users(), context=torch.from_numpy(self._looked.copy()))

    def myopic(self) -> Privileged:
        """The items of highest relevance now, taste and boredom known: the paper's "short-term oracle"."""
        return Privileged(self, self.scores)

    def reference_policies(self) -> dict[str, Callable[[], Privileged]]:
        """Policies that look into this environment."""
        return {"myopic": self.myopic}


def _normalize(taste: Float[np.ndarray, "R E"], topics: int) -> NDArray[np.float32]:
    """Tastes whose topics have norms that sum to 1."""
    norms = np.linalg.norm(taste.reshape(len(taste), topics, taste.shape[1] // topics), axis=2).sum(
        axis=1, keepdims=True
    )
    normed: NDArray[np.float32] = (taste / norms).astype(np.float32)
    return normed


def _vectors(config: Config) -> NDArray[np.float32]:
    """Item vectors of norm 1."""
    generator = np.random.Generator(np.random.SFC64(config.world_seed))
    weight = generator.random((config.num_items, config.num_topics))
    weight /= weight.sum(axis=1, keepdims=True)
    spread = generator.standard_normal((config.num_items, config.num_topics, config.topic_width))
    vector = (np.abs(np.clip(0.4 * spread, -1, 1)) * weight[:, :, None]).reshape(config.num_items, -1)
    vector = vector**config.concentration
    vector /= np.linalg.norm(vector, axis=1, keepdims=True)
    return np.concatenate([np.zeros((FIRST_ITEM, vector.shape[1])), vector]).astype(np.float32)


def _catalog(config: Config, vector: NDArray[np.float32], topic: NDArray[np.int64]) -> Catalog:
    rows = len(vector)
    knows = config.catalog_shows != "names"
    group = topic + 1 if knows else np.zeros(rows, np.int64)
    group[:FIRST_ITEM] = 0
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"item-{number}" for number in range(1, config.num_items + 1)])),
        text=("",) * rows,
        group=group,
        group_names=("", *(f"topic-{t}" for t in range(config.num_topics))) if knows else ("",),
        features=vector.copy() if config.catalog_shows == "vectors" else np.zeros((rows, 0), np.float32),
    )
