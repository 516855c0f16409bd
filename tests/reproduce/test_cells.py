from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slatewise.errors import SlatewiseError
from slatewise.reproduce import Cell, Check, Curve, Figure, Row, Story, interval, reproduce, story_json, story_text
from slatewise.reproduce._page import drawn, write_page


class Paper(ModuleType):
    """Squares numbers; counts how often."""

    TITLE = "squares"
    SOURCES = ("errors.py",)

    def __init__(self) -> None:
        super().__init__("squares")
        self.runs: list[str] = []
        self.broken = ""

    def cells(self, *, quick: bool, seed_base: int) -> list[Cell]:
        numbers = range(seed_base, seed_base + (2 if quick else 4))
        return [Cell(name=f"square-{n}", settings={"n": n}) for n in numbers]

    def run(self, cell: Cell) -> dict[str, Any]:
        if cell.name == self.broken:
            raise RuntimeError("no square today")
        self.runs.append(cell.name)
        return {"square": float(cell.settings["n"] ** 2)}

    def tell(self, results: dict[str, dict[str, Any]], *, quick: bool, seed_base: int) -> Story:
        rows = tuple(
            Row(name=name, metric="n²", published=None, ours=value["square"]) for name, value in results.items()
        )
        return Story(rows=rows, checks=())


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Paper:
    module = Paper()
    monkeypatch.setitem(sys.modules, "stranger", ModuleType("stranger"))
    monkeypatch.setitem(sys.modules, "stranger.squares", module)
    return module


def test_finished_cells_are_used_again(paper: Paper, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    story, ready = reproduce("stranger.squares", folder=tmp_path, quick=True, processes=1)
    assert (ready, [row.ours for row in story.rows]) == (0, [0, 1])
    story, ready = reproduce("stranger.squares", folder=tmp_path, processes=1, on_cell=lambda *news: seen.append(news))
    assert ready == 2
    assert sorted(row.ours for row in story.rows) == [0, 1, 4, 9]
    assert paper.runs == ["square-0", "square-1", "square-2", "square-3"]
    assert seen[-1] == ("square-3", 4, 4)
    assert (
        reproduce("stranger.squares", folder=tmp_path, seed_base=1, quick=True, processes=1)[1] == 2
    )  # the seeds 1 and 2


def test_other_sources_make_cells_stale(paper: Paper, tmp_path: Path) -> None:
    reproduce("stranger.squares", folder=tmp_path, quick=True, processes=1)
    paper.SOURCES = ("errors.py", "sim")  # type: ignore[assignment]
    assert reproduce("stranger.squares", folder=tmp_path, quick=True, processes=1)[1] == 0


def test_a_failed_cell_keeps_the_others(paper: Paper, tmp_path: Path) -> None:
    paper.broken = "square-2"
    with pytest.raises(SlatewiseError, match="square-2 failed: RuntimeError: no square today"):
        reproduce("stranger.squares", folder=tmp_path, processes=1)
    paper.broken = ""
    story, ready = reproduce("stranger.squares", folder=tmp_path, processes=1)
    assert ready == 2
    assert len(story.rows) == 4


def test_two_processes_find_the_same(tmp_path: Path) -> None:
    # a real paper's cells in real processes; the error names the cell that failed
    from slatewise.reproduce import _cells

    cell = Cell(name="toys-3", settings={"kind": "toys", "seed": 3, "steps": 2, "batch": 8})
    missing = [(cell, tmp_path / "a.json"), (Cell(name="again", settings=cell.settings), tmp_path / "b.json")]
    found = dict(_cells._computed("youtube", missing, 2))
    assert found["toys-3"] == found["again"]
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["result"] == found["toys-3"]
    assert kept["settings"] == cell.settings
    bad = [(Cell(name=name, settings={"kind": "nothing"}), tmp_path / f"{name}.json") for name in ("c", "d")]
    with pytest.raises(SlatewiseError, match=r"[cd] failed: KeyError: 'nothing'"):
        dict(_cells._computed("youtube", bad, 2))


def test_interval_by_hand() -> None:
    # mean 2, standard deviation 1, t(.975; 2) = 4.302653
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.302653 / 3**0.5)
    assert mean - low == pytest.approx(high - mean)
    assert interval([5.0]) == (5.0, float("-inf"), float("inf"))


STORY = Story(
    rows=(
        Row(name="top-K", metric="% watch time", published=0.85, ours=1.234, low=0.5, high=2.0),
        Row(name="<alone>", metric="minutes", published=None, ours=1234.5),
    ),
    checks=(Check(name="it works", holds=True, figure="1"), Check(name="all of it", holds=False, figure="0")),
    figures=(
        Figure(name="f", title="a & b", x="x", y="y", curves=(Curve(name="c", x=(1.0, 2.0), y=(3.0, float("nan"))),)),
        Figure(
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


def test_story_for_machines() -> None:
    value = story_json(STORY, paper="p", commit="c", seed=7, seconds=1.25)
    assert set(value) >= {"paper", "commit", "seed", "machine", "seconds", "rows", "checks"}
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
    json.dumps(value, allow_nan=False)


def test_story_for_people() -> None:
    lines = story_text(STORY).splitlines()
    assert lines[0].split() == ["metric", "published", "ours", "low", "high"]
    assert lines[1].split() == ["top-K", "%", "watch", "time", "0.85", "1.234", "0.5", "2"]
    assert lines[2].split() == ["<alone>", "minutes", "–", "1,234.50", "–", "–"]
    assert "holds  it works: 1" in lines
    assert "FAILS  all of it: 0" in lines


def test_page_is_whole_and_escaped(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", STORY, title="<T>", facts="two seeds")
    text = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<h1>&lt;T&gt;</h1>" in text
    assert "&lt;alone&gt;" in text
    assert text.count("data-figure=") == 2
    assert "Plotly" in text
    assert "src=" not in text.split("<script>")[0]
    figure = drawn(STORY.figures[0])
    assert figure["data"][0]["y"] == [3.0, None]
    assert drawn(STORY.figures[1])["layout"]["xaxis"]["ticktext"] == ["one"]


def test_many_names_stand_below_each_other() -> None:
    names = tuple(f"method {number}" for number in range(7))
    line = Curve(name="mean", x=tuple(map(float, range(7))), y=(1.0,) * 7, half=(0.1,) * 7)
    figure = drawn(Figure(name="f", title="t", x="", y="return", labels=names, curves=(line,)))
    assert figure["layout"]["yaxis"]["ticktext"] == list(names)
    assert figure["layout"]["yaxis"]["autorange"] == "reversed", "the first name stands on top"
    assert figure["layout"]["xaxis"]["title"]["text"] == "return"
    assert figure["data"][0]["x"] == [1.0] * 7
    assert figure["data"][0]["error_x"]["array"] == [0.1] * 7
