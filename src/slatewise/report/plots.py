"""Plots of a page: plotly data and layout as plain dictionaries.

Colours work on light and dark backgrounds; the page's script sets background, grid and text by the reader's scheme.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from slatewise.report.page import Column, Curve, Exposure, Histogram, LineChart, Reliability, Row

# distinguishable for colour-blind readers, each with a contrast of at least 3 : 1 to white and to the dark page
COLOURS = ("#2b7bd4", "#d0632a", "#2a9567", "#a855a0", "#9a7b12", "#c8485f", "#5c7f92", "#7b6fe0")
DASHES = ("solid", "dash", "dot", "dashdot")
SERVED = COLOURS[1]
MOST_ABREAST = 6
"""Up to this many labels are placed side by side; more are stacked vertically."""
MOST_MARKED = 40
"""Lines with more points have no markers."""


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
    headings: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]
    """The plotted numbers; the first cell of a row is its name."""


def lines(name: str, chart: LineChart) -> Plot:
    """Curves over a common axis; many labels are stacked vertically, so that all of them are legible."""
    turned = len(chart.labels) > MOST_ABREAST
    labelled = bool(chart.labels)
    x: dict[str, Any] = {"title": {"text": chart.x, "standoff": 10}}
    if labelled:
        x |= {"tickvals": list(range(len(chart.labels))), "ticktext": list(chart.labels)}
    elif chart.log_x:
        x |= {"type": "log"}
    y: dict[str, Any] = {"title": {"text": chart.y}, "zeroline": labelled} | ({"type": "log"} if chart.log_y else {})
    layout = _layout(x=chart.x, y=chart.y, legend=len(chart.curves) > 1, height=320)
    if turned:
        layout["height"] = 120 + 24 * len(chart.labels)
        x |= {"autorange": "reversed"}
    layout["yaxis" if turned else "xaxis"] |= x
    layout["xaxis" if turned else "yaxis"] |= y
    names = ", ".join(curve.name for curve in chart.curves)
    kind = f"Dots for {', '.join(chart.labels)}" if labelled else f"Lines over {chart.x}"
    return Plot(
        name=name,
        title=chart.title,
        alternative=f"{kind}: {names}. {'Horizontal' if turned else 'Vertical'} axis: {chart.y}.",
        data=[_line(curve, index, dots=labelled, turned=turned) for index, curve in enumerate(chart.curves)],
        layout=layout,
        headings=("", *(curve.name for curve in chart.curves))
        if labelled
        else ("", "first", "lowest", "highest", "last"),
        table=_dots_in_numbers(chart) if labelled else tuple(_line_in_numbers(curve) for curve in chart.curves),
    )


def _line(curve: Curve, index: int, *, dots: bool, turned: bool) -> dict[str, Any]:
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
    # dots of several curves at the same label are placed side by side
    positions = [value + 0.12 * index for value in curve.x] if dots else list(curve.x)
    values = [_finite(value) for value in curve.y]
    marked = sum(value is not None for value in values) <= MOST_MARKED
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers" if dots else "lines+markers" if marked else "lines",
        "name": curve.name,
        "x": values if turned else positions,
        "y": positions if turned else values,
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"size": 7 if dots else 5, "color": colour},
    }
    if curve.half:
        bars = [value if math.isfinite(value) else 0.0 for value in curve.half]
        line["error_x" if turned else "error_y"] = {"type": "data", "array": bars, "thickness": 1.2, "width": 3}
    return line


def _line_in_numbers(curve: Curve) -> tuple[str, ...]:
    finite = [value for value in curve.y if math.isfinite(value)]
    if not finite:
        return (curve.name, "–", "–", "–", "–")
    return (curve.name, *(number(value) for value in (finite[0], min(finite), max(finite), finite[-1])))


def _dots_in_numbers(chart: LineChart) -> tuple[tuple[str, ...], ...]:
    cells = [["–"] * len(chart.curves) for _ in chart.labels]
    for column, curve in enumerate(chart.curves):
        for point, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)):
            half = f" ± {number(curve.half[point])}" if curve.half and math.isfinite(curve.half[point]) else ""
            cells[round(x)][column] = f"{number(y)}{half}"
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
        "y": [row.name for row, _ in shown],
        "marker": {"size": 10, "color": [SERVED if row.served else COLOURS[0] for row, _ in shown]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [cell.high - cell.value if cell.has_interval else 0.0 for _, cell in shown],
            "arrayminus": [cell.value - cell.low if cell.has_interval else 0.0 for _, cell in shown],
            "thickness": 1.5,
            "width": 4,
            "color": "#7f8894",
        },
        "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
    }
    layout = _layout(x=column.head, y="", legend=False, height=90 + 30 * len(shown))
    layout["yaxis"] |= {"autorange": "reversed", "type": "category", "showgrid": False, "automargin": True}
    layout["xaxis"] |= {"rangemode": "tozero"}
    return Plot(
        name=name,
        title=column.full,
        alternative=f"{column.meaning}, one dot per method with its {interval}.",
        data=[dots],
        layout=layout,
        headings=("", column.head, "low", "high"),
        table=tuple(
            (row.name, *(number(bound, column.digits) for bound in (cell.value, cell.low, cell.high)))
            for row, cell in shown
        ),
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
    names = [f"{number(low)} – {number(high)}" for low, high in zip(lows, highs, strict=True)]
    layout = _layout(x=values.quantity, y="count", legend=False, height=300)
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
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "perfect calibration",
            "x": [low, high],
            "y": [low, high],
            "line": {"color": "#7f8894", "dash": "dot", "width": 1},
            "hoverinfo": "skip",
        }
    ]
    for index, item in enumerate(estimates):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": item.policy,
                "x": list(item.predicted),
                "y": [value if value > 0 else None for value in item.observed],
                "line": {"color": colour, "dash": dash, "width": 2},
                "marker": {"size": 5, "color": colour},
            }
        )
    layout = _layout(x="predicted probability of an item", y="share that was shown", legend=True, height=360)
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"type": "log", "exponentformat": "power"}
    return Plot(
        name=name,
        title="Calibration of β̂",
        alternative="Reliability curves of the estimated logging policy: predictions on the diagonal are calibrated.",
        data=data,
        layout=layout,
        headings=("", "calibration error", "by sampling noise alone", "items shown"),
        table=tuple(
            (item.policy, number(item.ece), number(item.ece_by_chance), f"{item.shown:,}") for item in estimates
        ),
    )


def exposure(name: str, methods: tuple[Exposure, ...]) -> Plot:
    """Lorenz curves: the share of recommendations that the least shown items get."""
    drawn = [item for item in methods if len(item.lorenz) > 1]
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "uniform",
            "x": [0.0, 1.0],
            "y": [0.0, 1.0],
            "line": {"color": "#7f8894", "dash": "dot", "width": 1},
            "hoverinfo": "skip",
        }
    ]
    for index, item in enumerate(drawn):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": item.name,
                "x": [i / (len(item.lorenz) - 1) for i in range(len(item.lorenz))],
                "y": [_finite(value) for value in item.lorenz],
                "line": {"color": colour, "dash": dash, "width": 2},
            }
        )
    layout = _layout(x="share of the catalog, least shown first", y="share of recommendations", legend=True, height=360)
    layout["xaxis"] |= {"range": [0, 1], "tickformat": ".0%"}
    layout["yaxis"] |= {"range": [0, 1], "tickformat": ".0%"}
    return Plot(
        name=name,
        title="How evenly the catalog is shown",
        alternative="Lorenz curves of exposure: the nearer to the diagonal, the more evenly the catalog is shown.",
        data=data,
        layout=layout,
        headings=("", "coverage", "Gini"),
        table=tuple((item.name, number(item.coverage), number(item.gini)) for item in methods),
    )


def number(value: float, digits: int = 3) -> str:
    """A number as a reader wants it: `digits` after the point, one significant digit where that would print as zero,
    whole thousands in groups; "–" for NaN and infinities.
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size < 1e-6 and size > 0:
        text = f"{value:.0e}".replace("e-0", "e-")
    elif 0 < size < 0.5 * 10**-digits:
        text = f"{value:.{-math.floor(math.log10(size))}f}"
    else:
        text = f"{value:.{digits}f}"
    return text.replace("-", "−")


def _layout(*, x: str, y: str, legend: bool, height: int) -> dict[str, Any]:
    return {
        "height": height,
        "margin": {"l": 56, "r": 12, "t": 8, "b": 48},
        "xaxis": {"title": {"text": x, "standoff": 10}, "zeroline": False, "automargin": True, "fixedrange": True},
        "yaxis": {"title": {"text": y}, "zeroline": False, "automargin": True, "fixedrange": True},
        "showlegend": legend,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hoverlabel": {"align": "left"},
        "dragmode": False,
    }


def _powers(low: float, high: float) -> dict[str, Any]:
    """Ticks at whole powers of ten on an axis whose positions are logarithms; at most eight."""
    first, last = math.floor(low), math.ceil(high)
    stride = max(1, math.ceil((last - first) / 7))
    ticks = list(range(first, last + 1, stride))
    return {"tickvals": ticks, "ticktext": [number(10.0**tick) if tick >= -3 else f"1e−{-tick}" for tick in ticks]}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
