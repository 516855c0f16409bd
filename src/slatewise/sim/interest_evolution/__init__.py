"""Interest evolution: clickbait is picked more easily, good documents give the user more time (RecSim's environment).

Ie et al., "SlateQ", IJCAI 2019 (arXiv 1905.12767), sec. 6.1; constants as in the code released with RecSim (Ie et al.
2019, arXiv 1909.04847). A step of a user with interests x ∈ [−1,1]^G and b minutes left:

    candidates  C documents, each: topic g uniform, quality q ~ N(mean_g, quality_std²), all drawn anew
    pick        proportional: P(i) ∝ x_g + 1, nothing: 2 · mnl: P(i) ∝ e^{x_g}, nothing: e^1
                cascades: from the top, each with the chance attention · scaling · (x_g + 1 or e^{x_g})
    reward      minutes = min(b, 4) of the picked document
    budget      b ← b − minutes + gain · minutes · q;  nothing picked: b ← b − 0.5;  the session ends at b ≤ 0
    interest    x_g moves by ±0.3 (1 − |x_g|) (1 − x_g), up with probability (x_g + 1)/2, cut to [−1, 1]

Only topics are observed, never qualities: they are what a policy must learn about topics. 14 of 20 topics are bad on
average (means −3 … 0), 6 are good (0 … 3).

Item numbers: place p of the candidate list holding topic g is item 2 + p·G + g, so that all candidates of a user are
different numbers although documents do not stay. Features are the topic, one-hot.

Documents are drawn from a stock of 2¹⁶ ÷ G per topic, whose qualities are the middles of equally likely cells of the
normal distribution, scaled to its standard deviation: one random number is one document.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD
from slatewise.ops.choice import cascade_probabilities, choice_weight, pick
from slatewise.sim._oracle import Privileged
from slatewise.sim._slates import check_slates
from slatewise.sim.interest_evolution.columns import ObservationColumns, StepColumns
from slatewise.sim.interest_evolution.config import CascadeConfig, Config
from slatewise.sim.interest_evolution.documents import document_catalog, document_qualities
from slatewise.types import Observation, Slates, Step

MINUTE = 60_000_000
START = 1_600_000_000_000_000
BLOCK = 16_384
"""Users that one thread moves at a time: their numbers fit into its cache."""


class Env:
    """B users at once; a session is a user's budget, and a place whose session ends gets somebody new in the same step.

    Users are moved in blocks with a random stream each, by as many threads as there are cores; the number of threads
    changes nothing but the time it takes.
    """

    def __init__(self, config: Config, *, num_users: int, threads: int | None = None) -> None:
        if num_users < 1:
            raise ValueError(f"num_users is {num_users}; expected at least 1")
        self.config = config
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.catalog = document_catalog(config)
        blocks = -(-num_users // BLOCK)
        self._threads = min(blocks, threads or os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._blocks: list[_Block] = []
        self._events = 0

    @property
    def quality(self) -> Float[Tensor, "B C"]:
        """True quality of every candidate: what no policy sees."""
        self._must_be_reset()
        return torch.from_numpy(np.concatenate([block.quality for block in self._blocks]))

    @property
    def budget(self) -> Float[Tensor, " B"]:
        """Minutes that every user has left."""
        self._must_be_reset()
        return torch.from_numpy(np.concatenate([block.budget for block in self._blocks]))

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        cuts = range(0, self.num_users, BLOCK)
        stock = document_qualities(self.config)
        streams = np.random.SeedSequence(seed).spawn(len(cuts))
        self._blocks = [
            _Block(
                self.config,
                stock,
                first,
                min(BLOCK, self.num_users - first),
                np.random.Generator(np.random.SFC64(stream)),
            )
            for first, stream in zip(cuts, streams, strict=True)
        ]
        self._events = 0
        observed = ObservationColumns(self.num_users, self.config)
        for block in self._blocks:
            block.see(observed, self.num_users)
        return observed.observation()

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates; where a session ends, the observation is the first of somebody else's."""
        self._must_be_reset()
        if slates.items.shape != (self.num_users, self.slate_size) or slates.logp.shape != slates.items.shape:
            self._refuse(slates)
        items, logp = np.ascontiguousarray(slates.items.numpy()), slates.logp.detach().numpy()
        # everything is checked before anybody moves, so that a refused step leaves the users where they were
        if not all(self._each(lambda block: block.read(items, logp))):
            self._refuse(slates)
        happened, observed = StepColumns(items, logp, self._events), ObservationColumns(self.num_users, self.config)

        def live(block: _Block) -> bool:
            block.live(happened)
            block.see(observed, self.num_users)
            return True

        self._each(live)
        self._events += self.num_users
        return happened.step(), observed.observation()

    def _must_be_reset(self) -> None:
        if not self._blocks:
            raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")

    def _refuse(self, slates: Slates) -> None:
        observed = ObservationColumns(self.num_users, self.config)
        for block in self._blocks:
            block.see(observed, self.num_users)
        check_slates(
            slates,
            num_users=self.num_users,
            slate_size=self.slate_size,
            num_rows=self.catalog.num_rows,
            candidates=observed.observation().candidates,
        )
        raise input_error(f"slates.logp has the shape {tuple(slates.logp.shape)}; expected that of slates.items")

    def _each(self, work: Callable[[_Block], bool]) -> list[bool]:
        """Do something with every block, each thread a stretch of them."""
        if self._pool is None:
            return [work(block) for block in self._blocks]
        cuts = np.linspace(0, len(self._blocks), self._threads + 1).astype(int)
        parts = [self._blocks[start:stop] for start, stop in itertools.pairwise(cuts)]
        done = self._pool.map(lambda part: [work(block) for block in part], parts)
        return [result for part in done for result in part]

    def myopic(self) -> Privileged:
        """The documents that the user likes best by their true interests: what they pick, whatever that costs later."""

        def scores() -> Float[Tensor, "B C"]:
            return torch.from_numpy(np.concatenate([block.affinity() for block in self._blocks]))

        return Privileged(self, scores)

    def oracle(self) -> Privileged:
        """The documents of highest true quality, which nobody outside can see."""
        return Privileged(self, lambda: self.quality)

    def reference_policies(self) -> dict[str, Callable[[], Privileged]]:
        """Policies that look into this environment."""
        return {"myopic": self.myopic, "oracle": self.oracle}


