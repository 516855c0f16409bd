"""The canonical frame of a log: its columns, and the checks that every row must pass.

One row per shown or used item. Required: user_id, item_id (text), timestamp (µs since 1970, UTC), reward. Optional:
event_id (whole number or text), session_id, position (0 or 1 = top), propensity or logp, policy_id, cost, used,
used_time (µs), use_reward, and any number of context_… columns.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slatewise.data.reading.faults import Fault
from slatewise.data.reading.name_forms import texts
from slatewise.errors import input_error
from slatewise.names import BLANK, CONTROL, LONGEST_NAME

DTYPES: dict[str, pl.DataType] = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "timestamp": pl.Int64(),
    "reward": pl.Float32(),
    "session_id": pl.String(),
    "position": pl.Int64(),
    "propensity": pl.Float64(),
    "logp": pl.Float64(),
    "policy_id": pl.String(),
    "cost": pl.Float32(),
    "used": pl.Boolean(),
    "used_time": pl.Int64(),
    "use_reward": pl.Float32(),
}
NEEDED = ("user_id", "item_id", "timestamp", "reward")
_NAMES = ("user_id", "item_id", "event_id", "session_id", "policy_id")
_NEEDED_NAMES = {"user_id": "a user", "item_id": "an item"}
CONTEXT = "context_"
LAST_MOMENT = 253_402_300_799_999_999
"""The end of the year 9999 in microseconds: nanoseconds taken for microseconds lie beyond it."""


def canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """The canonical columns of a frame, cast to their types; other columns are an error.

    Raises:
        InputError: a required column is missing, a name is unknown, or a column cannot be cast.
    """
    for name in NEEDED:
        if name not in frame.columns:
            raise input_error(f'the log has no column "{name}"; it has: {", ".join(frame.columns)}')
    columns = []
    for name in frame.columns:
        dtype = DTYPES.get(name)
        if name == "event_id":
            dtype = pl.Int64() if frame[name].dtype.is_integer() else pl.String()
        elif name.startswith(CONTEXT):
            dtype = pl.Float32()
        elif dtype is None:
            raise input_error(
                f'"{name}" is not a column of the log schema: {", ".join([*DTYPES, "event_id", CONTEXT + "…"])}'
            )
        try:
            if dtype == pl.String() and frame[name].dtype != pl.String:
                columns.append(_names(frame[name]))
            else:
                columns.append(frame[name].cast(dtype))
        except pl.exceptions.PolarsError as error:
            raise input_error(f"{frame[name].dtype} cannot become {dtype}: {error}", column=name) from error
    return pl.DataFrame(columns)


def _names(values: pl.Series) -> pl.Series:
    """Numbers as names, whole floats without their fraction.

    Raises:
        InputError: a value that is no name.
    """
    names = texts(values)
    bad = names.is_null() & values.is_not_null()
    if bad.any():
        raise input_error(f"{values.dtype} {values.filter(bad)[0]} is not a name", column=values.name)
    return names


def check_rows(frame: pl.DataFrame) -> list[Fault]:
    """Faults of single rows of a canonical frame, in the order of the checks."""
    faults = [
        *_texts(frame),
        _fault(
            frame["timestamp"].is_null() | ~frame["timestamp"].is_between(0, LAST_MOMENT).fill_null(value=False),
            check="timestamp is a time",
            column="timestamp",
            what="is not a usable time (expected microseconds between 1970 and 9999)",
        ),
        _number(frame, "reward", "reward"),
    ]
    if "cost" in frame.columns:
        faults.append(_number(frame, "cost", "cost"))
    faults += [_number(frame, name, name) for name in frame.columns if name.startswith(CONTEXT)]
    return faults + _use_faults(frame) + _optional_faults(frame)


def _optional_faults(frame: pl.DataFrame) -> list[Fault]:
    """Faults of the columns that a log may have."""
    faults = []
    if "event_id" in frame.columns:
        ids = frame["event_id"]
        empty = (
            ids.is_null() | (ids.str.strip_chars() == "").fill_null(value=True)
            if ids.dtype == pl.String
            else ids.is_null()
        )
        faults.append(
            _fault(
                empty,
                check="event_id is not empty",
                column="event_id",
                what="is not an event (expected a name or a number)",
            )
        )
    if "position" in frame.columns:
        faults.append(
            _fault(
                frame["position"].is_null() | (frame["position"] < 0).fill_null(value=True),
                check="position is 0 or more",
                column="position",
                what="is not a position (expected a whole number, 0 or more)",
            )
        )
    if "propensity" in frame.columns:
        p = frame["propensity"]
        faults.append(
            _fault(
                p.is_not_null() & ~((p > 0) & (p <= 1) & p.is_not_nan()),
                check="propensity lies in (0, 1]",
                column="propensity",
                what="is not a propensity (expected the probability of showing the item, above 0 and at most 1)",
                advice="Leave the cell empty where the propensity is not known.",
            )
        )
    if "logp" in frame.columns:
        logp = frame["logp"]
        faults.append(
            _fault(
                logp.is_not_null() & ~((logp <= 0) & logp.is_finite()),
                check="logp is the log of a probability",
                column="logp",
                what="is not a log-propensity (expected a finite number, at most 0)",
                advice="Leave the cell empty where the propensity is not known.",
            )
        )
    return faults


def _use_faults(frame: pl.DataFrame) -> list[Fault]:
    faults = []
    if "used_time" in frame.columns:
        faults.append(
            _fault(
                (frame["used_time"] < frame["timestamp"]).fill_null(value=False),
                check="a use is not before what was shown",
                column="used_time",
                what="is before the timestamp of its row (expected that time or a later one)",
                advice="Leave the cell empty where the item was used when it was shown.",
            )
        )
    if "use_reward" in frame.columns:
        faults.append(
            _fault(
                frame["use_reward"].is_not_null() & ~frame["use_reward"].is_finite().fill_null(value=True),
                check="use_reward is a finite number",
                column="use_reward",
                what="is no finite number (expected a number such as 1 or 0.5)",
                advice="Leave the cell empty where the use was worth the reward.",
            )
        )
    return faults


def check_events(frame: pl.DataFrame) -> list[Fault]:
    """Faults between the rows of an event of a canonical frame: one user, every position once."""
    if "event_id" not in frame.columns:
        return []
    users = frame.select((pl.col("user_id") != pl.col("user_id").first().over("event_id")).alias("bad"))["bad"]
    faults = [
        _fault(
            users,
            check="an event has one user",
            column="event_id",
            what="has rows of different users (expected one user per event)",
            advice="If the column holds the type of an outcome (view, click), use --column outcome=NAME.",
        )
    ]
    if "position" in frame.columns:
        faults.append(
            _fault(
                ~frame.select(pl.struct("event_id", "position").is_first_distinct().alias("first"))["first"],
                check="a position occurs once in an event",
                column="position",
                what="occurs twice in one event (expected every position once)",
                advice="Remove the repeated row.",
            )
        )
    return faults


def _texts(frame: pl.DataFrame) -> list[Fault]:
    """Faults of names, by the rule of `slatewise.names`."""
    faults = []
    for name in _NAMES:
        if name not in frame.columns or frame[name].dtype != pl.String:
            continue
        values = frame[name]
        # one pass in the common case, where every name can be used
        if not values.str.contains(f"{BLANK}|{CONTROL}").any():
            blank = control = pl.repeat(value=False, n=len(values), eager=True)
        else:
            blank, control = values.str.contains(BLANK), values.str.contains(CONTROL)
        if name in _NEEDED_NAMES:
            faults.append(
                _fault(
                    values.is_null() | blank.fill_null(value=True),
                    check=f"{name} is not empty",
                    column=name,
                    what=f"is not {_NEEDED_NAMES[name]} (expected a name or a number)",
                    advice="Fill the cell or remove the row.",
                )
            )
        faults += [
            _fault(
                control.fill_null(value=False),
                check=f"{name} has no control character",
                column=name,
                what="has a control character (expected a name on one line)",
                advice="In CSV, a quote may not be closed.",
            ),
            _fault(
                (values.str.len_bytes() > LONGEST_NAME).fill_null(value=False),
                check=f"{name} has at most {LONGEST_NAME:,} bytes",
                column=name,
                what=f"is too long (expected at most {LONGEST_NAME:,} bytes of UTF-8)",
                advice="Shorten the name, or name another column.",
            ),
        ]
    return faults


def _number(frame: pl.DataFrame, name: str, thing: str) -> Fault:
    return _fault(
        ~frame[name].is_finite().fill_null(value=False),
        check=f"{thing} is a finite number",
        column=name,
        what="is not a finite number (expected a number such as 1 or 0.5)",
        advice="Correct the cell or remove the row.",
    )


def _fault(bad: pl.Series, *, check: str, column: str, what: str, advice: str = "") -> Fault:
    rows: NDArray[np.int64] = bad.arg_true().to_numpy().astype(np.int64)
    return Fault(check=check, column=column, rows=rows, what=what, advice=advice)
