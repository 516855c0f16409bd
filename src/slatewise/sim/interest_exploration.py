"""Interest exploration: topics that everybody likes a little hide what a user likes most (RecSim's environment).

Constants as in the code released with RecSim (Ie et al. 2019, arXiv 1909.04847, "interest exploration"). A user of type
u has a hidden affinity to every topic that never changes; a step shows him documents of observed quality:

    user        type u with chance .3 | .7; affinity g_d ~ LogNormal(((.1, .7), (.7, .1))[u, d], .1) to topic d
    candidates  C documents, each: topic d with chance .2 | .8, quality f ~ LogNormal((.8, .2)[d], .1), all drawn anew
    pick        P(i) ∝ e^{g_d(i) + f_i}, nothing: e^5
    reward      1 for a pick

**What "mean" means.** RecSim calls .8, .2, .1 and .7 means and hands them to NumPy's `lognormal(mean, sigma)`: they are
means of the *logarithm*. So the median quality is e^.8 = 2.23 | e^.2 = 1.22 (not .8 | .2), the median affinity
e^.1 = 1.11 or e^.7 = 2.01. A median document of the first topic then has the logit 3.33 for users of type 0 and 4.24
for type 1, one of the second topic 3.24 and 2.33: the first topic is rare, well made and liked by all, and three users
in ten like both about equally well.

Nothing that is shown changes a user: showing what he likes best is optimal (`oracle`), and what is hard is to find out
what that is. With RecSim's constants little hangs on it: 100 slates earn 31.0 clicks if drawn at random, 44.7 if
everybody gets what most people like (`myopic`), 45.1 at best. RecSim's sessions never end; here they are cut off
after `session_length` slates (`truncated`).

The context holds the qualities of the candidates, place by place. Item numbers: place p of the list holding topic d is
item 2 + p·G + d; features are the topic, one-hot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from slatewise.log import FIRST_ITEM, PAD, Catalog, Vocabulary
from slatewise.ops.choice import pick
from slatewise.sim._oracle import Privileged
from slatewise.sim._slates import check_slates
from slatewise.sim._slots import Places, candidates_of, check_users, must_be_reset
from slatewise.types import Observation, Slates, Step


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the environment; the defaults are RecSim's, but for both sizes and the length, which it leaves open.

    Raises:
        ValueError: a count below 1, a slate larger than the candidates, shares that do not sum to 1, lists of different
            lengths, or a number that is not finite.
    """

    num_candidates: int = 10
    """C."""
    slate_size: int = 3
    session_length: int = 100
    """Slates after which a session is cut off; RecSim's go on for ever."""
    topic_share: tuple[float, ...] = (0.2, 0.8)
    """Chance that a document is about each topic."""
    topic_quality: tuple[float, ...] = (0.8, 0.2)
    """Mean of log quality per topic."""
    quality_std: float = 0.1
    """Standard deviation of log quality."""
    user_share: tuple[float, ...] = (0.3, 0.7)
    """Chance that a user is of each type."""
    affinity: tuple[tuple[float, ...], ...] = ((0.1, 0.7), (0.7, 0.1))
    """Mean of log affinity: a row per type of user, a column per topic."""
    affinity_std: float = 0.1
    """Standard deviation of log affinity."""
    null_logit: float = 5.0
    """Logit of picking nothing."""

    def __post_init__(self) -> None:
        for name in ("num_candidates", "slate_size", "session_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.slate_size > self.num_candidates:
            raise ValueError(
                f"slate_size is {self.slate_size} with {self.num_candidates} candidates; a slate cannot be larger"
            )
        for name in ("topic_share", "user_share"):
            share = getattr(self, name)
            if not share or min(share) < 0 or not math.isclose(sum(share), 1.0, abs_tol=1e-6):
                raise ValueError(f"{name} is {share}; expected probabilities that sum to 1")
        if len(self.topic_quality) != len(self.topic_share):
            raise ValueError(f"topic_quality has {len(self.topic_quality)} entries for {len(self.topic_share)} topics")
        if [len(row) for row in self.affinity] != [len(self.topic_share)] * len(self.user_share):
            raise ValueError(
                f"affinity is {self.affinity}; expected {len(self.user_share)} rows of {len(self.topic_share)} numbers"
            )
        for name in ("quality_std", "affinity_std"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a finite number ≥ 0")
        # e^(e^4.4) is the end of float32: weights of larger logits would be infinite
        highest = [*self.topic_quality, *(mean for row in self.affinity for mean in row)]
        if not all(math.isfinite(mean) and mean <= 3 for mean in highest) or not abs(self.null_logit) <= 80:
            raise ValueError("means of logarithms up to 3 and a null_logit within ±80 give finite weights; got others")


class Env:
    """B users at once; a place whose session is cut off gets somebody new in the same step."""

    context_of_candidates: Literal[True] = True
    """The numbers of the context are qualities of the candidates."""

    def __init__(self, config: Config, *, num_users: int) -> None:
        check_users(num_users)
        self.config = config
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.catalog = _catalog(config)
        self._places: Places | None = None

    @property
    def affinity(self) -> Float[Tensor, "B G"]:
        """Hidden affinity of every user to every topic."""
        must_be_reset(self._places)
        return torch.from_numpy(self._affinity.copy())

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        self._generator = np.random.Generator(np.random.SFC64(seed))
        self._places = Places(self.num_users)
        self._affinity = np.empty((self.num_users, len(self.config.topic_share)), np.float32)
        self._renew(np.arange(self.num_users))
        self._draw()
        return self._observe(self._places)

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates; where a session is cut off, the observation is the first of somebody else's."""
        places = must_be_reset(self._places)
        groups = len(self.config.topic_share)
        self._check(slates)
        items = slates.items.numpy()
        empty = items == PAD
        place, topic = np.divmod(np.where(empty, 0, items - FIRST_ITEM), groups)
        if not ((np.take_along_axis(self._topic, place, axis=1) == topic) | empty).all():
            self._check(slates, candidates_of(self.config.num_candidates, groups, self._topic))
        logit = np.take_along_axis(self._affinity, topic, axis=1) + np.take_along_axis(self._quality, place, axis=1)
        weight = torch.from_numpy(np.where(empty, np.float32(0), np.exp(logit)))
        nothing = torch.tensor(math.exp(self.config.null_logit)).expand(self.num_users)
        luck = torch.from_numpy(self._generator.random(self.num_users, dtype=np.float32))
        choice = pick(weight, nothing, luck).numpy()
        used = np.arange(items.shape[1]) == choice[:, None]
        over = places.turn + 1 >= self.config.session_length
        step = places.record(slates, reward=used.astype(np.float32), used=used, truncated=torch.from_numpy(over))
        if over.any():
            self._renew(np.flatnonzero(over))
        self._draw()
        return step, self._observe(places)

    def _check(self, slates: Slates, candidates: Int[Tensor, "B C"] | None = None) -> None:
        check_slates(
            slates,
            num_users=self.num_users,
            slate_size=self.slate_size,
            num_rows=self.catalog.num_rows,
            candidates=candidates,
        )

    def _renew(self, slots: NDArray[np.int64]) -> None:
        """Somebody new at these places."""
        config = self.config
        kind = _draw_categories(self._generator.random(len(slots)), config.user_share)
        noise = self._generator.standard_normal((len(slots), len(config.topic_share)), dtype=np.float32)
        self._affinity[slots] = np.exp(np.array(config.affinity, np.float32)[kind] + config.affinity_std * noise)

    def _draw(self) -> None:
        """New documents for everybody."""
        config = self.config
        shape = (self.num_users, config.num_candidates)
        self._topic = _draw_categories(self._generator.random(shape, dtype=np.float32), config.topic_share)
        noise = self._generator.standard_normal(shape, dtype=np.float32)
        mean = np.array(config.topic_quality, np.float32)[self._topic]
        self._quality = np.exp(mean + np.float32(config.quality_std) * noise)

    def _observe(self, places: Places) -> Observation:
        return Observation(
            user=places.users(),
            context=torch.from_numpy(self._quality.copy()),
            candidates=candidates_of(self.config.num_candidates, len(self.config.topic_share), self._topic),
        )

    def myopic(self) -> Privileged:
        """The documents that users like best on average, nothing known of this one: e^f · E[e^g] over all users.

        What is picked most as long as nobody explores; the way from here to `oracle` is what exploring can earn.
        """
        config = self.config
        # E over the normal distribution by Gauss and Hermite: 20 points give it to all digits for such small deviations
        node, mass = np.polynomial.hermite_e.hermegauss(20)
        mean = np.array(config.affinity)[:, :, None] + config.affinity_std * node
        appeal = np.array(config.user_share) @ (np.exp(np.exp(mean)) @ (mass / mass.sum()))

        def scores() -> Float[Tensor, "B C"]:
            return torch.from_numpy(np.log(appeal).astype(np.float32)[self._topic] + self._quality)

        return Privileged(self, scores)

    def oracle(self) -> Privileged:
        """The documents that this user likes best, his hidden affinity known: the optimal policy."""

        def scores() -> Float[Tensor, "B C"]:
            return torch.from_numpy(np.take_along_axis(self._affinity, self._topic, axis=1) + self._quality)

        return Privileged(self, scores)

    def reference_policies(self) -> dict[str, Callable[[], Privileged]]:
        """Policies that look into this environment."""
        return {"myopic": self.myopic, "oracle": self.oracle}


def _draw_categories(luck: NDArray[np.floating], share: tuple[float, ...]) -> NDArray[np.int64]:
    """Numbers 0 … n − 1, each with its chance."""
    number = np.zeros(luck.shape, np.int64)
    for edge in np.cumsum(share)[:-1].tolist():  # a few comparisons are much faster than a search
        number += luck >= edge
    return number


def _catalog(config: Config) -> Catalog:
    places, topics = config.num_candidates, len(config.topic_share)
    topic = np.tile(np.arange(topics), places)
    features = np.zeros((FIRST_ITEM + places * topics, topics), np.float32)
    features[np.arange(len(topic)) + FIRST_ITEM, topic] = 1.0
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"place-{p}-topic-{d}" for p in range(places) for d in range(topics)])),
        text=("",) * (FIRST_ITEM + places * topics),
        group=np.concatenate([np.zeros(FIRST_ITEM, np.int64), topic + 1]),
        group_names=("", *(f"topic-{d}" for d in range(topics))),
        features=features,
    )
