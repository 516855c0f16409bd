"""The k-core of a log of uses: its users and items with at least k events each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class Core:
    """The rows of a k-core, and what was set aside."""

    keep: Bool[np.ndarray, "R"]
    """Rows of the core."""
    set_aside: dict[str, int]
    """Reason → rows."""
    users: int
    """Users set aside."""
    items: int
    """Items set aside."""
    rounds: int
    """Passes over the log until nothing changed."""


def k_core(user_id: pl.Series, item_id: pl.Series, k: int) -> Core:
    """Set users with fewer than k rows aside, then items with fewer than k of the rows that are left, until none is.

    Args:
        user_id: of each row.
        item_id: of each row.
        k: rows that every user and every item of the core has, ≥ 1.
    """
    codes = {"users": _codes(user_id), "items": _codes(item_id)}
    keep = np.ones(len(user_id), np.bool_)
    set_aside = dict.fromkeys(codes, 0)
    rounds = 0
    while True:
        rounds += 1
        num_rows = int(keep.sum())
        for thing, code in codes.items():
            enough = np.bincount(code[keep], minlength=int(code.max(initial=-1)) + 1) >= k
            rest = keep & enough[code]
            set_aside[thing] += int(keep.sum()) - int(rest.sum())
            keep = rest
        if int(keep.sum()) == num_rows:
            break
    users, items = (len(np.unique(code)) - len(np.unique(code[keep])) for code in codes.values())
    return Core(
        keep=keep,
        set_aside={f"{thing} with fewer than {k:,} events": count for thing, count in set_aside.items() if count},
        users=users,
        items=items,
        rounds=rounds,
    )


def _codes(names: pl.Series) -> Int[np.ndarray, "R"]:
    encoded = names.rechunk().to_arrow().dictionary_encode()
    return np.asarray(encoded.indices, np.int64)
