"""Page → HTML. Every text is escaped by the template; the page's own policy forbids it to load or run anything else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from slatewise.files import atomic_file
from slatewise.report import figures, verdict
from slatewise.report.figures import Figure
from slatewise.report.page import Column, Comparison, Judgement, Page, Row

CORRECTION = (
    "Next-item recall counts how often a policy agrees with the one that wrote the log, and this agreement is what "
    "an off-policy correction takes out: a corrected policy loses recall by design. "
    "Judge it by the share of liked items among those that it recommends and the user rated later, by coverage and "
    "Gini, and by the verdict below; the weight cap moves it between imitation and correction."
)
MOST_BOXES = 2
"""Verdicts told at length; more of them stand in a table."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the comparison, as it is printed."""

    text: str
    interval: str
    best: bool


def write(path: Path, page: Page) -> None:
    """Write a report, whole or not at all.

    Raises:
        SlatewiseError: the folder cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(render(page), encoding="utf-8", newline="\n")


def render(page: Page) -> str:
    """The report as one HTML document without any reference to another file or host."""
    drawn = _figures(page)
    plotly, script, style = get_plotlyjs(), _part("page.js"), _part("page.css")
    scripts = [plotly, script] if any(drawn.values()) else []
    return (
        _environment()
        .from_string(_part("page.html"))
        .render(
            page=page,
            figures=drawn,
            columns=_groups(page.comparison),
            rows=_rows(page.comparison),
            correction=CORRECTION,
            verdict=verdict,
            boxed=_boxed(page),
            number=figures.number,
            style=style,
            scripts=scripts,
            policy=_content_policy(scripts),
        )
    )


def _figures(page: Page) -> dict[str, list[Figure]]:
    """Figures by the section they stand in."""
    comparison, propensities = page.comparison, page.propensities
    return {
        "comparison": []
        if comparison is None
        else [
            figures.comparison(f"figure-comparison-{index}", column, comparison.rows, comparison.interval)
            for index, column in enumerate(column for column in comparison.columns if column.plotted)
        ],
        "curves": [figures.curves(f"figure-curves-{index}", figure) for index, figure in enumerate(page.curves)],
        "propensities": [] if propensities is None else [figures.histogram("figure-propensities", propensities)],
        "reliability": [figures.reliability("figure-reliability", page.reliability)] if page.reliability else [],
        "exposure": [figures.exposure("figure-exposure", page.exposure)]
        if any(len(item.lorenz) > 1 for item in page.exposure)
        else [],
    }


def _boxed(page: Page) -> tuple[Judgement, ...]:
    """The verdicts that are told at length: all of one or two, of more the served policy's alone."""
    if len(page.judgements) <= MOST_BOXES:
        return page.judgements
    served = {row.name for row in page.comparison.rows if row.served} if page.comparison else set()
    return tuple(item for item in page.judgements if item.policy in served)[:1] or page.judgements[:1]


def _groups(comparison: Comparison | None) -> list[tuple[str, list[Column]]]:
    """Neighbouring columns of one group, in their order."""
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


def _best(comparison: Comparison, column: Column) -> str | None:
    """The printed form of a column's best value: what looks equal on paper is equal."""
    if column.higher_is_better is None:
        return None
    values = [row.cells[column.name].value for row in comparison.rows if column.name in row.cells]
    finite = [value for value in values if figures.number(value) != "–"]
    if len(finite) < 2:
        return None
    return figures.number(max(finite) if column.higher_is_better else min(finite), column.digits)


def _cell(row: Row, column: Column, best: str | None) -> Cell:
    if column.name not in row.cells:
        return Cell(text="–", interval="", best=False)
    measured = row.cells[column.name]
    text = figures.number(measured.value, column.digits)
    low, high = figures.number(measured.low, column.digits), figures.number(measured.high, column.digits)
    return Cell(text=text, interval=f"{low} – {high}" if measured.has_interval else "", best=text == best)


def _content_policy(scripts: list[str]) -> str:
    """Content security policy: these very scripts may run, nothing may be fetched.

    Plotly sets style attributes and adds a style sheet, so inline styles stay open; images are its own exports.
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


@cache
def _part(name: str) -> str:
    return resources.files("slatewise.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
