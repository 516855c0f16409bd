"""The public log on the wire: decisions, outcomes and catalogs, one JSON object a line.

A *decision* is one slate that was served, with the log-propensity factor of every position and the conditions under
which it was drawn. An *outcome* is one thing that a user did with one item of it: a click, a rating, seconds watched;
event_id joins the two. A *catalog* says which items could be shown from its time on. Floats are written with as many
digits as it takes to read the same bits again.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from slatewise.names import LONGEST_NAME, InvalidNameError, are_names, name_fault

Microseconds = Annotated[int, Meta(ge=0, le=253_402_300_799_999_999)]
"""Since 1970, UTC. The limit is the year 9999: nanoseconds do not pass as microseconds."""
Name = Annotated[str, Meta(min_length=1)]
"""What else a name must be says `slatewise.names`."""
Value = Annotated[float, Meta(ge=-3.4e38, le=3.4e38)]


class LoggedExploration(msgspec.Struct, frozen=True, kw_only=True):
    """How the free positions of a slate were drawn; every value is written."""

    top_m: Annotated[int, Meta(ge=1, lt=1 << 31)]
    keep: Annotated[int, Meta(ge=0, lt=1 << 31)]
    temperature: Annotated[float, Meta(gt=0)]


class FixedItem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item that a position shows whatever the policy says."""

    position: Annotated[int, Meta(ge=0, le=1_000_000, description="0 = first.")]
    item_id: Annotated[str, Meta(min_length=1, max_length=LONGEST_NAME)]


class Decision(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record", tag="decision"):
    """One served slate, and the conditions under which it was drawn.

    The items that the user had used are not listed among the excluded ones: the log itself says what they were.

    Raises:
        ValueError: a name that cannot be used, lists of different lengths, a logp that is no log of a probability, a
            slate longer than k or without a fixed item, or conditions without k.
    """

    event_id: Name
    timestamp: Microseconds
    user_id: Name
    session_id: Name | None = None
    slate: Annotated[list[Name], Meta(min_length=1)]
    """Names of the items, best first."""
    logp: list[float] | None = None
    """Chain-rule factor of the served procedure per position, ≤ 0, as it was served; left out where nobody knows."""
    policy_version: Name | None = None
    explored: list[bool] | None = None
    """True where a position was drawn by chance, not taken as the best."""
    context: list[Value] | None = None
    """What was seen of the user before the slate; as many numbers in every decision of a log."""
    user_features: dict[Name, Value | Name] | None = None
    """What the request said of the user beside the table of users."""
    k: Annotated[int, Meta(ge=1, lt=1 << 31)] | None = None
    """Positions asked for; the slate is shorter where items ran out. Left out where the conditions are not known."""
    exploration: LoggedExploration | None = None
    """Left out where the best items were shown."""
    exclude: list[Name] | None = None
    """Items that the request or a rule excluded."""
    exclude_seen: bool = False
    """True where the items that the user had used before were excluded, too."""
    candidates: Annotated[list[Name], Meta(min_length=1)] | None = None
    """Items to choose from; left out for the whole catalog."""
    where: Annotated[str, Meta(min_length=1)] | None = None
    """Filter on the columns of the items of `catalog_version` that were to choose from; left out for all."""
    fixed: list[FixedItem] | None = None
    catalog_version: Name | None = None
    """Of the catalog in force."""

    def __post_init__(self) -> None:
        names = [self.event_id, self.user_id, *self.slate]
        names += [name for name in (self.session_id, self.policy_version, self.catalog_version) if name is not None]
        if self.exclude or self.candidates or self.fixed:
            names += [*(self.exclude or ()), *(self.candidates or ()), *(item.item_id for item in self.fixed or ())]
        check_names(self, names)
        for name, values in (("logp", self.logp), ("explored", self.explored)):
            if values is not None and len(values) != len(self.slate):
                raise ValueError(f"{name} has {len(values)} values for a slate of {len(self.slate)}")
        # the sum is finite only if every term is: one pass in C in place of a Python loop over the positions
        if self.logp is not None and not (math.isfinite(sum(self.logp)) and max(self.logp) <= 0):
            raise ValueError(f"logp is {self.logp}; expected finite numbers ≤ 0, the logs of probabilities")
        if self.k is not None:
            if len(self.slate) > self.k:
                raise ValueError(f"the slate has {len(self.slate)} items for k = {self.k}")
            at_fixed = {item.position: item.item_id for item in self.fixed or ()}
            if len(at_fixed) < len(self.fixed or ()):
                raise ValueError("fixed names a position twice")
            for position, name in at_fixed.items():
                if position >= len(self.slate) or self.slate[position] != name:
                    raise ValueError(f"fixed says that position {position} shows {name!r}; the slate does not")
        elif self.exploration or self.exclude or self.exclude_seen or self.candidates or self.where or self.fixed:
            raise ValueError("exploration, exclude, exclude_seen, candidates, where and fixed need k")


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record", tag="outcome"):
    """One thing that a user did with one item of a served slate, or (with user_id) with an item nobody recommended.

    Raises:
        ValueError: a name that cannot be used, or neither item_id nor position.
    """

    event_id: Name
    """Of the decision."""
    timestamp: Microseconds
    """When it happened, as the client says."""
    received: Microseconds | None = None
    """When it arrived, by the clock that also stamps decisions; later decisions have seen it."""
    item_id: Name | None = None
    position: Annotated[int, Meta(ge=0, lt=1 << 31)] | None = None
    """0 = first of the slate. Either this or item_id; both must agree."""
    type: Name
    """What it was: click, like, share, purchase, rating."""
    value: Value = 1.0
    """How much of it: stars, seconds, 1 for a click."""
    outcome_id: Name | None = None
    """Makes repeated deliveries of one outcome known as one."""
    user_id: Name | None = None

    def __post_init__(self) -> None:
        names = [self.event_id, self.type]
        names += [name for name in (self.item_id, self.outcome_id, self.user_id) if name is not None]
        check_names(self, names)
        if self.item_id is None and self.position is None:
            raise ValueError("an outcome needs item_id or position")


class CatalogRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="record", tag="catalog"):
    """From this time on slates are made of these items, until the next such record."""

    timestamp: Microseconds
    catalog_version: Name
    """Hash of the items' names and columns, and of the mask."""
    policy_version: Name | None = None
    items: Annotated[int, Meta(ge=0)]
    """How many there are."""
    masked: Annotated[int, Meta(ge=0)] = 0
    """How many of them may not be shown."""
    base: Name | None = None
    """Version of the same items without the mask, whose file holds them; left out where nothing is masked."""
    file: Annotated[str, Meta(pattern=r"^[^/\\]+$")]
    """Parquet beside the log, once for each version: item_id, and columns where there are any; of a version with a base
    item_id of the masked items."""

    def __post_init__(self) -> None:
        names = (self.catalog_version, self.policy_version, self.base)
        check_names(self, [name for name in names if name is not None])


