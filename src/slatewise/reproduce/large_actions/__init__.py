"""All methods over the number of items: what they earn, how far that is from the best, and what a decision costs.

After Dulac-Arnold et al. 2015 (arXiv 1512.07679), Chen et al. 2019 (arXiv 1811.05869) and Ge et al. 2021 (arXiv
2101.03584), who each show one way not to score every item, and none of whom compares it with the others. The world is
`sim.topic_graph`, whose optimum is known exactly up to 10⁶ items; every method spends the same number of interactions.
There is no published figure to stand beside ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce._cells import Cell, by_kind
from slatewise.reproduce._results import Results, differences, seed_range, shares
from slatewise.reproduce._story import Row, Story, above_zero, chart, check, curve, fact, line
from slatewise.reproduce.large_actions import rivals, runs, times
from slatewise.reproduce.large_actions.rivals import RIVALS
from slatewise.stats import MeanInterval, quantile_t, student_t

TITLE = "Large action spaces: all methods at 10³ to 10⁶ items"
BLOCKS, QUICK_BLOCKS = 5, 3
LONGEST = 0.1
"""Seconds that one method's decisions of a block may take."""
FROM = 10_000
"""Below that, a decision costs what it costs to be asked at all; growth is fitted from here on."""
REFERENCES = {"optimum": "optimum", "greedy": "best next step", "logging": "logging policy", "random": "random items"}


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Times of decisions by size; then by size and seed the references and every method that goes so far."""
    parts = []
    blocks = QUICK_BLOCKS if quick else BLOCKS
    for items in timed_sizes(quick):
        settings = {"kind": "times", "items": items, "seed": seed_base, "world_seed": seed_base}
        settings |= {"methods": rivals.deciders(items), "blocks": blocks, "longest": LONGEST}
        parts.append(Cell(name=f"times-{items}", settings=settings))
    budget = asdict(rivals.QUICK if quick else rivals.FULL)
    # seed by seed, so that a run that was stopped has some seeds whole; of a seed the largest catalog first
    for seed in seed_range(seed_base, quick):
        for items in reversed(sizes(quick)):
            where = {"kind": "references", "items": items, "world_seed": seed}
            parts.append(Cell(name=f"references-{items}-{seed}", settings=where))
            for name, rival in RIVALS.items():
                if items <= rival.largest:
                    settings = rivals.cell_settings(rival, items, seed, budget, short=quick)
                    parts.append(Cell(name=f"{cell_name(name, items)}-{seed}", settings=settings))
    return parts


def cell_name(name: str, items: int) -> str:
    """How the cells of a method at a size are called, without the seed."""
    words = name.lower().replace(" = ", "").replace("%", "percent").replace(",", "").replace(" ", "-")
    return f"{words}-{items}"


def sizes(quick: bool) -> tuple[int, ...]:
    """Numbers of items at which is learned."""
    return rivals.SIZES[:-1] if quick else rivals.SIZES


def timed_sizes(quick: bool) -> tuple[int, ...]:
    """Numbers of items at which decisions are timed."""
    return tuple(items for items in rivals.TIMED if items <= sizes(quick)[-1])


run = by_kind(times=times.decision_times, references=runs.references, learn=runs.learn_and_measure)
"""Compute one cell."""


def growth(points: Sequence[tuple[float, float]]) -> MeanInterval:
    """Exponent b of y = a x^b by least squares of the logs, and its 95 % interval by what is left over.

    Args:
        points: at least two x, all y above 0; the interval is infinite for two points.
    """
    x, y = (np.log(np.array(values)) for values in zip(*points, strict=True))
    variation = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / variation
    free = len(x) - 2
    if not free:
        return MeanInterval(slope, -math.inf, math.inf)
    left = y - y.mean() - slope * (x - x.mean())
    half = quantile_t(free) * math.sqrt(float((left**2).sum()) / free / variation)
    return MeanInterval(slope, slope - half, slope + half)


class Learned:
    """Results by method and size, one entry per seed, and times of decisions."""

    def __init__(self, cells: Mapping[str, Mapping[str, Any]], *, quick: bool) -> None:
        self.results = Results(cells)
        self.sizes, self.timed_sizes = sizes(quick), timed_sizes(quick)

    def has(self, name: str, items: int) -> bool:
        """Whether a method learned at a size."""
        return items <= RIVALS[name].largest

    def sizes_of(self, name: str) -> list[int]:
        """Sizes at which a method learned."""
        return [items for items in self.sizes if self.has(name, items)]

    def reference(self, name: str, items: int) -> list[float]:
        """A reference of each seed's world."""
        return self.results.values(f"references-{items}", name)

    def values(self, name: str, items: int, key: str = "value") -> list[float]:
        """Return (value) or CPU seconds of learning (seconds)."""
        return self.results.values(cell_name(name, items), key)

    def regret(self, name: str, items: int) -> list[float]:
        """Optimum less return."""
        return differences(self.reference("optimum", items), self.values(name, items))

    def share(self, name: str, items: int, *, of: str | None = None) -> list[float]:
        """(ours − random) / (reference − random): of the optimum, or of another method with the same seed."""
        top = self.reference("optimum", items) if of is None else self.values(of, items)
        return shares(self.values(name, items), self.reference("random", items), top)

    def milliseconds(self, name: str, items: int, batch: int) -> float:
        """Median CPU time of a decision."""
        return float(median(self.results.cells[f"times-{items}"][name][str(batch)]))

    def against_raw(self, name: str, items: int, batch: int) -> float:
        """The same in units of the raw product of the same block: median of the blocks."""
        blocks = self.results.cells[f"times-{items}"]
        pairs = zip(blocks[name][str(batch)], blocks[times.RAW][str(batch)], strict=True)
        return float(median(ours / raw for ours, raw in pairs))

    def slope_by_seed(self, name: str, key: str) -> MeanInterval | None:
        """Growth of regret or CPU seconds over the sizes of each seed: mean and interval.

        None below three sizes, or where a value has no logarithm.
        """
        sizes_of_it = self.sizes_of(name)
        value = self.regret if key == "regret" else partial(self.values, key=key)
        columns = [value(name, items) for items in sizes_of_it]
        if len(columns) < 3 or min(map(min, columns)) <= 0:
            return None
        seeds = zip(*columns, strict=True)
        return student_t([growth(list(zip(map(float, sizes_of_it), seed, strict=True))).mean for seed in seeds])

    def slope_of_time(self, name: str, batch: int) -> MeanInterval:
        """Growth of the time of a decision from FROM items on."""
        return growth(
            [(float(items), self.milliseconds(name, items, batch)) for items in self.timed_sizes if items >= FROM]
        )


