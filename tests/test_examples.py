"""The examples run, print what they say, and stay short."""

from __future__ import annotations

import runpy
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from slatewise import config as configs
from slatewise.encoders import window
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.sim import toys
from slatewise.types import Exploration, SlateRequest

EXAMPLES = Path(__file__).parent.parent / "examples"
DAY = 86_400_000_000


def run(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out


def test_there_are_at_most_five_each_under_sixty_lines() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert 1 <= len(scripts) <= 5
    for script in scripts:
        assert len(script.read_text(encoding="utf-8").splitlines()) < 60, script.name


def test_propensities(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("propensities", capsys)
    # first slot fixed, two of the other four drawn in order: 4 · 3 slates
    assert "60 slates, 12 of them possible; their chances sum to 1.000000" in printed
    assert "['1.000', " in printed


def test_judge_from_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("judge_from_a_log", capsys)
    assert "uniform: truth 5.50, estimate 5." in printed
    assert printed.count("verdict: can judge") == 2
    assert printed.count("verdict: cannot judge") == 1


def test_from_csv_to_slate(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("from_csv_to_slate", capsys)
    assert "840 events, 60 users, 60 items" in printed
    recall = float(printed.split("test recall@5 ")[1].split()[0])
    assert recall > 0.5, "the next item of a shelf is easy to guess"
    assert printed.count("propensity") == 4
    assert "propensity 1.00" in printed


def test_day_after_day(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run("day_after_day", capsys)
    assert "events: 150 events added, 0 new users, 0 new items." in printed
    assert "390 rows in 390 events of 30 users, 12 items" in printed
    # the policy itself, weighed by its own propensities: what was clicked
    clicks = int(printed.split("monday's policy: ")[1].split()[0])
    assert f"(SNIPS, item by item, logged propensities): {clicks / 150:.4f} per shown item" in printed
    assert "over 150 shown items of 30 trajectories; left out: none" in printed
    assert "tuesday's policy: " in printed


def test_own_method_is_found_by_its_dotted_name_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES.parent))
    method = configs.find("methods", "examples.own_method")
    names = pa.array(["old", "new", "never"])
    catalog = Catalog(
        vocabulary=Vocabulary(names=names),
        text=("",) * 5,
        group=torch.zeros(5, dtype=torch.int64).numpy(),
        group_names=("",),
        features=torch.zeros(5, 0).numpy(),
    )
    encoder = window.Encoder(window.Config(length=2), catalog)
    learner = method.Learner(method.Config(half_life_days=1.0), encoder, catalog, generator=torch.Generator())
    log = toys.behaviour_log(toys.Config(rewards=(1.0, 1.0), behaviour=(0.5, 0.5)), events=3, seed=0)
    times = torch.tensor([[0], [0], [10 * DAY]]) + 365 * DAY
    # two uses of the old item ten days before one of the new one
    log = log.replace(
        slate=torch.tensor([[[FIRST_ITEM]], [[FIRST_ITEM]], [[FIRST_ITEM + 1]]]),
        time=times,
        used_time=times.unsqueeze(2),
    )
    learner.update(log)
    state = torch.zeros(1, encoder.width)
    assert learner.policy.recommend(state, SlateRequest(k=3)).items.tolist() == [
        [FIRST_ITEM + 1, FIRST_ITEM, FIRST_ITEM + 2]
    ]
    # π ∝ 1 + count: the new item 1 + 1, the old one 1 + 2 · 2⁻¹⁰, the third 1
    weight = torch.tensor([[1 + 2 * 2.0**-10, 2.0, 1.0]])
    items = torch.tensor([[FIRST_ITEM, FIRST_ITEM + 1, FIRST_ITEM + 2]])
    torch.testing.assert_close(learner.policy.log_pi(state, items).exp(), weight / weight.sum())
    request = SlateRequest(k=2, exploration=Exploration())
    slates = learner.policy.recommend(state, request, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(learner.policy.log_prob(state, slates.items, request), slates.logp)
