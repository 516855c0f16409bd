"""Whether a log can support a simulator: what is missing, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slatewise.log import LogPart

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


def examine(part: LogPart) -> Verdict:
    """What the log can teach a user model."""
    log, events, rows = part.interactions, part.events(), part.used_rows()
    item, count = np.asarray(log.item)[rows], len(rows)
    fatal, gaps = [], []
    if not count:
        fatal.append("nothing was ever picked: there is no choice to learn")
    elif count < FEWEST_PICKS:
        fatal.append(f"{count:,} picks are too few to learn a choice from (expected at least {FEWEST_PICKS})")
    if count and len(np.unique(item)) == 1:
        fatal.append("only one item was ever picked: nothing says what users prefer")
    size = np.diff(np.asarray(log.event_offsets))[events]
    if not has_slates(part):
        gaps.append(
            "it does not show what was passed over (one item an event, always picked): preferences are learned against "
            "items drawn at random, and how often nothing is picked is an assumption (null_share)"
        )
    elif size.size and int(size.max()) == 1:
        gaps.append("it shows one item at a time: how items of a slate compete is not seen")
    elif part.num_used_events() == len(events):
        gaps.append("something is picked from every slate: how often nothing is picked is not seen")
    reward = part.rewards()
    if count and np.ptp(reward) == 0:
        gaps.append(f"every pick has the reward {float(reward[0]):g}: there is no reward to learn beyond that number")
    if not np.asarray(log.session_end)[events].any():
        gaps.append("it names no sessions: they go on for ever in the simulator, which cuts them off (max_steps)")
    if fatal:
        return Verdict(support="cannot", reasons=(*fatal, *gaps))
    return Verdict(support="weak" if gaps else "supports", reasons=tuple(gaps))


def has_slates(part: LogPart) -> bool:
    """Whether the log shows what was not picked."""
    log, events = part.interactions, part.events()
    size = np.diff(np.asarray(log.event_offsets))[events]
    return bool((size > 1).any() or part.num_used_events() < len(events))
