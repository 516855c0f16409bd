"""Plots as plotly draws them, and their numbers."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest
from tests.report.pages import sample

from slatewise.report import Curve, LineChart, plots


def test_curves_leave_a_gap_for_nan_and_say_their_range() -> None:
    plot = plots.lines("f", sample().curves[0])
    assert plot.data[0]["y"] == [2.0, None, 1.0]
    assert plot.table == (("train", "2.000", "1.000", "2.000", "1.000"),)


def test_dots_over_labels_have_their_numbers_in_a_table() -> None:
    dots = Curve(name="c", x=(0.0, 1.0), y=(3.0, 4.0), half=(math.inf, 0.5))
    plot = plots.lines("f", LineChart(title="dots", x="", y="%", curves=(dots,), labels=("one", "two")))
    assert plot.layout["xaxis"]["ticktext"] == ["one", "two"]
    assert plot.headings == ("", "c")
    assert plot.table == (("one", "3.000"), ("two", "4.000 (3.500 … 4.500)"))


def test_many_labels_stand_below_each_other() -> None:
    labels = tuple(f"method {number}" for number in range(7))
    dots = Curve(name="mean", x=tuple(map(float, range(7))), y=(1.0,) * 7, half=(0.1,) * 7)
    plot = plots.lines("f", LineChart(title="t", x="", y="return", labels=labels, curves=(dots,)))
    assert plot.layout["yaxis"]["ticktext"] == list(labels)
    assert plot.layout["yaxis"]["autorange"] == "reversed", "the first label stands on top"
    assert plot.layout["xaxis"]["title"]["text"] == "return"
    assert plot.data[0]["x"] == [1.0] * 7
    assert plot.data[0]["error_x"]["array"] == [0.1] * 7


def test_histogram_on_a_logarithmic_axis_has_bins_of_equal_width() -> None:
    histogram = sample().propensities
    assert histogram is not None
    (bars,) = plots.histogram("f", histogram).data
    assert bars["x"] == pytest.approx([-3, -2, -1])
    assert bars["width"] == pytest.approx([1, 1, 1])
    assert bars["y"] == [5, 7, 1]


def test_comparison_plot_measures_its_whiskers_from_the_dot() -> None:
    page = sample()
    assert page.comparison is not None
    column = page.comparison.columns[0]
    (dots,) = plots.comparison("f", column, page.comparison.rows, "95 %").data
    assert dots["x"] == [0.0712, 0.003]
    assert dots["error_x"]["array"] == pytest.approx([0.0052, 0.002])
    assert dots["error_x"]["arrayminus"] == pytest.approx([0.0052, 0.002])


def test_every_plot_is_one_that_plotly_knows() -> None:
    page = sample()
    assert page.comparison is not None
    assert page.propensities is not None
    drawn = [
        plots.lines("a", page.curves[0]),
        plots.comparison("b", page.comparison.columns[0], page.comparison.rows, "95 %"),
        plots.histogram("c", page.propensities),
        plots.exposure("d", page.exposure),
    ]
    for plot in drawn:
        # plotly refuses a property or value it does not know
        assert len(go.Figure(data=plot.data, layout=plot.layout).data) == len(plot.data)
        assert plot.alternative
