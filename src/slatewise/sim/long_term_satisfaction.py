"""Long-term satisfaction: sweets engage more than vegetables and wear satisfaction down ("choc" and "kale", RecSim's).

Constants as in the code released with RecSim (Ie et al. 2019, arXiv 1909.04847, "long-term satisfaction"). A user has a
hidden net positive exposure n and satisfaction s = σ(sensitivity · n); a document has an observed clickbait score c:

    candidates  C documents, c ~ U(0, 1), all drawn anew
    pick        always the first of the slate
    reward      engagement e^x, x ~ N(s (c · choc_mean + (1 − c) · kale_mean), (c · choc_std + (1 − c) · kale_std)²)
    exposure    n ← memory · n − 2 (c − ½) + N(0, innovation_std²);  at first n ~ U(−½, ½) / (1 − memory)
    session     `session_length` slates

Here too the "means" are means of the *logarithm* of what is observed. RecSim's text adds 2 (c − ½) to the exposure, its
code subtracts it, and only so does clickbait do harm: the code is followed.

**The trap does not close with RecSim's constants.** At sensitivity .01 satisfaction stays within .49 … .51 whatever is
shown, and always showing the most clickbait is optimal (`myopic` and `oracle` serve the same slates). In the long run
the exposure is (1 − 2c)/(1 − memory) and log engagement (4 + c) σ(sensitivity (1 − 2c)/.3) on average. What 60 steps
earn, at random | myopic | optimal: 947 | 1,115 | 1,115 at sensitivity .01; 950 | 842 | 1,022 at .1; 981 | 479 | 1,655
at .3 (standard errors of .6 %).

The context holds the clickbait scores of the candidates, place by place, which are items 2, 3, …
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from slatewise.log import FIRST_ITEM, PAD, Catalog, Vocabulary
from slatewise.ops.logistic import sigmoid
from slatewise.sim._oracle import Privileged
from slatewise.sim._slates import check_slates
from slatewise.sim._slots import Places, candidates_of, check_users, must_be_reset
from slatewise.types import Observation, Slates, Step


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the environment; the defaults are RecSim's, but for the two sizes, which it leaves open.

    Raises:
        ValueError: a count below 1, a slate larger than the candidates, a memory outside [0, 1), a deviation below 0,
            or means whose engagement would not be a finite number.
    """

    num_candidates: int = 10
    """C."""
    slate_size: int = 1
    """Only the first document of a slate matters."""
    session_length: int = 60
    """Slates of a session."""
    memory: float = 0.7
    """Share of the exposure that is left after a step."""
    sensitivity: float = 0.01
    """How much satisfaction follows exposure."""
    innovation_std: float = 0.05
    choc_mean: float = 5.0
    """Mean of log engagement with pure clickbait at satisfaction 1."""
    choc_std: float = 1.0
    kale_mean: float = 4.0
    """Mean of log engagement with documents that are none at satisfaction 1."""
    kale_std: float = 1.0

    def __post_init__(self) -> None:
        for name in ("num_candidates", "slate_size", "session_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.slate_size > self.num_candidates:
            raise ValueError(
                f"slate_size is {self.slate_size} with {self.num_candidates} candidates; a slate cannot be larger"
            )
        if not 0 <= self.memory < 1:
            raise ValueError(f"memory is {self.memory}; expected a number in [0, 1), else exposure grows for ever")
        if not math.isfinite(self.sensitivity):
            raise ValueError(f"sensitivity is {self.sensitivity}; expected a finite number")
        for name in ("innovation_std", "choc_std", "kale_std"):
            if not 0 <= getattr(self, name) <= 5:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number in [0, 5]")
        for name in ("choc_mean", "kale_mean"):
            if not abs(getattr(self, name)) <= 40:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; engagement is its exponential, expected ±40 at most"
                )


