"""A run of training on disk: plan → fit an epoch → validate → checkpoint. A killed run resumes bit for bit.

A run folder holds
    config.toml        every setting, as it was resolved
    checkpoint         learner, best weights so far and where the loop stands
    metrics.jsonl      one line per logged step and per validation
    training.json      how training ended: phases, the epoch whose weights were kept, notes of the learner
    artifact/          the policy that validation chose
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from slatewise import artifact
from slatewise.config import without_comments
from slatewise.config.run import RunConfig
from slatewise.data import batches
from slatewise.errors import InputError, SlatewiseError, input_error
from slatewise.files import atomic_file
from slatewise.log import LogPart, Windows
from slatewise.protocols import ConstraintAware, HasNotes, HasPhases, KnowsUsers, Plans, Policy
from slatewise.training import checkpoint
from slatewise.training.checkpoint import Checkpoint, Progress
from slatewise.training.fit import fit
from slatewise.training.index import give_index
from slatewise.training.run import Run, lay_out
from slatewise.training.validation import popularity_note, sample_users, validate
from slatewise.types import Phase, Trajectories

MOST_CELLS = 1 << 20
"""Shown items of a batch of whole users, padding included: about 150 MB while the batch is made."""
BY_CLOCK = ("folder", "seconds", "interactions_per_second")
"""Fields of a result that differ between two runs of the same settings."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished run says of itself."""

    folder: Path
    steps: int
    epochs: int
    best_epoch: int
    """Whose weights were kept, counted from 0."""
    select: str
    value: float | None
    """Of the selecting metric, over all validation users with the weights kept; None where nothing is held out."""
    seconds: float
    interactions_per_second: float
    phase: str | None = None
    """Phase that training reached; None where the learner has no phases."""
    best_phase: str | None = None
    """Phase of the weights that were kept."""
    notes: tuple[str, ...] = ()
    """Whom the split could not hold out, what the learner did with its log, and which phase the weights kept are of
    where it is not the last."""
    violation: str | None = None
    """The learner's warning, if it has a constraint and violates it."""


def train(
    config: RunConfig,
    folder: Path,
    *,
    reasons: Mapping[str, str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[Progress, int], None] | None = None,
) -> Result:
    """Train what a configuration says into a run folder.

    Args:
        config: everything the run depends on; its [data] is needed.
        folder: the run folder.
        reasons: path of a setting, such as "method.lr" → why it has its value; comments of config.toml.
        resume: go on where an interrupted run stands (a finished run just answers).
        overwrite: replace a run that is there.
        on_step: told the progress and the total number of steps after each update.

    Raises:
        InputError: settings that cannot be used, a folder that holds a run already, another configuration than the
            interrupted run's.
        SlatewiseError: training broke down (a loss that is not finite).
    """
    run = lay_out(config, folder)
    wins = _windows(run)
    if not len(wins):
        raise input_error("nothing to train on: the training part of the split is empty", file=run.dataset.path)
    epochs = 1 if run.learner.single_pass else run.config.train.epochs
    per_epoch = len(_epoch(run, wins, 0))
    _plan(run, updates_per_epoch=per_epoch, epochs=epochs)
    start, best = _begin(run, run.config.to_toml(reasons), resume=resume, overwrite=overwrite)
    sample = sample_users(run.split.part("valid"), run.config.train.valid_users, seed=_split_seed(run))
    state = _State(
        run=run, sample=sample, progress=start, best=best, epochs=epochs, total=per_epoch * epochs, on_step=on_step
    )
    while not state.ended:
        state.fit_epoch(wins)
        state.validate()
        if state.ended or run.config.train.checkpoint_every is not None:
            state.save()
    if state.progress == start:
        manifest = _read_manifest(run.folder / "artifact")
        if manifest is not None:
            ended = _result(run, start, sample, manifest.metrics.get(run.select))
            return replace(ended, notes=_stored_notes(run.folder, ended.notes))
    return _finish(run, state.progress, state.best, sample)


