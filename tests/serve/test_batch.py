"""Slates for many users in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from tests.serve.world import catalog, save_artifact

from slatewise import artifact as artifacts
from slatewise import evaluation
from slatewise.data.batches import trajectories
from slatewise.data.prepared import Dataset
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary, Windows
from slatewise.logged_requests import ItemLists
from slatewise.serve import batch
from slatewise.serve.batch import Audience, Conditions, SlateWriter
from slatewise.testing import toy_dataset, written_log
from slatewise.types import Exploration, SlateRequest, Trajectories

USERS = 11
EXPLORATION = Exploration(top_m=9, keep=1, temperature=1.3)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """User u used u of the forty items."""
    users = [[{"items": [FIRST_ITEM + 3 * user + place]} for place in range(user)] for user in range(USERS)]
    return toy_dataset(tmp_path / "data", written_log(users), catalog=catalog())


@pytest.fixture
def writer(data: Dataset, tmp_path: Path) -> SlateWriter:
    tables = {"data": {"path": str(data.path)}}
    save_artifact(tmp_path / "run" / "artifact", tables=tables)
    return SlateWriter(artifacts.load(tmp_path / "run" / "artifact"), data)


def everybody(data: Dataset, *others: str) -> Audience:
    return Audience(names=pa.array([*data.users.names.to_pylist(), *others], pa.string()))


def test_slates_are_those_of_the_policy(data: Dataset, writer: SlateWriter, tmp_path: Path) -> None:
    audience = everybody(data, "a stranger")
    summary = writer.write(tmp_path / "recs.parquet", audience, Conditions(k=4, exploration=EXPLORATION, seed=3))
    assert (summary.users, summary.rows, summary.unknown_users, summary.short_slates) == (12, 48, 1, 0)
    recs = pl.read_parquet(tmp_path / "recs.parquet")
    assert recs["user_id"].to_list() == [name for name in audience.names.to_pylist() for _ in range(4)]
    assert recs["position"].to_list() == [0, 1, 2, 3] * 12
    assert recs["title"][0] == f"Title of {recs['item_id'][0]}"

    policy = artifacts.load(tmp_path / "run" / "artifact").policy
    user = np.arange(1, USERS)
    seen, state = evaluation.states_at(policy, data.interactions, user, user, max_history=100)
    state = torch.cat([state, policy.encoder(toy_history(data))[:, 0]])
    seen = torch.cat([seen, torch.zeros_like(seen[:1])])
    numbers = torch.tensor([data.catalog.vocabulary.number(name) for name in recs["item_id"]])
    slate = numbers.view(12, 4)[1:]
    request = SlateRequest(k=4, exploration=EXPLORATION, exclude=seen)
    expected = policy.log_prob(state, slate, request)
    torch.testing.assert_close(torch.from_numpy(recs["logp"].to_numpy().copy()).view(12, 4)[1:], expected)
    score = torch.from_numpy(recs["score"].to_numpy().copy()).view(12, 4)[1:]
    torch.testing.assert_close(score, policy.log_pi(state, slate))
    assert not (slate.unsqueeze(2) == seen.unsqueeze(1)).any()


def toy_history(data: Dataset) -> Trajectories:
    one = {name: np.array([value]) for name, value in (("user", 1), ("start", 0), ("learn", 0), ("stop", 1))}
    return trajectories(data.interactions, Windows(**one))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_stopped_run_ends_with_the_same_file(
    suffix: str, data: Dataset, writer: SlateWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "CHUNK", 4)
    audience, conditions = everybody(data), Conditions(k=3, exploration=EXPLORATION)
    writer.write(tmp_path / f"whole.{suffix}", audience, conditions)

    def stop(users: int) -> None:
        if users == 8:
            raise KeyboardInterrupt

    out = tmp_path / f"recs.{suffix}"
    with pytest.raises(KeyboardInterrupt):
        writer.write(out, audience, conditions, on_users=stop)
    assert not out.exists()
    with pytest.raises(InputError, match="a stopped run of other settings left its slates here"):
        writer.write(out, audience, Conditions(k=3))
    written: list[int] = []
    monkeypatch.setattr(SlateWriter, "_rows", counting(written))
    writer.write(out, audience, conditions)
    assert written == [8]
    assert out.read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"data", "run", f"recs.{suffix}", f"whole.{suffix}"}


def counting(starts: list[int]) -> Any:
    make_rows = SlateWriter._rows

    def rows(self: SlateWriter, audience: Audience, conditions: Conditions, number: Any, chunk: slice) -> pa.Table:
        starts.append(chunk.start)
        return make_rows(self, audience, conditions, number, chunk)

    return rows


def test_memory_decides_how_many_users_are_scored_at_once_and_changes_nothing(
    data: Dataset, writer: SlateWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(tmp_path / "at-once.csv", everybody(data), Conditions(k=5))
    monkeypatch.setattr(batch, "MOST_NUMBERS", 100)
    monkeypatch.setattr(batch, "MOST_ROWS", 7)
    writer.write(tmp_path / "in-pieces.csv", everybody(data), Conditions(k=5))
    one, other = (pl.read_csv(tmp_path / name) for name in ("at-once.csv", "in-pieces.csv"))
    assert one["item_id"].equals(other["item_id"])
    np.testing.assert_allclose(one["score"], other["score"], rtol=1e-5)


def test_exclusions_candidates_and_repeats(data: Dataset, writer: SlateWriter, tmp_path: Path) -> None:
    candidates = np.arange(FIRST_ITEM, FIRST_ITEM + 5)
    own = ItemLists(offsets=np.array([0, 0, 2, *[2] * 9]), item=np.array([4, 5]))
    common = Conditions(k=5, candidates=candidates, exclude=np.array([6]), exclude_of_user=own, exclude_seen=False)
    summary = writer.write(tmp_path / "recs.csv", everybody(data), common)
    shown = pl.read_csv(tmp_path / "recs.csv").group_by("user_id", maintain_order=True).agg(pl.col("item_id").sort())
    assert shown["item_id"].to_list() == [["i0", "i1", "i2", "i3"], ["i0", "i1"], *[["i0", "i1", "i2", "i3"]] * 9]
    assert (summary.short_slates, summary.rows) == (11, 42)


@pytest.mark.parametrize(
    ("out", "conditions", "message"),
    [
        ("recs.xlsx", Conditions(k=2), "is not a name of slates"),
        ("there.csv", Conditions(k=2), "it is there already. --overwrite"),
        ("recs.csv", Conditions(k=41), "k is 41; expected 1 to 40, the size of the catalog"),
        ("recs.csv", Conditions(k=4, exploration=Exploration(top_m=3)), "top_m is 3; expected at least k = 4"),
    ],
)
def test_what_cannot_be_written(
    out: str, conditions: Conditions, message: str, data: Dataset, writer: SlateWriter, tmp_path: Path
) -> None:
    (tmp_path / "there.csv").write_text("kept", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        writer.write(tmp_path / out, everybody(data), conditions)
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "kept"


def test_a_newer_log_is_read_by_the_names_of_its_items(writer: SlateWriter, data: Dataset, tmp_path: Path) -> None:
    names = ["new", *[f"i{number}" for number in range(39, -1, -1)]]
    newer = toy_dataset(
        tmp_path / "newer",
        written_log([[{"items": [names.index("i7") + FIRST_ITEM]}, {"items": [FIRST_ITEM]}]]),
        catalog=catalog_of(names),
    )
    loaded = artifacts.load(tmp_path / "run" / "artifact")
    summary = SlateWriter(loaded, newer).write(tmp_path / "recs.csv", everybody(newer), Conditions(k=39))
    assert summary.unmatched_items == 1
    assert "i7" not in pl.read_csv(tmp_path / "recs.csv")["item_id"].to_list()


def catalog_of(names: list[str]) -> Catalog:
    rows = len(names) + FIRST_ITEM
    return replace(
        catalog(len(names)),
        vocabulary=Vocabulary(names=pa.array(names, pa.string())),
        text=[""] * rows,
    )
