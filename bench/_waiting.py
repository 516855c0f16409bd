"""How threads wait for each other; read when torch is imported, so this is imported before.

As the command line sets it, threads that wait sleep, because spinning ones take the cores from whatever else runs. On
an idle machine, waiting actively for a moment (50,000 turns, about .1 ms) nearly doubles the speed of short steps on
two threads.
"""

from __future__ import annotations

import os
import time


def idle(seconds: float = 0.3) -> bool:
    """Whether four fifths of all cores have nothing to do; False where the system does not say."""
    try:
        found: list[list[int]] = []
        for pause in (seconds, 0.0):
            with open("/proc/stat", encoding="ascii") as stat:
                found.append([int(number) for number in stat.readline().split()[1:]])
            time.sleep(pause)
    except (OSError, ValueError):
        return False
    first, last = found
    passed = [after - before for before, after in zip(first, last, strict=True)]
    return passed[3] + passed[4] > 0.8 * sum(passed)


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if idle():
    os.environ.setdefault("GOMP_SPINCOUNT", "50000")
SPIN = int(os.environ.get("GOMP_SPINCOUNT", "0"))
"""Turns that a thread waits actively."""
