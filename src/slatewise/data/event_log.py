"""Served slates and what came of them → rows of a log: decisions and outcomes joined by event_id.

Late outcomes and outcomes that arrive again are counted once, a decision without outcome is a row of reward 0, and
what cannot be joined is counted in a `Tally`, never lost in silence. Everything after the decoding is columns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from slatewise.data.catalogs import catalog_parts, every_item, recorded_items
from slatewise.data.conditions import Conditions
from slatewise.data.decisions_and_outcomes import LARGEST_REWARD
from slatewise.data.item_columns import ItemColumns
from slatewise.data.preparation import hash_names
from slatewise.data.segments import read_columns, segments
from slatewise.data.set_aside import SetAside, set_aside_rows
from slatewise.data.usable_decisions import usable_decisions
from slatewise.errors import input_error

_log = logging.getLogger(__name__)
_ORPHANS = "outcomes whose decision is not in the log, without a user and an item"
_STRANGERS = "outcomes of an item or position that is not in the slate of their decision"
_PAYS = pl.col("reward") > 0
_SUMS = (
    pl.col("reward").sum().cast(pl.Float32),
    _PAYS.any().alias("used"),
    pl.col("arrived").filter(_PAYS).first().alias("used_time"),
    pl.col("reward").filter(_PAYS).first().cast(pl.Float32).alias("use_reward"),
)
"""What the outcomes of one item come to, in the order of their arrival."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What the records of a log turned into, and what did not fit."""

    decisions: int
    outcomes: int
    repeated_decisions: int
    """The same record again, passed over."""
    repeated_outcomes: int
    """The same outcome again, passed over."""
    uses: int
    """Events made of outcomes that name a user and an item, but a decision that the log does not have."""
    orphans: SetAside
    """Outcomes of decisions that the log does not have, with no user and item to make an event of."""
    strangers: SetAside
    """Outcomes of an item or position that is not in the slate of their decision."""
    early: int
    """Uses that arrived before their slate was decided on: counted at the time of the decision."""
    torn: tuple[str, ...]
    """Files whose last line was cut short."""
    set_aside: tuple[SetAside, ...] = ()
    """Lines that hold no usable record, decisions that contradict others, and outcomes without a usable reward."""
    without_filter: int = 0
    """Decisions whose filter cannot be applied to the items of their catalog again: their conditions are not known."""
    catalogs_missing: tuple[str, ...] = ()
    """Files with the items of a catalog that do not lie beside the log."""

    def sentences(self) -> list[str]:
        """One line for each kind of record that was passed over; none for a clean log."""
        counts = {
            "repeated decisions, counted once": self.repeated_decisions,
            "repeated outcomes, counted once": self.repeated_outcomes,
            "events made of outcomes whose decision is not in the log (propensity unknown)": self.uses,
            "uses that came before their decision, counted at its time": self.early,
            "decisions whose filter cannot be applied again, the conditions of their slates are not known": (
                self.without_filter
            ),
        }
        counted = [f"{label}: {count:,}" for label, count in counts.items() if count]
        torn = [f"last line cut short by the end of its writer, left out: {file}" for file in self.torn]
        missing = [
            f"items of a catalog are not beside the log, only shown ones are known and every excluded name was taken "
            f"for an item: {file}"
            for file in self.catalogs_missing
        ]
        outcomes = [str(each) for each in (self.orphans, self.strangers) if each.count]
        return [*map(str, self.set_aside), *outcomes, *counted, *torn, *missing]


@dataclass(frozen=True, kw_only=True)
class Events:
    """The rows of a log, and what became of its records."""

    frame: pl.DataFrame
    """event_id, user_id, session_id, timestamp (µs), policy_id, position, item_id, logp, reward, used, used_time (µs),
    use_reward, context_…"""
    conditions: Conditions
    """Of the events, by event_id."""
    items: ItemColumns
    """All items that could be shown, as far as catalogs are recorded; each once."""
    tally: Tally


def read_events(path: Path, *, rewards: Mapping[str, float] | None = None) -> pl.DataFrame:
    """The rows of a log of decisions and outcomes, one row per shown item; what was passed over goes to `logging`.

    Args:
        path: folder of ``*.jsonl`` files, read in the order of their names, or one such file.
        rewards: type of outcome → reward of one unit of its value; without it an outcome's reward is its value.

    Raises:
        InputError: see `load_events`.
    """
    events = load_events(path, rewards=rewards)
    for sentence in events.tally.sentences():
        _log.warning("%s", sentence)
    return events.frame


