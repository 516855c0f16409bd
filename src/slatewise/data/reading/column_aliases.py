"""Aliases of column names in common logs, and the canonical column that each stands for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slatewise.data.reading.checks import CONTEXT
from slatewise.errors import InputError, input_error

RECBOLE_TYPES = ("token", "token_seq", "float", "float_seq")

# of two columns with the same meaning, the alias that comes first is used
ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": ("user_id", "user", "userid", "uid", "visitor_id", "visitorid", "customer_id", "reviewer_id"),
    "item_id": (
        *("item_id", "item", "itemid", "iid", "movie_id", "movieid", "product_id", "video_id", "article_id"),
        *("news_id", "track_id", "song_id", "book_id", "business_id", "parent_asin", "asin"),
    ),
    "timestamp": ("timestamp", "time", "ts", "datetime", "date", "unix_time", "time_ms", "created_at"),
    "reward": ("reward", "rating", "stars", "label", "click", "clicked", "is_click", "weight"),
    "event_id": ("event_id", "event", "impression_id", "request_id", "slate_id"),
    "session_id": ("session_id", "session", "sessionid", "sid"),
    "position": ("position", "rank", "slot"),
    "propensity": ("propensity", "propensity_score", "pscore"),
    "logp": ("logp", "log_prob", "log_propensity"),
    "policy_id": ("policy_id", "policy", "policy_version"),
    "cost": ("cost",),
    "used": ("used", "chosen", "picked"),
    "used_time": ("used_time",),
    "use_reward": ("use_reward",),
    "outcome": ("outcome", "outcome_type", "event_type", "behavior_type", "behaviour_type", "behavior", "action"),
    "text": ("text", "title", "movie_title", "item_name", "product_name", "name", "headline"),
    "labels": ("labels", "genres", "genre", "class", "categories", "category", "group", "topic"),
}
LOG = (*ALIASES,)[:-2]
"""Canonical columns that a log can have; the last two belong to an item table."""
NUMERIC = ("year", "release_year", "price", "duration", "runtime", "length", "popularity")
"""Names of columns of an item table that hold numbers."""
CLICKS = ("label", "click", "clicked", "is_click")
"""A reward column of this name with values 0 and 1 marks impressions: items shown, and used or not."""
_CANONICAL = {alias: canonical for canonical, aliases in ALIASES.items() for alias in aliases}


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """The file's column for each canonical column."""

    columns: dict[str, str]
    """Canonical name → name in the file."""
    doubles: dict[str, str]
    """Name in the file → canonical column for which another name was preferred."""

    @property
    def context(self) -> list[str]:
        """Canonical names of the context columns."""
        return [name for name in self.columns if name.startswith(CONTEXT)]


def plain(name: str) -> str:
    """A column's name in lower case with underscores, without a RecBole type: "movieId" and "Movie ID" agree."""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", recbole(name)[0].strip())
    return re.sub(r"[\s.\-]+", "_", name).lower()


def recbole(name: str) -> tuple[str, str | None]:
    """A RecBole header's name and type: "rating:float" → ("rating", "float"); type None where it has none."""
    head, colon, kind = name.strip().rpartition(":")
    return (head, kind) if colon and kind in RECBOLE_TYPES else (name.strip(), None)


def is_feature(name: str) -> bool:
    """Whether a column of an item table holds a number that describes the item, by its name or its RecBole type."""
    return recbole(name)[1] == "float" or "feature" in plain(name) or plain(name) in NUMERIC


def name_columns(names: Sequence[str], assigned: Mapping[str, str] | None = None) -> ColumnNames:
    """Match the column names of a file to canonical columns.

    Args:
        names: as in the file.
        assigned: canonical name → name in the file, where the user specified it; where the file has no such column, it
            is matched as any other.
    """
    columns = {canonical: name for canonical, name in (assigned or {}).items() if name in names}
    is_assigned = {*columns}
    best: dict[str, tuple[int, str]] = {}
    doubles: dict[str, str] = {}
    for name in names:
        alias = plain(name)
        canonical = _CANONICAL.get(alias)
        if canonical is None:
            if alias.startswith(CONTEXT):
                columns.setdefault(alias, name)
            continue
        if canonical in is_assigned:
            continue
        rank = ALIASES[canonical].index(alias)
        if canonical not in best:
            best[canonical] = (rank, name)
            continue
        worse = max(best[canonical], (rank, name))
        best[canonical] = min(best[canonical], (rank, name))
        doubles[worse[1]] = canonical
    columns |= {canonical: name for canonical, (_, name) in best.items()}
    return ColumnNames(columns=columns, doubles=doubles)


def item_columns(names: Sequence[str], assigned: Mapping[str, str] | None = None) -> dict[str, str]:
    """Canonical name → column of an item table; a name assigned to the log's column counts where the table has it."""
    return name_columns(names, assigned).columns


def missing(canonical: str, names: Sequence[str], *, file: object, row: int | None = 1) -> InputError:
    """The error about a column that a log lacks, suggesting the most similar of its columns.

    Args:
        canonical: name of the missing column.
        names: columns of the file.
        file: path of the file.
        row: line of the header; None where there are no lines.
    """
    free = [name for name in names if plain(name) not in _CANONICAL]
    near = difflib.get_close_matches(canonical, [plain(name) for name in free], n=1)
    candidate = next((name for name in free if near and plain(name) == near[0]), "NAME")
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    advice = f"Nothing was imported. Say which column it is: --column {canonical}={candidate}"
    if canonical == "timestamp":
        advice += ", or use the order of the rows as time: --no-time"
    return input_error(
        f"no such column; the file has: {shown[:300]}",
        file=str(file),
        row=row,
        column=canonical,
        advice=advice + ".",
    )
