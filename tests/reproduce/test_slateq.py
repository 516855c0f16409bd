from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from slatewise.config import convert
from slatewise.methods import slateq as method
from slatewise.reproduce import slateq
from slatewise.reproduce._cells import Cell
from slatewise.reproduce.slateq import runs, settings, whole
from slatewise.rollout.off_policy import OffPolicyConfig
from slatewise.sim.interest_evolution import Config

TINY = asdict(
    runs.Size(
        users=40,
        interaction=OffPolicyConfig(steps=24, updates=1, batch_size=32, replay=24, epsilon_steps=8),
        measured=60,
        curve_users=20,
        curve_points=2,
    )
)

FIDELITY = {
    "likelihoods": [
        {"what": "choice", "model": "model", "gain": 0.0},
        {"what": "choice", "model": "uniform", "gain": 0.25},
        {"what": "reward", "model": "frequency", "gain": 0.5},
    ],
    "calibration": {"error": 0.01},
    "sessions": [
        {"name": "length", "real": 70.0, "simulated": 63.0},
        {"name": "length, deviation", "real": 5.0, "simulated": 6.0},
    ],
}


def tiny(cell: Cell) -> Cell:
    small = {**cell.settings, "size": TINY}
    small["world"] = {**small["world"], "budget": 20.0}
    if small["kind"] == "whole" or "whole" in cell.name:
        small["world"]["num_candidates"] = 6
    if small["kind"] == "prices":
        small["prices"] = [0.0, 1.4]
    if small["kind"] == "fitted":
        small["fits"] = 5
    return Cell(name=cell.name, settings=small)


def test_cells_have_names_of_their_own_and_settings_that_convert() -> None:
    for quick in (False, True):
        cells = slateq.cells(quick=quick, seed_base=3)
        assert len({cell.name for cell in cells}) == len(cells)
        for cell in cells:
            runs.world(cell.settings["world"])
            if "method" in cell.settings:
                convert(method.Config, cell.settings["method"], where=cell.name)
    assert len(cells) < 30


@pytest.mark.parametrize(
    "name",
    [
        "mnl-Random-0",
        "mnl-SARSA-GS-0",
        "mnl-QL-GT-GS-0",
        "ours-4-0",
        "offline-0",
        "fitted-0",
        "live-learned-0",
        "cascade-MYOP-TS-0",
        "whole-full-slate-0",
        "prices-0",
    ],
)
def test_every_kind_of_cell_runs_and_repeats_itself(name: str) -> None:
    (cell,) = (cell for cell in slateq.cells(quick=False, seed_base=0) if cell.name == name)
    once, again = (slateq.run(tiny(cell)) for _ in range(2))
    assert once["served"] == again["served"]
    for figures in once["served"].values():
        assert 5 < figures["return"] < 60
        assert 0 < figures["rate"] < 1
        assert -3.5 < figures["quality"] < 3.5


def test_one_network_is_served_in_three_ways() -> None:
    cells = {cell.name: cell.settings for cell in slateq.cells(quick=False, seed_base=0)}
    assert not any(name.startswith("mnl-QL-OT") for name in cells)
    shared = cells["ours-0-0"]
    assert convert(method.Config, shared["method"], where="shared").training_slates == "optimal"
    assert shared["serve"] == ["TS", "GS", "OS"]
    assert shared["size"]["measured"] == 20_000 > cells["ours-1-0"]["size"]["measured"]


@pytest.mark.parametrize("quick", [False, True])
def test_a_story_is_told_from_all_results(quick: bool) -> None:
    results: dict[str, Any] = {}
    for number, cell in enumerate(slateq.cells(quick=quick, seed_base=0)):
        figures = {"return": 160.0 + number / 10, "stderr": 0.2, "length": 60.0, "rate": 0.5, "quality": -0.5}
        names = {
            "prices": [f"{price:g}" for price in settings.PRICES],
            "live": ["MYOP-TS", "SARSA-TS"],
            "random": [""],
            "whole": [""],
        }.get(cell.settings["kind"], cell.settings.get("serve"))
        assert names
        curve = [[1000.0, 150.0], [2000.0, 160.0]]
        results[cell.name] = {"seconds": 9.0, "curve": curve, "served": dict.fromkeys(names, figures)}
        if cell.settings["kind"] == "fitted":
            results[cell.name]["fidelity"] = FIDELITY
    story = slateq.tell(results, quick=quick, seed_base=0)
    published = {row.name: row.published for row in story.rows if row.metric == "return"}
    assert published["MYOP-TS"] == 166.3
    assert published["QL-OT-OS"] == 174.6
    assert len(story.charts) == (1 if quick else 4)
    assert any("within ± 5" in check.name for check in story.checks)
    fitted = {row.metric: row.ours for row in story.rows if row.name == "fidelity of that simulator"}
    expected = {
        "log-likelihood of a choice, gain over uniform": 0.25,
        "calibration error of picks": 0.01,
        "length, simulated over real": 0.9,
    }
    assert fitted == ({} if quick else pytest.approx(expected))
    assert any("fitted simulator" in check.name for check in story.checks) is not quick
    assert story.notes[0].startswith("Why the published figures are low")


def test_all_slates_are_looked_at() -> None:
    config = Config(num_candidates=6, slate_size=2)
    network = whole.WholeSlate(config, (8, 4), generator=torch.Generator().manual_seed(0))
    state = torch.randn(5, 20, generator=torch.Generator().manual_seed(1))
    topic = torch.randint(20, (5, 6), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        values = network.values(state, topic)
        assert values.shape == (5, 15)
        for number, pair in enumerate(network.slates):
            torch.testing.assert_close(network.value(state, topic[:, pair]), values[:, number])
        columns, best = network.best(state, topic)
    torch.testing.assert_close(best, values.max(dim=1).values)
    assert columns.tolist() == network.slates[values.argmax(dim=1)].tolist()


def test_the_ceiling_is_the_published_reference() -> None:
    cell = {
        "size": asdict(replace(runs.FULL, measured=3000)),
        "world": {"choice": "mnl"},
        "seed": 0,
        "prices": [0.0, 1.4],
    }
    served = runs.shadow_prices(cell)["served"]
    assert abs(served["1.4"]["return"] - 275.1) < 4 * served["1.4"]["stderr"]
    assert abs(served["0"]["return"] - 167.1) < 4 * served["0"]["stderr"]  # no price on time: the myopic policy
