"""slatewise train --data DIR | CONFIG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slatewise.cli._console import JsonFlag, Stage, answer, progress
from slatewise.cli._interrupts import command_again, nothing_written

if TYPE_CHECKING:
    from slatewise.config.run import RunConfig
    from slatewise.training.checkpoint import Progress
    from slatewise.training.loop import Result

HELP = """Train a policy from a prepared log into a run folder.

--data DIR needs no configuration: the settings follow from the kind and the size of the log. They are printed with
their reasons and written to config.toml of the run; --method NAME takes another method than REINFORCE.

CONFIG is a TOML file with the tables [data], [method] and, if wanted, [encoder], [train], [evaluate], [serve];
shipped ones lie in configs/. With --data it is used for that log. A stopped run goes on with --resume.

--seeds N trains with N seeds and prints the mean of their validation values with its interval over seeds; --resume
keeps finished ones. `slatewise compare` and `slatewise report` take OUT as one row.

--from RUN starts from the weights of a finished run, by the names of the items; with [data] learn_from, only events
from that moment on are learned, such as --set data.learn_from=2026-05-05: a short update on what a day brought.

Example: slatewise train --data data/mine --out runs/mine
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", help=HELP)(train)


def train(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="TOML file; with --from that of the run.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Start from the weights of a finished run.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Prepared data set; without CONFIG, settings are chosen for it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; default runs/NAME of the file, or runs/DATA-METHOD.")
    ] = None,
    assignment: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Put a value into the configuration.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="Another method: a file name in methods/ or a dotted path.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Train with N seeds, from [train] seed on, into OUT/seed-0, seed-1, …"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train; see HELP."""
    from slatewise.training.automatic import choose
    from slatewise.training.loop import train as run_training

    reasons: Mapping[str, str] = {}
    if data is not None and config is None and start is None:
        choice = choose(data, method, assignment or [])
        settings, reasons = choice.config, choice.reasons
        folder = out or Path("runs") / f"{data.resolve().name}-{settings.method.name.rpartition('.')[2]}"
        if not as_json:
            typer.echo(choice.text())
    else:
        settings, folder = _read_settings(
            config, start, data=data, method=method, assignments=assignment or [], out=out
        )
    if seeds is not None:
        _train_seeds(settings, folder, seeds, reasons=reasons, resume=resume, overwrite=overwrite, as_json=as_json)
        return
    place = _Place(folder)
    with progress(stopped=place.message) as work:
        stage = work.stage("training", unit="step")

        def on_step(done: Progress, total: int) -> None:
            place.report(stage, folder, done, total)

        result = run_training(settings, folder, reasons=reasons, resume=resume, overwrite=overwrite, on_step=on_step)
    value = {**asdict(result), "folder": str(result.folder), "reasons": dict(reasons)}
    answer(value, as_json=as_json, text=_summary(result))


def _read_settings(
    config: Path | None,
    start: Path | None,
    *,
    data: Path | None,
    method: str | None,
    assignments: Sequence[str],
    out: Path | None,
) -> tuple[RunConfig, Path]:
    """The settings of a file or of a run, and the run folder."""
    from slatewise import config as configs
    from slatewise.config.run import RunConfig
    from slatewise.data.prepared import locate
    from slatewise.training.seeds import check_single

    if start is not None:
        check_single(start)
    file, folder = _files(config, start, out)
    tables = configs.sections(configs.read_toml(file), where=str(file))
    if start is not None:
        tables["train"] = {**tables.get("train", {}), "start_from": str(start)}
    if data is not None:
        tables["data"] = {**tables.get("data", {}), "path": str(data)}
    path_given = any(each.startswith("data.path=") for each in assignments)
    if config is None and start is not None and data is None and "data" in tables and not path_given:
        tables["data"] = {**tables["data"], "path": str(locate(Path(str(tables["data"]["path"])), start))}
    if start is not None or data is not None:
        tables.get("data", {}).pop("fingerprint", None)  # another log, or one that may have grown since
    if method is not None:
        # another method has other settings: those of the file do not apply
        tables["method"] = {"name": method}
    return RunConfig.from_tables(tables, assignments, where=str(file)), folder


class _Place:
    """Where training stands, for the message of a stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[Progress, int] | None = None

    def report(self, stage: Stage, folder: Path, done: Progress, total: int) -> None:
        """Show a step of the run in a folder."""
        self._folder, self._last = folder, (done, total)
        note = f"best {done.best:.4f} (epoch {done.best_epoch + 1})" if math.isfinite(done.best) else ""
        stage.report(done.step, total, note=note)

    def message(self) -> str:
        """What a stopped run has kept, and the command that goes on with it."""
        from slatewise.training.checkpoint import read_progress

        if self._last is None:
            return nothing_written()
        last, total = self._last
        saved = read_progress(self._folder)
        state = "There is no checkpoint yet."
        if saved is not None:
            state = f"The checkpoint in {self._folder} is of step {saved.step:,}."
            last = max(last, saved, key=lambda progress: progress.step)  # the stop may have fallen between the two
        step = f"step {last.step:,} of {total:,} (epoch {last.epoch + 1})"
        return f"Interrupted after {step}. {state} Go on: {command_again('--resume', without=('--overwrite',))}"


