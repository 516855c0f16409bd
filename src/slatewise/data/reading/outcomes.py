"""Rewards from types of outcomes (click, like, purchase), and merging of several outcomes of one shown item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int

from slatewise.data.reading.column_aliases import missing
from slatewise.data.reading.faults import Fault
from slatewise.errors import input_error


def weigh(
    frame: pl.DataFrame, outcomes: Mapping[str, float], *, names: Mapping[str, str], file: Path
) -> tuple[pl.DataFrame, list[Fault], list[str]]:
    """Assign a reward to every row: that of the log, that of the outcome's type (times that of the log), or 1.

    Args:
        frame: canonical columns, possibly with `outcome`; an empty outcome has reward 0.
        outcomes: type → reward per unit; empty where the user gave none.
        names: canonical column → name in the file.
        file: for messages.

    Returns:
        The frame, faults of types without a reward, and notes on what was decided.

    Raises:
        InputError: impressions without a reward column, or several types without rewards.
    """
    if "outcome" not in frame.columns:
        if "reward" in frame.columns:
            return frame, [], []
        if {"propensity", "logp", "position"} & set(frame.columns):
            raise missing("reward", list(names.values()), file=file)
        return frame.with_columns(reward=pl.lit(1.0)), [], ["There is no reward: every row counts 1."]
    outcome = frame["outcome"].replace("", None)
    types = sorted(outcome.drop_nulls().unique().to_list())
    if not outcomes and "reward" in frame.columns:
        note = f'column "{names["outcome"]}" was not used: there is a reward (--outcome TYPE=REWARD weighs it).'
        return frame.drop("outcome"), [], [note]
    if not outcomes and len(types) > 1:
        example = " ".join(f"--outcome {name}=…" for name in types[:6])
        raise input_error(
            f"outcomes of {len(types)} types and no rewards: {', '.join(types[:12])}",
            file=file,
            column=names["outcome"],
            advice=f"Nothing was imported. Give each a reward: {example}",
        )
    table = dict(outcomes) or dict.fromkeys(types, 1.0)
    weight = outcome.replace_strict(table, default=None, return_dtype=pl.Float64)
    fault = Fault(
        check="every outcome has a reward",
        column="outcome",
        rows=(outcome.is_not_null() & weight.is_null()).arg_true().to_numpy().astype(np.int64),
        what=f"is an outcome without a reward (expected {', '.join(table)})",
        advice="Give it a reward: --outcome TYPE=REWARD.",
    )
    weight = weight.fill_null(0.0)
    reward = weight * frame["reward"] if "reward" in frame.columns else weight
    return frame.with_columns(reward=reward), [fault], []


def merge(frame: pl.DataFrame) -> tuple[pl.DataFrame, Int[np.ndarray, "R"] | None]:
    """Merge rows that hold several outcomes of one shown item: rewards are added, repeated outcomes count once, and the
    earliest time is kept. The first outcome with a reward above 0 is the item's use, at its own time.

    Returns:
        The frame without `outcome`, and the first original row of each row (None: nothing was merged).
    """
    if "outcome" not in frame.columns or "event_id" not in frame.columns:
        return frame.drop("outcome", strict=False), None
    keys = [name for name in ("user_id", "event_id", "item_id", "position") if name in frame.columns]
    if not frame.select(keys).is_duplicated().any():
        return frame.drop("outcome"), None
    rows = frame.with_row_index("row").unique([*keys, "outcome"], keep="first", maintain_order=True)
    used = pl.col("used").fill_null(value=False) if "used" in frame.columns else pl.col("reward") > 0
    times = pl.col("timestamp").filter(used)
    aggregates = (
        pl.col("timestamp").min(),
        pl.col("reward").sum(),
        pl.col("row").first(),
        used.any().alias("used"),
        times.min().alias("used_time"),
        pl.col("reward").filter(used).sort_by(times, maintain_order=True).first().alias("use_reward"),
    )
    merged_columns = {*keys, "timestamp", "reward", "outcome", "used"}
    rest = [pl.col(name).first() for name in frame.columns if name not in merged_columns]
    merged = rows.group_by(keys, maintain_order=True).agg(*aggregates, *rest)
    return merged.drop("row"), merged["row"].to_numpy().astype(np.int64)
