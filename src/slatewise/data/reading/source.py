"""The source of a log: its files, what each holds, and how to read them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slatewise.data.reading.dialect import Dialect
from slatewise.data.reading.json_lines import read_json
from slatewise.data.reading.tables import Table, read_delimited, read_parquet

JSON_LINES = "JSON lines"
NOTHING = "Nothing was imported."
Progress = Callable[[str, int, int], None]
"""Called with a description of the step, the number of steps done, and their total."""
Role = Literal["log", "items", "users", "other"]
Shape = Literal["ratings", "items", "flagged items", "users", "genres"]
"""The MovieLens files without a header."""


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of a log: its role, and how to read it."""

    file: Path
    role: Role
    form: str
    """In words: "Parquet", "values separated by commas"."""
    names: tuple[str, ...]
    """Names of its columns."""
    dialect: Dialect | None = None
    encoding: str = "utf-8"
    shape: Shape | None = None

    @property
    def is_json(self) -> bool:
        """Whether it holds JSON lines."""
        return self.form == JSON_LINES

    def read(self, columns: Collection[str] | None = None) -> Table:
        """Read its rows.

        Raises:
            InputError: see `slatewise.data.reading.tables`.
        """
        if self.dialect is not None:
            return read_delimited(self.file, self.dialect, encoding=self.encoding)
        return read_parquet(self.file, columns) if self.form == "Parquet" else read_json(self.file)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The log at a path."""

    format: str
    """In words: "MovieLens", "RecBole atomic files", "decisions and outcomes", "values separated by commas"."""
    log: tuple[SourceFile, ...]
    """Files of events, read one after the other; empty for decisions and outcomes."""
    items: SourceFile | None = None
    passed_over: tuple[str, ...] = ()
    """Names of files and folders that were not used."""
    notes: tuple[str, ...] = ()
    """On files that were passed over, one sentence each."""
    events: Path | None = None
    """Folder or file of decisions and outcomes."""