class Env:
    """B users at once; a place whose session ends gets somebody new in the same step."""

    context_of_candidates: Literal[True] = True
    """The numbers of the context are clickbait scores of the candidates."""

    def __init__(self, config: Config, *, num_users: int) -> None:
        check_users(num_users)
        self.config = config
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.catalog = _catalog(config)
        self._places: Places | None = None

    @property
    def exposure(self) -> Float[Tensor, " B"]:
        """Hidden net positive exposure of every user."""
        must_be_reset(self._places)
        return torch.from_numpy(self._exposure.copy())

    def reset(self, *, seed: int) -> Observation:
        """New users everywhere."""
        self._generator = np.random.Generator(np.random.SFC64(seed))
        self._places = Places(self.num_users)
        self._exposure = np.empty(self.num_users, np.float32)
        self._renew(np.arange(self.num_users))
        self._draw()
        return self._observe(self._places)

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Show the slates; where a session ends, the observation is the first of somebody else's.

        A slate without any document takes its turn of the session, and nothing else happens.
        """
        config, places = self.config, must_be_reset(self._places)
        check_slates(slates, num_users=self.num_users, slate_size=self.slate_size, num_rows=self.catalog.num_rows)
        items = slates.items.numpy()
        shown = items[:, 0] != PAD
        row = np.arange(self.num_users)
        clickbait = self._clickbait[row, np.maximum(items[:, 0] - FIRST_ITEM, 0)]
        noise = self._generator.standard_normal((2, self.num_users), dtype=np.float32)
        mean = clickbait * config.choc_mean + (1 - clickbait) * config.kale_mean
        spread = clickbait * config.choc_std + (1 - clickbait) * config.kale_std
        engagement = np.exp(sigmoid(config.sensitivity * self._exposure) * mean + spread * noise[0])
        reward = np.zeros(items.shape, np.float32)
        reward[:, 0] = engagement * shown
        moved = config.memory * self._exposure - 2 * (clickbait - 0.5) + config.innovation_std * noise[1]
        self._exposure = np.where(shown, moved, self._exposure).astype(np.float32)
        over = places.turn + 1 >= config.session_length
        used = shown[:, None] & (np.arange(items.shape[1]) == 0)
        step = places.record(slates, reward=reward, used=used, terminated=torch.from_numpy(over))
        if over.any():
            self._renew(np.flatnonzero(over))
        self._draw()
        return step, self._observe(places)

    def _renew(self, slots: NDArray[np.int64]) -> None:
        """Somebody new at these places."""
        start = self._generator.random(len(slots), dtype=np.float32) - 0.5
        self._exposure[slots] = start / (1 - self.config.memory)

    def _draw(self) -> None:
        """New documents for everybody."""
        self._clickbait = self._generator.random((self.num_users, self.config.num_candidates), dtype=np.float32)

    def _observe(self, places: Places) -> Observation:
        none = np.zeros(self._clickbait.shape, np.int64)
        return Observation(
            user=places.users(),
            context=torch.from_numpy(self._clickbait.copy()),
            candidates=candidates_of(self.config.num_candidates, 1, none),
        )

    def myopic(self) -> Privileged:
        """The document that engages most now: e^{μ + (standard deviation)²/2} with the hidden satisfaction known."""

        def scores() -> Float[Tensor, "B C"]:
            satisfaction = sigmoid(self.config.sensitivity * self._exposure)[:, None]
            return torch.from_numpy(
                np.log(_mean_engagement(self.config, self._clickbait, satisfaction)).astype(np.float32)
            )

        return Privileged(self, scores)

    def oracle(self, *, grid: int = 161) -> Privileged:
        """The document from which the rest of the session earns most, hidden exposure known: backward induction.

        V_t(n) = E max_c [engagement(n, c) + V_{t+1}(memory · n − 2 (c − ½))] over C scores c ~ U(0, 1), V = 0 after the
        last step. Exposure and scores stand on grids; the innovation is left out (.05 on a range of ±3.3).

        Args:
            grid: points of exposure; values between them are interpolated.
        """
        config = self.config
        reach = 1 / (1 - config.memory)
        exposure = np.linspace(-reach, reach, grid)
        clickbait = (np.arange(200) + 0.5) / 200
        # the best of C draws is the j-th best of all grid scores with the chance that no draw is better and one is it
        rank = np.linspace(0, 1, len(clickbait) + 1) ** config.num_candidates
        chance = np.diff(rank)
        immediate = _mean_engagement(
            config, clickbait, sigmoid(config.sensitivity * exposure)[:, None].astype(np.float64)
        )
        next_exposure = config.memory * exposure[:, None] - 2 * (clickbait - 0.5)
        values = np.zeros((config.session_length + 1, grid))
        for turn in reversed(range(config.session_length)):
            worth = immediate + np.interp(next_exposure, exposure, values[turn + 1])
            values[turn] = np.sort(worth, axis=1) @ chance

        def scores() -> Float[Tensor, "B C"]:
            places = must_be_reset(self._places)
            exposure_now = self._exposure[:, None].astype(np.float64)
            later = config.memory * exposure_now - 2 * (self._clickbait - 0.5)
            # linear between two neighbours of the grid, each user in the row of his own turn
            at = np.clip((later + reach) * (grid - 1) / (2 * reach), 0, grid - 1)
            low = np.minimum(at.astype(np.int64), grid - 2)
            value = values[places.turn + 1]
            left, right = np.take_along_axis(value, low, axis=1), np.take_along_axis(value, low + 1, axis=1)
            soon = _mean_engagement(config, self._clickbait, sigmoid(config.sensitivity * exposure_now))
            return torch.from_numpy((soon + left + (right - left) * (at - low)).astype(np.float32))

        return Privileged(self, scores)

    def reference_policies(self) -> dict[str, Callable[[], Privileged]]:
        """Policies that look into this environment."""
        return {"myopic": self.myopic, "oracle": self.oracle}


def _mean_engagement(
    config: Config, clickbait: NDArray[np.floating], satisfaction: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Mean engagement with a document."""
    mean = clickbait * config.choc_mean + (1 - clickbait) * config.kale_mean
    spread = clickbait * config.choc_std + (1 - clickbait) * config.kale_std
    expected: NDArray[np.floating] = np.exp(satisfaction * mean + 0.5 * spread**2)
    return expected


def _catalog(config: Config) -> Catalog:
    rows = FIRST_ITEM + config.num_candidates
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"place-{place}" for place in range(config.num_candidates)])),
        text=("",) * rows,
        group=np.zeros(rows, np.int64),
        group_names=("",),
        features=np.zeros((rows, 0), np.float32),
    )
