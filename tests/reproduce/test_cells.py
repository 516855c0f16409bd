from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slatewise.errors import SlatewiseError
from slatewise.machine import commit
from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce import Cell, Provenance, Row, Story, reproduce, story_json, story_text
from slatewise.reproduce._cells import Task, _compute
from slatewise.reproduce._digest import Code
from slatewise.reproduce._page import write_page

PAPER = """
from slatewise.reproduce import Cell, Row, Story
from stranger.squaring import square

TITLE = "squares"
runs = []
broken = ""


def cells(*, quick, seed_base):
    return [Cell(name=f"square-{n}", settings={"n": n}) for n in range(seed_base, seed_base + (2 if quick else 4))]


def run(cell):
    if cell.name == broken:
        raise RuntimeError("no square today")
    runs.append(cell.name)
    return {"square": float(square(cell.settings["n"]))}


def tell(results, *, quick, seed_base):
    rows = (Row(name=name, metric="n²", published=None, ours=value["square"]) for name, value in results.items())
    return Story(rows=tuple(rows), checks=())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a package with a paper that squares numbers and counts how often."""
    place = tmp_path / "stranger"
    place.mkdir()
    (place / "__init__.py").touch()
    (place / "squares.py").write_text(PAPER, encoding="utf-8")
    (place / "squaring.py").write_text("def square(n):\n    return n**2\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield place
    for name in [name for name in sys.modules if name.split(".")[0] == "stranger"]:
        del sys.modules[name]


@pytest.fixture
def paper(folder: Path) -> Any:
    return importlib.import_module("stranger.squares")


def run_squares(folder: Path, **options: Any) -> tuple[Story, Provenance]:
    return reproduce("stranger.squares", folder=folder.parent / "cells", processes=1, **options)


def test_finished_cells_are_used_again(paper: Any, folder: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    story, cells = run_squares(folder, quick=True)
    assert (cells.total, cells.ready, dict(cells.commits)) == (2, 0, {commit(): 2})
    assert [row.ours for row in story.rows] == [0, 1]
    story, cells = run_squares(folder, on_cell=lambda *news: seen.append(news))
    assert (cells.total, cells.ready, dict(cells.commits)) == (4, 2, {commit(): 4})
    assert sorted(row.ours for row in story.rows) == [0, 1, 4, 9]
    assert paper.runs == ["square-0", "square-1", "square-2", "square-3"]
    assert seen[-1] == ("square-3", 4, 4)
    assert run_squares(folder, seed_base=1, quick=True)[1].ready == 2  # the seeds 1 and 2


def test_each_cell_keeps_the_commit_that_computed_it(paper: Any, folder: Path) -> None:
    run_squares(folder, quick=True)
    (file,) = (folder.parent / "cells").glob("square-0-*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": "0123456789ab+"}), encoding="utf-8")
    cells = run_squares(folder, quick=True)[1]
    assert dict(cells.commits) == {"0123456789ab+": 1, commit(): 1}
    assert str(cells).startswith("2 of 2 cells were ready; computed by 0123456789ab+ (1), ")


def test_other_code_makes_cells_stale(paper: Any, folder: Path) -> None:
    run_squares(folder, quick=True)
    file = folder / "squaring.py"
    file.write_text('def square(n):\n    """n²."""\n    return n**2  # a comment\n', encoding="utf-8")
    assert run_squares(folder, quick=True)[1].ready == 2
    file.write_text("def square(n):\n    return n * n\n", encoding="utf-8")
    assert run_squares(folder, quick=True)[1].ready == 0


def test_a_result_of_code_that_was_not_found_is_refused(folder: Path) -> None:
    (folder / "hidden.py").touch()
    text = PAPER.replace(
        "runs.append", "import importlib; importlib.import_module('stranger.hid' + 'den'); runs.append"
    )
    (folder / "squares.py").write_text(text, encoding="utf-8")
    with pytest.raises(SlatewiseError, match=r"it loaded stranger\.hidden, which the digest of its code leaves out"):
        run_squares(folder)
    assert not list(folder.parent.glob("cells/*.json"))


