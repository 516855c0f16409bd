from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from torch import Generator

from slatewise.reproduce import fcpo
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._story import positive
from slatewise.reproduce.fcpo import runs
from slatewise.reproduce.fcpo.policies import MostLiked
from slatewise.stats import MeanInterval
from slatewise.types import SlateRequest

SMALL = runs.Experiment(
    data=None, slate_size=2, steps=3, width=4, state_width=6, epochs=2, updates=2, places=8, draws=1
)


def settings(kind: str, **more: Any) -> dict[str, Any]:
    return {"experiment": asdict(SMALL), "part": "test", "seed": 0, "kind": kind, **more}


@pytest.mark.parametrize("kind", ["trust_region", "lagrangian"])
def test_limits_from_the_same_start_repeat_themselves(kind: str) -> None:
    cell = Cell(name=f"{kind}-0", settings=settings(kind, limits=[None, 0.2]))
    once, again = (fcpo.run(cell) for _ in range(2))
    for name in ("off", "0.2"):
        assert once[name] == again[name]
        assert len(once[name]["cost"]) == SMALL.updates
        for how in ("judged", "greedy"):
            found = once[name][how]
            assert 0 <= found["rate"] <= 1
            assert 0 <= found["ndcg"] <= 1
            assert 0 <= found["gini"] < 1
            assert 0 <= found["hits"] <= SMALL.slate_size
    assert ("imitation" in once) == (kind == "trust_region")
    rates = [one["rate"] for one in once["reranker"]]
    assert rates[0] == pytest.approx(once["off"]["judged"]["rate"], abs=0.1)
    assert rates[-1] < rates[0]


def test_drifting_groups_and_drawn_rows_run() -> None:
    more = {"limits": [0.3], "drift": 0.3, "rows": True}
    found = fcpo.run(Cell(name="trust_region-0", settings=settings("trust_region", **more)))
    for how in ("drifting", "once"):
        assert 0 <= found["drifting"][how]["now"] <= 1
        assert 0 <= found["drifting"][how]["kept"] <= 1
    assert found["drifting"]["once"]["judged"] == found["0.3"]["judged"]
    assert 0 <= found["rows"]["judged"]["ndcg"] <= 1


def test_the_time_of_single_picks() -> None:
    found = fcpo.run(Cell(name="speed", settings=settings("speed", turns=1, repeats=1)))
    assert set(found) == {"1", "64"}
    assert all(one["ratio"] > 0 and one["milliseconds"] > 0 for one in found.values())


def test_likes_become_sessions_without_an_order() -> None:
    world = SMALL.world
    people = world.parts["train"][:5]
    log = runs.liked_sessions(world.ratings, people, steps=3, size=2, generator=Generator().manual_seed(0))
    assert log.slate.shape == (5, 4, 1)
    assert log.learn[:, :3].all()
    assert not log.learn[:, 3].any()
    value, rated = world.ratings.of(people, log.slate[:, :, 0])
    assert bool(rated.all())
    assert bool((value >= 3.5).all())
    assert all(len(set(row)) == 4 for row in log.slate[:, :, 0].tolist())
    other = runs.liked_sessions(world.ratings, people, steps=3, size=2, generator=Generator().manual_seed(1))
    assert not torch.equal(other.slate, log.slate)


def test_random_lists_show_popular_items_as_often_as_there_are() -> None:
    found = runs.evaluate(replace(SMALL, draws=10), runs.uniform(SMALL), part="train", seed=0)
    assert found["rate"] == pytest.approx(0.2, abs=0.03)
    assert found["coverage"] == 1.0
    # half of what a person likes is half of the catalog's half: a quarter of all items are hits
    assert found["hits"] == pytest.approx(SMALL.slate_size / 4, abs=0.1)


def test_most_liked_items_keep_a_limit_to_the_place() -> None:
    policy = runs.fresh(SMALL, seed=0).policy
    rates = []
    for limit in (None, 0.5, 0.0):
        fixed = MostLiked(policy, runs.likes(SMALL), SMALL.world.popular, limit, SMALL.slate_size)
        slates = fixed.recommend(torch.zeros(3, SMALL.state_width), SlateRequest(k=SMALL.slate_size))
        assert bool((slates.items == slates.items[:1]).all())
        rates.append(SMALL.world.popular[slates.items].float().mean().item())
    best = runs.likes(SMALL).argsort(descending=True)[: SMALL.slate_size]
    assert rates == [SMALL.world.popular[best].float().mean().item(), 0.5, 0.0]


