"""Features of users: imported, trained on, evaluated, and served to users whom the log does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.cli.conftest import Command

from slatewise import artifact
from slatewise.data import prepared
from slatewise.data.batches import trajectories
from slatewise.log import LogPart
from slatewise.serve.http.schema import RecommendRequest
from slatewise.serve.opening import Options, open_recommender
from slatewise.serve.refused import RefusedError

LANDS = ("north", "south")
STRANGERS = tuple(f"n{n}" for n in range(8))
"""Users of the table of users without any event; even ones are from the north."""


def write_users(path: Path, names: list[str]) -> None:
    """Ages are no help; users from the north like even items."""
    rows = [f"{name},{20 + 7 * int(name[1:]) % 40},{LANDS[int(name[1:]) % 2]}" for name in names]
    path.write_text("\n".join(["user_id,age,land", *rows, ""]), encoding="utf-8")


def write_log(path: Path, users: int = 32) -> None:
    generator = np.random.default_rng(0)
    rows = [
        f"u{user},i{item},{1000 + 60 * step}"
        for user in range(users)
        for step, item in enumerate(generator.permutation(np.arange(user % 2, 20, 2))[:5])
    ]
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path, slatewise: Command) -> Path:
    write_log(tmp_path / "log.csv")
    write_users(tmp_path / "users.csv", [*(f"u{n}" for n in range(30)), *STRANGERS])
    said = slatewise(
        "data", "import", tmp_path / "log.csv", "--users", tmp_path / "users.csv", "--out", tmp_path / "data"
    )
    assert said.code == 0, said.err
    assert "users.csv: 38 users with age, land (2 values); 2 of 32 users of the log have no features." in said.out
    (tmp_path / "run.toml").write_text(
        f'[data]\npath = "{tmp_path / "data"}"\nsplit = "first_share"\nvalid_share = 0.0\ntest_share = 0.2\n'
        '[encoder]\nname = "gru"\nwidth = 8\nitem_width = 8\n[method]\nname = "cloning"\nlr = 0.02\n'
        '[train]\nepochs = 20\nbatch_size = 8\nselect = "ndcg@2"\n[evaluate]\nk = [2]\n',
        encoding="utf-8",
    )
    said = slatewise("train", tmp_path / "run.toml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run"


def right_share(table: Path) -> float:
    """Share of the rows whose item is of the kind that the user's land likes."""
    rows = pl.read_parquet(table)
    user, item = (rows[name].str.slice(1).cast(pl.Int64) for name in ("user_id", "item_id"))
    return float(np.mean((user % 2 == item % 2).to_numpy()))


def recommend(slatewise: Command, run: Path, users: Path, out: Path) -> list[str]:
    said = slatewise("recommend", run, "--users", users, "--k", 3, "--greedy", "--out", out, "--json")
    assert said.code == 0, said.err
    notes: list[str] = said.value["notes"]
    return notes


def test_new_users_get_slates_by_their_features(run: Path, tmp_path: Path, slatewise: Command) -> None:
    (tmp_path / "strangers.txt").write_text("\n".join(STRANGERS), encoding="utf-8")
    recommend(slatewise, run, tmp_path / "strangers.txt", tmp_path / "strangers.parquet")
    assert right_share(tmp_path / "strangers.parquet") == 1.0  # chance: .5
    # the same users under names that no table has, with a file that describes them
    lines = (tmp_path / "users.csv").read_text(encoding="utf-8").replace("n", "m").replace("morth", "north")
    header, *rows = lines.replace("lamd", "land").splitlines()
    described = [row for row in rows if row.startswith("m")]
    (tmp_path / "more.csv").write_text("\n".join([header, *described, "m9,30,west", ""]), encoding="utf-8")
    notes = recommend(slatewise, run, tmp_path / "more.csv", tmp_path / "more.parquet")
    assert any('1 cells of column "land" hold a value that is new, the first is "west"' in note for note in notes)
    got = pl.read_parquet(tmp_path / "more.parquet").filter(pl.col("user_id") != "m9")
    got.write_parquet(tmp_path / "more.parquet")
    assert right_share(tmp_path / "more.parquet") == 1.0


