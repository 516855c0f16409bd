"""All methods over the number of items: what they earn, how far that is from the best, and what a decision costs.

After Dulac-Arnold et al. 2015 (arXiv 1512.07679), Chen et al. 2019 (arXiv 1811.05869) and Ge et al. 2021 (arXiv
2101.03584), who each show one way not to score every item, and none of whom compares it with the others. The world is
`sim.topic_graph`, whose optimum is known exactly up to 10⁶ items; every method spends the same number of interactions.
There is no published figure to stand beside ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
from scipy.stats import t as student

from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._story import Row, Story
from slatewise.reproduce.large_actions import runs, times, ways
from slatewise.reproduce.large_actions.ways import WAYS
from slatewise.stats import student_t

TITLE = "Large action spaces: all methods at 10³ to 10⁶ items"
SEEDS, QUICK_SEEDS = 5, 2
BLOCKS, QUICK_BLOCKS = 5, 3
LONGEST = 0.1
"""Seconds that one method's decisions of a block may take."""
FROM = 10_000
"""Below that, a decision costs what it costs to be asked at all; growth is fitted from here on."""
REFERENCES = {"optimum": "optimum", "greedy": "best next step", "logging": "logging policy", "random": "random items"}
Results = Mapping[str, Mapping[str, Any]]


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Times of decisions by size; then by size and seed the references and every method that goes so far."""
    found = []
    for items in timed(quick):
        settings = {"kind": "times", "items": items, "seed": seed_base, "world_seed": seed_base}
        settings |= {"methods": ways.deciders(items), "blocks": QUICK_BLOCKS if quick else BLOCKS, "longest": LONGEST}
        found.append(Cell(name=f"times-{items}", settings=settings))
    budget = asdict(ways.quick() if quick else ways.full())
    # seed by seed, so that a run that was stopped has some seeds whole; of a seed the largest catalog first
    for seed in _seeds(quick, seed_base):
        for items in reversed(sizes(quick)):
            where = {"items": items, "world_seed": seed}
            found.append(Cell(name=cell_name("references", items, seed), settings={"kind": "references"} | where))
            for name, way in WAYS.items():
                if items <= way.largest:
                    settings = ways.cell_settings(way, items, seed, budget, short=quick)
                    found.append(Cell(name=cell_name(name, items, seed), settings=settings))
    return found


def sizes(quick: bool) -> tuple[int, ...]:
    """Numbers of items at which is learned."""
    return ways.SIZES[:-1] if quick else ways.SIZES


def timed(quick: bool) -> tuple[int, ...]:
    """Numbers of items at which decisions are timed."""
    return tuple(items for items in ways.TIMED if items <= sizes(quick)[-1])


def run(cell: Cell) -> dict[str, Any]:
    """Compute one cell."""
    kinds = {"times": times.decision_times, "references": runs.references, "learn": runs.learn_and_measure}
    return kinds[cell.settings["kind"]](cell.settings)


def growth(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Exponent b of y = a x^b by least squares of the logs, and its 95 % interval by what is left over.

    Args:
        points: at least two x, all y above 0; the interval is infinite for two points.
    """
    x, y = (np.log(np.array(values)) for values in zip(*points, strict=True))
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    free = len(x) - 2
    if not free:
        return slope, -math.inf, math.inf
    left = y - y.mean() - slope * (x - x.mean())
    half = float(student.ppf(0.975, free)) * math.sqrt(float((left**2).sum()) / free / spread)
    return slope, slope - half, slope + half


