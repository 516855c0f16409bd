"""Settings of a run chosen by the kind of its log, each with its reason: `slatewise train --data DIR`.

The values stand in configs/by_log: `every.toml` for all methods, and a file for each method, whose tables are named for
traits of a log (`LogKind.traits`). A table holds settings as a configuration file does, their reasons in `why`, and in
`refuse` why the method cannot learn from such a log. Later traits override earlier ones, and the method's file
overrides `every.toml`. What follows from a number of the log (thresholds, sizes of batches and lists) is computed
below.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from slatewise.config import find, override, read_toml, sections
from slatewise.config.run import RunConfig
from slatewise.data import prepared
from slatewise.data.log_kind import LogKind, kind_of
from slatewise.errors import input_error

DEFAULT_METHOD = "reinforce"
BATCHES = 32
"""Batches of an epoch that are aimed at; fewer updates than that learn little before patience ends."""
FEWEST_WINDOWS, MOST_WINDOWS = 4, 128
FEW_USERS, MANY_USES = 500, 20
"""With fewer users, each of at least so many uses, more than one event of each validates."""

Tables = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A configuration chosen for a log, and why."""

    kind: LogKind
    config: RunConfig
    reasons: Mapping[str, str]
    """Path of a setting, such as "method.correction" → why it has its value."""

    def text(self) -> str:
        """The kind of the log, and every chosen setting with its reason, one a line."""
        tables = self.config.to_tables()
        lines = {f"{path} = {json.dumps(_value(tables, path))}": why for path, why in self.reasons.items()}
        width = min(max(map(len, lines), default=0), 40)
        return "\n".join(
            [
                f"Log: {self.kind.sentence()}.",
                "Settings chosen for it (--set changes one, a CONFIG all):",
                *(f"  {line:{width}}  {why}" for line, why in lines.items()),
            ]
        )


def choose(data: Path, method: str | None = None, assignments: Iterable[str] = ()) -> Choice:
    """Choose the settings of a run by the kind of its log.

    Args:
        data: folder of a prepared data set.
        method: file name in methods/ or a dotted path; None = REINFORCE.
        assignments: `a.b=value`; they override what is chosen.

    Raises:
        InputError: no data set there, a method that cannot learn from such a log, or a value that is refused.
    """
    return choose_for_kind(kind_of(prepared.load(data)), data, method, assignments)


def choose_for_kind(kind: LogKind, data: Path, method: str | None = None, assignments: Iterable[str] = ()) -> Choice:
    """Choose the settings of a run for a kind of log; see `choose`.

    Args:
        kind: of the log.
        data: folder of the data set, which is not opened.
        method: file name in methods/ or a dotted path; None = REINFORCE.
        assignments: `a.b=value`; they override what is chosen.

    Raises:
        InputError: a method that cannot learn from such a log, or a value that is refused.
    """
    name, assigned = method or DEFAULT_METHOD, tuple(assignments)
    module = find("methods", name)
    reasons: dict[str, str] = {}
    tables: Tables = {
        "data": {"path": str(data)},
        "method": {"name": name},
        "encoder": {"name": module.DEFAULT_ENCODER},
    }
    for layer in _layers(name, kind):
        if "refuse" in layer:
            raise input_error(f"{name} cannot learn from this log: {kind.sentence()}", advice=layer["refuse"])
        tables = _merge(tables, {key: value for key, value in layer.items() if key != "why"})
        reasons |= {path: why.format(kind=kind) for path, why in layer.get("why", {}).items()}
    tables = _merge(tables, override({}, assigned))
    tables["encoder"] = _known_settings(tables["encoder"])
    for path, value, why in _derive(kind, tables):
        tables = _merge(tables, override({}, [f"{path}={value}"]))
        reasons[path] = why
    reasons |= {assignment.partition("=")[0].strip(): "set with --set" for assignment in assigned}
    config = RunConfig.from_tables(tables, assigned, where=f"the settings chosen for {data}")
    return Choice(kind=kind, config=config, reasons=_in_order(config, reasons))


