from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slatewise.errors import InputError
from slatewise.reproduce import _tpgr_runs as runs
from slatewise.reproduce import tpgr
from slatewise.sim.rating_sessions import made_up_ratings
from slatewise.testing import toy_dataset, written_log


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
        found[cell.name] = {"seconds": 1.0, "greedy": figures, "drawn": figures}
    return found


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("quick", [True, False])
def test_the_story_of_made_up_results(quick: bool) -> None:
    cells = tpgr.cells(quick=quick, seed_base=3)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.settings["seed"] for cell in cells} == set(range(3, 4 if quick else 8))
    story = tpgr.tell(results(cells), quick=quick, seed_base=3)
    assert all(check.holds for check in story.checks)
    assert len(story.checks) == (4 if quick else 5)
    share = next(row for row in story.rows if row.name == "α = 0.1: tree, share of the softmax")
    assert share.ours == pytest.approx(0.99, abs=0.002)
    names = {row.name for row in story.rows}
    assert {"tree, kmeans of factors", "tree, random", "Wolpertinger, k = 1"} <= names
    if not quick:
        assert {"tree, pca of vae", "tree, kmeans of factors, depth 4", "α = 0.2: popularity"} <= names
        assert [figure.name for figure in story.figures] == ["policies", "depth"]
        labels = story.figures[1].labels
        assert labels == ("1", "2", "3", "4")


@pytest.mark.usefixtures("data")
def test_a_tree_that_earns_too_little_is_said_to() -> None:
    cells = tpgr.cells(quick=True, seed_base=0)
    found = results(cells)
    found["tree-kmeans-factors-2-a0.1-0"]["greedy"] = {**found["softmax-a0.1-0"]["greedy"], "return": 3.0}
    story = tpgr.tell(found, quick=True, seed_base=0)
    assert [check.holds for check in story.checks] == [False] * 4


def test_without_the_data_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runs, "DATA", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"MovieLens-100K is not here.*data fetch ml-100k"):
        tpgr.cells(quick=True, seed_base=0)


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_every_kind_of_cell_runs() -> None:
    """Two rounds of few people: figures are in range, and the best list without a state is better than chance."""
    kinds = {}
    for cell in tpgr.cells(quick=True, seed_base=0):
        settings = cell.settings | {"updates": 2, "users": 32}
        kinds[cell.name.rsplit("-a", 1)[0]] = runs.run(settings)["greedy"]
    for figures in kinds.values():
        assert -32 <= figures["return"] <= 32 + 0.1 * 31 * 32 / 2
        assert 0 <= figures["precision"] <= figures["recall"] <= 1  # of 32 shown of 40, most that is liked is found
    assert set(kinds) >= {"random", "popularity", "best-liked", "softmax", "wolpertinger", "tree-random-2"}
