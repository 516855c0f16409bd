"""Train one run after the other, each killed at some steps and resumed: `python killed_runs.py JOBS.json`.

JOBS.json holds a list of {"tables", "folder", "kills"}. A run without kills is trained right here. Else every attempt
is a process of its own that sends itself SIGKILL in the middle of the loop, and the last one is left alone; they are
forked, so that torch is loaded once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import torch

from slatewise.config.run import RunConfig
from slatewise.training.checkpoint import Progress
from slatewise.training.loop import train


def attempt(tables: dict[str, Any], folder: Path, kill: int | None) -> int:
    """How the process of one attempt ended, as `os.waitpid` says it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]

    def on_step(progress: Progress, total: int) -> None:
        if progress.step == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        train(RunConfig.from_tables(tables), folder, resume=True, on_step=on_step)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Run all jobs; anything but the expected ends is an error."""
    torch.set_num_threads(1)
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        if not job["kills"]:
            train(RunConfig.from_tables(job["tables"]), Path(job["folder"]))
            continue
        for kill in (*job["kills"], None):
            status = attempt(job["tables"], Path(job["folder"]), kill)
            expected = 0 if kill is None else signal.SIGKILL
            if status != expected:
                sys.exit(f"{job['folder']}: killed at step {kill}, the process ended with {status}, not {expected}")


if __name__ == "__main__":
    main()
