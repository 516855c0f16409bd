"""slatewise simulate ENV --policy POLICY."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from slatewise.cli._console import AllowModule, JsonFlag, answer, as_text, progress
from slatewise.errors import located

if TYPE_CHECKING:
    from slatewise.simulate import Played, Recorder
    from slatewise.types import Exploration

HELP = """Play a policy in a simulated world: episodes, return, length and click rate with standard errors.

ENV is an environment (interest_evolution, drift, …) or the run folder of a user model that `slatewise train` fitted to
a log. --set changes one of its constants.

--policy random draws every slate at random. myopic knows the true user model and shows what would be picked now:
interest_evolution by the user's true interests, drift by true expected minutes. oracle knows what nobody outside can
see, and shows what pays off later too: interest_evolution the documents of highest true quality, drift true expected
minutes with a price on the growth of interests. Anything else is the run folder of a trained policy.

--record writes what was shown, with exact propensities, as `slatewise data import` reads it.

Example: slatewise simulate interest_evolution --policy oracle --episodes 20000
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate", help=HELP)(simulate)


def simulate(
    env: Annotated[str, typer.Argument(metavar="ENV", help="Environment or run folder.", show_default=False)],
    policy: Annotated[
        str, typer.Option(metavar="RUN|random|myopic|oracle", help="Who serves: a run folder, or one that knows.")
    ] = "random",
    assignment: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a constant of the environment.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes, each played to its end.")] = 5_000,
    users: Annotated[
        int | None, typer.Option(min=1, help="Users played at once; default all episodes, at most 4,096.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the world and the draws.")] = 0,
    record: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a log there.")] = None,
    top_m: Annotated[int | None, typer.Option(min=1, help="Explore: how many of the best items may be shown.")] = None,
    keep: Annotated[int | None, typer.Option(min=0, help="Explore: first positions that hold the best items.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Explore: softmax(score / temperature).")] = None,
    exclude_last: Annotated[int, typer.Option(min=0, help="Last picks of a user that are not shown again.")] = 0,
    max_steps: Annotated[int, typer.Option(min=1, help="Slates of a place before giving up.")] = 100_000,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Simulate; see HELP."""
    from slatewise.simulate import open_world, play_episodes, recording, served

    rounds = -(-episodes // min(users or 4_096, episodes))
    world = open_world(env, assignment or [], num_users=-(-episodes // rounds))
    who = served(world, policy, allow_modules=allow_module)
    total = world.env.num_users * rounds
    with progress(show=not as_json) as bars:
        task = bars.add_task("episodes", total=total, note="")
        with recording(record, world.env.catalog, version=who.version) if record else nullcontext() as recorder:
            played = play_episodes(
                world.env,
                who,
                episodes=rounds,
                seed=seed,
                explore=_exploration(top_m, keep, temperature),
                exclude_last=exclude_last,
                max_steps=max_steps,
                recorder=recorder,
                on_progress=lambda done: bars.update(task, completed=done),
            )
    value: dict[str, Any] = {
        "env": world.name,
        "settings": asdict(world.config),
        "policy": policy,
        "seed": seed,
        "users": world.env.num_users,
        "episodes": played.episodes,
        "steps": played.steps,
        **{figure.name: {"value": figure.value, "stderr": figure.stderr} for figure in played.figures},
    }
    if recorder is not None:
        value["record"] = {"folder": str(record), "decisions": recorder.decisions, "outcomes": recorder.outcomes}
    head = (
        f"{world.name}, policy {policy} ({who.words}): {played.episodes:,} episodes, {played.steps:,} slates, "
        f"{world.env.num_users:,} users at once"
    )
    answer(value, as_json=as_json, text=f"{head}\n\n{_table(played)}{_recorded(record, recorder)}")


def _exploration(top_m: int | None, keep: int | None, temperature: float | None) -> Exploration | None:
    from slatewise.types import Exploration

    given = {"top_m": top_m, "keep": keep, "temperature": temperature}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        return Exploration(**settings) if settings else None
    except ValueError as error:
        raise located(str(error)) from error


def _table(played: Played) -> str:
    table = Table("figure", "value", "standard error", box=None, pad_edge=False)
    for figure in played.figures:
        digits = 4 if figure.stderr < 0.01 else 2
        table.add_row(figure.name.replace("_", " "), f"{figure.value:.{digits}f}", f"{figure.stderr:.{digits}f}")
    return as_text(table)


def _recorded(folder: Path | None, recorder: Recorder | None) -> str:
    if recorder is None:
        return ""
    return (
        f"\n\n{folder}: {recorder.decisions:,} decisions, {recorder.outcomes:,} outcomes"
        f"\nNext: slatewise data import {folder} --simulated"
    )
