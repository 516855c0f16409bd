"""Values that cross rooms.

Axes: B batch · T step · S = T+1 · K slate · C candidates · N items · D state · X context. Item numbers as in log.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happened once, to B users at the same time."""

    event_id: Int[Tensor, "B"]
    policy_id: Int[Tensor, "B"]
    """Which policy served; 0 where the log does not say."""
    user: Int[Tensor, "B"]
    time: Int[Tensor, "B"]
    """Microseconds since 1970, UTC."""
    terminated: Bool[Tensor, "B"]
    """The session ended here by itself: nothing follows."""
    truncated: Bool[Tensor, "B"]
    """The record ends here, the session may have gone on."""
    slate: Int[Tensor, "B K"]
    logp: Float[Tensor, "B K"]
    """Chain-rule factor of the served procedure per position, ≤ 0; 0 where unknown (see logp_known)."""
    logp_known: Bool[Tensor, "B"]
    reward: Float[Tensor, "B K"]
    """What came of the item in all, by later outcomes too; in the units of the log (methods map it in their config)."""
    cost: Float[Tensor, "B K"]
    used: Bool[Tensor, "B K"]
    """Shown items that the user used: clicked, bought, rated. A rating is a use, whatever its value."""
    used_time: Int[Tensor, "B K"]
    """When the use arrived, in microseconds; 0 where unused. No state before that reads it."""
    use_reward: Float[Tensor, "B K"]
    """What the use was worth when it arrived; 0 where unused. States read this, not what came later."""

    @property
    def choice(self) -> Int[Tensor, "B"]:
        """Position of the used item with the largest reward (then the earliest, then the first); −1 = none used."""
        return _choice(self.used, self.used_time, self.reward)


