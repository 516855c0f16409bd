"""slatewise compare RUN …"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from slatewise.cli._console import AllowModule, JsonFlag, Stage, answer, as_text, progress
from slatewise.cli._runs import label_runs, open_group, part_name
from slatewise.errors import input_error

if TYPE_CHECKING:
    from slatewise.stats import Measurement
    from slatewise.training.comparison import Comparison, Line

HELP = """Compare runs on the same held-out users: one table, with popularity of the same data as baseline.

A RUN may be the folder of several seeds (`slatewise train --seeds`): its row is their mean, with the interval over
seeds. The last column is the difference to the first RUN (to popularity where there is one RUN), paired by user, with
its 95 % interval. Runs are evaluated by this command; runs on other data or another split are refused, and settings of
[evaluate] that they do not share are left out and named.

Example: slatewise compare runs/reinforce runs/cloning --metric ndcg@10
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", help=HELP)(compare)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of seeds.", show_default=False)
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="M", help="Show these metrics; default ndcg, recall, coverage."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Row that differences are to; default the first RUN.")
    ] = None,
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Name of a row, in their order; default: of its folder.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data set, if it was moved.")] = None,
    seed: Annotated[int, typer.Option(help="Of policies that draw.", min=0)] = 0,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare; see HELP."""
    from slatewise.training import comparison

    held_out, labels = part_name(part), label_runs(runs, label)
    contenders = [
        comparison.Contender(label=name, runs=open_group(run, data=data, allow_modules=allow_module))
        for run, name in zip(runs, labels, strict=True)
    ]
    with progress() as work:
        stages: dict[str, Stage] = {}

        def on_users(row: str, done: int, total: int) -> None:
            if row not in stages:
                stages[row] = work.stage(f"ranking, {row}", unit="user", total=total)
            stages[row].report(done)

        result = comparison.compare(contenders, part=held_out, reference=against, seed=seed, on_users=on_users)
    dataset = contenders[0].runs[0].dataset
    shown = _shown_metrics(result, metric)
    value = {
        "data": dataset.name,
        "simulated": dataset.simulated,
        "part": part,
        "users": result.users,
        "against": result.reference,
        "k": list(result.k),
        "notes": list(result.notes),
        "rows": [_row_value(line) for line in result.lines],
    }
    simulated = " (simulated log)" if dataset.simulated else ""
    head = f"{dataset.name}{simulated}, part {part}, {result.users:,} users, 95 % intervals over users"
    if any(line.seeds > 1 for line in result.lines):
        head += ", of several seeds over seeds (Student's t)"
    answer(
        value, as_json=as_json, text="\n".join([head, "", as_text(_table(result, shown)), "", *_words(result, shown)])
    )


def _shown_metrics(result: Comparison, metric: Sequence[str] | None) -> list[str]:
    """Names of the metrics to show, the one of the differences first."""
    names = list(result.lines[0].metrics)
    for name in metric or ():
        if name not in names:
            raise input_error(f'--metric "{name}" is not a metric of these runs', advice=f"One of: {', '.join(names)}.")
    k = max(result.k)
    default = [f"{name}@{k}" for name in ("ndcg", "recall", "liked_ndcg", "coverage")]
    return list(metric or (name for name in default if name in names))


def _table(result: Comparison, shown: Sequence[str]) -> Table:
    table = Table("run", "seeds", box=None, pad_edge=False)
    for name in shown:
        table.add_column(name, justify="right")
    table.add_column(f"{shown[0]}, difference", justify="right")
    for line in result.lines:
        cells = [_cell(line.metrics[name]) for name in shown]
        table.add_row(line.label, str(line.seeds), *cells, _difference(line, shown[0], result.reference))
    return table


def _cell(metric: Measurement) -> str:
    if math.isnan(metric.value):
        return "–"
    return f"{metric.value:.4f}" + (f" [{metric.low:.4f}, {metric.high:.4f}]" if metric.has_interval else "")


def _difference(line: Line, name: str, reference: str) -> str:
    if line.label == reference:
        return "reference"
    if name not in line.differences or math.isnan(line.differences[name].mean):
        return "–"
    return line.differences[name].text("+.4f")


def _words(result: Comparison, shown: Sequence[str]) -> list[str]:
    """What the differences are, and what was left out."""
    lines = [f"Differences: row − {result.reference}, paired by user (t-test); of several seeds, each user's mean."]
    if not any(shown[0] in line.differences for line in result.lines):
        lines = [f"{shown[0]} is a metric of all lists together, not of each user: it has no paired difference."]
    return lines + [f"Note: {note}" for note in result.notes]


def _row_value(line: Line) -> dict[str, object]:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "label": line.label,
        "method": line.method,
        "seeds": line.seeds,
        "interval_over": "seeds" if line.seeds > 1 else "users",
        "metrics": [
            {name: number(each) if isinstance(each, float) else each for name, each in asdict(metric).items()}
            for metric in line.metrics.values()
        ],
        "differences": {
            name: {"value": number(each.mean), "low": number(each.low), "high": number(each.high)}
            for name, each in line.differences.items()
        },
    }
