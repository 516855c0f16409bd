"""slatewise evaluate and slatewise ope on another log than the run's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Command

# ann and bob used 1 and 2, cid 1 alone: the most used items are 1, then 2
MONDAY = "user,item,time\nann,1,100\nann,2,200\nbob,2,150\nbob,1,250\ncid,1,300\n"
# tuesday's items are in another order, and 9 is new; slates of one item with their propensities
TUESDAY = """user,event_id,item,time,click,propensity
cid,e1,9,90000,1,.5
cid,e2,2,90100,1,.25
ann,e3,1,90200,1,.5
dan,e4,2,90300,1,.5
dan,e5,1,90400,0,.5
"""


@pytest.fixture
def monday(tmp_path: Path, slatewise: Command) -> Path:
    """A run of popularity on Monday's log, and Tuesday's log beside it."""
    for name, text in (("monday", MONDAY), ("tuesday", TUESDAY)):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        assert slatewise("data", "import", tmp_path / f"{name}.csv", "--out", tmp_path / name).code == 0
    (tmp_path / "run.toml").write_text(
        f'[data]\npath = "{tmp_path / "monday"}"\nsplit = "first_share"\nvalid_share = 0.0\ntest_share = 0.0\n'
        '[method]\nname = "popularity"\n[evaluate]\nk = [2]\n[train]\nselect = "ndcg@2"\n',
        encoding="utf-8",
    )
    said = slatewise("train", tmp_path / "run.toml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run"


def test_a_run_on_the_next_days_log(monday: Path, tmp_path: Path, slatewise: Command) -> None:
    value = slatewise("evaluate", monday, "--data", tmp_path / "tuesday", "--json").value
    assert value["part"] == "all"
    assert value["notes"] == [
        "tuesday is another log than the one that the run was trained on; all of it is evaluated.",
        "1 of its 3 items unknown to the policy; evaluated rows that show one: 1.",
    ]
    # lists are 1, 2 for everybody; cid used 9 (unknown) and 2, ann 1, dan 2: every one is found, at 2, 1 and 2
    metrics = {metric["name"]: metric for metric in value["metrics"]}
    assert metrics["recall@2"]["value"] == 1.0
    assert metrics["mrr@2"]["value"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert metrics["recall@2"]["users"] == 3
    # nothing says how popular items were before Tuesday's log
    assert metrics["avg_popularity@2"]["value"] is None
    evaluations = json.loads((monday / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluations["parts"] == {}
    assert [entry["data"] for entry in evaluations["other_logs"].values()] == ["tuesday"]


def test_off_policy_with_the_propensities_of_the_other_log(monday: Path, tmp_path: Path, slatewise: Command) -> None:
    estimate = slatewise("ope", monday, "--data", tmp_path / "tuesday", "--json").value["off_policy"]
    # π(1) = 4/7, π(2) = 3/7 by counts + 1: weights 12/7, 8/7, 6/7, 8/7 where the item is
    # known; all but the last were clicked
    assert estimate["value"] == pytest.approx((12 + 8 + 6) / (12 + 8 + 6 + 8), abs=1e-5)
    assert (estimate["steps"], estimate["propensities"]) == (4, "logged")
    assert list(estimate["left_out"].values()) == [1]


def test_only_what_came_since(monday: Path, tmp_path: Path, slatewise: Command) -> None:
    value = slatewise("ope", monday, "--data", tmp_path / "tuesday", "--since", "1970-01-02T01:03:20", "--json").value
    assert value["off_policy"]["steps"] == 3
    assert value["notes"][0].endswith("its events since 1970-01-02T01:03:20.")


def test_the_runs_own_log_is_recognised(monday: Path, tmp_path: Path, slatewise: Command) -> None:
    said = slatewise("evaluate", monday, "--data", tmp_path / "monday")
    assert said.code == 2
    assert 'the split holds nothing out in its part "test"' in said.err
    said = slatewise("evaluate", monday, "--data", tmp_path / "monday", "--since", "2026-01-01")
    assert (said.code, "--since is for another log than the run's own" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "tuesday", "--since", "soon"), '--since soon: "soon" is not a date or time'),
        (("--data", "tuesday", "--since", "2026-01-01"), "nothing to evaluate on: no event since 2026-01-01"),
        (("--since", "2026-01-01"), "--since is for another log than the run's own. Name it with --data."),
        (("--data", "strange"), "knows none of its 2 items"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_evaluated_on(
    arguments: tuple[str, ...],
    message: str,
    monday: Path,
    tmp_path: Path,
    slatewise: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange.csv").write_text("user,item,time\nann,x,1\nann,y,2\n", encoding="utf-8")
    slatewise("data", "import", "strange.csv", "--out", "strange")
    said = slatewise("ope", monday, *arguments)
    assert said.code == 2
    assert message in said.err