def load_events(path: Path, *, rewards: Mapping[str, float] | None = None) -> Events:
    """The rows of a log of decisions and outcomes, and the tally of what was passed over.

    The reward of a row is the sum over its outcomes. Its first outcome with a reward above 0 is the use of the item, at
    the time of its arrival (`received`, or its timestamp where a record lacks that). Outcomes count once per outcome_id
    of an event, without one once per event, item and type; the one that arrived first stays.

    Args:
        path: folder of ``*.jsonl`` files, read in the order of their names, or one such file.
        rewards: type of outcome → reward of one unit of its value; without it an outcome's reward is its value.

    Raises:
        InputError: no files, more lines that are no records than records, no usable decision among some, or `rewards`
            that name no type of the outcomes.
    """
    columns = read_columns(segments(path))
    usable = usable_decisions(columns, path)
    decisions, rows = usable.decisions.drop("file", "line"), usable.rows
    outcomes, without_reward = _add_rewards(usable.outcomes, rewards, path, columns.files)

    numbers = decisions.select("event_id", "event")
    outcomes = outcomes.join(numbers, on="event_id", how="left", maintain_order="left")
    matched = outcomes.filter(pl.col("event").is_not_null())
    unmatched = outcomes.filter(pl.col("event").is_null())

    positioned = _match_positions(matched, rows)
    strangers = matched.join(positioned.select("order"), on="order", how="anti", maintain_order="left")
    lost = unmatched.filter(pl.col("user_id").is_null() | pl.col("item_id").is_null())
    counted = _once(positioned, ["event", "position"])
    whole = unmatched.filter(pl.col("user_id").is_not_null() & pl.col("item_id").is_not_null())
    outside = _once(whole, ["event_id", "user_id", "item_id"])
    shown, uses = _shown_items(decisions, rows, counted), _outside_slates(outside)
    early = pl.col("used_time") < pl.col("timestamp")
    catalogs, missing = recorded_items(columns.catalogs)
    conditions, without_filter = catalog_parts(columns.conditions.by_event_id(decisions), catalogs)
    if catalogs and not missing:
        conditions = _existing_items(conditions, [items.names for items in catalogs.values()], rows)
    return Events(
        frame=pl.concat([shown, uses], how="diagonal").with_columns(
            pl.col("^context_.*$").fill_null(0.0),
            pl.max_horizontal("used_time", pl.when("used").then("timestamp")).alias("used_time"),
        ),
        conditions=conditions,
        items=every_item(catalogs.values()),
        tally=Tally(
            decisions=len(decisions),
            outcomes=len(outcomes),
            repeated_decisions=usable.repeated,
            repeated_outcomes=len(positioned) - len(counted) + len(whole) - len(outside),
            uses=len(uses),
            orphans=set_aside_rows(lost, columns.files, _ORPHANS),
            strangers=set_aside_rows(strangers, columns.files, _STRANGERS),
            early=int(shown.select(early.sum()).item()),
            torn=tuple(str(file) for file in columns.torn),
            set_aside=(*columns.set_aside, *usable.set_aside, *without_reward),
            without_filter=without_filter,
            catalogs_missing=missing,
        ),
    )


def _existing_items(conditions: Conditions, catalogs: Sequence[pa.StringArray], rows: pl.DataFrame) -> Conditions:
    """Conditions without excluded names that no catalog of the log has.

    A service takes any name to exclude; not every name that a client sends is an item.
    """
    excluded = pl.col("role") == "exclude"
    shown = pl.concat([rows["item_id"], conditions.items.filter(~excluded)["item_id"]]).unique().to_arrow()
    existing = pa.concat_arrays([*catalogs, shown.cast(pa.string())])
    exists = pc.is_in(conditions.items["item_id"].rechunk().to_arrow().cast(pa.string()), value_set=existing)
    items = conditions.items.filter(~excluded | pl.Series(values=pl.from_arrow(exists)))
    return replace(conditions, items=items)


