"""One pass over batches in memory: the only loop that updates a learner from a log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from slatewise.protocols import Learner
from slatewise.types import Trajectories


def fit(
    learner: Learner,
    batches: Iterable[Trajectories],
    *,
    on_update: Callable[[int, dict[str, float]], None] = lambda update, metrics: None,
) -> dict[str, float]:
    """Update a learner with every batch.

    Args:
        learner: is changed in place.
        batches: are asked for one by one, each after the update with the one before it, so that they may be drawn from
            the learner's own generator.
        on_update: called after each update with its number, from 1, and its metrics.

    Returns:
        mean of each metric over the updates that report it; nothing without batches.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    counts: defaultdict[str, int] = defaultdict(int)
    for update, batch in enumerate(batches, start=1):
        metrics = learner.update(batch)
        for name, value in metrics.items():
            sums[name] += value
            counts[name] += 1
        on_update(update, metrics)
    return {name: total / counts[name] for name, total in sums.items()}
