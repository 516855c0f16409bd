"""Whether a log can support a simulator: what is missing, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from slatewise.log import Interactions

FEWEST_PICKS = 100
"""With fewer no model of the choice beats the share of each position."""

Support = Literal["supports", "weak", "cannot"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a log can support."""

    support: Support
    reasons: tuple[str, ...]
    """What is missing; the first ones forbid a simulator where `support` is "cannot"."""

    def text(self) -> str:
        """In words."""
        head = {
            "supports": "The log supports a simulator.",
            "weak": "The log supports a simulator with gaps.",
            "cannot": "The log cannot support a simulator.",
        }[self.support]
        return "\n".join([head, *(f"  - {reason}" for reason in self.reasons)])


def examine(log: Interactions, end: Int[np.ndarray, " U"] | None = None) -> Verdict:
    """What the log can teach a user model.

    Args:
        log: the log.
        end: of each user, the event after the last one that may be read; None = all.
    """
    events, row, choice = picks(log, end)
    picked = choice >= 0
    item = np.asarray(log.item)[row[picked]]
    count = int(picked.sum())
    fatal, gaps = [], []
    if not count:
        fatal.append("nothing was ever picked: there is no choice to learn")
    elif count < FEWEST_PICKS:
        fatal.append(f"{count:,} picks are too few to learn a choice from (expected at least {FEWEST_PICKS})")
    if count and len(np.unique(item)) == 1:
        fatal.append("only one item was ever picked: nothing says what users prefer")
    size = np.diff(np.asarray(log.event_offsets))[events]
    if not has_slates(log, end):
        gaps.append(
            "it does not show what was passed over (one item an event, always picked): preferences are learned against "
            "items drawn at random, and how often nothing is picked is an assumption (null_share)"
        )
    elif size.size and int(size.max()) == 1:
        gaps.append("it shows one item at a time: how items of a slate compete is not seen")
    elif count == len(choice):
        gaps.append("something is picked from every slate: how often nothing is picked is not seen")
    reward = np.asarray(log.reward)[row[picked]]
    if count and np.ptp(reward) == 0:
        gaps.append(f"every pick has the reward {float(reward[0]):g}: there is no reward to learn beyond that number")
    if not np.asarray(log.session_end)[events].any():
        gaps.append("it names no sessions: they go on for ever in the simulator, which cuts them off (max_steps)")
    if fatal:
        return Verdict(support="cannot", reasons=(*fatal, *gaps))
    return Verdict(support="weak" if gaps else "supports", reasons=tuple(gaps))


def picks(
    log: Interactions, end: Int[np.ndarray, " U"] | None = None
) -> tuple[Int[np.ndarray, " V"], Int[np.ndarray, " V"], Int[np.ndarray, " V"]]:
    """Events that may be read, the row of each one's pick (its first row where nothing was picked), its choice."""
    count = np.diff(np.asarray(log.user_offsets))
    place = np.arange(log.num_events) - np.repeat(np.asarray(log.user_offsets)[:-1], count)
    events = np.flatnonzero(place < np.repeat(count if end is None else end, count))
    choice = np.asarray(log.choice)[events].astype(np.int64)
    return events, np.asarray(log.event_offsets)[events] + np.maximum(choice, 0), choice


def has_slates(log: Interactions, end: Int[np.ndarray, " U"] | None = None) -> bool:
    """Whether the log shows what was not picked."""
    events, _, choice = picks(log, end)
    size = np.diff(np.asarray(log.event_offsets))[events]
    return bool((size > 1).any() or (choice < 0).any())
