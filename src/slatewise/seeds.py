"""Independent streams of random numbers from one seed."""

from __future__ import annotations

import numpy as np


def stream_seed(seed: int, number: int) -> int:
    """Seed of one of several independent streams of random numbers that belong to the same seed."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> np.uint64(1))