Record = Decision | Outcome | CatalogRecord
CHANGED = "a checksum that does not match"
NOT_JSON = "not valid JSON"
NOT_A_RECORD = "not a decision, outcome or catalog"
UNUSABLE_NAME = "a name that cannot be used"
UNUSABLE_REWARD = "a reward that no state can hold"
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a line raises."""
LARGEST_REWARD = 1e30
"""Sums of rewards up to this size stay finite in float32."""


def check_names(record: msgspec.Struct, names: Sequence[str]) -> None:
    """Refuse a record with a name that no log may hold.

    Args:
        record: says in which field a name stands.
        names: all of its names.

    Raises:
        InvalidNameError: the first of them.
    """
    if are_names(names):
        return
    for field in record.__struct_fields__:
        value = getattr(record, field)
        for index, entry in enumerate(value if isinstance(value, list) else [value]):
            name = entry.item_id if isinstance(entry, FixedItem) else entry
            fault = name_fault(name) if isinstance(name, str) else None
            if fault is not None:
                raise InvalidNameError(f"{field}[{index}]" if isinstance(value, list) else field, fault)


_CHECKSUM = b',"crc32":"'
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def encode(records: Iterable[Record]) -> bytes:
    """Records as lines of JSON, each with a checksum and ended by a newline."""
    return b"".join(map(encode_line, records))


def encode_line(record: object) -> bytes:
    """A record as a line of JSON that ends with the CRC-32 of what stands before it.

    Readers that do not know the key `crc32` pass over it.
    """
    line = _encoder.encode(record)[:-1]
    return b'%b%b%08x"}\n' % (line, _CHECKSUM, zlib.crc32(line))


class LineError(ValueError):
    """A line of a log that cannot be used."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        """Of what kind it is; lines are counted by it."""
        self.what = what
        """What is wrong with this line."""
        super().__init__(f"{reason}: {what}")


def is_intact(line: bytes) -> bool:
    """False where the checksum of a line (without its newline) is not that of the rest; lines need not have one."""
    if line[-20:-10] != _CHECKSUM:
        return True
    return b"%08x" % zlib.crc32(line[:-20]) == line[-10:-2]


def check_intact(line: bytes) -> None:
    """Refuse a line that has changed since it was written.

    Raises:
        LineError: its checksum does not match.
    """
    if not is_intact(line.rstrip(b"\n")):
        raise LineError(CHANGED, "bytes of the line have changed since it was written")


def decode(lines: bytes) -> list[Record]:
    """Records from lines of JSON; empty lines are passed over.

    Raises:
        LineError: a line has changed since it was written.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: a line that is no record.
    """
    if not all(map(is_intact, lines.split(b"\n"))):
        raise LineError(CHANGED, "bytes of a line have changed since it was written")
    records: list[Record] = _decoder.decode_lines(lines)
    return records


def decode_line(line: bytes) -> Record:
    """The record of one line.

    Raises:
        LineError: it is none.
    """
    check_intact(line)
    try:
        record: Record = _decoder.decode(line)
    except msgspec.ValidationError as error:
        named = isinstance(error.__cause__, InvalidNameError)
        raise LineError(UNUSABLE_NAME if named else NOT_A_RECORD, str(error)) from error
    except UNREADABLE as error:
        raise LineError(NOT_JSON, str(error)) from error
    return record
