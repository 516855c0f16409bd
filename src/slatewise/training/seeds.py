"""One configuration trained with several seeds: a folder of runs, DIR/seed-0, DIR/seed-1, …"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from slatewise import evaluation
from slatewise.config.run import RunConfig
from slatewise.errors import input_error
from slatewise.stats import MeanInterval, student_t
from slatewise.training.checkpoint import Progress
from slatewise.training.loop import Result, train

_NAME = re.compile(r"seed-(\d+)")


@dataclass(frozen=True, kw_only=True)
class SeedResults:
    """How the runs of all seeds ended."""

    folder: Path
    select: str
    """The metric that validates."""
    results: dict[int, Result]
    """By seed."""

    @property
    def mean(self) -> MeanInterval | None:
        """Mean of the validation values and its 95 % interval over seeds (Student's t); None where a run has none."""
        values = [result.value for result in self.results.values() if result.value is not None]
        if len(values) < len(self.results):
            return None
        return student_t(values, within=evaluation.metric_range(self.select))


def train_seeds(
    config: RunConfig,
    folder: Path,
    count: int,
    *,
    reasons: Mapping[str, str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[int, Progress, int], None] = lambda seed, progress, total: None,
) -> SeedResults:
    """Train a configuration with the seeds [train] seed … seed + count − 1, one run folder each.

    Args:
        config: of all runs.
        folder: of the run folders.
        count: number of seeds, ≥ 1.
        reasons: see `loop.train`.
        resume: keep finished runs, and go on with an interrupted one.
        overwrite: replace runs that are there.
        on_step: called with the seed, the progress of its run and its steps after each update.

    Raises:
        InputError: settings that cannot be used, or a run that is there.
        SlatewiseError: training broke down.
    """
    if (folder / "config.toml").exists():
        raise input_error(
            "there is a run in it, not a folder of seeds", file=folder, advice="Name another folder: --out DIR."
        )
    results = {}
    for seed in range(config.train.seed, config.train.seed + count):

        def count_step(progress: Progress, total: int, seed: int = seed) -> None:
            on_step(seed, progress, total)

        settings = replace(config, train=replace(config.train, seed=seed))
        run = seed_folder(folder, seed)
        results[seed] = train(settings, run, reasons=reasons, resume=resume, overwrite=overwrite, on_step=count_step)
    return SeedResults(folder=folder, select=results[config.train.seed].select, results=results)


def seed_folder(folder: Path, seed: int) -> Path:
    """The run folder of a seed."""
    return folder / f"seed-{seed}"


def check_single(folder: Path) -> None:
    """Refuse a folder of seeds where one run is wanted.

    Raises:
        InputError: it is one; the message names the first run in it.
    """
    if folders := seed_folders(folder):
        raise input_error(
            f"it is a folder of seeds ({len(folders)}), and one run is wanted",
            file=folder,
            advice=f"Name one of them, such as {folders[0]}; `compare` and `report` take them all.",
        )


def seed_folders(folder: Path) -> list[Path]:
    """The run folders of a folder of seeds, by seed; nothing for any other folder."""
    if not folder.is_dir() or (folder / "config.toml").exists():
        return []
    numbers = (_NAME.fullmatch(path.name) for path in folder.iterdir() if path.is_dir())
    return [seed_folder(folder, seed) for seed in sorted(int(match[1]) for match in numbers if match)]
