"""slatewise simulate ENV --policy POLICY."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from slatewise.cli._console import AllowModule, JsonFlag, answer, as_text, progress
from slatewise.errors import input_error
from slatewise.wording import count_of

if TYPE_CHECKING:
    from slatewise.rollout.episodes import Played
    from slatewise.rollout.recording import Recorder
    from slatewise.sim.log_fitted.held_out import Judged
    from slatewise.types import Exploration

HELP = """Run a policy in a simulated environment: episodes, return, length and click rate with standard errors.

ENV is an environment (interest_evolution, drift, …) or the run folder of a user model that `slatewise train` fitted to
a log. --set changes one of its constants.

--policy random draws slates uniformly. myopic maximises the immediate reward under the true user model. oracle uses
hidden variables and also optimises later rewards:

interest_evolution: myopic by true interests, oracle the documents of highest true quality.
interest_exploration: myopic by the average user, oracle by this user's hidden affinity.
long_term_satisfaction: myopic by engagement now, oracle by backward induction.
topic_boredom: myopic by relevance now; no oracle.
drift: myopic by expected minutes, oracle with a penalty on the growth of interests.
a user model: myopic by the fitted choice and reward; no oracle.

Any other value is the run folder of a trained policy. The answer states what the policy observes.

--record writes the slates with exact propensities, in the format that `slatewise data import` reads.

--fidelity compares a fitted user model (ENV is its run folder) with a prepared log instead: held-out likelihoods and
those of simple baselines, calibration, real and simulated sessions; for the log it was fitted to, on the test split.

Example: slatewise simulate interest_evolution --policy oracle --episodes 20000
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", help=HELP)(simulate)


