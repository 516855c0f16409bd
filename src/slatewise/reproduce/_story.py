"""What a reproduction says: rows "published | ours | low | high", checks, charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slatewise.machine import facts
from slatewise.report import Check, Curve, LineChart
from slatewise.stats import MeanInterval, student_t


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; low and high are the 95 % interval of ours, NaN where there is none."""

    name: str
    metric: str
    published: float | None = None
    ours: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(
        cls, name: str, metric: str, values: float | Sequence[float] | MeanInterval, published: float | None = None
    ) -> Row:
        """The mean over seeds with its interval by Student's t, or with that given; a single number has none."""
        if isinstance(values, float):
            return cls(name=name, metric=metric, published=published, ours=values)
        mean, low, high = values if isinstance(values, MeanInterval) else student_t(values)
        return cls(name=name, metric=metric, published=published, ours=mean, low=low, high=high)


def check(
    name: str,
    values: Sequence[float] | MeanInterval,
    holds: Callable[[MeanInterval], bool],
    spec: str = ".3f",
    *,
    unit: str = "",
) -> Check:
    """A check of the mean over seeds and its interval, which it also shows."""
    mean = values if isinstance(values, MeanInterval) else student_t(values)
    return Check(name=name, holds=holds(mean), figure=mean.text(spec, unit=unit))


def fact(name: str, holds: bool, figure: str) -> Check:
    """A check of something other than a mean over seeds."""
    return Check(name=name, holds=holds, figure=figure)


def at_least(bar: float) -> Callable[[MeanInterval], bool]:
    """The mean is no lower than a bar."""
    return lambda mean: mean.mean >= bar


def at_most(bar: float) -> Callable[[MeanInterval], bool]:
    """The mean is no higher than a bar."""
    return lambda mean: mean.mean <= bar


def above_zero(mean: MeanInterval) -> bool:
    """The whole interval is above 0."""
    return mean.low > 0


def not_negative(mean: MeanInterval) -> bool:
    """No part of the interval is below 0."""
    return mean.low >= 0


def positive(mean: MeanInterval) -> bool:
    """Above 0, the whole interval where there is one."""
    return (mean.low if math.isfinite(mean.low) else mean.mean) > 0


def curve(name: str, x: Iterable[int] | Iterable[float], values: Iterable[Sequence[float]]) -> Curve:
    """The means over seeds at each x, with their intervals."""
    means = [student_t(each) for each in values]
    return line(name, x, [each.mean for each in means], [each.half for each in means])


def learning_curve(name: str, runs: Iterable[Sequence[Sequence[Any]]]) -> Curve:
    """The means over runs of several seeds, each a list of points at the same x."""
    points = list(zip(*runs, strict=True))
    return curve(name, [seeds[0][0] for seeds in points], [[y for _, y in seeds] for seeds in points])


def line(name: str, x: Iterable[int] | Iterable[float], y: Iterable[float], half: Iterable[float] = ()) -> Curve:
    """Numbers at each x, without intervals unless their halves are given."""
    return Curve(name=name, x=tuple(map(float, x)), y=tuple(map(float, y)), half=tuple(half))


def chart(
    name: str, title: str, x: str, y: str, curves: Iterable[Curve], *, labels: Iterable[str] = (), log: str = ""
) -> LineChart:
    """A chart of curves.

    Args:
        name: of its image.
        title: its heading.
        x: quantity of the horizontal axis.
        y: quantity of the vertical axis.
        curves: what it shows.
        labels: names of the positions 0, 1, … of x.
        log: the logarithmic axes: "", "x" or "xy".
    """
    return LineChart(
        name=name,
        title=title,
        x=x,
        y=y,
        curves=tuple(curves),
        labels=tuple(labels),
        log_x="x" in log,
        log_y="y" in log,
    )


@dataclass(frozen=True, kw_only=True)
class Story:
    """Everything a reproduction found, whichever way it fell."""

    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    charts: tuple[LineChart, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the results of a story's cells come from."""

    total: int
    ready: int
    """Computed by an earlier run."""
    commits: Mapping[str, int]
    """Commit → cells that its code computed; "" where it is not known, "+" at the end where files differed from it."""

    def __str__(self) -> str:
        commits = ", ".join(f"{commit or 'an unknown commit'} ({count})" for commit, count in self.commits.items())
        return f"{self.ready} of {self.total} cells were ready; computed by {commits or 'none'}"


def story_json(
    story: Story, cells: Provenance, *, paper: str, commit: str, seed: int, seconds: float
) -> dict[str, object]:
    """The story for machines; numbers that are not finite become null."""
    return {
        "paper": paper,
        "commit": commit,
        "cells": {"total": cells.total, "ready": cells.ready, "commits": dict(cells.commits)},
        "seed": seed,
        "machine": asdict(facts()),
        "seconds": round(seconds, 1),
        "rows": [{key: _finite(value) for key, value in asdict(row).items()} for row in story.rows],
        "checks": [asdict(check) for check in story.checks],
        "notes": list(story.notes),
    }


HEAD = ("", "metric", "published", "ours", "low", "high")
"""Headings of the table."""


def story_lines(story: Story) -> tuple[tuple[str, ...], ...]:
    """The rows of the table as printed."""
    return tuple(
        (row.name, row.metric, *(_number(value) for value in (row.published, row.ours, row.low, row.high)))
        for row in story.rows
    )


def story_text(story: Story, cells: Provenance) -> str:
    """The story as a table, the checks and where the results come from below it."""
    head, lines = HEAD, story_lines(story)
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    table = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *lines)
    ]
    checks = [f"{'holds' if check.holds else 'FAILS':5}  {check.name}: {check.figure}" for check in story.checks]
    return "\n".join([*table, "", *checks, *(f"\n{note}" for note in story.notes), f"\n{cells}."])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.2f}" if abs(value) >= 100 else f"{value:.4g}"
