"""Run folders → a page. Reads what training and evaluation left there; trains and judges nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from slatewise.data.splits import PartName
from slatewise.log import LogPart
from slatewise.report.comparison import Entry, comparison, finite_or_nan, measurements
from slatewise.report.examples import examples
from slatewise.report.page import Curve, Exposure, Judgement, LineChart, Page, Reliability, Source
from slatewise.report.recommended import exposure, propensity_histogram
from slatewise.report.shared_metrics import SharedMetrics, shared_metrics
from slatewise.stats import Measurement
from slatewise.training.comparison import metrics_of_seeds
from slatewise.training.finished_run import FinishedRun
from slatewise.types import Estimate


def page(
    entries: Sequence[Entry],
    *,
    detailed: Entry,
    part: PartName,
    title: str,
    commands: Sequence[str] = (),
    summary: Sequence[str] = (),
    num_examples: int = 4,
) -> Page:
    """A report over finished and judged runs of one data set.

    Args:
        entries: the runs, in the order of the table.
        detailed: the run that is looked at closely; its data and split are those of all. They share a metric at least.
        part: the part they were judged on.
        title: of the page.
        commands: what to type next.
        summary: findings.
        num_examples: users to show.
    """
    evaluations = {entry.label: _evaluation(entry.run.folder, part) for entry in entries}
    run, artifact = detailed.run, detailed.run.artifact
    dataset, settings, held_out = run.dataset, artifact.config.evaluate, run.split.part(part)
    measured = {
        entry.label: metrics_of_seeds([stored_measurements(run, part) for run in entry.runs]) for entry in entries
    }
    close_label = detailed.label_of(run)
    shared = _shared_metrics(entries, measured)
    return Page(
        title=title,
        created=time.strftime("%d %B %Y, %H:%M"),
        source=Source(
            name=dataset.name,
            simulated=dataset.simulated,
            terms=dataset.manifest.licence,
            citation=dataset.manifest.citation,
            fingerprint=dataset.fingerprint[:12],
            counts={name: getattr(dataset.manifest.counts, name) for name in ("users", "items", "rows")},
        ),
        summary=tuple(summary),
        comparison=comparison(entries, evaluations, measured, shared, detailed=detailed, part=part),
        curves=_curves(entries, shared.k),
        judgements=_judgements(entries, evaluations),
        propensities=propensity_histogram(artifact.policy, dataset, held_out, settings, label=close_label),
        reliability=_reliability(entries, evaluations),
        exposure=_exposure(entries, part, held_out, k=shared.k),
        examples=examples(artifact.policy, artifact.config, dataset, held_out, label=close_label, number=num_examples),
        commands=tuple(commands),
        configuration=artifact.config.to_toml(),
        versions=artifact.manifest.versions,
    )


def stored_measurements(run: FinishedRun, part: PartName) -> dict[str, Measurement]:
    """The metrics of a run's stored evaluation on a part; nothing where there is none."""
    return measurements(_evaluation(run.folder, part))


def _shared_metrics(entries: Sequence[Entry], measured: Mapping[str, Mapping[str, Measurement]]) -> SharedMetrics:
    settings = {entry.label: entry.run.artifact.config.evaluate for entry in entries}
    return shared_metrics(settings, {label: list(metrics) for label, metrics in measured.items()})


def _exposure(entries: Sequence[Entry], part: PartName, held_out: LogPart, *, k: int) -> tuple[Exposure, ...]:
    """How each run, of several seeds the first one, spreads lists of k items."""
    runs = {entry.label_of(entry.run): entry.run for entry in entries}
    return exposure(
        {label: run.artifact.policy for label, run in runs.items()},
        {label: stored_measurements(run, part) for label, run in runs.items()},
        held_out,
        settings={label: replace(run.artifact.config.evaluate, k=(k,)) for label, run in runs.items()},
        num_rows=entries[0].run.dataset.catalog.num_rows,
    )


def _evaluation(folder: Path, part: PartName) -> dict[str, Any]:
    path = folder / "evaluation.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else {}
    evaluation_of_part: dict[str, Any] = parts.get(part, {})
    return evaluation_of_part


def _curves(entries: Sequence[Entry], k: int) -> tuple[LineChart, ...]:
    """Validation and loss of the runs that were trained in more than one step."""
    loss, validation, metric = [], [], f"ndcg@{k}"
    for label, run in ((entry.label_of(run), run) for entry in entries for run in entry.runs):
        lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
        updates = [line for line in lines if "loss" in line]
        validations = [line for line in lines if metric in line.get("valid", {})]
        if len(updates) > 1:
            steps = tuple(float(line["step"]) for line in updates)
            loss.append(Curve(name=label, x=steps, y=tuple(finite_or_nan(line["loss"]) for line in updates)))
        if len(validations) > 1:
            steps = tuple(float(line["step"]) for line in validations)
            values = tuple(finite_or_nan(line["valid"][metric]) for line in validations)
            validation.append(Curve(name=label, x=steps, y=values))
    step = "training step (updates)"
    charts = []
    if validation:
        y = f"{metric}, validation part"
        charts.append(LineChart(title="Validation while training", x=step, y=y, curves=tuple(validation)))
    if loss:
        y = "surrogate loss of each method"
        charts.append(LineChart(title="Loss while training", x=step, y=y, curves=tuple(loss)))
    return tuple(charts)


def _judgements(entries: Sequence[Entry], evaluations: Mapping[str, Mapping[str, Any]]) -> tuple[Judgement, ...]:
    values = ((entry.label_of(entry.run), evaluations[entry.label].get("off_policy")) for entry in entries)
    return tuple(
        Judgement(policy=label, estimate=_estimate(value), estimator="SNIPS, item by item")
        for label, value in values
        if value is not None
    )


def _estimate(values: Mapping[str, Any]) -> Estimate:
    """The estimate that `evaluation.estimate_to_json` wrote; null becomes NaN."""
    numbers = {name: finite_or_nan(value) if value is None else value for name, value in values.items()}
    low, high = map(finite_or_nan, values["interval"])
    return Estimate(**numbers | {"interval": (low, high), "reasons": tuple(values["reasons"])})


def _reliability(entries: Sequence[Entry], evaluations: Mapping[str, Mapping[str, Any]]) -> tuple[Reliability, ...]:
    """Calibration of every run that has an estimate of the logging policy; identical estimates are shown once."""
    estimates: dict[str, Reliability] = {}
    for entry in entries:
        value = evaluations[entry.label].get("behaviour")
        if value is not None:
            item = Reliability(
                policy=entry.label_of(entry.run),
                predicted=tuple(value["predicted"]),
                observed=tuple(value["observed"]),
                shown=int(value["shown"]),
                ece=float(value["ece"]),
                ece_by_chance=float(value["ece_by_chance"]),
            )
            estimates.setdefault(repr((item.predicted, item.observed)), item)
    return tuple(estimates.values())