@dataclass(kw_only=True)
class _State:
    """Where a run stands, and what is not written yet."""

    run: Run
    sample: LogPart
    """What validates after every epoch."""
    progress: Progress
    best: dict[str, Tensor]
    """Weights of the policy that validated best."""
    epochs: int
    total: int
    """Steps of all epochs."""
    on_step: Callable[[Progress, int], None] | None
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Of metrics.jsonl, since the last checkpoint."""
    _interactions: int = 0
    _started: float = 0.0
    _phase: Phase | None = None
    """Of the update under way."""
    _saved: float = field(default_factory=time.monotonic)
    """When the last checkpoint was written, or training began."""
    _save_seconds: float = 0.0
    """What it took."""

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or too many of the last phase went by without a better figure."""
        progress = self.progress
        # epochs before the last phase are no reason to stop it
        without_better = progress.epoch - max(progress.best_epoch, progress.early_epoch)
        return progress.epoch >= self.epochs or without_better > self.run.config.train.patience

    def fit_epoch(self, wins: Windows) -> None:
        """The rest of an epoch, with checkpoints on the way."""
        log, epoch = self.run.split.train.interactions, _epoch(self.run, wins, self.progress.epoch)
        shuffled = (batches.trajectories(log, windows) for windows in epoch[self.progress.step_in_epoch :])
        try:
            fit(self.run.learner, self._with_start_times(shuffled), on_update=self._count)
        except FloatingPointError as error:
            raise SlatewiseError(
                f"{self.run.folder}, step {self.progress.step + 1}: {error}. The last checkpoint is whole, nothing is "
                "lost."
            ) from error

    def validate(self) -> None:
        """End the epoch; keep the weights where they are better than all before, or nothing says which are better."""
        progress = self.progress
        values = {} if self.sample.empty else validate(self.run, self.sample)
        value = values.get(self.run.select, math.nan)
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = {"step": progress.step, "epoch": progress.epoch, "valid": finite}
        self.lines.append(line | ({"phase": progress.phase} if progress.phase else {}))
        if value > progress.best or progress.best == -math.inf:
            self.best = _weights(self.run.learner.policy)
            best = -math.inf if math.isnan(value) else value
            self.progress = replace(progress, best=best, best_epoch=progress.epoch, best_phase=progress.phase)
        self.progress = replace(self.progress, epoch=self.progress.epoch + 1, step_in_epoch=0)

    def save(self) -> None:
        """Write a checkpoint, and the lines before it."""
        started = time.monotonic()
        state = Checkpoint(progress=self.progress, learner=self.run.learner.state_dict(), best=self.best)
        checkpoint.write(self.run.folder, state, self.lines)
        self.lines.clear()
        self._saved = time.monotonic()
        self._save_seconds = self._saved - started

    def _with_start_times(self, shuffled: Iterable[Trajectories]) -> Iterator[Trajectories]:
        learner = self.run.learner
        for batch in shuffled:
            self._phase = learner.phase if isinstance(learner, HasPhases) else None
            self._interactions, self._started = int(batch.learn.sum()), time.monotonic()
            yield batch

    def _count(self, update: int, metrics: dict[str, float]) -> None:
        del update  # counts from the start of this epoch's rest
        self.progress = replace(
            self.progress,
            step=self.progress.step + 1,
            step_in_epoch=self.progress.step_in_epoch + 1,
            seconds=self.progress.seconds + time.monotonic() - self._started,
            interactions=self.progress.interactions + self._interactions,
            phase="" if self._phase is None else self._phase.name,
            early_epoch=self.progress.early_epoch if self._phase is None or self._phase.last else self.progress.epoch,
        )
        if self.progress.step % self.run.config.train.log_every == 0:
            self.lines.append({"step": self.progress.step, "epoch": self.progress.epoch, **metrics})
        if self._checkpoint_due():
            self.save()
        if self.on_step is not None:
            self.on_step(self.progress, self.total)

    def _checkpoint_due(self) -> bool:
        every = self.run.config.train.checkpoint_every
        if every is not None:
            return self.progress.step % every == 0
        return time.monotonic() - self._saved >= checkpoint.pause(self._save_seconds)


def _windows(run: Run) -> Windows:
    """What is trained on; counting methods see whole users, because pieces of a user would count as users."""
    settings, part = run.config.train, run.split.part("train")
    if run.learner.single_pass:
        if settings.start_from is not None and isinstance(run.learner, KnowsUsers) and (part.last > part.first).any():
            # with what the run that it starts from may have counted, or held out
            return part.histories(np.flatnonzero(part.last > 0))
        return part.windows(max_length=max(1, int((part.last - part.first).max(initial=1))))
    return part.windows(max_length=settings.max_length, burn_in=settings.burn_in)


def _split_seed(run: Run) -> int:
    return 0 if run.config.data is None else run.config.data.split_seed


def _epoch(run: Run, wins: Windows, number: int) -> list[Windows]:
    """The batches of an epoch, in their order."""
    most_events = MOST_CELLS // run.dataset.interactions.slate_size if run.learner.single_pass else None
    return batches.shuffled_windows(
        wins,
        batch_size=run.config.train.batch_size,
        generator=np.random.default_rng([run.config.train.seed, number]),
        most_events=most_events,
    )


def _plan(run: Run, *, updates_per_epoch: int, epochs: int) -> None:
    """Let the learner know how long training will be."""
    if isinstance(run.learner, Plans):
        try:
            run.learner.plan(updates_per_epoch=updates_per_epoch, epochs=epochs)
        except ValueError as error:
            raise InputError(f"{run.config.origin.of_table('method')}: {error}.") from error


