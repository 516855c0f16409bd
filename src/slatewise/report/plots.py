"""Plots of a page: plotly data and layout as plain dictionaries; the page's script sets background, grid and text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slatewise.report.colours import COLOURS, DASHES, DETAILED, REFERENCE
from slatewise.report.numbers import interval_text, significant, with_bounds
from slatewise.report.page import Column, Curve, Exposure, Histogram, LineChart, Reliability, Row

MOST_ABREAST = 6
"""Up to this many labels are placed side by side; more are stacked vertically."""
LABEL_CHARACTERS = 18
"""A longer label of a position is broken into lines."""
TITLE_CHARACTERS = 36
"""A longer title of an axis is broken into lines."""
MOST_MARKED = 40
"""Lines with more points have no markers."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """An entry of a legend, which stands above the plot, never in it."""

    name: str
    colour: str
    dash: str
    """One of `DASHES`; "" for dots without a line."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plotly plot, with a text alternative for readers who cannot see it."""

    name: str
    """Id of its data on the page."""
    title: str
    alternative: str
    """One or two sentences."""
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    legend: tuple[Key, ...] = ()
    """Empty where one curve needs no name."""
    headings: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]
    """The plotted numbers; the first cell of a row is its name."""


def lines(name: str, chart: LineChart) -> Plot:
    """Curves over a common axis; many labels are stacked vertically, so that all of them are legible."""
    turned = len(chart.labels) > MOST_ABREAST
    labelled = bool(chart.labels)
    x: dict[str, Any] = {"title": _title(chart.x) | {"standoff": 10}}
    if labelled:
        x |= _labels(chart.labels)
    elif chart.log_x:
        x |= {"type": "log"}
    y: dict[str, Any] = {"title": _title(chart.y), "zeroline": labelled} | ({"type": "log"} if chart.log_y else {})
    layout = _layout(x=chart.x, y=chart.y, height=300)
    data = [_line(curve, index, dots=labelled, turned=turned) for index, curve in enumerate(chart.curves)]
    if turned:
        layout["height"] = 120 + _label_height(chart.labels)
        x |= {"autorange": "reversed"}
    layout["yaxis" if turned else "xaxis"] |= x
    layout["xaxis" if turned else "yaxis"] |= y
    names = ", ".join(curve.name for curve in chart.curves)
    kind = f"Dots for {', '.join(chart.labels)}" if labelled else f"Lines over {chart.x}"
    return Plot(
        name=name,
        title=chart.title,
        alternative=f"{kind}: {names}. {'Horizontal' if turned else 'Vertical'} axis: {chart.y}.",
        data=data,
        layout=layout,
        legend=_legend(data) if len(chart.curves) > 1 else (),
        headings=("", *(curve.name for curve in chart.curves))
        if labelled
        else ("", "first", "lowest", "highest", "last"),
        table=_dots_in_numbers(chart) if labelled else tuple(_line_in_numbers(curve) for curve in chart.curves),
    )


def _line(curve: Curve, index: int, *, dots: bool, turned: bool) -> dict[str, Any]:
    # dots of several curves at the same label are placed side by side
    positions = [value + 0.12 * index for value in curve.x] if dots else list(curve.x)
    values = [_finite(value) for value in curve.y]
    marked = sum(value is not None for value in values) <= MOST_MARKED
    line = _curve(
        curve.name,
        values if turned else positions,
        positions if turned else values,
        index,
        mode="markers" if dots else "lines+markers" if marked else "lines",
    )
    if curve.half:
        bars = [value if math.isfinite(value) else 0.0 for value in curve.half]
        line["error_x" if turned else "error_y"] = {"type": "data", "array": bars, "thickness": 1.2, "width": 3}
    return line


def _curve(
    name: str, x: Sequence[float | None], y: Sequence[float | None], index: int, *, mode: str = "lines"
) -> dict[str, Any]:
    """A curve in the colour and dash of its number.

    Args:
        name: for the legend.
        x: positions; None is a gap.
        y: values; None is a gap.
        index: which of the plot's curves it is.
        mode: plotly's: lines, markers or both.
    """
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"size": 7 if mode == "markers" else 5, "color": colour},
    }


def _diagonal(name: str, low: float, high: float) -> dict[str, Any]:
    """The line on which both axes have the same value."""
    line = {"color": REFERENCE, "dash": "dot", "width": 1}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [low, high],
        "y": [low, high],
        "line": line,
        "hoverinfo": "skip",
    }


