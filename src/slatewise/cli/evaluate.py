"""slatewise evaluate RUN and slatewise ope RUN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from slatewise.cli._console import AllowModule, JsonFlag, answer, as_text, progress
from slatewise.cli._interrupts import command_again, nothing_written
from slatewise.cli._runs import part_name
from slatewise.wording import count_of

if TYPE_CHECKING:
    from slatewise.data.splits import PartName
    from slatewise.evaluation import Calibration, Evaluation
    from slatewise.stats import Measurement
    from slatewise.training.finished_run import FinishedRun

EVALUATE = """Judge a trained run on held-out data: full ranking, seen items excluded, 95 % intervals.

Open the test part once, with the settings that validation chose. The result is kept in RUN/evaluation.json. With
--data, a finished policy is evaluated on another log, all of it or --since a moment.

Example: slatewise evaluate runs/cloning --part valid
"""
OPE = """Estimate off-policy what a run would have earned on the log, and say whether the log can judge it.

Steps of one item with a logged propensity enter the estimate; the others are counted and left out. Where there is no
such step, or with --fit-propensities, a clone of the logging policy is fitted on the training part first.

Example: slatewise ope runs/reinforce --part test
"""
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `slatewise train`.", show_default=False)]
PartOption = Annotated[str, typer.Option(help="valid or test.", show_default=True)]
DataOption = Annotated[
    Path | None, typer.Option(help="Prepared data set: the run's own, if it was moved, or another one: all of it.")
]
SinceOption = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="With another log: evaluate events from then on (ISO 8601).")
]
BehaviourOption = Annotated[
    Path | None,
    typer.Option(help="Run whose policy stands for the logging policy; default: the propensities of the log."),
]
FitOption = Annotated[
    bool, typer.Option("--fit-propensities", help="Fit the logging policy even where the log has propensities.")
]

Fit = Literal["always", "where none is logged", "never"]
"""When the logging policy is fitted."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("evaluate", help=EVALUATE)(evaluate)
    app.command("ope", help=OPE)(ope)


