"""Progress without a terminal: lines at growing intervals, and a remaining time by this process' own rate."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from slatewise.cli import _console
from slatewise.cli._console import Work, duration, progress


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def working(clock: Clock, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Work, list[str]]]:
    """Work without a terminal, and the lines it has printed by the end."""
    lines: list[str] = []
    with progress(clock=clock) as work:
        yield work, lines
    captured = capsys.readouterr()
    assert captured.out == ""
    lines += captured.err.splitlines()


def test_lines_are_printed_at_growing_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with working(clock, capsys) as (work, lines):
        stage = work.stage("training", unit="step")
        for step in range(1, 2001):
            clock.now += 1.0
            stage.report(step, 9_000)
    # 5, 5 + 30, + 30, + 60, + 120, + 300, then every 300 seconds; a step lasts one second
    assert [line.split(",")[0] for line in lines[:3]] == [f"training: step {step} of 9" for step in (5, 35, 65)]
    steps = [int(line.partition("step ")[2].partition(" of")[0].replace(",", "")) for line in lines]
    assert steps == [5, 35, 65, 125, 245, 545, 845, 1145, 1445, 1745]


def test_a_line_says_step_share_note_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with working(clock, capsys) as (work, lines):
        stage = work.stage("training", unit="step")
        stage.report(1_000, 9_000)
        clock.now += 100.0
        # 200 steps in 100 seconds: 7,800 more take 3,900 seconds
        stage.report(1_200, 9_000, note="best 0.1234 (epoch 3)")
    assert lines == ["training: step 1,200 of 9,000, 13 %, best 0.1234 (epoch 3), 1 h 5 min left"]


def test_steps_of_an_earlier_process_do_not_shorten_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    times = []
    for first in (0, 5_000):
        clock = Clock()
        with working(clock, capsys) as (work, lines):
            stage = work.stage("training", unit="step")
            stage.report(first, first + 100)
            clock.now += 10.0
            stage.report(first + 50, first + 100)
        times.append(lines[0].rpartition(", ")[2])
    assert times == ["10 s left", "10 s left"]


def test_stages_share_the_time_of_the_next_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with working(clock, capsys) as (work, lines):
        steps = work.stage("starting", unit="step", even=False)
        clock.now += 6.0
        steps.report(0, 2, name="reading a.csv")
        steps.report(1, 2, name="sorting")
        users = work.stage("ranking", unit="user")
        clock.now += 30.0
        users.report(70)
    assert lines == ["reading a.csv: step 0 of 2, 0 %", "ranking: user 70"]


def test_a_terminal_has_bars_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        _console, "errors", lambda: Console(file=screen, force_terminal=True, width=100, color_system=None)
    )
    clock = Clock()
    with progress(clock=clock) as work:
        stage = work.stage("training", unit="step")
        stage.report(10, 100)
        clock.now += 60.0
        stage.report(70, 100)
    shown = screen.getvalue()
    assert "70/100" in shown
    assert "30 s left" in shown
    assert "training: step" not in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (150.0, "2 min"), (3570.0, "1 h 0 min"), (3900.0, "1 h 5 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
