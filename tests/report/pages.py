"""A page with every section filled, and the parts of its HTML."""

from __future__ import annotations

import math
from html.parser import HTMLParser

from slatewise.report import (
    Column,
    Comparison,
    Curve,
    Example,
    Examples,
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
from slatewise.stats import Measurement
from slatewise.types import Estimate

ATTACK = '<script>document.documentElement.dataset.hacked="yes"</script>"\'><img src=x onerror=alert(1)>&amp;'


def sample(text: str = "", *, simulated: bool = False) -> Page:
    """A page with every section filled; `text` stands in every place that takes words."""
    columns = (
        Column(name="ndcg@10", meaning="Discounted gain." + text, group="all held-out items" + text, plotted=True),
        Column(name="recall@10", meaning="Share of users whose item is found.", group="all held-out items" + text),
        Column(
            name="liked",
            label="recall@10",
            meaning="The same, item rated ≥ 4.",
            group="held-out items rated ≥ 4",
            reason="nobody liked anything",
        ),
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
            detailed=True,
            served=True,
            corrected=True,
        ),
        Row(
            name="random",
            cells={
                "ndcg@10": Measurement(name="", value=0.003, low=0.001, high=0.005),
                "liked": Measurement(name="", value=math.nan, users=0, left_out=9),
                "gini@10": Measurement(name="", value=0.1),
            },
        ),
    )
    estimate = Estimate(
        value=0.42,
        stderr=0.1,
        interval=(0.22, 0.62),
        trajectories=300,
        steps=4000,
        left_out={"no propensity": 17},
        ess=12.0,
        max_weight=0.31,
        mean_weight=0.87,
        pareto_k=-math.inf,
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
        examples=Examples(
            users=(
                Example(
                    user="user 7" + text,
                    history=(Used(title="Old film" + text, reward="reward 5" + text, time="2030-01-01" + text),),
                    history_note="The newest 1 of 9." + text,
                    slate=(
                        Recommended(
                            title="New film" + text, probability=0.25, log_propensity=0.0, used="used next" + text
                        ),
                        Recommended(title="Newer film", probability=0.125, log_propensity=-math.inf),
                    ),
                    slate_note="Made for this page." + text,
                    next=(
                        Used(title="New film", reward="reward 4", remark="position 1" + text, recommended=True),
                        Used(title="Unlisted film", reward="reward 1"),
                    ),
                    next_note="2 uses." + text,
                ),
            ),
            policy="reinforce" + text,
            note="Spread evenly." + text,
            probability="of one draw" + text,
            log_propensity="under k = 2" + text,
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
