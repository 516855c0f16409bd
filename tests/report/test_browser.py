"""Pages as a real browser draws them, on a desk and on a telephone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Tab, open_browser
from tests.report.pages import ATTACK, sample

from slatewise.report import Check, Curve, Experiment, LineChart, Page, write
from slatewise.report.page import Reliability

DRAWN = """
new Promise((resolve) => {
  const look = () => document.documentElement.dataset.drawn ? resolve() : setTimeout(look, 20);
  look();
})
"""
MEASURE = """
[...document.querySelectorAll("figure")].map((figure) => {
  const box = (element) => {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    return { left, top, right, bottom };
  };
  const words = ".xtitle, .ytitle, .xtick text, .ytick text";
  return {
    title: figure.querySelector("h3").textContent,
    drawing: box(figure.querySelector(".main-svg")),
    area: box(figure.querySelector(".plot-container .bglayer, .plot-container .gridlayer") ?? figure),
    canvas: box(figure.querySelector(".draglayer .nsewdrag")),
    legend: [...figure.querySelectorAll(".legend")].map(box),
    words: [...figure.querySelectorAll(words)].map((word) => ({ text: word.textContent, ...box(word) })),
    titles: figure.querySelectorAll(".xtitle, .ytitle").length,
  };
})
"""


def long_page() -> Page:
    """A page with every kind of plot, with names as long as they get."""
    names = ("reinforce, weight cap e³, top-K correction", "behaviour cloning with a GRU of 128", "item_knn")
    page = sample()
    assert page.comparison is not None
    curves = tuple(Curve(name=name, x=(10.0, 20.0, 30.0), y=(0.1, 0.3, 0.2)) for name in names)
    diagonal = (0.001, 0.01, 0.1)
    return replace(
        page,
        curves=(LineChart(title="Validation", x="training step", y="ndcg@10, validation part", curves=curves),),
        comparison=replace(page.comparison, rows=tuple(replace(page.comparison.rows[0], name=name) for name in names)),
        exposure=tuple(replace(page.exposure[0], name=name) for name in names),
        reliability=tuple(
            Reliability(policy=name, predicted=diagonal, observed=diagonal, shown=9, ece=0.1, ece_by_chance=0.1)
            for name in names[:2]
        ),
    )


def experiment() -> Experiment:
    """A page with dots over labels, few and many of them."""
    few = Curve(name="ours", x=(0.0, 1.0), y=(1.0, 2.0), half=(0.1, math.inf))
    many = Curve(name="ours", x=tuple(map(float, range(8))), y=(1.0,) * 8, half=(0.1,) * 8)
    return Experiment(
        title="An experiment",
        facts="seed 0",
        checks=(Check(name="it holds", holds=True, figure="1.0"),),
        notes=(),
        charts=(
            LineChart(title="few", x="policy", y="return", labels=("uniform", "ours"), curves=(few, few)),
            LineChart(
                title="many",
                x="policy",
                y="return",
                labels=tuple(f"method {number} with a long name" for number in range(8)),
                curves=(many, many),
            ),
        ),
        headings=("", "metric", "ours"),
        rows=(("a", "return", "1.0"),),
    )


def overlap(first: dict[str, float], second: dict[str, float]) -> bool:
    return min(first["right"], second["right"]) > max(first["left"], second["left"]) and min(
        first["bottom"], second["bottom"]
    ) > max(first["top"], second["top"])


def check_layout(tab: Tab) -> list[dict[str, Any]]:
    """Nothing wider than the window, legends beside the curves, axes with whole titles; the figures."""
    wide = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    width, window = tab.evaluate(wide)
    assert width <= window, "the page scrolls sideways"
    figures: list[dict[str, Any]] = tab.evaluate(MEASURE)
    for figure in figures:
        title, drawing = figure["title"], figure["drawing"]
        for legend in figure["legend"]:
            assert not overlap(legend, figure["canvas"]), f"{title}: the legend lies over the curves"
        assert figure["canvas"]["right"] - figure["canvas"]["left"] > 100, f"{title}: no room for the curves"
        assert figure["titles"] >= 1, f"{title}: an axis without a title"
        for word in figure["words"]:
            inside = drawing["left"] - 1 <= word["left"] and word["right"] <= drawing["right"] + 1
            assert inside, f'{title}: "{word["text"]}" is cut off'
            assert word["bottom"] <= drawing["bottom"] + 1, f'{title}: "{word["text"]}" is cut off below'
    assert tab.errors == []
    return figures


def test_legends_and_titles_stand_beside_the_curves(tmp_path: Path) -> None:
    write(tmp_path / "run.html", long_page())
    write(tmp_path / "experiment.html", experiment())
    with open_browser(tmp_path / "profile") as tab:
        for width in (1280, 390):
            for name, with_legend in (("run", 3), ("experiment", 2)):
                tab.open(tmp_path / f"{name}.html", width=width)
                tab.evaluate(DRAWN)
                figures = check_layout(tab)
                assert sum(bool(figure["legend"]) for figure in figures) == with_legend


def test_a_browser_draws_every_plot_and_runs_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "report.html", sample(ATTACK, simulated=True))
    with open_browser(tmp_path / "profile") as tab:
        tab.open(tmp_path / "report.html", width=1280)
        tab.evaluate(DRAWN)
        assert tab.evaluate("document.documentElement.dataset.drawn") == "4"
        assert tab.evaluate("document.documentElement.dataset.hacked ?? null") is None
        assert tab.evaluate("document.querySelectorAll('[data-plot] svg.main-svg').length") >= 4
        assert tab.evaluate("document.querySelectorAll('img').length") == 0
        assert tab.evaluate("[...document.querySelectorAll('[data-plot]')].every((plot) => plot.ariaLabel.trim())")
        assert tab.errors == []


def test_the_checks_see_a_legend_over_curves_and_a_page_that_is_too_wide(tmp_path: Path) -> None:
    write(tmp_path / "run.html", long_page())
    with open_browser(tmp_path / "profile") as tab:
        tab.open(tmp_path / "run.html", width=1280)
        tab.evaluate(DRAWN)
        move = "document.querySelectorAll('ul.legend').forEach((list) => { list.style.transform = 'translateY(60px)' })"
        tab.evaluate(move)
        with pytest.raises(AssertionError, match="the legend lies over the curves"):
            check_layout(tab)
        tab.evaluate("document.querySelector('main').style.minWidth = '3000px'")
        with pytest.raises(AssertionError, match="scrolls sideways"):
            check_layout(tab)
        tab.evaluate("console.error('a fault')")
        assert "a fault" in tab.errors[0]