def test_a_failed_cell_keeps_the_others(paper: Any, folder: Path) -> None:
    paper.broken = "square-2"
    with pytest.raises(SlatewiseError, match="square-2 failed: RuntimeError: no square today"):
        run_squares(folder)
    paper.broken = ""
    story, cells = run_squares(folder)
    assert cells.ready == 2
    assert len(story.rows) == 4


def test_two_processes_find_the_same(tmp_path: Path) -> None:
    # a real paper's cells in real processes; the error names the cell that failed
    cell = Cell(name="toys-3", settings={"kind": "toys", "seed": 3, "steps": 2, "batch": 8})
    again = Cell(name="again", settings=cell.settings)
    code = Code.of(importlib.import_module("slatewise.reproduce.youtube").__name__)

    def task(cell: Cell, file: str) -> Task:
        modules = code.closure(cell.settings).modules
        return Task(paper="youtube", cell=cell, path=tmp_path / file, commit="abc", modules=modules)

    results = dict(_compute([task(cell, "a.json"), task(again, "b.json")], 2))
    assert results["toys-3"] == results["again"]
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["result"] == results["toys-3"]
    assert (kept["settings"], kept["commit"]) == (cell.settings, "abc")
    bad = [task(Cell(name=name, settings={"kind": "nothing"}), f"{name}.json") for name in ("c", "d")]
    with pytest.raises(SlatewiseError, match=r"[cd] failed: KeyError: 'nothing'"):
        dict(_compute(bad, 2))


STORY = Story(
    rows=(
        Row(name="top-K", metric="% watch time", published=0.85, ours=1.234, low=0.5, high=2.0),
        Row(name="<alone>", metric="minutes", published=None, ours=1234.5),
    ),
    checks=(Check(name="it works", holds=True, figure="1"), Check(name="all of it", holds=False, figure="0")),
    charts=(
        LineChart(
            name="f", title="a & b", x="x", y="y", curves=(Curve(name="c", x=(1.0, 2.0), y=(3.0, float("nan"))),)
        ),
        LineChart(
            name="g",
            title="dots",
            x="",
            y="%",
            curves=(Curve(name="c", x=(0.0,), y=(3.0,), half=(float("inf"),)),),
            labels=("one",),
        ),
    ),
    notes=("a note",),
)


CELLS = Provenance(total=5, ready=3, commits={"abc": 2, "def+": 3})


def test_story_for_machines() -> None:
    value = json.loads(
        json.dumps(story_json(STORY, CELLS, paper="p", commit="c", seed=7, seconds=1.25), allow_nan=False)
    )
    assert set(value) >= {"paper", "commit", "seed", "machine", "seconds", "rows", "checks"}
    assert value["cells"] == {"total": 5, "ready": 3, "commits": {"abc": 2, "def+": 3}}
    assert value["rows"][0] == {
        "name": "top-K",
        "metric": "% watch time",
        "published": 0.85,
        "ours": 1.234,
        "low": 0.5,
        "high": 2.0,
    }
    assert value["rows"][1]["low"] is None
    assert value["checks"][1] == {"name": "all of it", "holds": False, "figure": "0"}


def test_story_for_people() -> None:
    lines = story_text(STORY, CELLS).splitlines()
    assert lines[0].split() == ["metric", "published", "ours", "low", "high"]
    assert lines[1].split() == ["top-K", "%", "watch", "time", "0.85", "1.234", "0.5", "2"]
    assert lines[2].split() == ["<alone>", "minutes", "–", "1,234.50", "–", "–"]
    assert "holds  it works: 1" in lines
    assert "FAILS  all of it: 0" in lines
    assert lines[-1] == "3 of 5 cells were ready; computed by abc (2), def+ (3)."


def test_page_is_whole_and_escaped(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", STORY, title="<T>", facts="two seeds")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<h1>&lt;T&gt;</h1>" in text
    assert "&lt;alone&gt;" in text
    assert text.count("data-plot=") == 2
    assert "Plotly" in text
    assert "src=" not in text.split("<script>")[0]