def _begin(run: Run, text: str, *, resume: bool, overwrite: bool) -> tuple[Progress, dict[str, Tensor]]:
    """A fresh start with the text of its config.toml, or the state of the last checkpoint."""
    config = run.folder / "config.toml"
    if run.folder.exists() and not run.folder.is_dir():
        raise input_error("the run folder is a file", file=run.folder, advice="Name another one: --out DIR.")
    for leftover in run.folder.glob(".*.partial"):  # of a checkpoint that a kill cut short
        if leftover.is_file():
            leftover.unlink()
    if config.exists() and resume:
        if without_comments(config.read_text(encoding="utf-8")) != without_comments(text):
            raise input_error(
                "the interrupted run had other settings or other data",
                file=config,
                advice="Resume with the same ones, or start anew with --overwrite or another --out.",
            )
        state = checkpoint.read(run.folder)
        if state is None:
            return Progress(), {}
        run.learner.load_state_dict(state.learner)
        return state.progress, state.best
    if config.exists() and not overwrite:
        raise input_error(
            "a run is here already",
            file=run.folder,
            advice="--resume goes on with it, --overwrite replaces it, --out names another folder.",
        )
    for old in ("checkpoint", "metrics.jsonl", "training.json", "evaluation.json", "report.html"):
        (run.folder / old).unlink(missing_ok=True)
    for old in ("artifact", "behaviour"):
        shutil.rmtree(run.folder / old, ignore_errors=True)
    with atomic_file(config) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Progress(), {}


def _weights(policy: Policy) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in policy.state_dict().items()}


def _finish(run: Run, progress: Progress, best: dict[str, Tensor], sample: LogPart) -> Result:
    policy, select = run.learner.policy, run.select
    policy.load_state_dict(best)
    report, notes = give_index(run)
    value = progress.best
    if not sample.empty and (report is not None or len(sample.users()) < len(run.split.valid.users())):
        value = validate(run, run.split.part("valid"))[select]  # of the policy that is served
    artifact.save(
        run.folder / "artifact",
        policy=policy,
        catalog=run.dataset.catalog,
        config=run.config,
        metrics=({select: value} if math.isfinite(value) else {}) | ({} if report is None else report.metrics()),
        source=artifact.Source(
            name=run.dataset.name, fingerprint=run.dataset.fingerprint, simulated=run.dataset.simulated
        ),
        users=run.dataset.user_table,
    )
    result = _result(run, progress, sample, value)
    result = replace(result, notes=result.notes + notes)
    ended = {name: value for name, value in asdict(result).items() if name not in BY_CLOCK}
    with atomic_file(run.folder / "training.json") as temporary:
        temporary.write_text(json.dumps(ended, indent=2), encoding="utf-8")
    return result


def _read_manifest(folder: Path) -> artifact.Manifest | None:
    """Of the artifact of a finished run, where it is there unchanged: then it is not written again."""
    try:
        # its modules are those of this very configuration
        return artifact.load(folder, allow_modules=True).manifest
    except InputError:
        return None


def _stored_notes(folder: Path, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the end of training; runs of earlier versions kept none."""
    try:
        return tuple(json.loads((folder / "training.json").read_text(encoding="utf-8"))["notes"])
    except (OSError, ValueError, KeyError):
        return notes


def _notes(run: Run, progress: Progress, sample: LogPart) -> tuple[str, ...]:
    notes = run.notes + (run.learner.notes() if isinstance(run.learner, HasNotes) else ())
    notes += popularity_note(run, sample, progress.best)
    select = run.select
    num_users, num_sampled = len(run.split.valid.users()), len(sample.users())
    if num_sampled < num_users:
        sampled = f"{progress.best:.4f}" if math.isfinite(progress.best) else "no value"
        notes += (
            f"while training, a fixed sample of {num_sampled:,} of {num_users:,} users validated ({select} = {sampled} "
            "over them); the value at the end is over all",
        )
    if progress.best_phase == progress.phase:
        return notes
    earlier = (
        f'the weights kept are those of epoch {progress.best_epoch + 1}, of the phase "{progress.best_phase}": no '
        f'epoch of the phase "{progress.phase}" has a better {select}'
    )
    return (*notes, earlier)


def _result(run: Run, progress: Progress, sample: LogPart, value: float | None) -> Result:
    return Result(
        folder=run.folder,
        steps=progress.step,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        select=run.select,
        value=value if value is not None and math.isfinite(value) else None,
        seconds=progress.seconds,
        interactions_per_second=progress.interactions / max(progress.seconds, 1e-9),
        phase=progress.phase or None,
        best_phase=progress.best_phase or None,
        notes=_notes(run, progress, sample),
        violation=run.learner.violation() if isinstance(run.learner, ConstraintAware) else None,
    )
