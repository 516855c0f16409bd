"""What commands share: answers for people and machines, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from slatewise.cli._interrupts import explaining, nothing_written

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
AllowModule = Annotated[
    bool, typer.Option("--allow-module", help="Import modules that a run names beside our own: runs their code.")
]


def answer(value: dict[str, Any], *, as_json: bool, text: str) -> None:
    """The result on stdout: one JSON object, or words."""
    if as_json:
        print(json.dumps(value, ensure_ascii=False))
    else:
        print(text)


def errors() -> Console:
    """A console on stderr that neither wraps nor colours when nobody looks."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


LINE_SECONDS = (5.0, 30.0, 30.0, 60.0, 120.0, 300.0)
"""Until the first line without a terminal, and from each to the next; the last one is repeated."""


class Work:
    """Where a long command stands, on stderr: bars on a terminal, elsewhere a line now and then.

    Lines are printed when the command reports progress, at the moments of `LINE_SECONDS`; there is no thread.
    """

    def __init__(
        self, bars: Progress, *, terminal: bool, write: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        """Start the time until the first line.

        Args:
            bars: where stages appear on a terminal.
            terminal: False prints lines in place of bars.
            write: prints a line.
            clock: seconds since any moment.
        """
        self.bars, self.clock, self._terminal = bars, clock, terminal
        self.write = write
        """Prints a line above the bars."""
        self._intervals = iter(LINE_SECONDS)
        self._next_line = clock() + next(self._intervals)

    def stage(self, name: str, *, unit: str, total: int | None = None, even: bool = True) -> Stage:
        """A stage of the work.

        Args:
            name: what is done: "training".
            unit: what is counted, in the singular: "step".
            total: how many of them; None where that is reported later.
            even: False where one unit takes much longer than another, so that no remaining time is given.
        """
        return Stage(self, name=name, unit=unit, total=total, even=even)

    def print_when_due(self, line: str) -> None:
        """Print a line, if there are no bars and it is time for one."""
        moment = self.clock()
        if self._terminal or moment < self._next_line:
            return
        self._next_line = moment + next(self._intervals, LINE_SECONDS[-1])
        self.write(line)


class Stage:
    """A part of the work that is counted. The first report says what was done before this process began counting."""

    def __init__(self, work: Work, *, name: str, unit: str, total: int | None, even: bool) -> None:
        """Show the stage; see `Work.stage`."""
        self._work = work
        self._name, self._unit, self._total, self._even = name, unit, total, even
        self._start: tuple[float, int] | None = None
        self._task = work.bars.add_task(name, total=total, left="", note="")

    def report(self, done: int, total: int | None = None, *, note: str = "", name: str | None = None) -> None:
        """How far the stage is.

        Args:
            done: units done, those of an earlier process included.
            total: of how many; None = as before.
            note: what else to show.
            name: what is done now; None = as before.
        """
        self._name, self._total = name or self._name, total or self._total
        left = self._time_left(done)
        self._work.bars.update(
            self._task, description=self._name, completed=done, total=self._total, left=left, note=note
        )
        counted, share = f"{self._unit} {done:,}", ""
        if self._total is not None:
            counted, share = f"{counted} of {self._total:,}", f"{100 * done // max(self._total, 1)} %"
        parts = (counted, share, note, left)
        self._work.print_when_due(f"{self._name}: {', '.join(part for part in parts if part)}")

    def _time_left(self, done: int) -> str:
        """In words, by the rate of what this process has done itself; "" where there is no rate yet."""
        moment = self._work.clock()
        if self._start is None:
            self._start = moment, done
        since, earlier = self._start
        if not self._even or self._total is None or done <= earlier or moment <= since:
            return ""
        return f"{duration((self._total - done) * (moment - since) / (done - earlier))} left"


def duration(seconds: float) -> str:
    """A time in words, in its largest unit or the largest two: "40 s", "2 min", "1 h 5 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def progress(
    *, stopped: Callable[[], str] = nothing_written, clock: Callable[[], float] = time.monotonic
) -> Iterator[Work]:
    """Progress on stderr; stdout stays the answer's, so that `--json` is not disturbed.

    Args:
        stopped: what to say where a signal ends the work: what is kept, and how to go on.
        clock: seconds since any moment.
    """
    console = errors()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[note]}"),
    )

    def write(line: str) -> None:
        console.print(line, markup=False)

    with explaining(stopped), Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield Work(bars, terminal=console.is_terminal, write=write, clock=clock)


def as_text(table: Table) -> str:
    """A table as plain lines."""
    console = Console(width=160, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