def _train_seeds(
    settings: RunConfig,
    folder: Path,
    count: int,
    *,
    reasons: Mapping[str, str],
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train with several seeds, and print the mean of their validation values."""
    from slatewise.training.seeds import seed_folder, train_seeds

    place, stages = _Place(folder), dict[int, Stage]()
    with progress(stopped=place.message) as work:

        def on_step(seed: int, done: Progress, total: int) -> None:
            if seed not in stages:
                stages[seed] = work.stage(f"training seed {seed}", unit="step")
            place.report(stages[seed], seed_folder(folder, seed), done, total)

        trained = train_seeds(
            settings, folder, count, reasons=reasons, resume=resume, overwrite=overwrite, on_step=on_step
        )
    mean = trained.mean
    has_interval = mean is not None and count > 1
    value = {
        "folder": str(folder),
        "select": trained.select,
        "seeds": [
            {"seed": seed, **asdict(result), "folder": str(result.folder)} for seed, result in trained.results.items()
        ],
        "mean": None if mean is None else mean.mean,
        "reasons": dict(reasons),
        "interval_over_seeds": [mean.low, mean.high] if mean is not None and has_interval else None,
    }
    lines = [f"seed {seed}: {_summary_line(result)}" for seed, result in trained.results.items()]
    lines += [
        f"Note: {note}" for note in dict.fromkeys(note for each in trained.results.values() for note in each.notes)
    ]
    if mean is not None:
        over = f", 95 % interval over seeds {mean.low:.4f} … {mean.high:.4f} (Student's t)" if has_interval else ""
        lines.append(f"Mean of {count} seeds: validation {trained.select} = {mean.mean:.4f}{over}")
    answer(value, as_json=as_json, text="\n".join([*lines, f"Next: slatewise compare {folder}"]))


def _files(config: Path | None, start: Path | None, out: Path | None) -> tuple[Path, Path]:
    """The configuration and the run folder."""
    from slatewise.errors import input_error

    if config is None and start is None:
        raise input_error(
            "CONFIG is missing",
            advice="--data DIR chooses settings for a log; or name a TOML file, or --from RUN.",
        )
    file = config or (start or Path()) / "config.toml"
    folder = out or (Path("runs") / config.stem if config is not None else None)
    if folder is None or (start is not None and folder.resolve() == start.resolve()):
        raise input_error("the new run needs a folder of its own", advice="Name it with --out DIR.")
    return file, folder


def _summary(result: Result) -> str:
    """How training ended, in a few lines."""
    lines = [f"{result.folder}: {_summary_line(result)}"]
    if result.phase is not None:
        lines.append(f"Phase reached: {result.phase}; phase of the weights kept: {result.best_phase}")
    lines += [f"Note: {note}" for note in result.notes]
    if result.violation:
        lines.append(f"Note: {result.violation}")
    return "\n".join([*lines, f"Next: slatewise evaluate {result.folder}"])


def _summary_line(result: Result) -> str:
    return (
        f"{result.epochs} epochs, {result.steps} steps, {result.seconds:.1f} s, "
        f"{result.interactions_per_second:,.0f} interactions/s; {_validation(result)}"
    )


def _validation(result: Result) -> str:
    if result.value is None:
        return f"nothing to validate {result.select} on: all epochs trained, the last weights kept"
    return f"validation {result.select} = {result.value:.4f} after epoch {result.best_epoch + 1}"