def _add_rewards(
    outcomes: pl.DataFrame, rewards: Mapping[str, float] | None, path: Path, files: Sequence[Path]
) -> tuple[pl.DataFrame, list[SetAside]]:
    """Outcomes in the order of arrival (ties: as logged), with their reward; those without a usable one are set aside.

    Raises:
        InputError: there are outcomes, and none is of a type that the table names.
    """
    arrived = pl.coalesce("received", "timestamp").alias("arrived")
    ordered = outcomes.with_row_index("order").with_columns(arrived).sort("arrived", maintain_order=True)
    set_aside: list[SetAside] = []
    if rewards is None:
        rewarded = ordered.with_columns(pl.col("value").alias("reward"))
    else:
        names = ", ".join(sorted(rewards)) or "none"
        types = pl.Series(list(rewards), dtype=pl.String).implode()
        strange = ordered.filter(~pl.col("type").is_in(types))
        if len(strange) and len(strange) == len(ordered):
            raise input_error(
                f'no reward for outcomes of type "{strange["type"][0]}" or any other of the log; '
                f"the table of rewards names {names}",
                file=path,
                advice="Nothing was imported. Name the types of the log: --outcome click=1.",
            )
        for kind, rows in strange.group_by("type", maintain_order=True):
            reason = f'outcomes of type "{kind[0]}", the table of rewards names {names}'
            set_aside.append(set_aside_rows(rows, files, reason))
        weight = pl.col("type").replace_strict(dict(rewards), default=None, return_dtype=pl.Float64)
        rewarded = ordered.join(strange.select("order"), on="order", how="anti", maintain_order="left")
        rewarded = rewarded.with_columns((pl.col("value") * weight).alias("reward"))
    usable = (pl.col("reward").abs() <= LARGEST_REWARD).fill_null(value=False)
    if len(large := rewarded.filter(~usable)):
        set_aside.append(set_aside_rows(large, files, f"outcomes with a reward beyond ±{LARGEST_REWARD:g}"))
    return rewarded.filter(usable), set_aside


def _match_positions(outcomes: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Outcomes with the position of their item; those whose item or position is not in the slate are dropped."""
    touched = rows.join(outcomes.select("event"), on="event", how="semi").select("event", "position", "item_id")
    by_position = outcomes.join(
        touched.rename({"item_id": "there"}), on=["event", "position"], how="left", maintain_order="left"
    )
    first = touched.group_by("event", "item_id").agg(pl.col("position").min().alias("found"))
    both = by_position.join(first, on=["event", "item_id"], how="left", maintain_order="left")
    named = pl.col("position").is_not_null()
    agrees = pl.col("there").is_not_null() & (pl.col("item_id").is_null() | (pl.col("item_id") == pl.col("there")))
    place = pl.when(named).then(pl.when(agrees).then("position")).otherwise("found")
    return both.with_columns(place.alias("position")).filter(pl.col("position").is_not_null()).drop("there", "found")


def _once(outcomes: pl.DataFrame, where: list[str]) -> pl.DataFrame:
    """The first of each outcome: known by its outcome_id, without one by where and of which type it is."""
    named = outcomes.filter(pl.col("outcome_id").is_not_null())
    plain = outcomes.filter(pl.col("outcome_id").is_null())
    return pl.concat(
        [
            named.unique(["event_id", "outcome_id"], keep="first", maintain_order=True),
            plain.unique([*where, "type"], keep="first", maintain_order=True),
        ]
    ).sort("arrived", "order")


def _shown_items(decisions: pl.DataFrame, rows: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """One row per shown item with its reward, and whether, when and how it was used."""
    place = ["event", "position"]
    reward = outcomes.group_by(place, maintain_order=True).agg(*_SUMS)
    return (
        rows.join(reward, on=place, how="left", maintain_order="left")
        .join(decisions.drop("size"), on="event", how="left", maintain_order="left")
        .drop("event")
        .rename({"policy_version": "policy_id"})
        .with_columns(
            pl.col("reward").fill_null(0.0),
            pl.col("used").fill_null(value=False),
        )
    )


def _outside_slates(outcomes: pl.DataFrame) -> pl.DataFrame:
    """One event per user and item of a decision that nobody has, when its first outcome arrived."""
    groups = outcomes.group_by("event_id", "user_id", "item_id", maintain_order=True)
    events = groups.agg(pl.col("arrived").first().alias("timestamp"), *_SUMS)
    # Several items under one name are several events: they were not shown together. The further ones are named by whole
    # numbers, so that a log whose events are all numbered keeps its numbers.
    further = events.filter(~pl.col("event_id").is_first_distinct())
    places = further.select(pl.concat_str(["event_id", "user_id", "item_id"], separator="\n")).to_series()
    numbers = pl.Series(hash_names(places.to_list()) if len(further) else [], dtype=pl.Int64).cast(pl.String)
    further = further.with_columns(numbers.alias("event_id"))
    events = pl.concat([events.filter(pl.col("event_id").is_first_distinct()), further])
    return events.with_columns(
        position=pl.lit(0, pl.Int64),
        logp=pl.lit(None, pl.Float64),
    )


__all__ = ["Events", "Tally", "load_events", "read_events"]
