"""The dialect of delimited text (delimiter, quotes, header), detected from its first lines."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slatewise.data.reading.column_aliases import name_columns, recbole
from slatewise.data.reading.content import HEAD
from slatewise.errors import input_error

DELIMITERS = (",", "\t", ";", "|", "::", " ")
UNIT_SEPARATOR = "\x1f"
"""Replaces a delimiter of two characters: readers need a single one, and this one does not occur in text."""
_WORDS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", "::": "double colons", " ": "spaces"}


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The format of delimited text."""

    delimiter: str
    quoted: bool
    names: tuple[str, ...]
    """Names of the columns; "column 1" and so on where the file has no header and its format is unknown."""
    header: bool
    """Whether the first line holds the names."""
    bom: bool = False

    @property
    def words(self) -> str:
        """For messages: "values separated by commas"."""
        quoted = f'"{self.delimiter}"'
        return f"values separated by {_WORDS.get(self.delimiter, quoted)}"


def find_dialect(
    head: bytes, *, file: Path, assigned: Mapping[str, str] | None = None, header: Sequence[str] | None = None
) -> Dialect:
    """Detect the dialect of delimited text.

    The delimiter is the one that yields most columns with known names; without a header, one that gives all lines the
    same number of fields.

    Args:
        head: first bytes of the file.
        file: its path, for messages.
        assigned: canonical name → name in the file, where the user specified it.
        header: names of the columns of a file without a header.

    Raises:
        InputError: a repeated name, or RecBole types on only some of the columns.
    """
    bom = head.startswith(codecs.BOM_UTF8)
    text = head.removeprefix(codecs.BOM_UTF8).decode(errors="replace").lstrip("\r\n")
    lines = [line for line in text.split("\n")[:20] if line.strip()]
    if len(head) >= HEAD and len(lines) > 1:
        lines = lines[:-1]  # the last line may be cut
    lines = [line.rstrip("\r") for line in lines]
    if header is not None:
        delimiter = _consistent(lines, _candidates(lines[0]), fields=len(header)) or ","
        return Dialect(
            delimiter=delimiter, quoted=_uses_quotes(lines, delimiter), names=tuple(header), header=False, bom=bom
        )
    best, most = None, 0
    for candidate in _candidates(lines[0]):
        matches = len(name_columns([recbole(name)[0] for name in split(lines[0], candidate)], assigned).columns)
        # prose may contain "user" and "item", but not in lines of equally many words
        if matches > most and (candidate != " " or _consistent(lines, [candidate])):
            best, most = candidate, matches
    if best is not None:
        names = tuple(name.strip() for name in split(lines[0], best))
        _check_names(names, file)
        return Dialect(delimiter=best, quoted=_uses_quotes(lines, best), names=names, header=True, bom=bom)
    # delimiters that are rare in ordinary text first: titles have commas and spaces
    delimiter = _consistent(lines, ("::", "\t", "|", ";", ",", " ")) or ","
    count = len(split(lines[0], delimiter))
    names = tuple(f"column {index}" for index in range(1, count + 1))
    return Dialect(delimiter=delimiter, quoted=_uses_quotes(lines, delimiter), names=names, header=False, bom=bom)


def split(line: str, delimiter: str) -> list[str]:
    """Fields of one line."""
    if len(delimiter) > 1:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _candidates(line: str) -> list[str]:
    others = dict.fromkeys(
        character
        for character in line
        if character.isascii() and not character.isalnum() and character not in "_\"'-.\r"
    )
    return list(dict.fromkeys((*(each for each in DELIMITERS if each in line), *others)))


def _consistent(lines: Sequence[str], candidates: Sequence[str], fields: int | None = None) -> str | None:
    for candidate in candidates:
        counts = {len(split(line, candidate)) for line in lines}
        if len(counts) == 1 and (counts == {fields} if fields is not None else counts != {1}):
            return candidate
    return None


def _uses_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Whether fields may be quoted: with commas and semicolons always, else if a field of the first lines is quoted."""
    if delimiter in ",;":
        return True
    if len(delimiter) > 1:
        return False
    fields = [field for line in lines for field in line.split(delimiter)]
    return any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)


def _check_names(names: Sequence[str], file: Path) -> None:
    repeated = next((name for name, count in Counter(names).items() if name and count > 1), None)
    if repeated is not None:
        raise input_error(
            "the header names this column twice",
            file=file,
            row=1,
            column=repeated,
            advice="Rename or remove one of the two.",
        )
    types = [recbole(name)[1] for name in names]
    if any(types) and not all(types):
        name = names[types.index(None)]
        raise input_error(
            f'"{name}" has no type, other columns have one (expected NAME:token, NAME:token_seq, NAME:float or '
            "NAME:float_seq)",
            file=file,
            row=1,
            column=name,
            advice="Give every column a type or none.",
        )
