"""Runs as commands take several of them: labels, parts, and folders of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from slatewise.errors import input_error

if TYPE_CHECKING:
    from slatewise.data.splits import PartName
    from slatewise.training.finished_run import FinishedRun


def part_name(part: str) -> PartName:
    """The held-out part that an option names."""
    if part not in ("valid", "test"):
        raise input_error(f'--part is "{part}"; expected valid or test')
    return cast("PartName", part)


def label_runs(runs: Sequence[Path], names: Sequence[str] | None) -> list[str]:
    """A distinct name for each run."""
    if names and len(names) != len(runs):
        raise input_error(
            f"--label was given {len(names)} times for {len(runs)} runs", advice="Name all of them or none."
        )
    labels = list(names or [run.resolve().name for run in runs])
    if not names and len(set(labels)) < len(labels):
        labels = [str(run) for run in runs]
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise input_error(f'two runs are called "{repeated}"', advice="Name every run once; --label sets their names.")
    return labels


def open_group(folder: Path, *, data: Path | None, allow_modules: bool) -> tuple[FinishedRun, ...]:
    """The run in a folder, or the runs of all seeds there."""
    from slatewise.training.finished_run import open_run
    from slatewise.training.seeds import seed_folders

    return tuple(open_run(run, data=data, allow_modules=allow_modules) for run in seed_folders(folder) or [folder])