PADDING: Mapping[str, int] = MappingProxyType(
    {
        "event_id": 0,
        "policy_id": 0,
        "time": 0,
        "terminated": False,
        "truncated": False,
        "slate": 0,
        "logp": 0,
        "logp_known": False,
        "reward": 0,
        "cost": 0,
        "used": False,
        "used_time": 0,
        "use_reward": 0,
        "mask": False,
        "learn": False,
        "context": 0,
        "candidates": 0,
    }
)
"""What the fields of Trajectories hold where there is no step; `user` holds the row's user there, too."""
NEVER = torch.iinfo(torch.int64).max
"""A time after all others."""
VIEWS = frozenset({"context", "candidates"})
"""Fields with S = T + 1 columns: what was seen before each step and after the last."""


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """A padded, masked batch of consecutive steps of B users; the same fields as Step."""

    event_id: Int[Tensor, "B T"]
    policy_id: Int[Tensor, "B T"]
    user: Int[Tensor, "B T"]
    time: Int[Tensor, "B T"]
    terminated: Bool[Tensor, "B T"]
    truncated: Bool[Tensor, "B T"]
    slate: Int[Tensor, "B T K"]
    logp: Float[Tensor, "B T K"]
    logp_known: Bool[Tensor, "B T"]
    reward: Float[Tensor, "B T K"]
    cost: Float[Tensor, "B T K"]
    used: Bool[Tensor, "B T K"]
    used_time: Int[Tensor, "B T K"]
    use_reward: Float[Tensor, "B T K"]
    mask: Bool[Tensor, "B T"]
    """True where a step exists. A masked step moves no state."""
    learn: Bool[Tensor, "B T"]
    """True where a learner may learn from the step; the others (burn-in) only move the state. Implies mask."""
    context: Float[Tensor, "B S X"]
    """What was seen before each step and after the last; width 0 where the log has none."""
    candidates: Int[Tensor, "B S C"] | None = None
    """Items that could be shown at each step, 0-padded; None = the whole catalog."""
    next_time: Int[Tensor, "B"] | None = None
    """Time of the decision that follows the row's last step; the state after that step reads no use that arrives later.
    None = it reads every use."""

    @property
    def choice(self) -> Int[Tensor, "B T"]:
        """Position of the used item with the largest reward (then the earliest, then the first); −1 = none used."""
        return _choice(self.used, self.used_time, self.reward)

    def step(self, t: int) -> Step:
        """The t-th step of every user."""
        return Step(**{name: getattr(self, name)[:, t] for name in Step.__dataclass_fields__})

    def observation(self, t: int) -> Observation:
        """What was seen before step t (t = T: after the last)."""
        return Observation(
            user=self.user[:, min(t, self.user.shape[1] - 1)],
            context=self.context[:, t],
            candidates=None if self.candidates is None else self.candidates[:, t],
        )

    def rows(self, index: Int[Tensor, " P"] | Bool[Tensor, " B"] | slice) -> Trajectories:
        """The rows at an index, in its order; they stay as long as the batch (see `trim`)."""
        return self.replace(**{name: value[index] for name, value in self._tensors()})

    def trim(self) -> Trajectories:
        """The batch without the columns after the last step of its longest row."""
        steps = int(self._up_to_last_step().any(dim=0).sum())
        return self.replace(
            **{name: value[:, : steps + (name in VIEWS)] for name, value in self._tensors() if value.ndim > 1}
        )

    def pad(self) -> Trajectories:
        """The batch with PADDING wherever there is no step, and in the views after the one that follows the last.

        Builders gather whatever stands at a padded column, and then call this.
        """
        viewed = torch.nn.functional.pad(self._up_to_last_step(), (1, 0), value=True)
        columns = {"user": self.user[:, :1].expand_as(self.user).clone()}
        for name, value in self._tensors():
            if name in PADDING:
                exists = viewed if name in VIEWS else self.mask
                padded = ~exists.reshape(exists.shape + (1,) * (value.ndim - 2))
                columns[name] = value.masked_fill(padded, PADDING[name])
        return self.replace(**columns)

    def replace(self, **columns: Tensor) -> Trajectories:
        """A copy with some fields exchanged."""
        return replace(self, **columns)

    def _tensors(self) -> list[tuple[str, Tensor]]:
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return [(name, value) for name, value in values if value is not None]

    def _up_to_last_step(self) -> Bool[Tensor, "B T"]:
        """True up to the last step of each row, gaps included."""
        return self.mask.flip(1).cumsum(dim=1).flip(1) > 0


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy sees of B users before it decides."""

    user: Int[Tensor, "B"]
    context: Float[Tensor, "B X"]
    candidates: Int[Tensor, "B C"] | None = None


@dataclass(frozen=True, kw_only=True)
class Uses:
    """Uses of B users, up to P each, in the order in which they arrived."""

    item: Int[Tensor, "B P"]
    reward: Float[Tensor, "B P"]
    """What each was worth when it arrived."""
    time: Int[Tensor, "B P"]
    """When it arrived, in microseconds."""
    present: Bool[Tensor, "B P"]
    """False at places that a user with fewer uses leaves empty; they move nothing."""

    def columns(self, places: slice) -> Uses:
        """The uses at some places."""
        return Uses(**{each.name: getattr(self, each.name)[:, places] for each in fields(self)})


@dataclass(frozen=True, kw_only=True)
class History:
    """All uses of B users in the order in which they arrived, and how many of them every decision reads."""

    uses: Uses
    """L places, as many as the longest history has uses; the empty ones at the end hold 0."""
    count: Int[Tensor, "B S"]
    """How many uses had arrived before each step, and before what follows the last: the state there reads that many."""


@dataclass(frozen=True, kw_only=True)
class Slates:
    """B ranked lists with the log-propensity factor of every position; item 0 fills a list that ran out of items."""

    items: Int[Tensor, "B K"]
    logp: Float[Tensor, "B K"]


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """Boltzmann exploration: of the top_m best items, `keep` are shown in order, the other slots are drawn without
    replacement by softmax(score / temperature) from the remaining top_m − keep (Chen et al. 2019, sec. 5).

    Raises:
        ValueError: top_m < 1, keep < 0, temperature ≤ 0.
    """

    top_m: int = 100
    keep: int = 0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.top_m < 1:
            raise ValueError(f"exploration.top_m is {self.top_m}; expected at least 1 candidate to draw from")
        if self.keep < 0:
            raise ValueError(f"exploration.keep is {self.keep}; expected 0 or more fixed slots")
        if not self.temperature > 0:
            raise ValueError(f"exploration.temperature is {self.temperature}; expected a number above 0")


@dataclass(frozen=True, kw_only=True)
class SlateRequest:
    """The conditions under which slates of k items are drawn, evaluated and logged.

    Raises:
        ValueError: k < 1, or `fixed` for another number of positions than k.
    """

    k: int
    """Number of positions."""
    candidates: Int[Tensor, "B C"] | None = None
    """Items that the policy may choose from, 0-padded; None = the whole catalog."""
    allowed: Bool[Tensor, " rows"] | None = None
    """True for the item numbers that the policy may choose from for everybody, beside `candidates`; None = all of them.
    One truth value a row of the item table, however many users there are."""
    exclude: Int[Tensor, "B X"] | None = None
    """Items that must not be shown, 0-padded."""
    fixed: Int[Tensor, "B K"] | None = None
    """Item shown at each position whatever the policy says, a candidate or not; 0 = the policy fills the position."""
    exploration: Exploration | None = None
    """How slates are drawn; None = the best items are shown, with certainty."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"slate size {self.k}: expected at least 1 position")
        if self.fixed is not None and self.fixed.shape[1] != self.k:
            raise ValueError(f"fixed says what {self.fixed.shape[1]} positions show; expected k = {self.k}")

    def rows(self, index: slice | Int[Tensor, " P"] | Bool[Tensor, " B"]) -> SlateRequest:
        """The conditions of the users at `index`."""
        return replace(
            self,
            candidates=None if self.candidates is None else self.candidates[index],
            exclude=None if self.exclude is None else self.exclude[index],
            fixed=None if self.fixed is None else self.fixed[index],
        )


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What a learner learns from at a point of its training."""

    name: str
    """For messages: "imitation"."""
    last: bool
    """True where no other phase follows."""


Verdict = Literal["can judge", "weak", "cannot judge"]
PropensitySource = Literal["logged", "fitted"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An off-policy estimate with what is needed to believe it or not.

    Its independent units are trajectories: all steps of one user, however many windows they were cut into.
    """

    value: float
    stderr: float
    interval: tuple[float, float]
    """95 %; within the range of the rewards where the estimator cannot leave it."""
    trajectories: int
    """Trajectories the estimate was made of."""
    steps: int
    """Shown items in them: one a step, or several where slates are estimated item by item."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Shown items that could not enter the estimate, by reason."""
    ess: float
    """Effective sample size (Σ W)² / Σ W² of the trajectories' summed weights W."""
    max_weight: float
    """Largest normalised weight: the share of the estimate that one trajectory carries."""
    mean_weight: float
    """Mean weight of a step; 1 in expectation where the log covers what the policy does."""
    pareto_k: float
    """Shape k̂ of the tail of the trajectories' weights; −∞ where it has none."""
    unsupported: float
    """Share of logged actions that the evaluation policy could not have taken."""
    propensities: PropensitySource = "logged"
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why the verdict is not better, in words."""
    contributions: Float[Tensor, "B"] = field(repr=False, default_factory=lambda: torch.zeros(0))
    """Per row of the log."""


def used_at_once(
    used: Bool[Tensor, "*B K"], *, time: Int[Tensor, "*B"], reward: Float[Tensor, "*B K"]
) -> dict[str, Tensor]:
    """The fields `used`, `used_time` and `use_reward` of steps whose items are used when they are shown."""
    return {
        "used": used,
        "used_time": torch.where(used, time.unsqueeze(-1), 0),
        "use_reward": torch.where(used, reward, 0.0),
    }


def _choice(
    used: Bool[Tensor, "*B K"], used_time: Int[Tensor, "*B K"], reward: Float[Tensor, "*B K"]
) -> Int[Tensor, "*B"]:
    worth = reward.masked_fill(~used, -torch.inf)
    best = used & (worth == worth.amax(dim=-1, keepdim=True))
    time = used_time.masked_fill(~best, NEVER)
    first = best & (time == time.amin(dim=-1, keepdim=True))
    # of equal numbers argmax returns the first
    return first.to(torch.uint8).argmax(dim=-1).masked_fill(~used.any(dim=-1), -1)
