"""Rendering of a page to HTML. The template escapes every text; the page's content policy forbids loading anything."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from slatewise.files import atomic_file
from slatewise.report import plots, verdict
from slatewise.report.numbers import NO_VALUE, interval_text, number, significant, with_bounds
from slatewise.report.page import Column, Comparison, Experiment, Judgement, Page, Row
from slatewise.report.plots import Plot

CORRECTION = (
    "Next-item recall counts how often a policy agrees with the one that wrote the log, and this agreement is what "
    "an off-policy correction takes out: a corrected policy loses recall by design. "
    "Judge it by {criteria}; the weight cap moves it between imitation and correction."
)
LIKED_SHARE = "the share of liked items among those that it recommends and the user rated later"
MOST_BOXES = 2
"""Verdicts shown in full; with more, the others are listed in a table."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the comparison, as printed."""

    text: str
    below: str
    """The interval, or why there is no value."""
    best: bool


def write(path: Path, page: Page | Experiment) -> None:
    """Write a page atomically.

    Raises:
        SlatewiseError: the folder cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(render(page), encoding="utf-8", newline="\n")


def render(page: Page | Experiment) -> str:
    """The page as one HTML document without references to other files or hosts."""
    if isinstance(page, Experiment):
        drawn = [plots.lines(f"plot-{index}", chart) for index, chart in enumerate(page.charts)]
        return _fill_template("experiment.html", page, scripted=bool(drawn), plots=drawn)
    sections = _plots(page)
    return _fill_template(
        "run.html",
        page,
        scripted=any(sections.values()),
        plots=sections,
        columns=_groups(page.comparison),
        rows=_rows(page.comparison),
        correction=_correction(page),
        verdict=verdict,
        boxed=_verdicts_in_full(page),
        number=number,
        significant=significant,
        interval=interval_text,
        log_propensity=_log_propensity,
    )


def _fill_template(template: str, page: Page | Experiment, *, scripted: bool, **values: object) -> str:
    scripts = [get_plotlyjs(), _part("page.js")] if scripted else []
    return (
        _environment()
        .get_template(template)
        .render(page=page, style=_part("page.css"), scripts=scripts, policy=_content_policy(scripts), **values)
    )


def _plots(page: Page) -> dict[str, list[Plot]]:
    """Plots by the section they belong to."""
    comparison, propensities = page.comparison, page.propensities
    return {
        "comparison": []
        if comparison is None
        else [
            plots.comparison(f"plot-comparison-{index}", column, comparison.rows, comparison.interval)
            for index, column in enumerate(column for column in comparison.columns if _is_drawn(comparison, column))
        ],
        "curves": [plots.lines(f"plot-curves-{index}", chart) for index, chart in enumerate(page.curves)],
        "propensities": [] if propensities is None else [plots.histogram("plot-propensities", propensities)],
        "reliability": [plots.reliability("plot-reliability", page.reliability)] if page.reliability else [],
        "exposure": [plots.exposure("plot-exposure", page.exposure)]
        if any(len(item.lorenz) > 1 for item in page.exposure)
        else [],
    }


def _verdicts_in_full(page: Page) -> tuple[Judgement, ...]:
    """The verdicts to show in full: all of one or two, else only that of the run the page looks at closely."""
    if len(page.judgements) <= MOST_BOXES:
        return page.judgements
    detailed = {row.name for row in page.comparison.rows if row.detailed} if page.comparison else set()
    return tuple(item for item in page.judgements if item.policy in detailed)[:1] or page.judgements[:1]


def _groups(comparison: Comparison | None) -> list[tuple[str, list[Column]]]:
    """Neighbouring columns of the same group, in order."""
    groups: list[tuple[str, list[Column]]] = []
    for column in comparison.columns if comparison else ():
        if groups and groups[-1][0] == column.group:
            groups[-1][1].append(column)
        else:
            groups.append((column.group, [column]))
    return groups


def _rows(comparison: Comparison | None) -> list[tuple[Row, list[Cell]]]:
    if comparison is None:
        return []
    best = {column.name: _best(comparison, column) for column in comparison.columns}
    return [(row, [_cell(row, column, best[column.name]) for column in comparison.columns]) for row in comparison.rows]


def _correction(page: Page) -> str:
    """What to judge a corrected policy by, of what the page has."""
    columns = page.comparison.columns if page.comparison else ()
    criteria = [LIKED_SHARE] if any(column.name.startswith("liked_share") for column in columns) else []
    criteria += ["coverage and Gini"]
    criteria += ["the verdict below"] if page.judgements else []
    return CORRECTION.format(criteria=", ".join(criteria))


def _is_drawn(comparison: Comparison, column: Column) -> bool:
    """True where a plot of the column has anything to show."""
    return column.plotted and bool(_values(comparison, column))


def _values(comparison: Comparison, column: Column) -> list[float]:
    values = [row.cells[column.name].value for row in comparison.rows if column.name in row.cells]
    return [value for value in values if math.isfinite(value)]


def _best(comparison: Comparison, column: Column) -> str | None:
    """The printed form of a column's best value: values that print the same are all marked, unless all do."""
    values = _values(comparison, column)
    printed = {significant(value, column.digits) for value in values}
    if column.higher_is_better is None or len(printed) < 2:
        return None
    return significant(max(values) if column.higher_is_better else min(values), column.digits)


def _cell(row: Row, column: Column, best: str | None) -> Cell:
    measured = row.cells.get(column.name)
    if measured is None or not math.isfinite(measured.value):
        return Cell(text=NO_VALUE, below=column.reason if measured is not None else "not measured", best=False)
    text, low, high = with_bounds(measured.value, measured.low, measured.high, column.digits)
    return Cell(
        text=text,
        below=interval_text(low, high),
        best=significant(measured.value, column.digits) == best,
    )


def _log_propensity(value: float) -> str:
    """0 for what is certain, −∞ for what the procedure never shows."""
    if value == 0:
        return "0"
    return "−∞" if value == -math.inf else significant(value)


def _content_policy(scripts: list[str]) -> str:
    """Content security policy that allows exactly these scripts and no requests.

    Inline styles are allowed because Plotly sets style attributes and adds a style sheet; images are its own exports.
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


@cache
def _part(name: str) -> str:
    return resources.files("slatewise.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_part), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
