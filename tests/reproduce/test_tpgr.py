from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from slatewise.errors import InputError
from slatewise.reproduce import tpgr
from slatewise.reproduce.tpgr import runs
from slatewise.sim.rating_sessions import Config, made_up_ratings, open_world
from slatewise.testing import toy_catalog, toy_dataset, written_log


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made-up ratings as a prepared log."""
    given, catalog = made_up_ratings()
    users: list[list[dict[str, Any]]] = [[] for _ in range(given.num_users)]
    for user, item, value in zip(given.user.tolist(), given.item.tolist(), given.value.tolist(), strict=True):
        users[user].append({"items": [item], "rewards": [value]})
    path = tmp_path / "data"
    toy_dataset(path, written_log(users), catalog=catalog)
    monkeypatch.setattr(runs, "DATA", str(path))
    return path


def results(cells: list[Any]) -> dict[str, dict[str, Any]]:
    """Figures that tell who is who: trees earn 9.9, the softmax 10, random 0, the others in between."""
    earned = {"random": 0.0, "popularity": 4.0, "best-liked": 6.0, "wolpertinger": 5.0, "softmax": 10.0}
    found = {}
    for cell in cells:
        name = cell.name.rsplit("-a", 1)[0]
        value = earned.get(name, 7.0 if name == "tree-random-2" else 9.9) + 0.01 * (cell.settings["seed"] % 3)
        figures = {"return": value, "reward": value / 32, "precision": 0.2, "recall": 0.1, "f1": 0.13}
        served = ["greedy", "sharp", "drawn"]
        served += [f"beam {width}" for width in runs.BEAMS] if cell.settings.get("beams") else []
        found[cell.name] = {"seconds": 1.0} | dict.fromkeys(served, figures)
        if name == "changing-tree":
            found[cell.name] = dict.fromkeys(tpgr.CHANGES, figures)
    return found


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("quick", [True, False])
def test_the_story_of_made_up_results(quick: bool) -> None:
    cells = tpgr.cells(quick=quick, seed_base=3)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.settings["seed"] for cell in cells} == set(range(3, 4 if quick else 8))
    story = tpgr.tell(results(cells), quick=quick, seed_base=3)
    assert all(check.holds for check in story.checks)
    assert len(story.checks) == (6 if quick else 10)
    share = next(row for row in story.rows if row.name == "tree, share of the softmax")
    assert share.ours == pytest.approx(0.99, abs=0.002)
    names = {row.name for row in story.rows}
    assert {"tree, pca of ratings", "tree, random", "Wolpertinger, k = 1"} <= names
    assert len({(row.name, row.metric) for row in story.rows}) == len(story.rows)
    if not quick:
        assert {"tree, pca of vae", "tree, kmeans of text", "tree, pca of ratings, depth 4"} <= names
        assert {"α = 0.2: popularity", "unrated items answered by factors: tree"} <= names
        assert {f"a tree that changes: {change}" for change in tpgr.CHANGES} <= names
        assert [figure.name for figure in story.charts] == ["policies", "depth", "alpha"]
        labels = story.charts[1].labels
        assert labels == ("1", "2", "3", "4")


@pytest.mark.usefixtures("data")
def test_a_tree_that_earns_too_little_is_said_to() -> None:
    cells = tpgr.cells(quick=True, seed_base=0)
    found = results(cells)
    poor = {**found["softmax-a0.1-0"]["greedy"], "return": 3.0}
    found[f"{tpgr.tree_name(*tpgr.MAIN)}-a0.1-0"] |= {"greedy": poor, "sharp": poor, "drawn": poor}
    story = tpgr.tell(found, quick=True, seed_base=0)
    assert [check.holds for check in story.checks] == [False] * 6


@pytest.mark.usefixtures("data")
def test_intervals_that_overlap_show_nothing() -> None:
    """Two seeds of the random tree earn as much as the others: the means differ, the intervals overlap."""
    cells = tpgr.cells(quick=False, seed_base=0)
    found = results(cells)
    for seed in (0, 1):
        found[f"tree-random-2-a0.1-{seed}"] = found[f"{tpgr.tree_name(*tpgr.MAIN)}-a0.1-{seed}"]
    checks = tpgr.tell(found, quick=False, seed_base=0).checks
    assert [check.name for check in checks if not check.holds] == [
        f"tree, {cut} of ratings above tree, random, both {served}, intervals disjoint"
        for cut in ("pca", "kmeans")
        for served in ("sharp", "greedy")
    ]


def test_without_the_data_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "DATA", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"MovieLens-100K is not here.*data fetch ml-100k"):
        tpgr.cells(quick=True, seed_base=0)


def test_made_sessions_hold_what_was_rated_and_as_much_that_was_not(data: Path) -> None:
    config = Config(data=str(data), steps=16)
    world = open_world(config)
    first, second = runs.made_sessions(world, config, passes=2, generator=Generator().manual_seed(0))
    people = world.parts["train"]
    assert first.slate.shape == (len(people), 16, 1)
    for made in (first, second):
        items = made.slate.squeeze(2)
        assert all(len(set(row)) == 16 for row in items.tolist())
        value, rated = world.ratings.of(people, items)
        assert 0.4 < float(rated.float().mean()) < 0.6
        assert bool((items > 0).all())
        expected = ((value - 3) / 2).masked_fill(~rated, 0.0)
        torch.testing.assert_close(made.reward.squeeze(2), expected)
        assert not bool(made.logp_known.any())
    assert not torch.equal(first.slate, second.slate)


def test_words_of_titles_and_genres_are_vectors() -> None:
    """Two items share a word, two a genre; a word that only one item has says nothing."""
    catalog = replace(
        toy_catalog(4),
        text=("", "", "Alien (1979)", "Aliens", "Alien 3", "Heat"),
        group=np.array([0, 0, 1, 0, 0, 1]),
        group_names=("", "Horror"),
        features=np.zeros((6, 0), np.float32),
    )
    vectors = runs.text_vectors(catalog)
    # columns: alien, horror
    expected = torch.tensor([[0.0, 0], [0, 0], [0.5**0.5, 0.5**0.5], [0, 0], [1, 0], [0, 1]])
    torch.testing.assert_close(vectors, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_every_kind_of_cell_runs() -> None:
    """Four rounds of few people: figures are in range, and everything that the tables need is there."""
    kinds: dict[str, dict[str, Any]] = {}
    for cell in tpgr.cells(quick=False, seed_base=0):
        settings = cell.settings | {"rounds": 4, "passes": min(1, cell.settings["passes"]), "users": 32, "batch": 16}
        if cell.settings["seed"] == 0:
            kinds[cell.name] = runs.run(settings)
    for found in kinds.values():
        for figures in found.values():
            if isinstance(figures, dict):
                assert -32 * 17 <= figures["return"] <= 32 * 17
                # of 32 shown of 40, most that is liked is found
                assert 0 <= figures["precision"] <= figures["recall"] <= 1
    assert set(kinds["changing-tree-a0.1-0"]) == {"seconds", *tpgr.CHANGES}
    assert "beam 128" in kinds[f"{tpgr.tree_name(*tpgr.MAIN)}-a0.1-0"]
