"""Run folders → a page. Reads what training and evaluation left there; trains and judges nothing."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slatewise.config import EvaluateConfig
from slatewise.data.prepared import Dataset
from slatewise.data.splits import PartName
from slatewise.evaluation import RelevanceSummary
from slatewise.methods import reinforce
from slatewise.report.columns import ranking_columns
from slatewise.report.page import (
    Column,
    Comparison,
    Curve,
    Judgement,
    LineChart,
    Page,
    Reliability,
    Row,
    Source,
)
from slatewise.report.served import examples, exposure, propensity_histogram
from slatewise.stats import Measurement
from slatewise.training.judging import FinishedRun
from slatewise.types import Estimate


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run to show."""

    run: FinishedRun
    label: str

    @property
    def is_corrected(self) -> bool:
        """Trained with an off-policy correction."""
        settings = self.run.artifact.config.method.settings
        return isinstance(settings, reinforce.Config) and settings.correction != "none"


def page(
    entries: Sequence[Entry],
    *,
    served: FinishedRun,
    part: PartName,
    title: str,
    propensities: str,
    commands: Sequence[str] = (),
    summary: Sequence[str] = (),
    num_examples: int = 4,
) -> Page:
    """A report over finished and judged runs of one data set.

    Args:
        entries: the runs, in the order of the table.
        served: the run whose slates are shown to example users; its data and split are those of all.
        part: the part they were judged on.
        title: of the page.
        propensities: where the off-policy estimates have theirs from.
        commands: what to type next.
        summary: findings.
        num_examples: users to show.
    """
    evaluations = {entry.run.folder: _evaluation(entry.run.folder, part) for entry in entries}
    dataset, settings, serving = served.dataset, served.artifact.config.evaluate, served.artifact
    held_out = served.split.part(part)
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
        comparison=_comparison(entries, evaluations, dataset, settings, served=served.folder, part=part),
        curves=_curves(entries),
        judgements=_judgements(entries, evaluations, propensities),
        propensities=propensity_histogram(serving, held_out, settings),
        reliability=_reliability(entries, evaluations),
        exposure=exposure(
            {entry.label: entry.run.artifact.policy for entry in entries},
            held_out,
            settings,
            num_rows=dataset.catalog.num_rows,
        ),
        examples=examples(serving, dataset, held_out, settings, number=num_examples),
        commands=tuple(commands),
        configuration=serving.config.to_toml(),
        versions=serving.manifest.versions,
    )


def _evaluation(folder: Path, part: PartName) -> dict[str, Any]:
    path = folder / "evaluation.json"
    parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else {}
    evaluation_of_part: dict[str, Any] = parts.get(part, {})
    return evaluation_of_part


def _comparison(
    entries: Sequence[Entry],
    evaluations: dict[Path, dict[str, Any]],
    dataset: Dataset,
    settings: EvaluateConfig,
    *,
    served: Path,
    part: PartName,
) -> Comparison:
    shown = ranking_columns(max(settings.k), settings.liked_at_least)
    names = {column.name for column in shown}
    rows = []
    for entry in entries:
        cells = {
            metric["name"]: Measurement(
                name=metric["name"],
                value=_number(metric["value"]),
                low=_number(metric["low"]),
                high=_number(metric["high"]),
                users=metric["users"],
                left_out=metric["left_out"],
            )
            for metric in evaluations[entry.run.folder].get("metrics", [])
            if metric["name"] in names
        }
        rows.append(Row(name=entry.label, cells=cells, served=entry.run.folder == served, corrected=entry.is_corrected))
    exclusion = "items seen before excluded" if settings.exclude_seen else "items seen before not excluded"
    evaluated = [evaluation for evaluation in evaluations.values() if "metrics" in evaluation]
    users = max((evaluation["users"] for evaluation in evaluated), default=0)
    # who has something to find depends on the split alone, not on the run
    sentences = _relevance(evaluated[0]).sentences() if evaluated else []
    return Comparison(
        columns=tuple(replace(column, over=_over(column, rows)) for column in shown),
        rows=tuple(rows),
        protocol=(
            f"Part “{part}” of the split, {users:,} users; full ranking over {dataset.catalog.num_items:,} items, "
            f"{exclusion}; one seed. {' '.join(sentences)}"
        ).rstrip(),
    )


