"""The command line of the package, run as its users run it: nothing here imports what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "slatewise.cli")


def environment() -> dict[str, str]:
    """Of the commands: this source tree, and one thread, so that sums are taken in one order on every machine."""
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Commands in a work folder; paths among their words are relative to it or absolute."""

    work: Path

    def run(self, *words: str | Path) -> str:
        """What a command prints.

        Raises:
            RuntimeError: it failed; the message is what it said.
        """
        done = subprocess.run(
            [*COMMAND, *map(str, words)], cwd=self.work, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"slatewise {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def answer(self, *words: str | Path) -> Any:
        """What a command prints with --json."""
        return json.loads(self.run(*words, "--json"))


def numbers(value: Any, *, name: str = "", without: Sequence[str] = ()) -> dict[str, Any]:
    """Numbers and truth values of a JSON value by their path; words are left out, because they may change.

    Args:
        value: of a command.
        name: before each path.
        without: keys whose values are left out: times.
    """
    if isinstance(value, Mapping):
        # figures in a list carry their name
        label = value.get("name", value.get("model"))
        head = f"{name} {label}" if isinstance(label, str) else name
        parts = {f"{head} {key}".strip(): inner for key, inner in value.items() if key not in without}
    elif isinstance(value, list) and all(isinstance(inner, int | float | None) for inner in value):
        return {name: value}
    elif isinstance(value, list):
        parts = {f"{name} [{place}]": inner for place, inner in enumerate(value)}
    else:
        return {} if isinstance(value, str) else {name: value}
    return {
        path: leaf for key, inner in parts.items() for path, leaf in numbers(inner, name=key, without=without).items()
    }
