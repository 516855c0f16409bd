"""The MovieLens files without a header, recognised by the shape of their lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slatewise.data.reading.content import HEAD
from slatewise.data.reading.dialect import Dialect, split
from slatewise.data.reading.source import Role, Shape
from slatewise.errors import input_error

ROLES: dict[Shape, Role] = {
    "ratings": "log",
    "items": "items",
    "flagged items": "items",
    "users": "users",
    "genres": "other",
}
WHOLE = ("u.data", "ratings.dat")
"""Names of the complete log; the other files repeat parts of it as splits."""
FLAG = "genre: "
"""Prefix of the 0/1 columns, one per genre."""
_FLAGS_FROM = 5
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")
_SHORT_NUMBER = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")


def shape(head: bytes, dialect: Dialect) -> Shape | None:
    """The MovieLens file that this is; None for none of them."""
    text = head.decode("latin-1")
    lines = [line.rstrip("\r") for line in text.split("\n")[:10] if line.strip()]
    if len(text) >= HEAD:
        lines = lines[:-1] or lines
    rows = [split(line, dialect.delimiter) for line in lines]
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        return None
    kind: Shape | None = None
    if dialect.delimiter in ("\t", "::") and width == 4 and all(_is_rating(row) for row in rows):
        kind = "ratings"
    elif dialect.delimiter == "|" and width > _FLAGS_FROM + 1 and all(_is_flagged(row) for row in rows):
        kind = "flagged items"
    elif dialect.delimiter == "|" and width == 5 and all(row[0].isdigit() and row[1].isdigit() for row in rows):
        kind = "users"
    elif dialect.delimiter == "::" and width == 3 and all(row[0].isdigit() for row in rows):
        kind = "items"
    elif dialect.delimiter == "::" and width == 5 and all(row[0].isdigit() for row in rows):
        kind = "users"
    elif dialect.delimiter == "|" and width == 2 and [row[1] for row in rows] == [str(i) for i in range(len(rows))]:
        kind = "genres"
    return kind


def names(kind: Shape, width: int, folder: Path) -> tuple[str, ...]:
    """Column names for such a file; those of genre flags come from `u.genre` in its folder.

    Args:
        kind: which of the files.
        width: number of columns.
        folder: folder of the file.
    """
    if kind == "ratings":
        return ("user_id", "item_id", "rating", "timestamp")
    if kind == "items":
        return ("item_id", "title", "genres")
    if kind == "users":
        return ("user_id", *(f"attribute {index}" for index in range(1, width)))
    if kind == "genres":
        return ("name of the genre", "number")
    return (
        "item_id",
        "title",
        *(f"column {index}" for index in range(3, _FLAGS_FROM + 1)),
        *(FLAG + genre for genre in _genres(folder, width - _FLAGS_FROM)),
    )


def encoding(file: Path) -> str:
    """Encoding of a file: utf-8 where all of it decodes as such, else latin-1, as in the oldest of these files."""
    try:
        file.read_bytes().decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def check_folder(path: Path, shapes: Sequence[Shape | None], log: Shape | None) -> None:
    """Refuse a folder of ratings without their items: every title would be missing.

    Args:
        path: the folder.
        shapes: of its files.
        log: shape of the file of events.

    Raises:
        InputError: MovieLens ratings without an item table.
    """
    if log == "ratings" and not {"items", "flagged items"} & set(shapes):
        raise input_error(
            "ratings without their item table (u.item or movies.dat)",
            file=path,
            advice="Unpack the whole archive, or pass the file of ratings itself to import it without titles.",
        )


def _is_rating(row: Sequence[str]) -> bool:
    return (
        all(_WHOLE_NUMBER.fullmatch(row[index]) for index in (0, 1, 3))
        and _SHORT_NUMBER.fullmatch(row[2]) is not None
        and float(row[2]) <= 10
        and int(row[3]) > 10**8
    )


def _is_flagged(row: Sequence[str]) -> bool:
    return row[0].isdigit() and all(flag in ("0", "1") for flag in row[_FLAGS_FROM:])


def _genres(folder: Path, count: int) -> list[str]:
    file = folder / "u.genre"
    try:
        lines = file.read_text(encoding="latin-1").split() if file.is_file() else []
    except OSError:
        lines = []
    genres = [line.partition("|")[0] for line in lines if "|" in line]
    return genres if len(genres) == count else [str(index) for index in range(count)]