def evaluate(
    run: Run,
    part: PartOption = "test",
    data: DataOption = None,
    since: SinceOption = None,
    behaviour: BehaviourOption = None,
    seed: Annotated[int, typer.Option(help="Of policies that draw.")] = 0,
    off_policy: Annotated[
        bool, typer.Option("--off-policy", help="Estimate off-policy even where the log has no propensities.")
    ] = False,
    fit_propensities: FitOption = False,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate; see EVALUATE."""
    held_out = part_name(part)
    fit: Fit = "always" if fit_propensities else "where none is logged" if off_policy else "never"
    opened, result = _evaluate(run, held_out, (data, since), behaviour, seed=seed, fit=fit, allow_modules=allow_module)
    table = _table(result.metrics)
    label = " (simulated log)" if opened.dataset.simulated else ""
    excluded = (
        "items seen before excluded"
        if opened.artifact.config.evaluate.exclude_seen
        else "items seen before not excluded"
    )
    head = (
        f"{run}: {opened.artifact.config.method.name} on {opened.dataset.name}{label}, {_part_in_words(opened, part)}, "
        f"{count_of(result.users, 'user')}, full ranking over {count_of(opened.dataset.catalog.num_items, 'item')}, "
        f"{excluded}"
    )
    words = "".join(f"\n{sentence}" for sentence in (*_notes(opened), *result.sentences()))
    words += f"\n{_verdict(opened, held_out, result)}"
    words += f"\n{_calibration(result.behaviour)}" if result.behaviour is not None else ""
    answer(_value(run, opened, part, result), as_json=as_json, text=f"{head}\n\n{as_text(table)}{words}")


def _notes(opened: FinishedRun) -> tuple[str, ...]:
    """What to know of another log than the run's own."""
    return opened.split.notes if opened.on_another_log else ()


def _part_in_words(opened: FinishedRun, part: str) -> str:
    return "all of it" if opened.on_another_log else f"part {part}"


def _table(metrics: Sequence[Measurement]) -> Table:
    """Metrics, each with its interval and the users that it is over."""
    table = Table("metric", box=None, pad_edge=False)
    for head in ("value", "95 % interval", "users", "left out"):
        table.add_column(head, justify="right")
    for metric in metrics:
        value = "–" if math.isnan(metric.value) else f"{metric.value:.4f}"
        interval = f"{metric.low:.4f} … {metric.high:.4f}" if metric.has_interval else "–"
        table.add_row(metric.name, value, interval, f"{metric.users or 0:,}", f"{metric.left_out or 0:,}")
    return table


def ope(
    run: Run,
    part: PartOption = "test",
    data: DataOption = None,
    since: SinceOption = None,
    behaviour: BehaviourOption = None,
    fit_propensities: FitOption = False,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Estimate; see OPE."""
    held_out = part_name(part)
    fit: Fit = "always" if fit_propensities else "where none is logged"
    opened, result = _evaluate(run, held_out, (data, since), behaviour, seed=0, fit=fit, allow_modules=allow_module)
    text = "\n".join([*_notes(opened), _verdict(opened, held_out, result)])
    answer(_value(run, opened, part, result), as_json=as_json, text=text)


def _evaluate(
    run: Path,
    part: PartName,
    log: tuple[Path | None, str | None],
    behaviour: Path | None,
    *,
    seed: int,
    fit: Fit,
    allow_modules: bool,
) -> tuple[FinishedRun, Evaluation]:
    from slatewise.training.checkpoint import Progress
    from slatewise.training.finished_run import evaluate_run
    from slatewise.training.propensities import fit_behaviour

    opened = _open(run, *log, allow_modules=allow_modules)
    fitting = False

    def stop_message() -> str:
        if not fitting:
            return nothing_written()
        return f"Interrupted: no evaluation was written. The fit of the propensities goes on with: {command_again()}"

    with progress(stopped=stop_message) as work:
        logging_policy = None
        if behaviour is not None:
            logging_policy = _open(behaviour, *log, allow_modules=allow_modules).artifact.policy
        elif fit != "never":
            stage = work.stage("fitting propensities", unit="step")

            def on_step(done: Progress, total: int) -> None:
                nonlocal fitting
                fitting = True
                stage.report(done.step, total)

            logging_policy = fit_behaviour(opened, part, always=fit == "always", on_step=on_step)
        ranking = work.stage("ranking", unit="user", total=len(opened.split.part(part).users()))
        result = evaluate_run(
            opened,
            part,
            behaviour=logging_policy,
            seed=seed,
            on_batch=ranking.report,
        )
    return opened, result


def _open(run: Path, data: Path | None, since: str | None, *, allow_modules: bool) -> FinishedRun:
    """The run, on its own log or on another one."""
    from slatewise.errors import input_error
    from slatewise.training.finished_run import open_run, open_run_on

    if data is not None:
        return open_run_on(run, data, since=since, allow_modules=allow_modules)
    if since is not None:
        raise input_error("--since is for another log than the run's own", advice="Name it with --data.")
    return open_run(run, allow_modules=allow_modules)


def _value(run: Path, opened: FinishedRun, part: str, result: Evaluation) -> dict[str, object]:
    return {
        "run": str(run),
        "method": opened.artifact.config.method.name,
        "data": opened.dataset.name,
        "simulated": opened.dataset.simulated,
        "part": "all" if opened.on_another_log else part,
        "notes": list(_notes(opened)),
        "exclude_seen": opened.artifact.config.evaluate.exclude_seen,
        **result.to_json(),
    }


def _calibration(fit: Calibration) -> str:
    return (
        f"β̂, its own estimate of what the log shows: calibration error {fit.ece:.3f} of the probability "
        f"(true probabilities would show {fit.ece_by_chance:.3f} by chance), "
        f"mean log β̂ {fit.log_likelihood:.3f} over {count_of(fit.shown, 'shown item')}; `slatewise report` draws it"
    )


def _verdict(opened: FinishedRun, part: PartName, result: Evaluation) -> str:
    estimate = result.estimate
    if estimate is None:
        return _no_estimate(opened, part)
    low, high = estimate.interval
    left_out = ", ".join(f"{items:,} ({reason})" for reason, items in estimate.left_out.items())
    tail = f"{estimate.pareto_k:.2f}" if math.isfinite(estimate.pareto_k) else "none"
    reasons = "".join(f"\n  - {reason}" for reason in estimate.reasons)
    return (
        f"Off-policy (SNIPS, item by item, {estimate.propensities} propensities): {estimate.value:.4f} per shown item, "
        f"95 % interval {low:.4f} … {high:.4f}\n"
        f"  over {count_of(estimate.steps, 'shown item')} of "
        f"{count_of(estimate.trajectories, 'trajectory', 'trajectories')}; left out: {left_out or 'none'}\n"
        f"  {estimate.ess:,.1f} effective trajectories, the heaviest carries {estimate.max_weight:.1%}, mean weight "
        f"{estimate.mean_weight:.3f}, tail k̂ {tail}, unsupported {estimate.unsupported:.1%}\n"
        f"Verdict: {estimate.verdict}{reasons}"
    )


def _no_estimate(opened: FinishedRun, part: PartName) -> str:
    from slatewise.evaluation import count_propensities

    logged = count_propensities(opened.split.part(part))
    state = "has no propensities"
    if logged.slate_size:
        state = f"has propensities of slates of up to {logged.slate_size}, none of a single draw"
    advice = "--behaviour names a run whose policy stands for the one that wrote it"
    return f"No off-policy estimate: the log {state}; {advice if opened.on_another_log else '--off-policy fits them'}."