def simulate(
    env: Annotated[str, typer.Argument(metavar="ENV", help="Environment or run folder.", show_default=False)],
    policy: Annotated[
        str, typer.Option(metavar="RUN|random|myopic|oracle", help="Run folder or reference policy.")
    ] = "random",
    assignment: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a constant of the environment.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes, each run to its end.")] = 5_000,
    users: Annotated[
        int | None, typer.Option(min=1, help="Users at a time; default all episodes, at most 4,096.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the environment and the draws.")] = 0,
    record: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a log there.")] = None,
    fidelity: Annotated[
        Path | None, typer.Option(metavar="LOG", help="Evaluate a fitted user model on a prepared log.")
    ] = None,
    top_m: Annotated[int | None, typer.Option(min=1, help="Explore: how many of the best items may be shown.")] = None,
    keep: Annotated[int | None, typer.Option(min=0, help="Explore: first positions that hold the best items.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Explore: softmax(score / temperature).")] = None,
    exclude_last: Annotated[int, typer.Option(min=0, help="Items that a user used last and is not shown again.")] = 0,
    max_steps: Annotated[int, typer.Option(min=1, help="Limit on the slates of an env slot.")] = 100_000,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Simulate; see HELP."""
    from slatewise.rollout.episodes import play_episodes
    from slatewise.rollout.recording import recording
    from slatewise.sim._opening import open_policy, open_world

    if fidelity is not None:
        _judge(Path(env), fidelity, seed=seed, as_json=as_json)
        return
    rounds = -(-episodes // min(users or 4_096, episodes))
    world = open_world(env, assignment or [], num_users=-(-episodes // rounds))
    player = open_policy(world, policy, allow_modules=allow_module)
    total = world.env.num_users * rounds
    with progress() as work:
        stage = work.stage("simulating", unit="episode", total=total)
        with recording(record, world.env.catalog, version=player.version) if record else nullcontext() as recorder:
            played = play_episodes(
                world.env,
                player.policy,
                episodes=rounds,
                seed=seed,
                exploration=_exploration(top_m, keep, temperature),
                exclude_last=exclude_last,
                max_steps=max_steps,
                recorder=recorder,
                on_progress=stage.report,
            )
    value: dict[str, Any] = {"env": world.name, "settings": asdict(world.config), "policy": policy, "seed": seed}
    value |= _results(played, world.env.num_users)
    if recorder is not None:
        value["record"] = {"folder": str(record), "decisions": recorder.decisions, "outcomes": recorder.outcomes}
    head = (
        f"{world.name}, policy {policy} ({player.words}): {count_of(played.episodes, 'episode')}, "
        f"{count_of(played.steps, 'slate')}, {count_of(world.env.num_users, 'user')} at once"
    )
    answer(value, as_json=as_json, text=f"{head}\n\n{_table(played)}{_record_text(record, recorder)}")


def _results(played: Played, users: int) -> dict[str, Any]:
    metrics = {metric.name: {"value": metric.value, "stderr": metric.stderr} for metric in played.metrics}
    return {"users": users, "episodes": played.episodes, "steps": played.steps, **metrics}


def _judge(run: Path, log: Path, *, seed: int, as_json: bool) -> None:
    from slatewise.sim.log_fitted.held_out import judge_fit

    if not run.is_dir():
        raise input_error(
            f'--fidelity evaluates a user model; "{run}" is not a run folder',
            advice="`slatewise train` fits one: configs/log-fitted/user-model.toml.",
        )
    with progress() as work:
        stage = work.stage("evaluating the user model", unit="user")
        judged = judge_fit(run, log, seed=seed, on_batch=stage.report)
    value = {"run": str(run), "log": judged.log, "part": judged.part, **judged.report.to_json()}
    answer(value, as_json=as_json, text=_report(run, judged))


def _report(run: Path, judged: Judged) -> str:
    report = judged.report
    likely = Table("of", "model", "log-likelihood", "gain of the user model", box=None, pad_edge=False)
    for entry in report.likelihoods:
        gain = "" if entry.model == "model" else f"{entry.gain:+.4f} ± {1.96 * entry.gain_stderr:.4f}"
        name = "user model" if entry.model == "model" else entry.model
        likely.add_row(entry.what, name, f"{entry.value:.4f}", gain)
    curve = Table("predicted", "happened", "times", box=None, pad_edge=False)
    bins = report.calibration
    for predicted, observed, count in zip(
        bins.predicted.tolist(), bins.observed.tolist(), bins.count.tolist(), strict=True
    ):
        if count:
            curve.add_row(f"{predicted:.3f}", f"{observed:.3f}", f"{count:,}")
    sessions = Table("sessions", "real", "simulated", box=None, pad_edge=False)
    for marginal in report.marginals:
        sessions.add_row(
            marginal.name,
            _with_error(marginal.real, marginal.real_stderr),
            _with_error(marginal.simulated, marginal.simulated_stderr),
        )
    words = {
        "supports": "it can stand in for the users",
        "weak": "with doubts",
        "cannot": "it cannot stand in for them",
    }
    verdict = "\n".join([f"Verdict: {words[report.support]}", *(f"  - {reason}" for reason in report.reasons)])
    head = (
        f"{run} against {judged.log}, part {judged.part}: {count_of(report.users, 'user')}, "
        f"{count_of(report.steps, 'slate')}, {report.picks:,} picks held out"
    )
    calibration = f"Calibration: expected error {bins.error:.4f}"
    return "\n\n".join([head, as_text(likely), calibration, as_text(curve), as_text(sessions), verdict])


def _with_error(value: float, stderr: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:.3f}" + (f" ± {1.96 * stderr:.3f}" if not math.isnan(stderr) else "")


def _exploration(top_m: int | None, keep: int | None, temperature: float | None) -> Exploration | None:
    from slatewise.types import Exploration

    options = {"top_m": top_m, "keep": keep, "temperature": temperature}
    settings: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        return Exploration(**settings) if settings else None
    except ValueError as error:
        raise input_error(str(error)) from error


def _table(played: Played) -> str:
    table = Table("metric", "value", "standard error", box=None, pad_edge=False)
    for metric in played.metrics:
        digits = 4 if metric.stderr < 0.01 else 2
        table.add_row(metric.name.replace("_", " "), f"{metric.value:.{digits}f}", f"{metric.stderr:.{digits}f}")
    return as_text(table)


def _record_text(folder: Path | None, recorder: Recorder | None) -> str:
    if recorder is None:
        return ""
    return (
        f"\n\n{folder}: {count_of(recorder.decisions, 'decision')}, {count_of(recorder.outcomes, 'outcome')}"
        f"\nNext: slatewise data import {folder} --simulated"
    )