class Found:
    """Results by method, size and seed."""

    def __init__(self, results: Results, *, quick: bool, seed_base: int) -> None:
        self.results = results
        self.sizes, self.timed = sizes(quick), timed(quick)
        self.seeds = _seeds(quick, seed_base)

    def has(self, name: str, items: int) -> bool:
        """Whether a method learned at a size."""
        return items <= WAYS[name].largest

    def reference(self, name: str, items: int) -> list[float]:
        """A reference of each seed's world."""
        return [float(self.results[cell_name("references", items, seed)][name]) for seed in self.seeds]

    def figure(self, name: str, items: int, key: str) -> list[float]:
        """Return (value) or CPU seconds of learning (seconds) of each seed."""
        return [float(self.results[cell_name(name, items, seed)][key]) for seed in self.seeds]

    def regret(self, name: str, items: int) -> list[float]:
        """Optimum less return, of each seed."""
        best = self.reference("optimum", items)
        return [top - own for top, own in zip(best, self.figure(name, items, "value"), strict=True)]

    def share(self, name: str, items: int, *, of: str | None = None) -> list[float]:
        """(ours − random) / (reference − random): of the optimum, or of another method with the same seed."""
        top = self.reference("optimum", items) if of is None else self.figure(of, items, "value")
        floor, own = self.reference("random", items), self.figure(name, items, "value")
        return [(value - low) / (high - low) for value, low, high in zip(own, floor, top, strict=True)]

    def milliseconds(self, name: str, items: int, batch: int) -> float:
        """Median CPU time of a decision."""
        return float(median(self.results[f"times-{items}"][name][str(batch)]))

    def against_raw(self, name: str, items: int, batch: int) -> float:
        """The same in units of the raw product of the same block: median of the blocks."""
        found = self.results[f"times-{items}"]
        pairs = zip(found[name][str(batch)], found[times.RAW][str(batch)], strict=True)
        return float(median(own / raw for own, raw in pairs))

    def slope_by_seed(self, name: str, key: str) -> tuple[float, float, float] | None:
        """Growth of regret or CPU seconds over the sizes of each seed: mean and interval.

        None below three sizes, or where a figure has no logarithm.
        """
        there = [items for items in self.sizes if self.has(name, items)]
        if len(there) < 3:
            return None
        columns = [self.regret(name, items) if key == "regret" else self.figure(name, items, key) for items in there]
        if min(map(min, columns)) <= 0:
            return None
        rows = zip(*columns, strict=True)
        return student_t([growth(list(zip(map(float, there), row, strict=True)))[0] for row in rows])

    def slope_of_time(self, name: str, batch: int) -> tuple[float, float, float]:
        """Growth of the time of a decision from FROM items on."""
        there = [items for items in self.timed if items >= FROM]
        return growth([(float(items), self.milliseconds(name, items, batch)) for items in there])


