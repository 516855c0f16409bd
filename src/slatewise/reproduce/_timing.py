"""How long things take beside each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def cpu_seconds(works: Mapping[str, Callable[[int], object]], *, blocks: int) -> dict[str, list[float]]:
    """CPU seconds of each work in each block: all take turns, so that none has the machine at its best.

    CPU time, because other work on the machine does not count in it.

    Args:
        works: are called with the number of the block; block 0 comes first, fills caches and is not kept.
        blocks: kept ones.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for block in range(blocks + 1):
        for name, work in works.items():
            start = time.process_time()
            work(block)
            seconds[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in seconds.items()}