def tell(cells: Mapping[str, Mapping[str, Any]], *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and charts of everything that was run, and what was not run and why."""
    del seed_base
    learned = Learned(cells, quick=quick)
    rows = [row for items in learned.sizes for row in _rows(learned, items)]
    rows += [row for items in learned.timed_sizes for row in _rows_of_times(learned, items)]
    rows += _slopes(learned)
    return Story(rows=tuple(rows), checks=tuple(checks(learned)), charts=tuple(_charts(learned)), notes=_notes(quick))


def _rows(learned: Learned, items: int) -> list[Row]:
    at = f"{items:,} items"
    rows = [
        Row.of(f"{at}: {label}", "return, exact", learned.reference(name, items)) for name, label in REFERENCES.items()
    ]
    for name, rival in RIVALS.items():
        if not learned.has(name, items):
            rows.append(Row(name=f"{at}: {name}", metric=f"not run: {rival.why}", ours=math.nan))
            continue
        played = "return, played" if "sessions" in rival.extra else "return, exact"
        rows += [
            Row.of(f"{at}: {name}", played, learned.values(name, items)),
            Row.of(f"{at}: {name}", "regret to the optimum", learned.regret(name, items)),
            Row.of(f"{at}: {name}", "share of the optimum", learned.share(name, items)),
            Row.of(f"{at}: {name}", "CPU s to learn", learned.values(name, items, "seconds")),
        ]
    return rows


def _rows_of_times(learned: Learned, items: int) -> list[Row]:
    rows = []
    for name in (times.RAW, *rivals.deciders(items)):
        for batch in times.BATCHES:
            label, of = f"{items:,} items: {name}", f"batch {batch:,}"
            rows.append(Row.of(label, f"CPU ms a decision, {of}", learned.milliseconds(name, items, batch)))
            if name != times.RAW:
                rows.append(Row.of(label, f"times the raw product, {of}", learned.against_raw(name, items, batch)))
    return rows


def _slopes(learned: Learned) -> list[Row]:
    rows = []
    for name in RIVALS:
        for key, metric in (("regret", "growth of regret"), ("seconds", "growth of CPU s to learn")):
            if (slope := learned.slope_by_seed(name, key)) is not None:
                rows.append(Row.of(name, f"{metric}: exponent of N", slope))
    for batch in times.BATCHES:
        metric = f"growth of a decision's time, batch {batch:,}: exponent of N"
        rows += [
            Row.of(name, metric, learned.slope_of_time(name, batch)) for name in (times.RAW, *rivals.deciders(FROM))
        ]
    return rows


def checks(learned: Learned) -> list[Check]:
    """What the numbers show; an interval must lie on the right side as a whole."""
    return [*_checks_of_times(learned), *_checks_of_returns(learned)]


def _checks_of_times(learned: Learned) -> Iterator[Check]:
    batch = times.BATCHES[-1]
    for name in (rivals.TREE3, rivals.TREE_DRAW):
        label = f"{name}: time of a decision at batch {batch:,} grows by N^.45 at most (interval)"
        yield check(label, learned.slope_of_time(name, batch), lambda slope: slope.high <= 0.45)
    for name in (rivals.K1, rivals.K_SHARE):
        for items in (size for size in learned.timed_sizes if size >= 100_000 and size in rivals.SIZES):
            faster = learned.milliseconds(rivals.K_ALL, items, 1) / learned.milliseconds(name, items, 1)
            label = f"{items:,} items: {name} decides at least 5 times as fast as full search (batch 1)"
            yield fact(label, faster >= 5, f"{faster:.1f} times")


def _checks_of_returns(learned: Learned) -> Iterator[Check]:
    last = learned.sizes[-1]
    for items in learned.sizes:
        if learned.has(rivals.K_ALL, items):
            label = f"{items:,} items: {rivals.K_SHARE} earns at least 95 % of {rivals.K_ALL}, interval and all"
            yield check(label, learned.share(rivals.K_SHARE, items, of=rivals.K_ALL), lambda share: share.low >= 0.95)
    for name in (rivals.K1, rivals.K_SHARE, rivals.TREE2, rivals.TREE3):
        ahead = differences(learned.values(name, last), learned.reference("logging", last))
        label = f"{last:,} items: {name} earns more than the logging policy (paired interval of the difference)"
        yield check(label, ahead, above_zero)
    seeing = [student_t(learned.share(name, last)) for name in (rivals.SLATEQ, rivals.K1, rivals.K_SHARE)]
    blind = [student_t(learned.share(name, last)) for name in (rivals.POPULARITY, rivals.KNN, rivals.LOGGED)]
    worst, best = min(seeing), max(blind)
    label = f"{last:,} items: what sees features earns more than what knows item numbers, intervals disjoint"
    figure = f"at least {worst.text()} beside at most {best.text()} of the optimum"
    yield fact(label, worst.low > best.high, figure)
    exact = [
        regret
        for name, rival in RIVALS.items()
        if "sessions" not in rival.extra
        for items in learned.sizes_of(name)
        for regret in learned.regret(name, items)
    ]
    label = "nothing earns more than the optimum (exact returns)"
    yield fact(label, min(exact) >= -1e-6, f"smallest regret {min(exact):.4f}")


def _charts(learned: Learned) -> Iterator[LineChart]:
    def by_method(value: Callable[[str, int], list[float]]) -> list[Curve]:
        return [
            curve(name, learned.sizes_of(name), [value(name, items) for items in learned.sizes_of(name)])
            for name in RIVALS
        ]

    references = [
        curve(label, learned.sizes, [learned.reference(name, items) for items in learned.sizes])
        for name, label in REFERENCES.items()
    ]
    title, y = "What a session earns, and the most it could", "accepted items a session"
    yield chart("return", title, "items", y, [*references, *by_method(learned.values)], log="x")
    curves = by_method(learned.regret)
    yield chart("regret", "Regret to the optimum", "items", "optimum − return", curves, log="xy")
    title = "CPU time to learn from the same number of interactions"
    curves = by_method(partial(learned.values, key="seconds"))
    yield chart("learning", title, "items", "CPU seconds", curves, log="xy")
    for batch in times.BATCHES:
        curves = [
            line(name, learned.timed_sizes, [learned.milliseconds(name, items, batch) for items in learned.timed_sizes])
            for name in (times.RAW, *rivals.deciders(FROM))
        ]
        title = f"CPU time of one decision, {batch:,} at a time"
        yield chart(f"decision-{batch}", title, "items", "milliseconds", curves, log="xy")


def _notes(quick: bool) -> tuple[str, ...]:
    budget = rivals.QUICK if quick else rivals.FULL
    notes = [
        f"Every method spends {budget.interactions:,} interactions: from a log that the logging policy served "
        "(popularity, item-kNN, cloning, REINFORCE from the log, SlateQ), or served by itself (the others; acting is "
        "in their CPU time, writing the log is not). CPU time is not equal; what each spent is in the table. Each seed "
        "has a world, a log and weights of its own; within a seed, smaller catalogs are the beginnings of larger ones.",
        "What they know: " + "; ".join(f"{name}: {rival.knows}" for name, rival in RIVALS.items()) + ".",
        "Regret is to the optimum, which is exact, as is the return of every method but item-kNN's. Growth of regret "
        "and of learning is fitted seed by seed over all sizes (three at least), growth of a decision's time over the "
        f"medians from {FROM:,} items on; its interval says how far the points are from a power of N.",
        f"{rivals.K_SHARE} looks at {rivals.NEIGHBOURS:,} items at most; {rivals.SLATEQ}, at the same ones in "
        "every state.",
    ]
    if quick:
        notes.append(
            f"Short form: {sizes(quick)[-1]:,} items at most, half of the interactions and of the updates on logs."
        )
    return tuple(notes)