def test_above_a_line() -> None:
    line = [{"gini": 0.2, "ndcg": 0.1}, {"gini": 0.6, "ndcg": 0.3}]
    assert fcpo.above({"gini": 0.4, "ndcg": 0.25}, line) == pytest.approx(0.05)
    assert fcpo.above({"gini": 0.6, "ndcg": 0.25}, line) == pytest.approx(-0.05)
    # a line gives what it has at a lower Gini as well
    assert fcpo.above({"gini": 0.7, "ndcg": 0.25}, line) == pytest.approx(-0.05)
    falling = [{"gini": 0.2, "ndcg": 0.3}, {"gini": 0.6, "ndcg": 0.1}]
    assert fcpo.above({"gini": 0.4, "ndcg": 0.25}, falling) == pytest.approx(-0.05)
    # below its end: better in both, or nothing to compare with
    assert fcpo.above({"gini": 0.1, "ndcg": 0.15}, line) == pytest.approx(0.05)
    assert math.isnan(fcpo.above({"gini": 0.1, "ndcg": 0.05}, line))


@pytest.mark.parametrize("quick", [False, True])
def test_a_story_is_told_from_all_results(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcpo, "fingerprint", lambda: "made up")
    made = fcpo.cells(quick=quick, seed_base=3)
    assert len({cell.name for cell in made}) == len(made)
    results: dict[str, Any] = {}
    for number, cell in enumerate(made):
        kind = cell.settings["kind"]
        assert runs.Experiment(**cell.settings["experiment"]).data == "data/ml-100k"

        def judged(rate: float, number: int = number) -> dict[str, float]:
            return {
                "rate": rate,
                "ndcg": 0.2 + rate / 10 + number / 1000,
                "gini": 0.5 + rate / 4,
                "coverage": 0.5,
                "hits": 2.0,
            }

        if kind == "speed":
            results[cell.name] = {str(batch): {"ratio": 5.0, "bare": 3.0, "milliseconds": 1.0} for batch in (1, 64)}
        else:
            found: dict[str, Any] = {}
            for limit in cell.settings["limits"]:
                own = judged(0.8 if limit is None else limit)
                found["off" if limit is None else f"{limit:g}"] = {
                    "judged": own,
                    "greedy": own,
                    "cost": [0.8, 0.4],
                    "recoveries": 1,
                    "unmet": "the cost limit 0.2 was not met" if limit == 0.2 else "",
                }
            if kind == "trust_region":
                found |= {"imitation": {"judged": judged(0.7)}, "random": {"judged": judged(0.2)}}
                for name in ("off", *(f"{limit:g}" for limit in fcpo.LIMITS)):
                    found[f"most_liked-{name}"] = {"judged": judged(0.5)}
                found["reranker"] = [judged(0.8 - price / 40) for price in runs.PRICES]
            if cell.settings.get("drift"):
                told = {"judged": judged(0.3), "kept": 0.6, "recoveries": 2, "unmet": ""}
                found["drifting"] = {
                    "drifting": told | {"now": fcpo.DRIFT_LIMIT},
                    "once": told | {"now": fcpo.DRIFT_LIMIT + 0.1 + number / 1000},
                }
            if cell.settings.get("rows"):
                found["rows"] = {"judged": judged(0.8)}
            results[cell.name] = found
    story = fcpo.tell(results, quick=quick, seed_base=3)
    names = {row.name for row in story.rows}
    assert {"FCPO, limit 0.4", "multiplier, limit 0.2", "re-ranker, price 9", "imitation"} <= names
    drifting = f"FCPO, limit {fcpo.DRIFT_LIMIT:g}, groups drift with exposure"
    assert (drifting in names) == (not quick)
    held = {check.name: check.holds for check in story.checks}
    assert held["Gini falls with every limit"]
    assert held["held-out rate of popular items ≤ limit + 1 point at 0.4"]
    assert held["a list of 10 in one pass ≥ 4× faster"]
    assert held.get("less of what is popular now than with groups fixed once", True)
    assert any("was not met" in note for note in story.notes)
    assert any(note.startswith("One seed has no interval") for note in story.notes) == quick
    assert [figure.name for figure in story.charts] == ["frontier", "rate", "learning"]


def test_one_seed_is_judged_by_its_mean_and_several_by_their_interval() -> None:
    assert positive(MeanInterval(0.02, -math.inf, math.inf))
    assert not positive(MeanInterval(-0.02, -math.inf, math.inf))
    assert not positive(MeanInterval(0.02, -0.01, 0.05))
    assert positive(MeanInterval(0.02, 0.01, 0.03))
