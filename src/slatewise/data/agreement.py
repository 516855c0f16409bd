"""Whether two logs can be one data set, by the columns that each has."""

from __future__ import annotations

from collections.abc import Sequence

from slatewise.data.prepared import Dataset
from slatewise.errors import InputError, input_error

_EVENTS = "decisions and outcomes"
_UNKNOWN = {
    "propensity": "propensities are not known there",
    "session_id": "sessions are not known there",
    "policy_id": "policies are not known there",
    "cost": "costs are 0 there",
}
"""Columns that a log may lack beside one that has them, and what that means."""


def label(dataset: Dataset) -> str:
    """The names of the files that a data set was imported from; its own name where it does not say."""
    files = dataset.manifest.source.get("files")
    return ", ".join(map(str, files)) if isinstance(files, list | tuple) and files else dataset.name


def check_agreement(first: Dataset, second: Dataset) -> tuple[str, ...]:
    """Refuse logs that are no single data set, and note what only one of them says.

    Raises:
        InputError: one has times, rewards or contexts that the other does not have, or only one is simulated.
    """
    if first.clock != second.clock:
        with_times, without = (first, second) if first.clock else (second, first)
        raise without_times(label(without), with_times)
    if first.simulated != second.simulated:
        simulated, observed = (first, second) if first.simulated else (second, first)
        raise input_error(
            f"{label(simulated)} is simulated, {label(observed)} is not",
            advice="Nothing was imported. Import them as two data sets; --simulated says it of a log.",
        )
    if first.manifest.context != second.manifest.context:
        names = [", ".join(data.manifest.context) or "none" for data in (first, second)]
        raise input_error(
            f"different columns of context: {label(first)} has {names[0]}, {label(second)} has {names[1]}",
            advice="Nothing was imported. Say which column it is, --column context_NAME=COLUMN, or import them as two "
            "data sets.",
        )
    if _has_rewards(first) != _has_rewards(second):
        without, other = (first, second) if _has_rewards(second) else (second, first)
        # without a reward every row counts 1
        if (other.interactions.reward != 1).any():
            raise _lacks("rewards", label(without), other, column="reward", names=[*_columns(without).values()])
    return tuple(_notes(first, second))


def without_times(file: str, other: Dataset, names: Sequence[str] = ()) -> InputError:
    """The error about a log without times.

    Args:
        file: its name.
        other: a log with times.
        names: columns of the file.
    """
    return _lacks("times", file, other, column="timestamp", names=names)


def _lacks(what: str, file: str, other: Dataset, *, column: str, names: Sequence[str] = ()) -> InputError:
    """The error about a column that one of two logs has.

    Args:
        what: the column holds.
        file: the log that lacks it.
        other: the one that has it.
        column: canonical name.
        names: columns of the file.
    """
    name = _columns(other).get(column, column)
    listed = f"; its columns are {', '.join(names[:12])}{', …' if len(names) > 12 else ''}" if names else ""
    both = ", or import both with --no-time" if column == "timestamp" else ""
    return input_error(
        f'{label(other)} has {what} (column "{name}"), {file} has none{listed}',
        advice=f"Nothing was imported. Say which column it is, --column {column}=NAME{both}; or import {file} as a "
        "data set of its own.",
    )


def _columns(dataset: Dataset) -> dict[str, str]:
    """Canonical column → column of the file; empty where the data set does not say."""
    columns = dataset.manifest.source.get("columns")
    return {str(key): str(value) for key, value in columns.items()} if isinstance(columns, dict) else {}


def _has_rewards(dataset: Dataset) -> bool:
    columns = _columns(dataset)
    return not columns or bool({"reward", "outcome"} & columns.keys())


def _notes(first: Dataset, second: Dataset) -> list[str]:
    notes = []
    for having, lacking in ((first, second), (second, first)):
        columns, others = _columns(having), _columns(lacking)
        formats = {data.manifest.source.get("format") for data in (having, lacking)}
        if not columns or not others or _EVENTS in formats:
            continue
        notes += [
            f'{label(lacking)} has no column for "{column}", as {label(having)} has: {meaning}.'
            for column, meaning in _UNKNOWN.items()
            if _has(columns, column) and not _has(others, column)
        ]
    if first.kind != second.kind:
        slates, uses = (first, second) if first.kind == "impressions" else (second, first)
        zeros = int((uses.interactions.reward <= 0).sum())
        notes.append(
            f"{label(slates)} holds shown items, used or not, {label(uses)} only used ones: every row of the latter is "
            "a use" + (f", also the {zeros:,} with a reward of 0 or less (--kind impressions)." if zeros else ".")
        )
    return notes


def _has(columns: dict[str, str], column: str) -> bool:
    return column in columns or (column == "propensity" and "logp" in columns)
