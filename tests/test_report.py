"""The report page: whole, escaped, asking nobody; drawn by a real browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import os
import re
import shutil
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
import torch

from slatewise.config import EvaluateConfig
from slatewise.evaluation import Ranking, Relevance, ranking_metrics
from slatewise.report import (
    Column,
    Comparison,
    Curve,
    Example,
    Exposure,
    Histogram,
    Judgement,
    LineChart,
    Page,
    Recommended,
    Row,
    Source,
    Used,
    plots,
    ranking_columns,
    render,
    verdict,
    write,
)
from slatewise.stats import Measurement
from slatewise.types import Estimate

ATTACK = '<script>document.documentElement.dataset.hacked="yes"</script>"\'><img src=x onerror=alert(1)>&amp;'


def sample(text: str = "", *, simulated: bool = False) -> Page:
    """A page with every section filled; `text` stands in every place that takes words."""
    columns = (
        Column(name="ndcg@10", meaning="Discounted gain." + text, group="all held-out items" + text, plotted=True),
        Column(name="recall@10", meaning="Share of users whose item is found.", group="all held-out items" + text),
        Column(name="liked", label="recall@10", meaning="The same, item rated ≥ 4.", group="held-out items rated ≥ 4"),
        Column(name="gini@10", meaning="Unevenness.", group="breadth", higher_is_better=None),
    )
    rows = (
        Row(
            name="reinforce" + text,
            cells={
                "ndcg@10": Measurement(name="", value=0.0712, low=0.066, high=0.0764),
                "recall@10": Measurement(name="", value=0.131, low=0.11, high=0.152),
                "liked": Measurement(name="", value=0.15),
                "gini@10": Measurement(name="", value=0.8),
            },
            note="reward-weighted" + text,
            served=True,
            corrected=True,
        ),
        Row(
            name="random",
            cells={
                "ndcg@10": Measurement(name="", value=0.003, low=0.001, high=0.005),
                "gini@10": Measurement(name="", value=0.1),
            },
        ),
    )
    estimate = Estimate(
        value=0.42,
        stderr=0.1,
        interval=(0.22, 0.62),
        ess=12.0,
        steps=4000,
        max_weight=0.31,
        unsupported=0.04,
        verdict="cannot judge",
        reasons=("the log has no propensities" + text,),
    )
    return Page(
        title="Synthetic run" + text,
        created="1 January 2030" + text,
        source=Source(
            name="made-up" + text,
            simulated=simulated,
            terms="free" + text,
            citation="nobody" + text,
            fingerprint="0123abcd" + text,
            counts={"users": 1234, "items" + text: 56},
        ),
        summary=("First finding." + text, "Second finding." + text),
        comparison=Comparison(columns=columns, rows=rows, protocol="Leave-one-out." + text, interval="95 %" + text),
        curves=(
            LineChart(
                title="Loss" + text,
                curves=(Curve(name="train" + text, x=(0.0, 1.0, 2.0), y=(2.0, math.nan, 1.0)),),
                y="loss" + text,
                x="step" + text,
            ),
        ),
        judgements=(
            Judgement(
                policy="reinforce" + text,
                estimate=estimate,
                estimator="SNIPS" + text,
                propensities="estimated" + text,
                logged_value=0.4,
            ),
        ),
        propensities=Histogram(
            title="Propensities" + text,
            quantity="propensity" + text,
            edges=(0.001, 0.01, 0.1, 1.0),
            counts=(5, 7, 1),
            log_axis=True,
            note="Many are small." + text,
        ),
        exposure=(
            Exposure(name="reinforce" + text, coverage=0.4, gini=0.8, lorenz=(0.0, 0.1, 1.0)),
            Exposure(name="random", coverage=1.0, gini=0.1, lorenz=(0.0, 0.45, 1.0)),
        ),
        examples=(
            Example(
                user="user 7" + text,
                history=(Used(title="Old film" + text, reward="5 of 5" + text),),
                slate=(
                    Recommended(title="New film" + text, propensity=0.25, outcome="held-out item" + text),
                    Recommended(title="Newer film"),
                ),
                note="Picked at random." + text,
            ),
        ),
        commands=("slatewise serve runs/demo" + text,),
        configuration="[method]\nname = 'reinforce'" + text,
        versions={"slatewise" + text: "0.1.0" + text},
    )


class Parts(HTMLParser):
    """Start tags with their attributes, the text of each script, and all text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.cdata_elem is None:
            self.text += data


