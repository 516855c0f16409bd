"""slatewise report RUN …"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from slatewise.cli._console import AllowModule, JsonFlag, answer, as_text
from slatewise.cli._runs import label_runs, open_group, part_name
from slatewise.errors import input_error

if TYPE_CHECKING:
    from slatewise.data.splits import PartName
    from slatewise.training.finished_run import FinishedRun

HELP = """Write one or several judged runs of the same data as one page that loads nothing from elsewhere.

Learning curves, metrics with intervals, the verdict of the off-policy estimate, coverage. Where the runs' [evaluate]
differs, the metrics that mean the same for all are compared, and the others named. The first RUN is looked at
closely: its propensities, and slates for some users beside what they used next. Runs are judged by `slatewise
evaluate`; nothing is trained or judged here. The folder of several seeds (`slatewise train --seeds`) is one row: their
mean, with the interval over seeds; its first seed is the one looked at closely.

Example: slatewise report runs/reinforce runs/cloning --out report.html
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", help=HELP)(report)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    out: Annotated[Path | None, typer.Option(help="File to write; default report.html in the first RUN.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Name of a run, in their order; default: of its folder.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared data set, if it was moved.")] = None,
    allow_module: AllowModule = False,
    as_json: JsonFlag = False,
) -> None:
    """Write; see HELP."""
    from slatewise.report import write
    from slatewise.report.comparison import Entry
    from slatewise.report.runs import page
    from slatewise.report.shared_metrics import shared_metrics

    held_out, labels = part_name(part), label_runs(runs, label)
    groups = [open_group(run, data=data, allow_modules=allow_module) for run in runs]
    _check_comparable([run for group in groups for run in group])
    results = [_stored_results(group, held_out) for group in groups]
    shared = shared_metrics(
        {name: group[0].artifact.config.evaluate for name, group in zip(labels, groups, strict=True)},
        {name: [metric["name"] for metric in result["metrics"]] for name, result in zip(labels, results, strict=True)},
    )
    if not shared.names:
        raise input_error(
            "the runs share no metric: " + " ".join(shared.notes).rstrip("."),
            advice="Report the runs one by one, or train one of them again.",
        )
    first, dataset = groups[0][0], groups[0][0].dataset
    entries = [
        Entry(run=group[0], label=name, seeds=group if len(group) > 1 else ())
        for group, name in zip(groups, labels, strict=True)
    ]
    content = page(
        entries,
        detailed=entries[0],
        part=held_out,
        title=f"Learned from {dataset.name}: {', '.join(labels)}",
        commands=[f"slatewise serve {first.folder}"],
    )
    path = out or first.folder / "report.html"
    write(path, content)
    value = {
        "report": str(path),
        "data": dataset.name,
        "simulated": dataset.simulated,
        "part": part,
        "shared_metrics": list(shared.names),
        "runs": [
            {"run": str(run), "label": name, "method": group[0].artifact.config.method.name, **result}
            for run, group, name, result in zip(runs, groups, labels, results, strict=True)
        ],
    }
    answer(value, as_json=as_json, text=_text(value, content.comparison.protocol if content.comparison else ""))


def _check_comparable(opened: Sequence[FinishedRun]) -> None:
    """Refuse runs whose metrics were measured on different events."""
    first = opened[0]
    for run in opened[1:]:
        ours, theirs = (side.artifact.config.to_tables() for side in (first, run))
        for name in ("fingerprint", "split", "valid_share", "test_share", "split_seed"):
            value, expected = theirs["data"].get(name), ours["data"].get(name)
            if value != expected:
                raise input_error(
                    f"[data] {name} is {_toml(value)} here and {_toml(expected)} in {first.folder}, so the metrics "
                    "cannot stand in one table",
                    file=run.folder / "config.toml",
                    advice="Report the runs one by one, or train one of them again.",
                )


def _toml(value: Any) -> str:
    """A value as a configuration writes it."""
    return "not set" if value is None else repr(list(value) if isinstance(value, tuple) else value)


def _stored_result(run: FinishedRun, part: str) -> dict[str, Any]:
    """The stored evaluation of a run on a split."""
    path = run.folder / "evaluation.json"
    evaluation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    result: dict[str, Any] = evaluation.get("parts", {}).get(part, {})
    # older versions said neither over whom a metric is nor how many trajectories an estimate has
    current = "used_items" in result and "trajectories" in (result["off_policy"] or {"trajectories": 0})
    if evaluation.get("policy") != run.artifact.version or not current:
        outdated = "an older version of the policy or of slatewise judged it" if result else "not judged yet"
        raise input_error(
            f'no evaluation on its part "{part}" to report: {outdated}',
            file=run.folder,
            advice=f"First: slatewise evaluate {run.folder} --part {part}",
        )
    return result


def _stored_results(group: Sequence[FinishedRun], part: PartName) -> dict[str, Any]:
    """The stored evaluation of a run; of several seeds that of the first one, with the means of all in its metrics."""
    from slatewise.report.runs import stored_measurements
    from slatewise.training.comparison import metrics_of_seeds

    results = [_stored_result(run, part) for run in group]
    if len(group) == 1:
        return results[0]
    metrics = [
        asdict(metric) for metric in metrics_of_seeds([stored_measurements(run, part) for run in group]).values()
    ]
    finite = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in each.items()}
        for each in metrics
    ]
    return results[0] | {"metrics": finite, "seeds": len(group), "interval_over": "seeds"}


def _text(value: dict[str, Any], protocol: str) -> str:
    label = " (simulated log)" if value["simulated"] else ""
    shown = [
        name
        for name in value["shared_metrics"]
        if name.partition("@")[0] in ("ndcg", "recall", "liked_recall", "coverage")
    ]
    table = Table("run", box=None, pad_edge=False)
    for name in shown:
        table.add_column(name, justify="right")
    table.add_column("can the log judge it?")
    for run in value["runs"]:
        metrics = {metric["name"]: metric["value"] for metric in run["metrics"]}
        cells = ["–" if metrics[name] is None else f"{metrics[name]:.4f}" for name in shown]
        table.add_row(run["label"], *cells, run["off_policy"]["verdict"] if run["off_policy"] else "not estimated")
    return f"{value['data']}{label}. {protocol}\n\n{as_text(table)}\n\nReport: {value['report']}"