def _legend(data: Sequence[dict[str, Any]]) -> tuple[Key, ...]:
    return tuple(
        Key(
            name=curve["name"],
            colour=curve["line"]["color"],
            dash="" if curve["mode"] == "markers" else curve["line"]["dash"],
        )
        for curve in data
    )


def _line_in_numbers(curve: Curve) -> tuple[str, ...]:
    finite = [value for value in curve.y if math.isfinite(value)]
    if not finite:
        return (curve.name, "–", "–", "–", "–")
    return (curve.name, *(significant(value) for value in (finite[0], min(finite), max(finite), finite[-1])))


def _dots_in_numbers(chart: LineChart) -> tuple[tuple[str, ...], ...]:
    cells = [["–"] * len(chart.curves) for _ in chart.labels]
    for column, curve in enumerate(chart.curves):
        for point, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
            half = curve.half[point] if curve.half else math.nan
            value, low, high = with_bounds(y, y - half, y + half)
            cells[round(x)][column] = f"{value} ({interval})" if (interval := interval_text(low, high)) else value
    return tuple((label, *row) for label, row in zip(chart.labels, cells, strict=True))


def comparison(name: str, column: Column, rows: tuple[Row, ...], interval: str) -> Plot:
    """One metric of every method as a dot with its interval; the first row is on top.

    Args:
        name: id of the plot on the page.
        column: the metric.
        rows: the methods.
        interval: name of the interval, for the text alternative.
    """
    shown = [(row, row.cells[column.name]) for row in rows if column.name in row.cells]
    dots: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": column.head,
        "x": [_finite(cell.value) for _, cell in shown],
        "y": list(range(len(shown))),
        "text": [row.name for row, _ in shown],
        "marker": {"size": 10, "color": [DETAILED if row.detailed else COLOURS[0] for row, _ in shown]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [cell.high - cell.value if cell.has_interval else 0.0 for _, cell in shown],
            "arrayminus": [cell.value - cell.low if cell.has_interval else 0.0 for _, cell in shown],
            "thickness": 1.5,
            "width": 4,
            "color": REFERENCE,
        },
        "hovertemplate": "%{text}: %{x:.4g}<extra></extra>",
    }
    layout = _layout(x=column.head, y="", height=0)
    layout["height"] = 90 + _label_height([row.name for row, _ in shown])
    layout["yaxis"] |= {"showgrid": False, "range": [len(shown) - 0.5, -0.5]} | _labels([row.name for row, _ in shown])
    layout["xaxis"] |= {"rangemode": "tozero"}
    return Plot(
        name=name,
        title=column.full,
        alternative=f"{column.meaning}, one dot per method with its {interval}.",
        data=[dots],
        layout=layout,
        headings=("", column.head, "low", "high"),
        table=tuple((row.name, *with_bounds(cell.value, cell.low, cell.high, column.digits)) for row, cell in shown),
    )


def histogram(name: str, values: Histogram) -> Plot:
    """Bars between edges, each as wide as its bin."""
    lows, highs = values.edges[:-1], values.edges[1:]
    if values.log_axis:
        # on a logarithmic axis plotly takes a bar's centre in logarithms but its width in plain units
        x = [math.log10(low) for low in lows]
        width = [math.log10(high) - math.log10(low) for low, high in zip(lows, highs, strict=True)]
        axis: dict[str, Any] = _powers(x[0], x[-1] + width[-1])
    else:
        x = list(lows)
        width = [high - low for low, high in zip(lows, highs, strict=True)]
        axis = {}
    names = [f"{significant(low, 3)} … {significant(high, 3)}" for low, high in zip(lows, highs, strict=True)]
    layout = _layout(x=values.quantity, y=values.counted, height=300)
    layout["xaxis"] |= axis
    layout["bargap"] = 0
    total = sum(values.counts)
    return Plot(
        name=name,
        title=values.title,
        alternative=f"Histogram of {values.quantity}: {total:,} values in {len(values.counts)} bins.",
        data=[
            {
                "type": "bar",
                "name": values.quantity,
                "x": x,
                "y": list(values.counts),
                "width": width,
                "offset": 0,
                "customdata": names,
                "marker": {"color": COLOURS[0]},
                "hovertemplate": "%{customdata}: %{y:,}<extra></extra>",
            }
        ],
        layout=layout,
        headings=("between", "count"),
        table=tuple((label, f"{count:,}") for label, count in zip(names, values.counts, strict=True)),
    )