def _layers(name: str, kind: LogKind) -> Iterator[Tables]:
    """The tables that hold for a log, those of all methods first; a later one overrides an earlier one."""
    folder = resources.files("slatewise") / "configs" / "by_log"
    for file in ("every", name):
        path = Path(str(folder / f"{file}.toml"))
        if path.is_file():
            tables: Tables = sections(read_toml(path), where=path.name)
            yield from (tables[trait] for trait in kind.traits if trait in tables)


def _derive(kind: LogKind, tables: Tables) -> Iterator[tuple[str, str, str]]:
    """Settings that follow from a number of the log: path, value as TOML, reason."""
    if "split" not in tables["data"]:
        yield "data.split", *_split(kind)
    lists = tables.get("evaluate", {}).get("k", [10])
    if max(lists) > kind.items:
        lists = [kind.items]
        yield "evaluate.k", str(lists), f"the catalog has {kind.items} items"
    keys = {field.name: field.default for field in fields(find("methods", tables["method"]["name"]).Config)}
    metric = tables.get("train", {}).get("select", "ndcg")
    if kind.liked_at_least is not None:
        liked = f"{kind.liked_at_least:g}"
        yield "evaluate.liked_at_least", liked, _liked_reason(kind)
        if "reward_at_least" in keys:
            yield "method.reward_at_least", liked, "reward 1 for what users liked, 0 for the rest"
            metric = f"liked_{metric}" if metric == "ndcg" else metric
    if metric in ("ndcg", "liked_ndcg"):
        of = "liked items, which the method learns from" if metric == "liked_ndcg" else "the next items"
        yield "train.select", f"{metric}@{max(lists)}", f"validation measures how high {of} stand"
    reads_size = tables["method"].get("correction", "top_k") == "top_k"  # REINFORCE has other corrections as well
    if reads_size and keys.get("slate_size") is not None:  # None is filled in from the log
        size = max(min(max(lists), kind.items), kind.slate_size)
        yield "method.slate_size", str(size), "the length of the lists, and of the longest slate of the log"
    windows = min(max(kind.users // BATCHES, FEWEST_WINDOWS), MOST_WINDOWS)
    yield (
        "train.batch_size",
        str(windows),
        f"about {-(-kind.users // windows)} updates an epoch with {kind.users:,} users",
    )


def _split(kind: LogKind) -> tuple[str, str]:
    if not kind.clock:
        return "random", "without a clock, the last event is only the last line of a file"
    if kind.feedback in ("slates", "single_items"):
        return "first_share", "each user's last 20 % test, because nothing may have been used of the very last slate"
    if kind.users < FEW_USERS and kind.uses >= MANY_USES * kind.users:
        return "first_share", f"each user's last 20 % test: one event of each of {kind.users} users would say little"
    return "leave_one_out", "each user's last event tests, the one before it validates"


def _liked_reason(kind: LogKind) -> str:
    if kind.feedback == "amounts":
        return "the median: amounts have no scale, so their upper half is what users liked"
    return f"the top quarter of the scale from {kind.lowest:g} to {kind.highest:g}"


def _known_settings(table: Tables) -> Tables:
    """A table of an encoder without what was chosen for another one."""
    keys = {"name", *(field.name for field in fields(find("encoders", table["name"]).Config))}
    return {key: value for key, value in table.items() if key in keys}


def _merge(tables: Tables, values: Mapping[str, Any]) -> Tables:
    """Tables with the values of others put in."""
    merged = dict(tables)
    for key, value in values.items():
        earlier = merged.get(key)
        merged[key] = _merge(earlier, value) if isinstance(value, dict) and isinstance(earlier, dict) else value
    return merged


def _value(tables: Tables, path: str) -> Any:
    """The value at a path; None where the configuration leaves it open."""
    value: Any = tables
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _paths(tables: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The path of every setting, as it is written: the tables inside a table come last."""
    for key, value in sorted(tables.items(), key=lambda item: bool(prefix) and isinstance(item[1], dict)):
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _in_order(config: RunConfig, reasons: Mapping[str, str]) -> dict[str, str]:
    """The reasons in the order in which the configuration is written, without those of what it does not have."""
    return {path: reasons[path] for path in _paths(config.to_tables()) if path in reasons}
