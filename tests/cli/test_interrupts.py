"""Ctrl-C and SIGTERM, sent to real processes or raised in this one: what is kept, how to go on, the exit code."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Command, Trained

from slatewise.cli._console import Stage
from slatewise.cli._interrupts import Interrupted, raising_signals
from slatewise.serve import batch
from slatewise.serve.batch import SlateWriter
from slatewise.training import checkpoint

LAUNCH = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background, it is ignored
from slatewise.cli import main
if __name__ == "__main__":
    main()
"""

TRAIN = """
[method]
name = "cloning"
[encoder]
name = "gru"
width = 8
item_width = 8
[train]
epochs = 100_000
patience = 100_000
batch_size = 8
checkpoint_every = 3
[evaluate]
k = [10]
"""

PAPER = """
import os
import time
from pathlib import Path

from slatewise.reproduce import Cell, Story

TITLE = "slow"


def cells(*, quick, seed_base):
    return [Cell(name=f"cell-{n}", settings={"seed": n}) for n in range(3)]


def run(cell):
    if cell.settings["seed"]:
        Path(f"pid-{cell.name}").write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(3600)
    return {"value": 1.0}


def tell(results, *, quick, seed_base):
    return Story(rows=(), checks=())
"""


@contextmanager
def started(folder: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of `slatewise …` in a folder; gone at the end, whatever happens."""
    command = [sys.executable, "-c", LAUNCH, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something has happened; a process that ends before is an error."""
    while not happened():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], number: int) -> str:
    """What the process says when it is sent a signal."""
    process.send_signal(number)
    return process.communicate()[1]


def saved_step(folder: Path) -> int:
    progress = checkpoint.read_progress(folder)
    return progress.step if progress is not None else 0


def test_a_stopped_training_goes_on_with_the_command_that_it_prints(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(TRAIN, encoding="utf-8")
    run = tmp_path / "runs" / "a run"
    arguments = ["train", "own.toml", "--set", f"data.path={trained.data}", "--out", "runs/a run", "--overwrite"]
    with started(tmp_path, *arguments) as process:
        wait_until(lambda: saved_step(run) >= 3, process)
        said = stop(process, signal.SIGINT)
    assert process.returncode == 130
    first = saved_step(run)
    (sentence,) = re.findall(r"Interrupted after step ([\d,]+) of [\d,]+ \(epoch \d+\)", said)
    assert int(sentence.replace(",", "")) >= first
    assert f"The checkpoint in runs/a run is of step {first:,}. Go on: slatewise train own.toml" in said
    command = shlex.split(said.rpartition("Go on: ")[2])
    assert command == ["slatewise", *arguments[:-1], "--resume"]
    with started(tmp_path, *command[1:]) as process:
        wait_until(lambda: saved_step(run) > first, process)
        said = stop(process, signal.SIGTERM)
    assert process.returncode == 143
    assert said.rpartition("Go on: ")[2].strip() == shlex.join(command)


def test_a_stopped_reproduction_ends_its_processes_and_keeps_finished_cells(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "__init__.py").touch()
    (tmp_path / "papers" / "slow.py").write_text(PAPER, encoding="utf-8")
    cells, pids = tmp_path / "cells", [tmp_path / "pid-cell-1", tmp_path / "pid-cell-2"]
    with started(tmp_path, "reproduce", "papers.slow", "--cache", cells) as process:
        wait_until(lambda: any(cells.rglob("cell-0-*.json")) and all(pid.exists() for pid in pids), process)
        said = stop(process, signal.SIGTERM)
    assert process.returncode == 143
    assert f"1 of 3 cells are finished and kept in {cells}/papers.slow. Go on: slatewise reproduce papers.slow" in said
    for pid in pids:
        number = int(pid.read_text("utf-8"))
        while Path(f"/proc/{number}").exists():  # ends with the test's limit of time if it does not end
            time.sleep(0.01)


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    cleaning = tmp_path / "cleaning"
    code = f"""
import signal, time
from pathlib import Path
from slatewise.cli._interrupts import raising_signals
signal.signal(signal.SIGINT, signal.default_int_handler)
with raising_signals():
    try:
        Path({str(tmp_path / "ready")!r}).touch()
        time.sleep(3600)
    finally:
        Path({str(cleaning)!r}).touch()
        time.sleep(3600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "ready").exists, process)
        process.send_signal(signal.SIGINT)
        wait_until(cleaning.exists, process)
        stop(process, signal.SIGINT)
    assert process.returncode == -signal.SIGINT


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with raising_signals():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), raising_signals():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_recommendation_goes_on(
    trained: Trained, slatewise: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(batch, "CHUNK", 25)
    make_rows = SlateWriter._rows

    def stop_at_the_second(self: SlateWriter, audience: Any, conditions: Any, number: Any, chunk: slice) -> Any:
        if chunk.start:
            signal.raise_signal(signal.SIGTERM)
        return make_rows(self, audience, conditions, number, chunk)

    out = tmp_path / "recs.csv"
    command = ["recommend", trained.counted, "--all", "--out", out]
    monkeypatch.setattr(SlateWriter, "_rows", stop_at_the_second)
    said = slatewise(*command)
    assert said.code == 143
    assert f"The slates of 25 of 60 users are kept beside {out}. Go on: slatewise recommend" in said.err
    assert not out.exists()
    monkeypatch.setattr(SlateWriter, "_rows", make_rows)
    assert slatewise(*shlex.split(said.err.rpartition("Go on: ")[2])[1:]).code == 0
    assert len(out.read_text("utf-8").splitlines()) == 1 + 60 * 10


def test_a_stopped_evaluation_leaves_the_run_as_it_was(
    trained: Trained, slatewise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slatewise.evaluation.evaluate", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    said = slatewise("evaluate", trained.counted)
    assert (said.code, said.err.strip()) == (143, "Interrupted: nothing was written.")
    assert not (trained.counted / "evaluation.json").exists()


def test_a_stopped_import_leaves_its_folder_as_it_was(
    slatewise: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log, out = tmp_path / "log.csv", tmp_path / "data"
    rows = [f"u{user},i{item},{100 * user + item}" for user in range(4) for item in range(5)]
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows]), encoding="utf-8")
    assert slatewise("data", "import", log, "--out", out).code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    report = Stage.report

    def stop_when_sorting(self: Stage, *counts: Any, name: str | None = None, **rest: Any) -> None:
        report(self, *counts, name=name, **rest)
        if name is not None and name.startswith("sorting"):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Stage, "report", stop_when_sorting)
    log.write_text("\n".join(["user_id,item_id,timestamp", *rows, "u9,i9,999"]), encoding="utf-8")
    said = slatewise("data", "import", log, "--out", out)
    assert (said.code, said.err.strip()) == (143, "Interrupted: nothing was written.")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert {file.name for file in tmp_path.iterdir()} == {"log.csv", "data"}
