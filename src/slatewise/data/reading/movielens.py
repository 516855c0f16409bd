"""The files of the MovieLens archives that have no header, known by the shape of their lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from slatewise.data.reading.content import HEAD
from slatewise.data.reading.dialect import Dialect, split
from slatewise.data.reading.source import Role, Shape
from slatewise.errors import located

ROLES: dict[Shape, Role] = {
    "ratings": "log",
    "items": "items",
    "flagged items": "items",
    "users": "users",
    "genres": "other",
}
WHOLE = ("u.data", "ratings.dat")
"""Names of the whole log among files that hold parts of it once more."""
FLAG = "genre: "
"""Stands before the name of a column of 0 and 1, one a genre."""
_FLAGS_FROM = 5
_WHOLE_NUMBER = re.compile(r"[0-9]{1,19}")
_SHORT_NUMBER = re.compile(r"[0-9]{1,2}(\.[0-9]{1,3})?")


def shape(head: bytes, dialect: Dialect) -> Shape | None:
    """Which of the files without header this is; None for none of them."""
    text = head.decode("latin-1")
    lines = [line.rstrip("\r") for line in text.split("\n")[:10] if line.strip()]
    if len(text) == HEAD:
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
    """Names for the columns of such a file; those of genre flags come from `u.genre` beside it."""
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
    """utf-8 where the whole file is that, else latin-1, which the oldest of these files are in."""
    try:
        file.read_bytes().decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def check_folder(path: Path, shapes: Sequence[Shape | None], log: Shape | None) -> None:
    """Refuse a folder of ratings without their items: titles would be missing everywhere.

    Raises:
        InputError: ratings of MovieLens, but no table of items.
    """
    if log == "ratings" and not {"items", "flagged items"} & set(shapes):
        raise located(
            "ratings without their table of items (u.item or movies.dat)",
            file=path,
            advice="Unpack the whole archive, or name the file of ratings itself to go without titles.",
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
    found = [line.partition("|")[0] for line in lines if "|" in line]
    return found if len(found) == count else [str(index) for index in range(count)]
