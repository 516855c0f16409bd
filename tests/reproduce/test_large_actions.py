from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from slatewise.config import convert
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.methods import popularity, slateq
from slatewise.ops.history import uses_of
from slatewise.reproduce import large_actions
from slatewise.reproduce._cells import Cell
from slatewise.reproduce.large_actions import learners, rivals, runs, times
from slatewise.rollout.off_policy import OffPolicyConfig

TINY = asdict(learners.Budget(places=20, steps=12, round_places=10, round_steps=6))


def tiny(cell: Cell) -> dict[str, Any]:
    settings = dict(cell.settings) | {"items": 200}
    if settings["kind"] == "learn":
        settings |= {"budget": TINY}
        if "updates" in settings:
            settings |= {"updates": 3, "batch": 4}
        if "schedule" in settings:
            settings["schedule"] = {"updates": 1, "batch_size": 16, "epsilon": 0.1, "epsilon_steps": 11}
        if "sessions" in settings:
            settings["sessions"] = 20
        if "neighbours" in settings["settings"]:
            settings["settings"] = settings["settings"] | {"neighbours": 2}
    if settings["kind"] == "times":
        settings |= {"methods": rivals.deciders(200), "blocks": 2, "longest": 0.01}
    return settings


@pytest.mark.parametrize("quick", [True, False])
def test_cells_have_names_of_their_own_and_settings_that_convert(quick: bool) -> None:
    cells = large_actions.cells(quick=quick, seed_base=3)
    assert len({cell.name for cell in cells}) == len(cells)
    for cell in cells:
        assert set(cell.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-"), cell.name
        if cell.settings["kind"] == "learn":
            module = learners.METHODS[cell.settings["method"]]
            convert(module.Config, cell.settings["settings"], where=cell.name)
            learners.Budget(**cell.settings["budget"])
        if "schedule" in cell.settings:
            OffPolicyConfig(steps=100, **cell.settings["schedule"])
    learned = {cell.settings["items"] for cell in cells if cell.settings["kind"] == "learn"}
    assert learned == set(large_actions.sizes(quick))


def test_what_all_spend_is_the_same() -> None:
    for budget in (rivals.FULL, rivals.QUICK):
        assert budget.rounds * budget.round_places * budget.round_steps == budget.interactions


def test_neighbours_grow_with_the_catalog_up_to_a_limit() -> None:
    rival = rivals.RIVALS[rivals.K_SHARE]
    assert [rival.at(items)["neighbours"] for items in rivals.SIZES] == [10, 100, 1000, 1000]
    assert "neighbours" not in rivals.RIVALS[rivals.K_ALL].at(1000)


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_every_method_learns_and_repeats_itself(name: str) -> None:
    (cell,) = (
        cell
        for cell in large_actions.cells(quick=True, seed_base=0)
        if cell.name == f"{large_actions.cell_name(name, 1000)}-0"
    )
    once, again = (runs.learn_and_measure(tiny(cell)) for _ in range(2))
    assert once["value"] == again["value"]
    assert 0 < once["value"] < 10
    assert once["seconds"] > 0


def test_references_are_in_order() -> None:
    found = runs.references({"items": 300, "world_seed": 1})
    assert found["random"] < found["logging"] < found["greedy"] < found["optimum"]


def test_decisions_are_timed_in_turns() -> None:
    (cell,) = (cell for cell in large_actions.cells(quick=True, seed_base=0) if cell.name == "times-1000")
    found = times.decision_times(tiny(cell))
    assert found.keys() == {times.RAW, *rivals.deciders(1000)}
    for figures in found.values():
        assert figures.keys() == {"1", "1024"}
        assert all(len(blocks) == 2 and min(blocks) > 0 for blocks in figures.values())


def test_a_long_batch_is_timed_by_its_first_pieces() -> None:
    seen: list[int] = []

    def decide(state: Tensor) -> None:
        seen.append(len(state))
        torch.randn(400, 400, generator=Generator().manual_seed(0)) @ torch.zeros(400, 400)

    pieces, rounds = times.plan(decide, list(torch.split(torch.zeros(8, 1), 2)), longest=1e-9)
    assert (len(pieces), seen) == (1, [2, 2])
    assert rounds >= 1
    assert len(times.plan(decide, list(torch.split(torch.zeros(8, 1), 2)), longest=1e9)[0]) == 4


def test_a_policy_that_cannot_score_all_chooses_among_its_candidates() -> None:
    world = learners.open_world(5000, 1)
    policy = popularity.Policy(popularity.Config(), StatelessEncoder(), learners.open_env(5000, 1, 2).catalog)
    policy.count += torch.arange(5002)
    settings = {"items": 5000, "seed": 4, "method": "popularity", "candidates": 50}
    among = learners.candidates(5000, 50, 4)
    assert runs.show_greedily(policy, world, settings).tolist() == [int(among.max()) - 2] * 128
    assert runs.show_greedily(policy, world, {**settings, "candidates": 9999}).tolist() == [4999] * 128
    assert len(among) <= 50
    assert torch.equal(learners.candidates(30, 50, 4), torch.arange(2, 32))


def test_a_log_of_single_items_becomes_lists_with_an_empty_place() -> None:
    record = learners.record_log(200, 1, 10, 20, 5)
    lists = learners.as_lists(record)
    assert lists.slate.shape[2] == 2
    assert torch.equal(lists.slate[..., :1], record.slate)
    assert not bool(lists.slate[..., 1].any())
    env = learners.open_env(200, 1, 10)
    learner = learners.build("slateq", {}, env, generator=Generator().manual_seed(0))
    assert isinstance(learner, slateq.Learner)
    assert learner.update(lists)["loss"] > 0


def test_a_map_of_what_is_seen_is_what_is_seen_at_first() -> None:
    env = learners.open_env(200, 1, 10)
    encoder, seen = learners.Mapped(env), env.reset(seed=0)
    torch.testing.assert_close(encoder.state(encoder.initial(len(seen.user)), seen), seen.context)
    record = learners.record_log(200, 1, 10, 20, 5)
    carry = encoder.step(encoder.initial(len(record.mask)), uses_of(record.step(0)))
    torch.testing.assert_close(encoder.state(carry, record.observation(1)), encoder(record)[:, 1])


@pytest.mark.parametrize("items", [200, 60_000])
def test_the_softmax_learns_with_all_items_and_with_negatives(items: int) -> None:
    env = learners.open_env(items, 1, 10)
    learner = learners.build(
        "reinforce", rivals.RIVALS[rivals.LOGGED].at(items), env, generator=Generator().manual_seed(0)
    )
    before = learners.states_of(learner.policy, env.world.appearance).clone()
    for _ in range(3):
        assert learner.update(learners.record_log(items, 1, 10, 20, 5))["behaviour_loss"] > 0
    assert not torch.equal(learners.states_of(learner.policy, env.world.appearance), before)


def test_growth_by_hand() -> None:
    slope, low, high = large_actions.growth([(1.0, 3.0), (10.0, 30.0), (100.0, 300.0)])
    assert (slope, low, high) == pytest.approx((1.0, 1.0, 1.0))
    # logs (base 10) 0, 1, 2 → 0, 1, 1: slope ½, left over −1/6, 1/3, −1/6; half = 12.706 · √(1/6 / 1 / 2)
    slope, low, high = large_actions.growth([(1.0, 1.0), (10.0, 10.0), (100.0, 10.0)])
    assert slope == pytest.approx(0.5)
    assert high - slope == pytest.approx(12.7062 * math.sqrt(1 / 6 / 2), rel=1e-4)
    assert slope - low == pytest.approx(high - slope)
    assert large_actions.growth([(1.0, 5.0), (10.0, 5.0)]) == (0.0, -math.inf, math.inf)


def made_up(quick: bool) -> dict[str, Any]:
    """Regret grows like N^.1 for what knows numbers and stays for the others; times are as they should be."""
    results: dict[str, Any] = {}
    for cell in large_actions.cells(quick=quick, seed_base=0):
        settings = cell.settings
        items, kind = settings["items"], settings["kind"]
        if kind == "references":
            results[cell.name] = {"optimum": 9.0, "greedy": 8.0, "logging": 1.0, "random": 0.5}
        elif kind == "learn":
            regret = {"wolpertinger": 1.0, "slateq": 1.5, "tpgr": 2.0}.get(settings["method"], 3.0 * items**0.1 / 2)
            results[cell.name] = {"value": 9.0 - regret - 0.01 * settings["seed"], "seconds": items / 1000}
        else:
            results[cell.name] = {
                name: {str(batch): [cost(name, items) / batch] * 3 for batch in (1, 1024)}
                for name in (times.RAW, *rivals.deciders(items))
            }
    return results


def cost(name: str, items: int) -> float:
    if name in (rivals.K1, rivals.K_SHARE):
        return 0.1
    return items**0.25 if name.startswith("TPGR") else items / 1000


@pytest.mark.parametrize("quick", [True, False])
def test_a_story_is_told_from_all_results(quick: bool) -> None:
    story = large_actions.tell(made_up(quick), quick=quick, seed_base=0)
    rows = {(row.name, row.metric): row for row in story.rows}
    assert rows["10,000 items: Wolpertinger, k = 1", "regret to the optimum"].ours == pytest.approx(
        1.005 if quick else 1.02
    )
    share = rows["1,000 items: SlateQ, 1,000 candidates", "share of the optimum"].ours
    assert share == pytest.approx((7.0 - (0.005 if quick else 0.02)) / 8.5)
    slope = rows["REINFORCE from the log", "growth of regret: exponent of N"]
    assert slope.ours == pytest.approx(0.1, abs=0.002)
    assert rows["TPGR, depth 3", "growth of CPU s to learn: exponent of N"].ours == pytest.approx(1.0)
    slope = rows["TPGR, depth 3", "growth of a decision's time, batch 1,024: exponent of N"]
    assert (slope.ours, slope.low, slope.high) == pytest.approx((0.25, 0.25, 0.25))
    assert all(check.holds for check in story.checks), [check.name for check in story.checks if not check.holds]
    ran_out = [row for row in story.rows if row.metric.startswith("not run: ")]
    assert all(math.isnan(row.ours) and len(row.metric) > 30 for row in ran_out)
    per_size = {items: sum(row.name.startswith(f"{items:,} items") for row in ran_out) for items in rivals.SIZES}
    assert per_size == (
        {1000: 0, 10_000: 1, 100_000: 3, 1_000_000: 0} if quick else {1000: 0, 10_000: 1, 100_000: 3, 1_000_000: 4}
    )
    assert {figure.name for figure in story.charts} == {"return", "regret", "learning", "decision-1", "decision-1024"}
    assert all(figure.log_x for figure in story.charts)
    assert any("half of the interactions" in note for note in story.notes) == quick


def test_results_that_fall_short_are_said_to() -> None:
    results = made_up(quick=True)
    for name in results:
        if name.startswith("wolpertinger-k1-percent"):
            results[name]["value"] = 0.9
        if name.startswith("tpgr-depth-3"):
            results[name]["value"] = 9.5
        if name.startswith("times-"):
            items = int(name.removeprefix("times-"))
            results[name][rivals.TREE3]["1024"] = [items**0.6] * 3
            results[name][rivals.K1]["1"] = [items / 2000] * 3
    checks = {check.name: check.holds for check in large_actions.tell(results, quick=True, seed_base=0).checks}
    failed = [name for name, holds in checks.items() if not holds]
    assert len(failed) == 8
    assert sum("earns at least 95 %" in name for name in failed) == 3
    assert any(name.startswith("TPGR, depth 3: time of a decision") for name in failed)
    assert any("Wolpertinger, k = 1 decides at least 5 times" in name for name in failed)
    assert any("Wolpertinger, k = 1 % earns more than the logging policy" in name for name in failed)
    assert any(name.startswith("nothing earns more than the optimum") for name in failed)
    assert any("intervals disjoint" in name for name in failed)


def test_one_seed_shows_nothing_where_an_interval_is_asked_for() -> None:
    results = {name: result for name, result in made_up(quick=True).items() if not name.endswith("-1")}
    learned = large_actions.Learned(results, quick=True)
    paired = [
        check for check in large_actions.checks(learned) if "interval" in check.name and "grows" not in check.name
    ]
    assert len(paired) == 8
    assert not any(check.holds for check in paired)
