"""slatewise demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from slatewise.cli._console import JsonFlag, answer, as_text, progress
from slatewise.cli._interrupts import command_again
from slatewise.errors import InputError, input_error

if TYPE_CHECKING:
    from slatewise.demo import Outcome, Say

HELP = """The whole workflow in one command: data, training, evaluation, report, service, one answer.

Fetches MovieLens-100K (its terms are printed, and accepted by continuing), or uses your own log (--data: anything that
`slatewise data import` reads or has written), or a simulated one (--offline). A second run reuses the results of the
first.

Example: slatewise demo --data my-log.parquet
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", help=HELP)(demo)


def demo(
    data: Annotated[Path | None, typer.Option("--data", metavar="PATH", help="A log of your own.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="A simulated log: needs no registry.")] = False,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for runs and report.")] = Path("runs/demo"),
    port: Annotated[int, typer.Option(help="Port named in the commands to go on with.")] = 8080,
    as_json: JsonFlag = False,
) -> None:
    """Run the demo; see HELP."""
    if data is not None and offline:
        raise input_error("--data and --offline were given together", advice="Choose one of them.")
    with progress(stopped=_stop_message) as work:
        prepared, runs = prepare(data, out, offline=offline, say=work.write)
        from slatewise.demo import Settings, run

        stage = work.stage("training", unit="epoch", even=False)
        outcome = run(Settings(data=prepared, runs=runs, port=port), say=work.write, advance=stage.report)
    answer(as_value(outcome), as_json=as_json, text=as_words(outcome))


def _stop_message() -> str:
    return f"Interrupted. What is finished, and the checkpoints of the rest, are kept. Go on: {command_again()}"


def prepare(data: Path | None, out: Path, *, offline: bool, say: Say) -> tuple[Path, Path]:
    """The prepared data set to work on, and the folder for its runs.

    Args:
        data: the user's log or prepared data set; None = public or simulated data.
        out: folder for runs.
        offline: use a simulated log.
        say: prints a line.

    Raises:
        SlatewiseError: no source has the public data set; the message names alternatives.
        InputError: a log that cannot be used.
    """
    from slatewise.data import prepared

    if offline:
        from slatewise.data.simulated import prepare_simulated

        # in the folder of its runs, because data/ belongs to the user
        runs = out / "simulated"
        folder = runs / "data"
        if not (prepared.is_prepared(folder) and prepared.read_manifest(folder).simulated):
            prepare_simulated(folder)
        return folder, runs
    if data is not None:
        return _import_log(data, out, say=say)
    from slatewise.data.fetching.datasets import RECIPES, fetch, present

    recipe, folder = RECIPES["ml-100k"], Path("data/ml-100k")
    if present(recipe, out=folder) is None:
        say(f"{recipe.terms}\n")
        say("Fetching ml-100k. The demo passes --accept-license on: by going on you accept these terms.")
    return fetch(recipe, out=folder).dataset.path, out / "ml-100k"


def _import_log(data: Path, out: Path, *, say: Say) -> tuple[Path, Path]:
    """Prepare the user's own log; returns the data set and the folder for its runs."""
    from slatewise.data import prepared
    from slatewise.data.reading.importing import Options, default_name, import_path

    if prepared.is_prepared(data):
        return data, out / prepared.load(data).name
    runs = out / default_name(data, Options())
    say(f"Importing {data} into {runs / 'data'}")
    try:
        return import_path(data, runs / "data").path, runs
    except InputError as error:
        raise InputError(
            f"{error} The demo has no import options; prepare the log first: "
            f"slatewise data import {data} --out DIR …, then slatewise demo --data DIR"
        ) from error


def as_value(outcome: Outcome) -> dict[str, Any]:
    """The demo's results as JSON."""
    return {
        "rows": outcome.rows,
        "report": str(outcome.report),
        "served": outcome.served,
        "run": str(outcome.run),
        "answer": outcome.answer,
        "commands": list(outcome.commands),
        "simulated": outcome.simulated,
        "seconds": round(outcome.seconds, 1),
    }


def as_words(outcome: Outcome) -> str:
    """The demo's results as text."""
    from slatewise.demo import label

    simulated = label(simulated=outcome.simulated)
    figures = outcome.rows[0]["test"]
    k = next(name for name in figures if name.startswith("ndcg@")).partition("@")[2]
    columns = [name for name in _COLUMNS if f"{name}@{k}" in figures]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(_COLUMNS[name].format(k=k), justify="right")
    table.add_column("log can judge it?")
    for row in outcome.rows:
        served = " ← served" if row["name"] == outcome.served else ""
        cells = [_cell(row["test"][f"{name}@{k}"], interval=name not in ("coverage", "gini")) for name in columns]
        table.add_row(row["label"] + served, *cells, row["off_policy"]["verdict"] if row["off_policy"] else "–")
    items = Table("position", "item", "propensity", box=None, pad_edge=False)
    for shown in outcome.answer["items"]:
        items.add_row(str(shown["position"] + 1), str(shown["title"]), f"{shown['propensity']:.4f}")
    liked = [
        "liked: the same for held-out items that were liked (rated 4 and more);",
        "liked share: liked ones among the recommended items that the user did use later.",
    ]
    return "\n".join(
        [
            f"\nHeld-out test items{simulated}",
            as_text(table),
            "",
            "Full ranking over the catalog, items seen before excluded; in brackets, 95 % intervals.",
            *(liked if "liked_recall" in columns else []),
            "",
            f"Report: {outcome.report}",
            "",
            f"The service answered{simulated}, policy {outcome.answer['policy_version']}:",
            as_text(items),
            "",
            "Ask again:",
            *(f"  {command}" for command in outcome.commands),
            f"\n{outcome.seconds:.0f} s",
        ]
    )


_COLUMNS = {
    "ndcg": "ndcg@{k}",
    "recall": "recall@{k}",
    "liked_recall": "liked recall",
    "liked_share": "liked share",
    "coverage": "coverage",
    "gini": "gini",
}


def _cell(figure: dict[str, Any], *, interval: bool) -> str:
    value, high = figure["value"], figure["high"]
    if value is None:
        return "–"
    text = f"{value:.3f}"
    return f"{text} [{figure['low']:.3f}, {high:.3f}]" if interval and high is not None else text
