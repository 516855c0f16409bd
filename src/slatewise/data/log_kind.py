"""What kind of log a prepared data set holds: what users say in it, how they come back, its clock and propensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from slatewise.data.prepared import Dataset
from slatewise.data.reading.account import MANY_REPEATS
from slatewise.log import LogPart

Feedback = Literal["ratings", "amounts", "uses", "single_items", "slates"]
Propensities = Literal["none", "single_draws", "slates"]
Size = Literal["small", "medium", "large"]
MOST_LEVELS = 21
"""Most values of a rating scale: 0 to 10 in halves. Rewards with more values are amounts, such as seconds watched."""
TOP_OF_SCALE = 0.75
"""Ratings in the top quarter of their scale are liked: 4 of 1 … 5, 8 of 1 … 10."""
FEWEST_LIKED = 0.05
"""Share of liked uses below which the scale says little of the log, and its upper half counts as liked."""
SPARSE_BELOW = 10
"""Uses of an item, in the mean, below which a log is sparse."""
MEDIUM_FROM = 20_000
"""Uses from which on a log is of medium size."""
LARGE_FROM = 1_000_000


@dataclass(frozen=True, kw_only=True)
class LogKind:
    """What kind of log it is, as far as settings depend on it."""

    feedback: Feedback
    """ratings: uses with grades; amounts: uses with quantities (seconds watched); uses: clicks or plays that are all
    worth the same; single_items and slates: what was shown, one item or several at a time, used or not."""
    liked_at_least: float | None
    """Reward from which on a use counts as liked; None where all are worth the same, or slates say what was used."""
    lowest: float
    """Reward of a use."""
    highest: float
    repeats: float
    """Share of the uses whose item the user had used before."""
    clock: bool
    propensities: Propensities
    """single_draws: of single items; slates: factors of whole slates, which are no propensities of single draws."""
    known_propensities: float
    """Share of the rows that have one."""
    slate_size: int
    several_uses: float
    """Share of the events with more than one used item."""
    users: int
    items: int
    uses: int

    @property
    def has_repeats(self) -> bool:
        """Whether users come back to items so often that recommending them again makes sense."""
        return self.repeats >= MANY_REPEATS

    @property
    def is_sparse(self) -> bool:
        """Whether an item has fewer than ten uses in the mean: too few to learn which follows which."""
        return self.uses < SPARSE_BELOW * self.items

    @property
    def size(self) -> Size:
        """Size by the number of uses: below 20,000 small, from a million on large."""
        return "small" if self.uses < MEDIUM_FROM else "medium" if self.uses < LARGE_FROM else "large"

    @property
    def traits(self) -> tuple[str, ...]:
        """Names under which settings are kept for such logs, the more special ones later."""
        return (
            "always",
            self.size,
            "sparse" if self.is_sparse else "not_sparse",
            "slates" if self.feedback == "slates" else "no_slates",
            self.feedback,
            "repeats" if self.has_repeats else "no_repeats",
            "clock" if self.clock else "no_clock",
            "propensities" if self.propensities == "single_draws" else "no_propensities",
        )

    def sentence(self) -> str:
        """The kind in words, with the counts it was read from."""
        of_several = f", {self.several_uses:.0%} of them with several uses" if self.several_uses else ""
        words = {
            "ratings": f"ratings from {self.lowest:g} to {self.highest:g}",
            "amounts": f"uses with amounts from {self.lowest:g} to {self.highest:g}",
            "uses": "uses that are all worth the same (clicks, plays)",
            "single_items": "single items that were shown, used or not",
            "slates": f"slates of up to {self.slate_size} items, used or not{of_several}",
        }
        logged = {"none": "no propensities", "single_draws": "propensities", "slates": "propensities of slates"}
        share = f" in {self.known_propensities:.0%} of the rows" if 0 < self.known_propensities < 1 else ""
        return (
            f"{words[self.feedback]}; {self.uses:,} uses by {self.users:,} users of {self.items:,} items, "
            f"{self.repeats:.0%} repeats, {'a' if self.clock else 'no'} clock, {logged[self.propensities]}{share}"
        )


def kind_of(dataset: Dataset) -> LogKind:
    """The kind of a prepared data set, read from its columns and its manifest."""
    log = dataset.interactions
    whole = LogPart.whole(log)
    rows = whole.used_rows()
    rewards = np.asarray(log.reward)[rows].astype(np.float64)
    feedback = _feedback(dataset, rewards)
    share = np.count_nonzero(log.logp_known) / max(log.num_rows, 1)
    single: Propensities = "slates" if log.slate_size > 1 else "single_draws"
    return LogKind(
        feedback=feedback,
        liked_at_least=liked_threshold(rewards) if feedback in ("ratings", "amounts") else None,
        lowest=float(rewards.min()) if len(rewards) else 0.0,
        highest=float(rewards.max()) if len(rewards) else 0.0,
        repeats=_repeats(dataset, rows),
        clock=dataset.clock,
        propensities=single if share else "none",
        known_propensities=float(share),
        slate_size=log.slate_size,
        several_uses=whole.num_several_uses() / max(log.num_events, 1),
        users=log.num_users,
        items=dataset.catalog.num_items,
        uses=len(rows),
    )


def liked_threshold(rewards: Float[np.ndarray, " P"]) -> float | None:
    """Reward from which on a graded use counts as liked; None where all are the same.

    On a scale of at most 21 values that is the lowest one in the top quarter of the scale; of amounts, and where few
    uses reach that value, the median.
    """
    values = np.unique(rewards)
    if len(values) < 2:
        return None
    median = float(np.quantile(rewards, 0.5, method="higher"))
    if len(values) > MOST_LEVELS:
        return median
    border = values[0] + TOP_OF_SCALE * (values[-1] - values[0])
    least = float(values[values >= border - 1e-9][0])
    return least if np.mean(rewards >= least) >= FEWEST_LIKED else median


def _feedback(dataset: Dataset, rewards: Float[np.ndarray, " P"]) -> Feedback:
    if dataset.kind == "impressions":
        return "slates" if dataset.interactions.slate_size > 1 else "single_items"
    levels = len(np.unique(rewards))
    return "uses" if levels < 2 else "ratings" if levels <= MOST_LEVELS else "amounts"


def _repeats(dataset: Dataset, rows: np.ndarray) -> float:
    """Share of the uses whose item the user had used before."""
    log = dataset.interactions
    events = np.searchsorted(np.asarray(log.event_offsets), rows, side="right") - 1
    user = np.searchsorted(np.asarray(log.user_offsets), events, side="right") - 1
    pairs = user * np.int64(dataset.catalog.num_rows) + np.asarray(log.item)[rows]
    return 1.0 - len(np.unique(pairs)) / len(rows) if len(rows) else 0.0
