"""The report page: whole, escaped, asking nobody."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from pathlib import Path

import pytest
import torch
from tests.report.pages import ATTACK, Parts, sample

from slatewise.config import EvaluateConfig
from slatewise.evaluation import Ranking, Relevance, ranking_metrics
from slatewise.report import (
    Column,
    Comparison,
    Curve,
    Histogram,
    Page,
    Row,
    Source,
    ranking_columns,
    render,
    verdict,
    write,
)
from slatewise.stats import Measurement


def test_every_text_of_a_page_is_shown_as_text() -> None:
    plain, attacked = Parts(render(sample())), Parts(render(sample(ATTACK)))
    ids = [attributes["id"] for _, attributes in plain.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(attributes) for _, attributes in attacked.tags] == [
        sorted(attributes) for _, attributes in plain.tags
    ]
    assert ATTACK in attacked.text
    for place in (
        "Old film",
        "New film",
        "made-up",
        "reward-weighted",
        "user 7",
        "used next",
        "position 1",
        "slatewise serve runs/demo",
        "0.1.0",
    ):
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
    assert "<td><b>0.0712</b><small>0.0660 … 0.0764</small></td>" in html
    assert "<td>0.00300</td>" not in html, "an interval stands below its value"
    assert "<td>0.00300<small>0.00100 … 0.00500</small></td>" in html
    assert "<td>0.150</td>" in html, "one value in a column is not the best of anything"
    assert "<td>0.800</td></tr>" in html, "neither direction of Gini is better"
    assert "<td>–<small>nobody liked anything</small></td>" in html, "no value, and why"
    assert "<td>–<small>not measured</small></td>" in html
    assert '<th class="group" scope="colgroup" colspan="2">all held-out items</th>' in html


def test_the_page_says_what_a_correction_does_only_where_there_is_one() -> None:
    page = sample()
    assert page.comparison is not None
    plain = dataclasses.replace(
        page.comparison, rows=tuple(dataclasses.replace(row, corrected=False) for row in page.comparison.rows)
    )
    assert "loses recall by design. Judge it by coverage and Gini, the verdict below;" in render(page)
    assert "the verdict below" not in render(dataclasses.replace(page, judgements=()))
    assert "loses recall by design" not in render(dataclasses.replace(page, comparison=plain))


def test_verdict_in_words() -> None:
    (judgement,) = sample().judgements
    assert verdict.headline(judgement) == "This log cannot judge this policy."
    said = verdict.sentences(judgement)
    assert "The log has no propensities." in said
    assert verdict.facts(judgement) == [
        ("Estimated reward per shown item", "0.420, 95 % interval 0.220 – 0.620"),
        ("Reward per shown item of the log itself", "0.400"),
        ("Shown items", "4,000 of 300 trajectories; left out: 17 (no propensity)"),
        ("Effective trajectories", "12.0 of 300"),
        ("Weight of the heaviest trajectory", "31 %"),
        ("Mean weight, 1 in expectation", "0.870"),
        ("Shape k̂ of the tail of the weights", "–"),
        ("Logged actions out of the policy's reach", "4.0 %"),
        ("Estimator", "SNIPS"),
        ("Propensities", "logged"),
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


def test_a_page_says_served_only_of_what_a_service_has_shown() -> None:
    page = sample()
    assert page.comparison is not None
    rows = tuple(dataclasses.replace(row, served=False) for row in page.comparison.rows)
    unserved = dataclasses.replace(page, comparison=dataclasses.replace(page.comparison, rows=rows))
    assert '<span class="tag">served</span>' in render(page)
    assert '<span class="tag">served</span>' not in render(unserved)
    assert "Recommended now" in render(unserved)


def test_columns_of_propensities_are_named_for_what_they_are() -> None:
    html = re.sub(r"\s+", " ", render(sample()))
    assert '<th scope="col">π(item | state), one draw</th>' in html
    assert '<th scope="col">log-propensity of the slate’s position, served procedure</th>' in html
    assert "<td>0.2500</td><td>0</td>" in html, "shown for certain"
    assert "<td>0.1250</td><td>−∞</td>" in html, "never shown"
