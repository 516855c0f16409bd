"""Moments and names of events: neither comes twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

EPOCH = 1_704_067_200_000_000
"""2024-01-01 in microseconds since 1970: 51 bits of microseconds from here last until 2095."""
RANDOM_BITS = 12
DAY = 86_400_000_000


def system_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Clock:
    """Microseconds that only rise, so that a user's events have one order."""

    def __init__(self, read_clock: Callable[[], int] = system_clock) -> None:
        self._read_clock = read_clock
        self._last = 0

    def start_after(self, moment: int) -> None:
        """Answer only later moments than this from now on; one more than a day ahead is somebody's mistake."""
        if moment <= self._read_clock() + DAY:
            self._last = max(self._last, moment)

    def __call__(self) -> int:
        """Now, or one microsecond after the last answer."""
        self._last = max(self._read_clock(), self._last + 1)
        return self._last


def event_name(moment: int) -> str:
    """A whole number of 63 bits as text: the moment, then chance, so that services side by side do not clash.

    Text, because JavaScript reads numbers of this size wrongly; a number, because `data import` keeps those.
    """
    return str((moment - EPOCH) << RANDOM_BITS | secrets.randbits(RANDOM_BITS))
