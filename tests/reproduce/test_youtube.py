from __future__ import annotations

import pytest
import torch

from slatewise.reproduce import Story, youtube
from slatewise.reproduce.youtube import toys
from slatewise.reproduce.youtube.drift import RANKS, SERVED, VARIANTS, nominations
from slatewise.sim.drift import WORLDS


def test_closed_forms_of_the_experiments() -> None:
    best = {experiment.name: experiment.value(experiment.optimum()) for experiment in toys.EXPERIMENTS}
    assert best == {
        "fig. 2, uncorrected": pytest.approx(5.5),
        "fig. 2, corrected": pytest.approx(10.0),
        "fig. 3, K = 1": pytest.approx(10.0),
        "fig. 3, top-2": pytest.approx(5149 / 361),
    }


@pytest.mark.slow
@pytest.mark.parametrize("experiment", toys.EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_bandits_are_solved_with_beta_estimated(experiment: toys.Experiment) -> None:
    pi, beta = toys.learn(experiment, seed=11, steps=toys.STEPS, batch=toys.BATCH)
    torch.testing.assert_close(pi.double(), experiment.optimum(), atol=toys.TOLERANCE, rtol=0)
    torch.testing.assert_close(beta, torch.tensor(experiment.bandit.behaviour), atol=0.03, rtol=0)


def test_nominations_by_hand() -> None:
    # the control shows the third item 6 times, the first 3 times, the second once; the test another order
    control = torch.tensor([3.0, 1.0, 6.0], dtype=torch.float64)
    test = torch.tensor([1.0, 8.0, 1.0], dtype=torch.float64)
    cdf, outside = nominations(control, test)
    assert cdf["control"][:3] == pytest.approx([0.6, 0.9, 1.0])  # ranks 1, 2 and 5, of which there are three
    assert cdf["test"][:3] == pytest.approx([0.1, 0.2, 1.0])
    # nine tenths of the control's nominations are two items; the test nominates 8 of 10 times elsewhere
    assert outside == pytest.approx(8.0)


def _made_up(quick: bool, seed_base: int) -> dict[str, dict[str, object]]:
    """Results as cells give them: K = 16 earns 120 minutes, K = 1 110, uncorrected 100, each seed one more."""
    found: dict[str, dict[str, object]] = {}
    for cell in youtube.cells(quick=quick, seed_base=seed_base):
        seed = float(cell.settings["seed"] - seed_base)
        kind = cell.settings["kind"]

        def test(minutes: float, seed: float = seed) -> dict[str, float]:
            return {"minutes": minutes + seed, "picks": 20.0 + seed}

        if kind == "toys":
            found[cell.name] = {
                experiment.name: {"pi": experiment.optimum().tolist(), "beta": list(experiment.bandit.behaviour)}
                for experiment in toys.EXPERIMENTS
            }
        elif kind == "pair":
            curve = [min(1.0, rank / 100) for rank in RANKS]
            found[cell.name] = {
                "uncorrected": test(100.0),
                "k1": test(110.0),
                "logged": test(80.0),
                "cdf": {"control": curve, "test": curve},
                "outside": 3.0 + seed,
            }
        elif kind == "variant":
            served = dict.fromkeys(SERVED, test(120.0))
            found[cell.name] = test(120.0 if cell.settings["variant"] == "k16" else 115.0) | {"served": served}
        elif kind == "exploration":
            names = ["generation 0", *(f"generation {g}, {arm}" for g in (1, 2) for arm in ("control", "test"))]
            found[cell.name] = {name: test(100.0) for name in names}
        else:
            found[cell.name] = {"uniform": {"16": {"bias": 0.5, "noise": 1.0}, "64": {"bias": 0.0, "noise": 0.5}}}
    return found


@pytest.mark.parametrize("quick", [True, False])
def test_every_variant_has_a_row_and_every_bar_a_check(quick: bool) -> None:
    story: Story = youtube.tell(_made_up(quick, 5), quick=quick, seed_base=5)
    names = [row.name for row in story.rows]
    assert len(names) - len({(row.name, row.metric) for row in story.rows}) == 0
    for seed in range(5, 25):
        assert f"fig. 2, corrected, seed {seed}" in names
    for world in ["strong"] if quick else WORLDS:
        for variant in ("uncorrected", "k1", "k16", "no-cap") if quick else VARIANTS:
            assert f"{world}: {variant}" in names
    rows = {row.name: row for row in story.rows if row.metric == "% watch time"}
    row = rows["strong: top-K (K = 16, cap e³) against K = 1"]
    assert row.published == 0.85
    seeds = 2 if quick else 20
    changes = [100 * (120 + s) / (110 + s) - 100 for s in range(seeds)]
    assert row.ours == pytest.approx(sum(changes) / seeds)
    checks = {check.name: check.holds for check in story.checks}
    assert checks["strong: k16 above k1 on both seeds" if quick else "strong: k16 above k1 (paired interval)"]
    if not quick:
        assert not checks["uniform: nothing to correct, so K = 1 does not gain on uncorrected"]
        assert not checks["strong: 5 % exploration data, generation 1: helps the next policy (paired interval)"]


def test_cells_have_names_of_their_own_and_move_with_the_seed() -> None:
    for quick in (True, False):
        cells = youtube.cells(quick=quick, seed_base=0)
        assert len({cell.name for cell in cells}) == len(cells)
    seeds = {cell.settings["seed"] for cell in youtube.cells(quick=False, seed_base=40)}
    assert seeds == set(range(40, 60))