def test_every_text_of_a_page_is_shown_as_text() -> None:
    plain, attacked = Parts(render(sample())), Parts(render(sample(ATTACK)))
    ids = [attributes["id"] for _, attributes in plain.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in attacked.tags] == [
        sorted(attributes) for _, attributes in plain.tags
    ]
    assert ATTACK in attacked.text
    for place in ("Old film", "New film", "made-up", "reward-weighted", "user 7", "slatewise serve runs/demo", "0.1.0"):
        assert place + ATTACK in attacked.text, place


def test_a_page_refers_to_nothing_outside_itself() -> None:
    html = render(sample())
    for tag, attributes in Parts(html).tags:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base"}
        for name in ("src", "srcset", "action", "data"):
            assert name not in attributes, (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_only_the_pages_own_scripts_may_run() -> None:
    parts = Parts(render(sample()))
    policy = next(a["content"] for tag, a in parts.tags if tag == "meta" and "Content-Security-Policy" in a.values())
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "'unsafe-inline'" not in policy.split("style-src")[0]
    running = [text for attributes, text in parts.scripts if attributes.get("type") != "application/json"]
    assert len(running) == 2
    for text in running:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_a_simulated_log_is_labelled_three_times() -> None:
    simulated, real = render(sample(simulated=True)), render(sample())
    assert "<strong>Simulated log.</strong>" in simulated
    assert "<title>[simulated log] Synthetic run</title>" in simulated
    assert "made-up (simulated)" in simulated
    assert "simulated" not in Parts(real).text.lower()


def test_a_page_without_sections_is_short_and_runs_no_script() -> None:
    source = Source(name="a log", simulated=False, terms="one's own")
    html = render(Page(title="Empty", created="today", source=source))
    parts = Parts(html)
    assert [a["id"] for tag, a in parts.tags if tag == "section"] == ["source"]
    assert parts.scripts == []
    assert "script-src &#39;none&#39;" in html
    assert len(html) < 20_000


def test_comparison_prints_value_interval_best_and_gap() -> None:
    page = render(sample())
    html = re.sub(r"\s+", " ", page[page.index('<table class="wide"') : page.index("</table>")])
    assert "<td><b>0.071</b><small>0.066 – 0.076</small></td>" in html
    assert "<td>0.003</td>" not in html, "an interval stands below its value"
    assert "<td>0.003<small>0.001 – 0.005</small></td>" in html
    assert "<td>0.150</td>" in html, "one value in a column is not the best of anything"
    assert "<td>0.800</td> <td>" not in html
    assert "<td>0.800</td></tr>" in html, "neither direction of Gini is better"
    assert "<td>–</td>" in html
    assert '<th class="group" scope="colgroup" colspan="2">all held-out items</th>' in html


def test_the_page_says_what_a_correction_does_only_where_there_is_one() -> None:
    page = sample()
    assert page.comparison is not None
    plain = dataclasses.replace(
        page.comparison, rows=tuple(dataclasses.replace(row, corrected=False) for row in page.comparison.rows)
    )
    assert "loses recall by design" in render(page)
    assert "loses recall by design" not in render(dataclasses.replace(page, comparison=plain))


def test_verdict_in_words() -> None:
    (judgement,) = sample().judgements
    assert verdict.headline(judgement) == "This log cannot judge this policy."
    said = verdict.sentences(judgement)
    assert "The log has no propensities." in said
    assert verdict.facts(judgement) == [
        ("Estimated reward per shown item", "0.420, 95 % interval 0.220 – 0.620"),
        ("Reward per shown item of the log itself", "0.400"),
        ("Effective steps", "12 of 4,000"),
        ("Weight of the heaviest step", "31 %"),
        ("Logged actions out of the policy's reach", "4.0 %"),
        ("Estimator", "SNIPS"),
        ("Propensities", "estimated"),
    ]


def test_ranking_columns_are_metrics_that_an_evaluation_has() -> None:
    ranking = Ranking(
        user=torch.tensor([0, 1]),
        items=torch.tensor([[2, 3], [3, 4]]),
        hits=torch.tensor([[True, False], [False, False]]),
        liked_hits=torch.tensor([[True, False], [False, False]]),
        relevance=Relevance(
            used=torch.tensor([1, 1]),
            repeats=torch.tensor([0, 0]),
            relevant=torch.tensor([1, 1]),
            liked=torch.tensor([1, 0]),
        ),
    )
    config = EvaluateConfig(k=(2,), liked_at_least=4.0)
    known = {metric.name for metric in ranking_metrics(ranking, config, num_rows=6, count=torch.arange(6))}
    assert {column.name for column in ranking_columns(2, 4.0)} <= known
    assert not [column for column in ranking_columns(2) if "liked" in column.name]
    assert {column.full for column in ranking_columns(2, 3.5)} >= {"recall@2, held-out items rated ≥ 3.5"}


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0824, 3, "0.082"),
        (0.0, 3, "0.000"),
        (0.0081, 2, "0.01"),
        (4e-5, 3, "0.00004"),
        (4e-9, 3, "4e−9"),
        (-2.5, 1, "−2.5"),
        (12345.6, 3, "12,346"),
        (math.nan, 3, "–"),
        (math.inf, 3, "–"),
    ],
)
def test_number(value: float, digits: int, text: str) -> None:
    assert plots.number(value, digits) == text


