"""Records of a log that cannot be used: counted by reason, the first of each named; all others are read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from slatewise.data.decisions_and_outcomes import LineError

EXAMPLES = 3
"""Places that are named for one reason."""


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Records that were set aside for one reason."""

    reason: str
    count: int
    places: tuple[str, ...]
    """Where the first of them stand, and what is wrong there."""

    def __str__(self) -> str:
        rest = f"; and {self.count - len(self.places):,} more" if self.count > len(self.places) else ""
        return f"records set aside, {self.reason}: {self.count:,} ({'; '.join(self.places)}{rest})"


def set_aside_rows(records: pl.DataFrame, files: Sequence[Path], reason: str) -> SetAside:
    """Records that are set aside for one reason, the first of them named by file and line.

    Args:
        records: file (number), line and event_id.
        files: by their number.
        reason: why.
    """
    places = tuple(
        f'{files[file].name}, line {line:,}: event "{event}"'
        for file, line, event in records.select("file", "line", "event_id").head(EXAMPLES).iter_rows()
    )
    return SetAside(reason=reason, count=len(records), places=places)


class UnusableLines:
    """Collects the lines that are set aside while a log is read."""

    def __init__(self) -> None:
        self.first: tuple[Path, int, LineError] | None = None
        """File, line and fault of the first of them."""
        self._counts: Counter[str] = Counter()
        self._places: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, error: LineError, file: Path, line: int) -> None:
        """Count a line, and remember the first of its kind."""
        self._counts[error.reason] += 1
        if self._counts[error.reason] <= EXAMPLES:
            self._places[error.reason].append(f"{file.name}, line {line:,}: {error.what}")
        self.first = self.first or (file, line, error)

    @property
    def count(self) -> int:
        """Of all of them."""
        return self._counts.total()

    def by_reason(self) -> tuple[SetAside, ...]:
        """The most frequent reason first."""
        return tuple(
            SetAside(reason=reason, count=count, places=tuple(self._places[reason]))
            for reason, count in self._counts.most_common()
        )
