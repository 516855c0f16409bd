"""slatewise export-vectors: the products of the files are the policy's scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import log_softmax
from tests.cli.conftest import Command, Trained

from slatewise.config.run import RunConfig
from slatewise.data import prepared
from slatewise.training.loop import train


def read_vectors(file: Path) -> np.ndarray:
    column = pq.read_table(file)["vector"].combine_chunks()
    vectors: np.ndarray = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return vectors


@pytest.mark.parametrize(("name", "has_bias"), [("learned", True), ("corrected", True), ("counted", False)])
def test_products_are_the_scores_of_the_policy(
    name: str, has_bias: bool, trained: Trained, slatewise: Command, tmp_path: Path
) -> None:
    run, users = getattr(trained, name), prepared.load(trained.data).users.names.to_pylist()
    (tmp_path / "users.csv").write_text("\n".join(["user_id", *users, "a stranger"]), encoding="utf-8")
    out, queries = tmp_path / "vectors.parquet", tmp_path / "vectors-queries.parquet"
    value = slatewise("export-vectors", run, "--out", out, "--queries", tmp_path / "users.csv", "--json").value
    assert (value["rows"], value["users"], value["bias"]) == (40, 61, has_bias)
    items = pq.read_table(out)
    assert items.column_names == ["item_id", "title", "vector", *(["bias"] if has_bias else [])]
    scores = read_vectors(queries).astype(float) @ read_vectors(out).astype(float).T
    scores += items["bias"].to_numpy() if has_bias else 0.0
    log_pi = log_softmax(scores, axis=1)
    # every item of every user: `recommend` says its log-probability
    slates = tmp_path / "slates.parquet"
    arguments = ["--users", tmp_path / "users.csv", "--k", 40, "--greedy", "--allow-repeats", "--out", slates]
    assert slatewise("recommend", run, *arguments).code == 0
    table = pq.read_table(slates).to_pydict()
    row = {user: number for number, user in enumerate(pq.read_table(queries)["user_id"].to_pylist())}
    column = {item: number for number, item in enumerate(items["item_id"].to_pylist())}
    expected = [log_pi[row[user], column[item]] for user, item in zip(table["user_id"], table["item_id"], strict=True)]
    np.testing.assert_allclose(expected, table["score"], atol=1e-4)
    assert len(expected) == 61 * 40


def test_matrices_hold_the_bias_as_the_last_number(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("user_id\na stranger\n", encoding="utf-8")
    for suffix in ("parquet", "npy"):
        said = slatewise(
            "export-vectors", trained.learned, "--out", tmp_path / f"v.{suffix}", "--queries", tmp_path / "users.csv"
        )
        assert said.code == 0, said.err
        assert "40 items, vectors of 8 numbers and a bias" in said.out
    bias = pq.read_table(tmp_path / "v.parquet")["bias"].to_numpy()
    matrix, query = np.load(tmp_path / "v.npy"), np.load(tmp_path / "v-queries.npy")
    np.testing.assert_array_equal(matrix, np.column_stack([read_vectors(tmp_path / "v.parquet"), bias]))
    assert query.shape == (1, 9)
    assert query[0, -1] == 1.0


def test_a_method_without_vectors_says_what_it_is(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    tables = {"data": {"path": str(trained.data)}, "method": {"name": "item_knn"}}
    train(RunConfig.from_tables(tables), tmp_path / "knn")
    said = slatewise("export-vectors", tmp_path / "knn", "--out", tmp_path / "v.parquet")
    assert said.code == 2
    assert "item_knn has no vector for each item, because its scores are not inner products" in said.err
    assert "Item-based nearest neighbours: what others used together" in said.err
    assert not (tmp_path / "v.parquet").exists()


def test_files_are_not_replaced_unless_asked(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    out = tmp_path / "v.parquet"
    out.write_text("mine", encoding="utf-8")
    said = slatewise("export-vectors", trained.counted, "--out", out)
    assert (said.code, out.read_text("utf-8")) == (2, "mine")
    assert slatewise("export-vectors", trained.counted, "--out", out, "--overwrite").code == 0
    assert slatewise("export-vectors", trained.counted, "--out", tmp_path / "v.csv").code == 2