def test_curves_leave_a_gap_for_nan_and_say_their_range() -> None:
    plot = plots.lines("f", sample().curves[0])
    assert plot.data[0]["y"] == [2.0, None, 1.0]
    assert plot.table == (("train", "2.000", "1.000", "2.000", "1.000"),)


def test_dots_over_labels_have_their_numbers_in_a_table() -> None:
    dots = Curve(name="c", x=(0.0, 1.0), y=(3.0, 4.0), half=(math.inf, 0.5))
    plot = plots.lines("f", LineChart(title="dots", x="", y="%", curves=(dots,), labels=("one", "two")))
    assert plot.layout["xaxis"]["ticktext"] == ["one", "two"]
    assert plot.headings == ("", "c")
    assert plot.table == (("one", "3.000"), ("two", "4.000 ± 0.500"))


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


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match='curve "loss": 2 values of x, 1 of y'):
        Curve(name="loss", x=(0.0, 1.0), y=(1.0,))
    with pytest.raises(ValueError, match="2 edges, 2 counts"):
        Histogram(title="h", quantity="x", edges=(0.0, 1.0), counts=(1, 2))
    with pytest.raises(ValueError, match=r"edge 0\.0 on a logarithmic axis"):
        Histogram(title="h", quantity="x", edges=(0.0, 1.0), counts=(1,), log_axis=True)
    with pytest.raises(ValueError, match='row "r" has the cells hit@3; the columns are hit@10'):
        Comparison(
            columns=(Column(name="hit@10", meaning="found"),),
            rows=(Row(name="r", cells={"hit@3": Measurement(name="", value=1.0)}),),
            protocol="",
        )


def test_the_same_page_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "report.html", tmp_path / "report.html"
    write(first, sample())
    write(second, sample())
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["report.html", "report.html"]


def test_a_browser_draws_every_plot_and_runs_nothing_else(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium; on Debian: apt-get install chromium")
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    page = tmp_path / "report.html"
    write(page, sample(ATTACK, simulated=True))
    command = [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={tmp_path / 'profile'}",
        *("--virtual-time-budget=20000", "--window-size=1280,2000", "--dump-dom", page.as_uri()),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        document, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    parts = Parts(document)
    (root,) = [attributes for tag, attributes in parts.tags if tag == "html"]
    assert root.get("data-drawn") == "4"
    assert "data-hacked" not in root
    places = [attributes for _, attributes in parts.tags if "data-plot" in attributes]
    assert len(places) == 4
    assert all(str(place["aria-label"]).strip() for place in places)
    assert sum(tag == "svg" and attributes.get("class") == "main-svg" for tag, attributes in parts.tags) >= 4
    assert not [tag for tag, _ in parts.tags if tag == "img"]
