"""The vectors of items and the queries of users as tables, for an index or another model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.artifact import Artifact
from slatewise.config import find
from slatewise.errors import input_error
from slatewise.files import atomic_file
from slatewise.log import FIRST_ITEM
from slatewise.protocols import ScoresByInnerProduct

SUFFIXES = (".parquet", ".npy")


@dataclass(frozen=True, kw_only=True)
class VectorFile:
    """What was written."""

    rows: int
    width: int
    """E, without the bias."""
    bias: bool
    """True where the score of an item is the inner product plus a bias."""


def inner_products(artifact: Artifact) -> ScoresByInnerProduct:
    """The policy of an artifact as inner products.

    Raises:
        InputError: its scores are not inner products.
    """
    if isinstance(artifact.policy, ScoresByInnerProduct):
        return artifact.policy
    name = artifact.config.method.name
    summary = " ".join((find("methods", name).__doc__ or "").strip().partition("\n\n")[0].split())
    raise input_error(
        f"{name} has no vector for each item, because its scores are not inner products of a user and an item"
        + (f": {summary.rstrip('.')}" if summary else ""),
        file=artifact.path,
        advice="`slatewise recommend` writes its slates with scores.",
    )


@torch.inference_mode()
def write_vectors(artifact: Artifact, out: Path) -> VectorFile:
    """Write the vector of every item, in the order of the catalog.

    As Parquet: item_id, title, vector and, where the score has one, bias. As .npy: the vectors alone, (N, E), or
    (N, E + 1) with the bias as the last number.

    Args:
        artifact: the policy and its catalog.
        out: a name that ends in .parquet or .npy.

    Raises:
        InputError: another kind of file, or scores that are not inner products.
    """
    scorer, catalog = inner_products(artifact), artifact.catalog
    vectors, bias = scorer.vectors().float(), scorer.item_bias()
    account = VectorFile(rows=len(vectors), width=vectors.shape[1], bias=bias is not None)
    if out.suffix == ".npy":
        _write_matrix(out, [vectors if bias is None else torch.cat([vectors, bias.float().unsqueeze(1)], dim=1)])
        return account
    columns = {
        "item_id": catalog.vocabulary.names,
        "title": pa.array(list(catalog.text[FIRST_ITEM:]), pa.string()),
        "vector": _lists(vectors),
    }
    if bias is not None:
        columns["bias"] = pa.array(bias.float().numpy())
    with atomic_file(out) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return account


@torch.inference_mode()
def write_queries(
    artifact: Artifact,
    names: pa.StringArray,
    states: Iterable[Float[Tensor, "C D"]],
    out: Path,
    *,
    on_users: Callable[[int], None] = lambda users: None,
) -> int:
    """Write the query of every user: its inner product with an item's vector, plus the bias, is the score.

    As Parquet: user_id and vector. As .npy: the vectors alone, with 1 as the last number where items have a bias.

    Args:
        artifact: the policy.
        names: of the users.
        states: of the users, in chunks.
        out: a name that ends in .parquet or .npy.
        on_users: called with the number of users done.

    Returns:
        the number of users.

    Raises:
        InputError: another kind of file, or scores that are not inner products.
    """
    scorer = inner_products(artifact)
    has_bias, done = scorer.item_bias() is not None, 0

    def queries() -> Iterator[Float[Tensor, "C E"]]:
        nonlocal done
        for chunk in states:
            yield scorer.query(chunk).float()
            done += len(chunk)
            on_users(done)

    if out.suffix == ".npy":
        ones = (torch.cat([query, query.new_ones(len(query), 1)], dim=1) if has_bias else query for query in queries())
        _write_matrix(out, ones)
        return done
    with atomic_file(out) as temporary:
        writer: pq.ParquetWriter | None = None
        for query in queries():
            table = pa.table({"user_id": names.slice(done, len(query)), "vector": _lists(query)})
            writer = writer or pq.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
        assert writer is not None, "an audience has a user"
        writer.close()
    return done


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a name that is neither Parquet nor .npy, and a file that is there.

    Raises:
        InputError: either.
    """
    if out.suffix not in SUFFIXES:
        raise input_error(f'"{out.name}" is not a name of vectors (expected NAME.parquet or NAME.npy)', file=out)
    if out.is_dir() or (out.exists() and not overwrite):
        raise input_error("it is there already", file=out, advice="--overwrite replaces it, --out names another.")


def _write_matrix(out: Path, chunks: Iterable[Float[Tensor, "C E"]]) -> None:
    """Rows as one .npy file."""
    matrix = np.concatenate([chunk.numpy() for chunk in chunks])
    with atomic_file(out) as temporary, temporary.open("wb") as file:
        np.save(file, matrix, allow_pickle=False)


def _lists(vectors: Float[Tensor, "C E"]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.contiguous().numpy().ravel()), vectors.shape[1])