def reliability(name: str, estimates: tuple[Reliability, ...]) -> Plot:
    """Predicted against observed probabilities of an item to be shown, both axes logarithmic."""
    borders = [value for item in estimates for value in (*item.predicted, *item.observed) if value > 0]
    low, high = min(borders), max(borders)
    data = [_diagonal("perfect calibration", low, high)] + [
        _curve(
            item.policy,
            item.predicted,
            [value if value > 0 else None for value in item.observed],
            index,
            mode="lines+markers",
        )
        for index, item in enumerate(estimates)
    ]
    layout = _layout(x="predicted probability of an item, β̂", y="share of times it was shown", height=340)
    for axis in ("xaxis", "yaxis"):
        # a tick at every power of ten: labels of 2 and 5 between them run into each other on a narrow page
        layout[axis] |= {"type": "log", "exponentformat": "power", "dtick": 1}
    return Plot(
        name=name,
        title="Calibration of β̂",
        alternative="Reliability curves of the estimated logging policy: predictions on the diagonal are calibrated.",
        data=data,
        layout=layout,
        legend=_legend(data),
        headings=("", "calibration error", "by sampling noise alone", "items shown"),
        table=tuple(
            (item.policy, significant(item.ece), significant(item.ece_by_chance), f"{item.shown:,}")
            for item in estimates
        ),
    )


def exposure(name: str, methods: tuple[Exposure, ...]) -> Plot:
    """Lorenz curves: the share of recommendations that the least shown items get."""
    drawn = [item for item in methods if len(item.lorenz) > 1]
    data = [_diagonal("every item equally often", 0.0, 1.0)] + [
        _curve(
            item.name,
            [i / (len(item.lorenz) - 1) for i in range(len(item.lorenz))],
            [_finite(value) for value in item.lorenz],
            index,
        )
        for index, item in enumerate(drawn)
    ]
    layout = _layout(x="share of the catalog, least shown items first", y="share of recommendations", height=340)
    layout["xaxis"] |= {"range": [0, 1], "tickformat": ".0%"}
    layout["yaxis"] |= {"range": [0, 1], "tickformat": ".0%"}
    return Plot(
        name=name,
        title="How evenly the catalog is shown",
        alternative="Lorenz curves of exposure: the nearer to the diagonal, the more evenly the catalog is shown.",
        data=data,
        layout=layout,
        legend=_legend(data),
        headings=("", "coverage", "Gini"),
        table=tuple((item.name, significant(item.coverage), significant(item.gini)) for item in methods),
    )


def _layout(*, x: str, y: str, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 56, "r": 28, "t": 8, "b": 48},
        "xaxis": {"title": _title(x) | {"standoff": 10}, "zeroline": False, "automargin": True, "fixedrange": True},
        "yaxis": {"title": _title(y), "zeroline": False, "automargin": True, "fixedrange": True},
        "showlegend": False,  # the page writes it above the plot
        "hoverlabel": {"align": "left"},
        "dragmode": False,
    }


def _title(quantity: str) -> dict[str, Any]:
    return {"text": "<br>".join(textwrap.wrap(quantity, TITLE_CHARACTERS)), "font": {"size": 12}}


def _labels(names: Sequence[str]) -> dict[str, Any]:
    """Ticks at 0, 1, … with names, in lines so short that a narrow page has room for the curves."""
    return {"tickvals": list(range(len(names))), "ticktext": ["<br>".join(_wrap(name)) for name in names]}


def _label_height(names: Sequence[str]) -> int:
    """Height in pixels that names need below each other."""
    return sum(max(30, 18 * len(_wrap(name)) + 6) for name in names)


def _wrap(name: str) -> list[str]:
    return textwrap.wrap(name, LABEL_CHARACTERS) or [""]


def _powers(low: float, high: float) -> dict[str, Any]:
    """Ticks at whole powers of ten on an axis whose positions are logarithms; at most eight."""
    first, last = math.floor(low), math.ceil(high)
    stride = max(1, math.ceil((last - first) / 7))
    ticks = list(range(first, last + 1, stride))
    return {"tickvals": ticks, "ticktext": [f"{10.0**tick:g}".replace("e-0", "e−") for tick in ticks]}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