class _Block:
    """Users first … first + count − 1 with their own stream of random numbers."""

    def __init__(
        self, config: Config, stock: NDArray[np.float32], first: int, count: int, generator: np.random.Generator
    ) -> None:
        self.config, self.generator = config, generator
        self.rows = slice(first, first + count)
        self.place = np.arange(first, first + count)
        self.session = np.zeros(count, np.int64)
        self.clock = np.full(count, START)
        self.interest = np.empty((count, config.num_topics), np.float32)
        self.budget = np.empty(count, np.float32)
        self._stock = stock
        self._numbers = FIRST_ITEM + config.num_topics * np.arange(config.num_candidates)
        self._null_weight = choice_weight(torch.tensor(config.null_mass), config.choice).expand(count)
        row = np.arange(count)
        self._row = row
        self._topic_row, self._candidate_row = row[:, None] * config.num_topics, row[:, None] * config.num_candidates
        self._renew(row)
        self._draw()

    def affinity(self) -> NDArray[np.float32]:
        """Interest in the topic of every candidate."""
        return np.take_along_axis(self.interest, self.topic.astype(np.int64), axis=1)

    def see(self, observed: ObservationColumns, num_users: int) -> None:
        """Write down what is seen of these users now."""
        np.add(self.topic, self._numbers, out=observed.candidates[self.rows])
        np.add(self.place, self.session * num_users, out=observed.user[self.rows])
        context = observed.context[self.rows]
        context[:, : self.config.num_topics] = self.interest
        if self.config.budget_visible:
            context[:, -1] = self.budget / self.config.budget

    def read(self, items: NDArray[np.int64], logp: NDArray[np.float32]) -> bool:
        """Understand the slates of these users; False where one of them cannot be shown."""
        config = self.config
        items = items[self.rows]
        size = items.shape[1]
        lowest, highest = items.min(), items.max()
        if not (lowest >= PAD and highest < FIRST_ITEM + config.num_topics * config.num_candidates):
            return False
        if not (logp[self.rows] <= 1e-5).all():
            return False
        self._empty: NDArray[np.bool_] | None = None
        number = items - FIRST_ITEM
        if lowest < FIRST_ITEM:
            self._empty = items == PAD
            if (items == FIRST_ITEM - 1).any() or (self._empty[:, :-1] & ~self._empty[:, 1:]).any():
                return False
            number[self._empty] = 0
        place = number // config.num_topics
        self._shown = number - place * config.num_topics
        self._at = place + self._candidate_row
        right = self.topic.ravel().take(self._at) == self._shown
        if self._empty is not None:
            right |= self._empty
        if not right.all():
            return False
        for distance in range(1, size):
            twice = place[:, distance:] == place[:, :-distance]
            if self._empty is not None:
                twice &= ~self._empty[:, distance:]
            if twice.any():
                return False
        return True

    def live(self, happened: StepColumns) -> None:
        """One step of these users with the slates that were read last."""
        config = self.config
        affinity = self.interest.ravel().take(self._shown + self._topic_row)
        luck = self.generator.random((2, len(self._row)), dtype=np.float32)
        choice = self._choose(torch.from_numpy(affinity), torch.from_numpy(luck[0])).numpy()
        happened.choice[self.rows] = choice
        happened.user[self.rows] = self.place + self.session * len(happened.user)
        happened.time[self.rows] = self.clock
        at = self._row * affinity.shape[1] + np.maximum(choice, 0)
        topic, x = self._shown.ravel().take(at), affinity.ravel().take(at)
        quality = self.quality.ravel().take(self._at.ravel().take(at))
        picked = (choice >= 0).astype(np.float32)

        minutes = np.minimum(self.budget, np.float32(config.length)) * picked
        happened.reward[self.rows].ravel()[at] = minutes
        lost = np.float32(config.null_cost) * (1 - picked)
        self.budget += minutes * (np.float32(config.budget_gain) * quality - 1) - lost
        self.clock += ((minutes + lost) * MINUTE).astype(np.int64)

        move = np.float32(config.interest_step) * (1 - np.abs(x)) * (1 - x) * picked
        np.negative(move, out=move, where=2 * luck[1] >= x + 1)
        self.interest.ravel()[topic + self._topic_row[:, 0]] = np.minimum(np.maximum(x + move, -1), 1)

        over = self.budget <= 0
        happened.terminated[self.rows] = over
        ended = np.flatnonzero(over)
        if len(ended):
            self.session[ended] += 1
            self._renew(ended)
        self._draw()

    def _choose(self, affinity: Float[Tensor, "B K"], luck: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
        config = self.config
        weight = choice_weight(affinity, config.choice)
        cascade = config.choice.endswith("cascade")
        if cascade:
            weight = weight * (config.cascade.attention * config.cascade.scaling)
        if self._empty is not None:
            weight = weight.masked_fill(torch.from_numpy(self._empty), 0.0)
        if cascade:
            chances = cascade_probabilities(weight)
            return pick(chances[:, :-1], chances[:, -1], luck)
        return pick(weight, self._null_weight, luck)

    def _renew(self, slots: NDArray[np.int64]) -> None:
        """Somebody new at these places."""
        draws = self.generator.random((len(slots), self.config.num_topics), dtype=np.float32)
        self.interest[slots] = 2 * draws - 1
        self.budget[slots] = self.config.budget

    def _draw(self) -> None:
        """New documents for everybody."""
        shape = (len(self._row), self.config.num_candidates)
        document = self.generator.integers(len(self._stock), size=shape, dtype=np.uint16)
        self.topic = document // np.uint16(len(self._stock) // self.config.num_topics)
        self.quality = self._stock.take(document)


__all__ = ["CascadeConfig", "Config", "Env"]