def _relevance(evaluation: dict[str, Any]) -> RelevanceSummary:
    return RelevanceSummary(**{name: evaluation[name] for name in RelevanceSummary.__dataclass_fields__})


def _over(column: Column, rows: Sequence[Row]) -> str:
    """Over how many users a column is, and how many it leaves out; lists of runs may differ in who has one."""
    cells = [row.cells[column.name] for row in rows if column.name in row.cells]
    texts = {
        f"{cell.users or 0:,} users" + (f", {cell.left_out:,} left out" if cell.left_out else "") for cell in cells
    }
    return " / ".join(sorted(texts))


def _curves(entries: Sequence[Entry]) -> tuple[LineChart, ...]:
    loss, valid, selects = [], [], set()
    for entry in entries:
        select = entry.run.artifact.config.train.select
        lines = [json.loads(line) for line in (entry.run.folder / "metrics.jsonl").read_text("utf-8").splitlines()]
        steps = [line for line in lines if "loss" in line]
        checks = [line for line in lines if line.get("valid")]
        if len(steps) > 1:
            points = tuple(float(line["step"]) for line in steps)
            loss.append(Curve(name=entry.label, x=points, y=tuple(line["loss"] for line in steps)))
        if len(checks) > 1:
            points = tuple(float(line["step"]) for line in checks)
            values = tuple(_number(line["valid"].get("ndcg@10", line["valid"][select])) for line in checks)
            valid.append(Curve(name=entry.label, x=points, y=values))
            selects.add("ndcg@10" if "ndcg@10" in checks[0]["valid"] else select)
    charts = []
    if valid:
        measure = f"{', '.join(sorted(selects))}, validation"
        charts.append(LineChart(title="Validation while training", x="step", y=measure, curves=tuple(valid)))
    if loss:
        charts.append(LineChart(title="Loss while training", x="step", y="surrogate loss", curves=tuple(loss)))
    return tuple(charts)


def _judgements(
    entries: Sequence[Entry], evaluations: dict[Path, dict[str, Any]], propensities: str
) -> tuple[Judgement, ...]:
    judgements = []
    for entry in entries:
        value = evaluations[entry.run.folder].get("off_policy")
        if value is None:
            continue
        estimate = Estimate(
            value=_number(value["value"]),
            stderr=_number(value["stderr"]),
            interval=(_number(value["interval"][0]), _number(value["interval"][1])),
            ess=_number(value["ess"]),
            steps=int(value["steps"]),
            max_weight=_number(value["max_weight"]),
            unsupported=_number(value["unsupported"]),
            verdict=value["verdict"],
            reasons=tuple(value["reasons"]),
        )
        judgements.append(
            Judgement(policy=entry.label, estimate=estimate, estimator="SNIPS, item by item", propensities=propensities)
        )
    return tuple(judgements)


def _reliability(entries: Sequence[Entry], evaluations: dict[Path, dict[str, Any]]) -> tuple[Reliability, ...]:
    """Calibration of every run that has an estimate of the logging policy; identical estimates are shown once."""
    estimates: dict[str, Reliability] = {}
    for entry in entries:
        value = evaluations[entry.run.folder].get("behaviour")
        if value is not None:
            item = Reliability(
                policy=entry.label,
                predicted=tuple(value["predicted"]),
                observed=tuple(value["observed"]),
                shown=int(value["shown"]),
                ece=float(value["ece"]),
                ece_by_chance=float(value["ece_by_chance"]),
            )
            estimates.setdefault(repr((item.predicted, item.observed)), item)
    return tuple(estimates.values())


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
