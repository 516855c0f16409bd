"""Items with text or numbers and without events: in training, and later in a larger catalog, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.cli.conftest import Command

KINDS = ("apple", "stone")


def write_items(path: Path, numbers: range) -> None:
    """Titles and prices; even numbers are apples, and cheap. The last ones are used by nobody at first."""
    rows = [f"i{n},small {KINDS[n % 2]} {n},{10 + 20 * (n % 2) + n % 3}" for n in numbers]
    path.write_text("\n".join(["item_id,title,price", *rows, ""]), encoding="utf-8")


def write_log(path: Path, *, first: int, items: range) -> None:
    """Users u0 … u23, of whom the even ones use apples."""
    generator = np.random.default_rng(first)
    rows = [
        f"u{user},i{generator.choice([n for n in items if n % 2 == user % 2])},{first + 60 * step}"
        for user in range(24)
        for step in range(8)
    ]
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]), encoding="utf-8")


def write_config(path: Path, data: Path, content: str) -> None:
    path.write_text(
        f'[data]\npath = "{data}"\nsplit = "first_share"\nvalid_share = 0.0\ntest_share = 0.2\n'
        f"[items]\ncontent = {content}\ntext_width = 8\n"
        '[encoder]\nname = "gru"\nwidth = 8\nitem_width = 8\n[method]\nname = "cloning"\nlr = 0.02\n'
        '[train]\nepochs = 20\nbatch_size = 8\nselect = "ndcg@2"\n[evaluate]\nk = [2]\n',
        encoding="utf-8",
    )


@pytest.fixture
def run(tmp_path: Path, slatewise: Command) -> Path:
    """A run on 20 items of which 4 have no event."""
    write_items(tmp_path / "items.csv", range(20))
    write_log(tmp_path / "log.csv", first=1000, items=range(16))
    said = slatewise(
        "data", "import", tmp_path / "log.csv", "--items", tmp_path / "items.csv", "--out", tmp_path / "data"
    )
    assert said.code == 0, said.err
    write_config(tmp_path / "run.toml", tmp_path / "data", '["features", "text"]')
    said = slatewise("train", tmp_path / "run.toml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "4 of 20 items have no event to learn from: content alone." in said.out
    return tmp_path / "run"


def right_share(table: Path, items: range) -> float:
    """Share of the rows whose item is of the user's kind; every item is one of these."""
    rows = pl.read_parquet(table)
    user, item = (rows[name].str.slice(1).cast(pl.Int64) for name in ("user_id", "item_id"))
    assert set(item.to_list()) <= {*items}
    return float(np.mean((user % 2 == item % 2).to_numpy()))


def recommend(slatewise: Command, run: Path, out: Path, *arguments: object, items: range) -> list[str]:
    """Recommend two of some items, greedily; the notes."""
    names = out.with_suffix(".txt")
    names.write_text("\n".join(f"i{n}" for n in items), encoding="utf-8")
    said = slatewise(
        "recommend",
        run,
        "--all",
        "--k",
        2,
        "--greedy",
        "--allow-repeats",
        "--candidates",
        names,
        "--out",
        out,
        "--json",
        *arguments,
    )
    assert said.code == 0, said.err
    notes: list[str] = said.value["notes"]
    return notes


def test_items_without_events_are_recommended_by_their_content(run: Path, tmp_path: Path, slatewise: Command) -> None:
    recommend(slatewise, run, tmp_path / "cold.parquet", items=range(16, 20))
    assert right_share(tmp_path / "cold.parquet", range(16, 20)) == 1.0


def test_items_that_come_later_are_scored_without_training(run: Path, tmp_path: Path, slatewise: Command) -> None:
    write_items(tmp_path / "more.csv", range(24))
    write_log(tmp_path / "later.csv", first=90_000, items=range(12, 24))
    said = slatewise("data", "append", tmp_path / "data", tmp_path / "later.csv", "--items", tmp_path / "more.csv")
    assert said.code == 0, said.err
    assert "have no features" not in said.out
    notes = recommend(slatewise, run, tmp_path / "new.parquet", "--data", tmp_path / "data", items=range(20, 24))
    assert "4 items of data are new to the policy: they are scored by their content" in notes
    assert right_share(tmp_path / "new.parquet", range(20, 24)) == 1.0
    evaluated = slatewise("evaluate", run, "--data", tmp_path / "data", "--json").value
    assert "4 of its 24 items are new to the policy: content alone." in evaluated["notes"]
    assert not any("unknown to the policy" in note for note in evaluated["notes"])
    # and training goes on from there
    said = slatewise("train", tmp_path / "run.toml", "--from", run, "--out", tmp_path / "next")
    assert said.code == 0, said.err
    notes = json.loads((tmp_path / "next" / "training.json").read_text(encoding="utf-8"))["notes"]
    assert "4 of 24 items are new: they start from their content." in notes
    recommend(slatewise, tmp_path / "next", tmp_path / "next.parquet", items=range(20, 24))
    assert right_share(tmp_path / "next.parquet", range(20, 24)) == 1.0


def test_other_content_than_that_of_the_run_to_start_from(run: Path, tmp_path: Path, slatewise: Command) -> None:
    write_config(tmp_path / "other.toml", tmp_path / "data", '["text"]')
    said = slatewise("train", tmp_path / "other.toml", "--from", run, "--out", tmp_path / "next")
    assert said.code == 2
    assert f"items.content is ['text'], that of {run} is ['features', 'text']" in said.err


def test_content_that_the_catalog_does_not_have(tmp_path: Path, slatewise: Command) -> None:
    write_log(tmp_path / "log.csv", first=1000, items=range(16))
    slatewise("data", "import", tmp_path / "log.csv", "--out", tmp_path / "data")
    write_config(tmp_path / "run.toml", tmp_path / "data", '["features"]')
    said = slatewise("train", tmp_path / "run.toml", "--out", tmp_path / "run")
    assert said.code == 2
    assert 'run.toml [items]: items.content names "features", but the catalog has none' in said.err