def test_features_that_come_later(run: Path, tmp_path: Path, slatewise: Command) -> None:
    write_log(tmp_path / "later.csv", users=34)
    write_users(tmp_path / "later_users.csv", ["u30", "u31", "u40", "u41"])
    said = slatewise(
        "data", "append", tmp_path / "data", tmp_path / "later.csv", "--users", tmp_path / "later_users.csv"
    )
    assert said.code == 0, said.err
    assert "later_users.csv: 4 users with age, land (2 values); 2 of 34 users" in said.out
    (tmp_path / "names.txt").write_text("u40\nu41\n", encoding="utf-8")
    recommend(slatewise, run, tmp_path / "names.txt", tmp_path / "names.parquet")
    assert right_share(tmp_path / "names.parquet") == 1.0
    evaluated = slatewise("evaluate", run, "--data", tmp_path / "data", "--json")
    assert evaluated.code == 0, evaluated.err
    said = slatewise("train", tmp_path / "run.toml", "--from", run, "--out", tmp_path / "next")
    assert said.code == 0, said.err


def test_a_request_describes_its_user(run: Path) -> None:
    service = open_recommender(run, Options(seed=0, greedy=True))
    try:

        def kinds(user_id: str, **features: float | str) -> set[int]:
            answer = service.recommend(RecommendRequest(user_id=user_id, k=3, user_features=dict(features)))
            assert answer.logp == 0.0
            return {int(shown.item_id[1:]) % 2 for shown in answer.items}

        assert kinds("somebody", land="north", age=30.0) == {0}
        assert kinds("somebody", land="south") == {1}
        assert kinds("n0") == {0}
        assert kinds("n1") == {1}
        assert kinds("n1", land="north") == {0}
        for features, message in (
            ({"shoe": 1.0}, 'no feature "shoe"; there are: age, land'),
            ({"land": "west"}, '"west" is no value of land; there are: north, south'),
        ):
            with pytest.raises(RefusedError, match=message):
                kinds("somebody", **features)
    finally:
        service.close()


def test_the_served_state_is_that_of_training(run: Path, tmp_path: Path) -> None:
    policy = artifact.load(run / "artifact").policy
    dataset = prepared.load(tmp_path / "data")
    users = np.arange(len(dataset.users))
    # the windows end where the log does: what follows has no context, but the user is still known
    windows = LogPart.whole(dataset.interactions).histories(users)
    batch = trajectories(dataset.interactions, windows)
    assert batch.context.shape[2] == 3
    service = open_recommender(run, Options(seed=0))
    try:
        with torch.inference_mode(), service.store.transaction():
            states = policy.encoder(batch)[:, -1]
            for number in users.tolist():
                user = service.users.find(dataset.users.name(number))
                torch.testing.assert_close(service.users.state(user, [])[0], states[number], rtol=1e-5, atol=1e-6)
                assert service.users.user_table is not None
                served = service.users.user_table.row(user.user_id)
                assert torch.equal(batch.context[number, -1], torch.from_numpy(served))
    finally:
        service.close()


def test_states_without_the_features(run: Path, tmp_path: Path, slatewise: Command) -> None:
    del run
    said = slatewise("train", tmp_path / "run.toml", "--out", tmp_path / "without", "--set", "data.user_features=false")
    assert said.code == 0, said.err
    loaded = artifact.load(tmp_path / "without" / "artifact")
    assert loaded.users is None
    assert loaded.policy.encoder.context_width == 0  # type: ignore[attr-defined]
    assert slatewise("evaluate", tmp_path / "without").code == 0
    assert slatewise("recommend", tmp_path / "without", "--all", "--out", tmp_path / "all.parquet").code == 0
