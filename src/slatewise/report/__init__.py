"""Reports of runs as self-contained HTML pages with plots: fill a `Page` and `write` it."""

from slatewise.report.columns import ranking_columns
from slatewise.report.html import render, write
from slatewise.report.page import (
    Check,
    Column,
    Comparison,
    Curve,
    Example,
    Examples,
    Experiment,
    Exposure,
    Histogram,
    Judgement,
    LineChart,
    Page,
    Recommended,
    Row,
    Source,
    Used,
)

__all__ = [
    "Check",
    "Column",
    "Comparison",
    "Curve",
    "Example",
    "Examples",
    "Experiment",
    "Exposure",
    "Histogram",
    "Judgement",
    "LineChart",
    "Page",
    "Recommended",
    "Row",
    "Source",
    "Used",
    "ranking_columns",
    "render",
    "write",
]
