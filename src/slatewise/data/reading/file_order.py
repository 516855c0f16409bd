"""Whether the rows of a log without a clock are sorted by item or reward: then their order is not that of time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Int

SORTED_FROM = 5
"""Rows of a user from which on their order is looked at: by chance, fewer are often sorted."""


def order_notes(user: Int[np.ndarray, "R"], values: Mapping[str, np.ndarray]) -> list[str]:
    """A sentence for each value by which the rows of most users are sorted.

    Args:
        user: number of the user of each row; those of a user stand together, in the order of the file.
        values: what they may be sorted by → its value in each row.
    """
    shares = {quantity: sorted_share(user, value) for quantity, value in values.items()}
    return [
        f"The rows of {share:.0%} of the users are sorted by {quantity}: the order of the file is not that of time. "
        'Use [data] split = "random".'
        for quantity, share in shares.items()
        if share > 0.5
    ]


def sorted_share(user: Int[np.ndarray, "R"], value: np.ndarray) -> float:
    """Share of users with SORTED_FROM rows or more whose values only ascend or only descend; NaN for no such user.

    Users whose values are all equal do not count: they are in no order.
    """
    same = user[1:] == user[:-1]
    step = np.diff(value)
    num_users = int(user[-1]) + 1
    ascends, descends = (np.bincount(user[1:][same & sign], minlength=num_users) > 0 for sign in (step > 0, step < 0))
    counts: Bool[np.ndarray, "U"] = (np.bincount(user, minlength=num_users) >= SORTED_FROM) & (ascends | descends)
    return float(np.mean(ascends[counts] != descends[counts])) if counts.any() else float("nan")


def item_ranks(names: pa.StringArray) -> Int[np.ndarray, "N"]:
    """The rank of each name: by its number where all names are whole numbers, else as text."""
    series = pl.Series(values=pl.from_arrow(names), dtype=pl.String)
    numbers = series.cast(pl.Int64, strict=False)
    return (series if numbers.null_count() else numbers).rank("dense").to_numpy().astype(np.int64)