def tell(results: Results, *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and figures of everything that was run, and what was not run and why."""
    found = Found(results, quick=quick, seed_base=seed_base)
    rows = [row for items in found.sizes for row in _learned(found, items)]
    rows += [row for items in found.timed for row in _times(found, items)]
    rows += _slopes(found)
    return Story(
        rows=tuple(rows), checks=tuple(checks(found)), charts=tuple(_figures(found)), notes=_notes(found, quick)
    )


def _learned(found: Found, items: int) -> list[Row]:
    at = f"{items:,} items"
    rows = [_row(f"{at}: {label}", "return, exact", found.reference(name, items)) for name, label in REFERENCES.items()]
    for name, way in WAYS.items():
        if not found.has(name, items):
            rows.append(Row(name=f"{at}: {name}", metric=f"not run: {way.why}", published=None, ours=math.nan))
            continue
        played = "return, played" if "sessions" in way.extra else "return, exact"
        rows += [
            _row(f"{at}: {name}", played, found.figure(name, items, "value")),
            _row(f"{at}: {name}", "regret to the optimum", found.regret(name, items)),
            _row(f"{at}: {name}", "share of the optimum", found.share(name, items)),
            _row(f"{at}: {name}", "CPU s to learn", found.figure(name, items, "seconds")),
        ]
    return rows


def _times(found: Found, items: int) -> list[Row]:
    rows = []
    for name in (times.RAW, *ways.deciders(items)):
        for batch in times.BATCHES:
            label, of = f"{items:,} items: {name}", f"batch {batch:,}"
            one = found.milliseconds(name, items, batch)
            rows.append(Row(name=label, metric=f"CPU ms a decision, {of}", published=None, ours=one))
            if name != times.RAW:
                ratio = found.against_raw(name, items, batch)
                rows.append(Row(name=label, metric=f"times the raw product, {of}", published=None, ours=ratio))
    return rows


def _slopes(found: Found) -> list[Row]:
    rows = []
    for name in WAYS:
        for key, metric in (("regret", "growth of regret"), ("seconds", "growth of CPU s to learn")):
            slope = found.slope_by_seed(name, key)
            if slope is not None:
                rows.append(_row_of(name, f"{metric}: exponent of N", slope))
    for batch in times.BATCHES:
        metric = f"growth of a decision's time, batch {batch:,}: exponent of N"
        rows += [_row_of(name, metric, found.slope_of_time(name, batch)) for name in (times.RAW, *ways.deciders(FROM))]
    return rows


def checks(found: Found) -> list[Check]:
    """What the figures show; an interval must lie on the right side as a whole."""
    last = found.sizes[-1]
    told = []
    for name in (ways.TREE3, ways.TREE_DRAW):
        slope, low, high = found.slope_of_time(name, times.BATCHES[-1])
        told.append(
            Check(
                name=f"{name}: time of a decision at batch {times.BATCHES[-1]:,} grows by N^.45 at most (interval)",
                holds=high <= 0.45,
                figure=_words((slope, low, high)),
            )
        )
    for name in (ways.K1, ways.K_SHARE):
        for items in (size for size in found.timed if size >= 100_000 and size in ways.SIZES):
            faster = found.milliseconds(ways.K_ALL, items, 1) / found.milliseconds(name, items, 1)
            told.append(
                Check(
                    name=f"{items:,} items: {name} decides at least 5 times as fast as full search (batch 1)",
                    holds=faster >= 5,
                    figure=f"{faster:.1f} times",
                )
            )
    for items in found.sizes:
        if found.has(ways.K_ALL, items):
            share = student_t(found.share(ways.K_SHARE, items, of=ways.K_ALL))
            told.append(
                Check(
                    name=f"{items:,} items: {ways.K_SHARE} earns at least 95 % of {ways.K_ALL}, interval and all",
                    holds=share[1] >= 0.95,
                    figure=_words(share),
                )
            )
    for name in (ways.K1, ways.K_SHARE, ways.TREE2, ways.TREE3):
        ahead = [
            own - logged
            for own, logged in zip(found.figure(name, last, "value"), found.reference("logging", last), strict=True)
        ]
        told.append(
            Check(
                name=f"{last:,} items: {name} earns more than the logging policy (paired interval of the difference)",
                holds=student_t(ahead)[1] > 0,
                figure=_words(student_t(ahead)),
            )
        )
    seeing = [found.share(name, last) for name in (ways.SLATEQ, ways.K1, ways.K_SHARE)]
    blind = [found.share(name, last) for name in (ways.POPULARITY, ways.KNN, ways.LOGGED)]
    worst, best = min(map(student_t, seeing)), max(map(student_t, blind))
    told.append(
        Check(
            name=f"{last:,} items: what sees features earns more than what knows item numbers, intervals disjoint",
            holds=worst[1] > best[2],
            figure=f"at least {_words(worst)} beside at most {_words(best)} of the optimum",
        )
    )
    exact = [
        regret
        for items in found.sizes
        for name, way in WAYS.items()
        if found.has(name, items) and "sessions" not in way.extra
        for regret in found.regret(name, items)
    ]
    told.append(
        Check(
            name="nothing earns more than the optimum (exact returns)",
            holds=min(exact) >= -1e-6,
            figure=f"smallest regret {min(exact):.4f}",
        )
    )
    return told


def _figures(found: Found) -> list[LineChart]:
    def line(name: str, value: Any, there: Sequence[int]) -> Curve:
        points = [student_t(value(name, items)) for items in there]
        return Curve(
            name=name,
            x=tuple(float(items) for items in there),
            y=tuple(mean for mean, _, _ in points),
            half=tuple(high - mean for mean, _, high in points),
        )

    def learned(value: Any) -> list[Curve]:
        return [line(name, value, [items for items in found.sizes if found.has(name, items)]) for name in WAYS]

    known = [
        line(label, lambda _, items, n=name: found.reference(n, items), found.sizes)
        for name, label in REFERENCES.items()
    ]
    figures = [
        LineChart(
            name="return",
            title="What a session earns, and the most it could",
            x="items",
            y="accepted items a session",
            curves=(*known, *learned(lambda name, items: found.figure(name, items, "value"))),
            log_x=True,
        ),
        LineChart(
            name="regret",
            title="Regret to the optimum",
            x="items",
            y="optimum − return",
            curves=tuple(learned(found.regret)),
            log_x=True,
            log_y=True,
        ),
        LineChart(
            name="learning",
            title="CPU time to learn from the same number of interactions",
            x="items",
            y="CPU seconds",
            curves=tuple(learned(lambda name, items: found.figure(name, items, "seconds"))),
            log_x=True,
            log_y=True,
        ),
    ]
    for batch in times.BATCHES:
        curves = [
            Curve(
                name=name,
                x=tuple(float(items) for items in found.timed),
                y=tuple(found.milliseconds(name, items, batch) for items in found.timed),
            )
            for name in (times.RAW, *ways.deciders(FROM))
        ]
        figures.append(
            LineChart(
                name=f"decision-{batch}",
                title=f"CPU time of one decision, {batch:,} at a time",
                x="items",
                y="milliseconds",
                curves=tuple(curves),
                log_x=True,
                log_y=True,
            )
        )
    return figures


def _notes(found: Found, quick: bool) -> tuple[str, ...]:
    budget = ways.quick() if quick else ways.full()
    notes = [
        f"Every method spends {budget.interactions:,} interactions: from a log that the logging policy served "
        "(popularity, item-kNN, cloning, REINFORCE from the log, SlateQ), or served by itself (the others; acting is "
        "in their CPU time, writing the log is not). CPU time is not equal; what each spent is in the table. Each seed "
        "has a world, a log and weights of its own; within a seed, smaller catalogs are the beginnings of larger ones.",
        "What they know: " + "; ".join(f"{name}: {way.knows}" for name, way in WAYS.items()) + ".",
        "Regret is to the optimum, which is exact, as is the return of every method but item-kNN's. Growth of regret "
        "and of learning is fitted seed by seed over all sizes (three at least), growth of a decision's time over the "
        f"medians from {FROM:,} items on; its interval says how far the points are from a power of N.",
        f"{ways.K_SHARE} looks at {ways.NEIGHBOURS:,} items at most; {ways.SLATEQ}, at the same ones at every state.",
    ]
    if quick:
        notes.append(
            f"Short form: {found.sizes[-1]:,} items at most, half of the interactions and of the updates on logs."
        )
    return tuple(notes)


def _seeds(quick: bool, seed_base: int) -> range:
    return range(seed_base, seed_base + (QUICK_SEEDS if quick else SEEDS))


def cell_name(name: str, items: int, seed: int) -> str:
    """How a cell is called."""
    words = name.lower().replace(" = ", "").replace("%", "percent").replace(",", "").replace(" ", "-")
    return f"{words}-{items}-{seed}"


def _row(name: str, metric: str, values: Sequence[float]) -> Row:
    return _row_of(name, metric, student_t(values))


def _row_of(name: str, metric: str, found: tuple[float, float, float]) -> Row:
    mean, low, high = found
    return Row(name=name, metric=metric, published=None, ours=mean, low=low, high=high)


def _words(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
