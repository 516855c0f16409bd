"""slatewise reproduce, with a stranger's paper given by its dotted path."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Command

PAPER = """
from slatewise.errors import SlatewiseError
from slatewise.report import Check
from slatewise.reproduce import Cell, Row, Story

TITLE = "made up"


def cells(*, quick, seed_base):
    return [Cell(name=f"cell-{n}", settings={"seed": seed_base + n}) for n in range(1 if quick else 2)]


def run(cell):
    if cell.settings["seed"] == 13:
        raise SlatewiseError("unlucky")
    return {"value": cell.settings["seed"] + 0.5}


def tell(results, *, quick, seed_base):
    rows = tuple(Row(name=name, metric="points", published=1.0, ours=found["value"]) for name, found in results.items())
    check = Check(name="above 9", holds=rows[0].ours > 9, figure=str(rows[0].ours))
    return Story(rows=rows, checks=(check,), notes=("quick" if quick else "full",))
"""


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "strangers_paper.py").write_text(PAPER, encoding="utf-8")
    (tmp_path / "strangers").mkdir()
    (tmp_path / "strangers" / "__init__.py").touch()
    (tmp_path / "strangers" / "paper.py").write_text(PAPER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    modules = ("strangers", "strangers.paper")
    for name in modules:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield "strangers.paper"
    for name in modules:  # other tests have packages of this name
        sys.modules.pop(name, None)


def test_table_page_and_json(slatewise: Command, paper: str, tmp_path: Path) -> None:
    said = slatewise("reproduce", paper, "--seed-base", 4, "--json", "answer.json", "--processes", 1)
    assert said.code == 0, said.err
    assert "cell-1" in said.out
    assert "FAILS  above 9: 4.5" in said.out
    value = json.loads((tmp_path / "answer.json").read_text(encoding="utf-8"))
    assert (value["paper"], value["seed"]) == (paper, 4)
    assert [row["ours"] for row in value["rows"]] == [4.5, 5.5]
    assert value["cells"] == {"total": 2, "ready": 0, "commits": {value["commit"]: 2}}
    assert value["checks"] == [{"name": "above 9", "holds": False, "figure": "4.5"}]
    page = tmp_path / "runs" / "reproduce" / paper / "full-4.html"
    assert "made up" in page.read_text(encoding="utf-8")
    assert "0 of 2 cells were ready" in page.read_text(encoding="utf-8")
    assert str(page.relative_to(tmp_path)) in said.err
    again = slatewise("reproduce", paper, "--seed-base", 4, "--quick")
    assert again.code == 0
    assert "1 of 1 cells were ready; computed by " in again.err
    assert "1 of 1 cells were ready; computed by " in again.out
    assert "quick" in again.out


def test_a_failed_part_ends_with_exit_code_1(slatewise: Command, paper: str, tmp_path: Path) -> None:
    said = slatewise("reproduce", paper, "--seed-base", 12, "--json", "answer.json", "--processes", 1)
    assert said.code == 1
    assert "cell-1 failed: SlatewiseError: unlucky. Finished cells are kept; start again to go on." in said.err
    assert not (tmp_path / "answer.json").exists()
    assert len(list((tmp_path / "runs" / "reproduce" / "cells").rglob("cell-0-*.json"))) == 1


def test_an_unknown_paper_is_named(slatewise: Command) -> None:
    said = slatewise("reproduce", "youtub")
    assert said.code == 2
    assert 'did you mean "youtube"?' in said.err
