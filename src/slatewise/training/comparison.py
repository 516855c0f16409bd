"""Finished runs side by side on the same held-out users: metrics with intervals, and paired differences.

Every policy is ranked anew on the part, with what the runs share of [evaluate], and so is popularity, counted on the
training part of the same data set: a policy that does not beat it has learned nothing of its users.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from slatewise import evaluation
from slatewise.config import EvaluateConfig
from slatewise.data.splits import PartName
from slatewise.errors import input_error
from slatewise.protocols import Policy
from slatewise.stats import MeanInterval, Measurement, paired_difference, student_t
from slatewise.training.finished_run import FinishedRun
from slatewise.training.validation import popularity_of

BASELINE = "popularity (baseline)"

SAME = {
    "data": (
        "fingerprint",
        "split",
        "valid_share",
        "test_share",
        "split_seed",
        "fold_in",
        "valid_from",
        "test_from",
    ),
    "evaluate": ("exclude_seen",),
}
"""Settings that runs must share for any of their metrics to be comparable."""

Results = tuple[Mapping[str, Measurement], Mapping[str, Float[Tensor, " U"]]]
"""Metrics of a policy, and those of every user."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A row: a run, or the runs of several seeds."""

    label: str
    runs: tuple[FinishedRun, ...]


@dataclass(frozen=True, kw_only=True)
class Line:
    """The metrics of a row, and how far it is from the reference."""

    label: str
    method: str
    seeds: int
    metrics: dict[str, Measurement]
    """Of a run, with the interval over users; of several seeds their mean, with the interval over seeds."""
    differences: dict[str, MeanInterval]
    """Row − reference for every metric of hits, paired by user (of several seeds, the mean of each user); empty for the
    reference."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows, the baseline first."""

    lines: tuple[Line, ...]
    reference: str
    """Label of the row that the differences are to."""
    k: tuple[int, ...]
    users: int
    notes: tuple[str, ...]
    """What the runs do not share, and so is left out."""


def compare(
    contenders: Sequence[Contender],
    *,
    part: PartName,
    reference: str | None = None,
    seed: int = 0,
    on_users: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> Comparison:
    """Evaluate runs and popularity on the same held-out part, and compare them user by user.

    Args:
        contenders: the rows.
        part: valid or test.
        reference: label of the row to compare with; None = the first run, or popularity where there is one run.
        seed: of policies that draw.
        on_users: called with the label of the row under way, its users done and those of the part.

    Raises:
        InputError: runs on other data, splits or rules, runs that share no k, an unknown reference, or an empty part.
    """
    every = [run for contender in contenders for run in contender.runs]
    check_comparable(every)
    settings, notes = shared_settings(every)
    first = every[0]
    rows = [Contender(label=BASELINE, runs=(first,)), *contenders]
    labels = [row.label for row in rows]
    reference = reference or labels[0 if len(contenders) == 1 else 1]
    if reference not in labels:
        raise input_error(f'--against "{reference}" is not a row', advice=f"One of: {', '.join(labels)}.")
    held_out = first.split.part(part)
    if held_out.empty:
        raise input_error(f'the split holds nothing out in its part "{part}"', file=first.folder)
    users = len(held_out.users())
    results: dict[str, list[Results]] = {}
    for row in rows:

        def report(done: int, label: str = row.label) -> None:
            on_users(label, done, users)

        policies = (
            [popularity_of(first.dataset.catalog, first.split.part("train"))]
            if row.label == BASELINE
            else [run.artifact.policy for run in row.runs]
        )
        pairs = zip(row.runs, policies, strict=True)
        results[row.label] = [
            _evaluate(run, policy, settings, part, seed=seed, on_batch=report) for run, policy in pairs
        ]
    lines = tuple(
        Line(
            label=row.label,
            method="popularity" if row.label == BASELINE else row.runs[0].artifact.config.method.name,
            seeds=len(row.runs),
            metrics=metrics_of_seeds([metrics for metrics, _ in results[row.label]]),
            differences={} if row.label == reference else _differences(results[row.label], results[reference]),
        )
        for row in rows
    )
    return Comparison(lines=lines, reference=reference, k=settings.k, users=users, notes=notes)


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs whose metrics are of different events or follow different rules.

    Raises:
        InputError: the message names the first setting that differs.
    """
    first = runs[0]
    for run in runs[1:]:
        tables, others = (side.artifact.config.to_tables() for side in (first, run))
        for table, names in SAME.items():
            for name in names:
                if others[table].get(name) != tables[table].get(name):
                    raise input_error(
                        f"[{table}] {name} is {_toml(others[table].get(name))} in it and "
                        f"{_toml(tables[table].get(name))} in {first.folder}, so no metric of the two is comparable",
                        file=run.folder / "config.toml",
                        advice="Compare runs on the same data, split and rule for seen items.",
                    )


def shared_settings(runs: Sequence[FinishedRun]) -> tuple[EvaluateConfig, tuple[str, ...]]:
    """What runs share of [evaluate], and in words what they do not.

    Raises:
        InputError: they share no k.
    """
    configs = [run.artifact.config.evaluate for run in runs]
    shared = set(configs[0].k).intersection(*(config.k for config in configs))
    if not shared:
        lengths = "; ".join(f"{run.folder}: {list(config.k)}" for run, config in zip(runs, configs, strict=True))
        raise input_error(
            f"the runs share no [evaluate] k ({lengths})", advice="Train one of them again with --set evaluate.k=…"
        )
    notes = []
    if left_out := sorted({k for config in configs for k in config.k} - shared):
        notes.append(f"k = {', '.join(map(str, left_out))} is left out: not all runs have it in [evaluate] k.")
    liked = {config.liked_at_least for config in configs}
    if len(liked) > 1:
        notes.append("Metrics of liked items are left out: the runs differ in [evaluate] liked_at_least.")
    threshold = configs[0].liked_at_least if len(liked) == 1 else None
    return replace(configs[0], k=tuple(sorted(shared)), liked_at_least=threshold), tuple(notes)


def metrics_of_seeds(measured: Sequence[Mapping[str, Measurement]]) -> dict[str, Measurement]:
    """The metrics of a run, or of several seeds the mean of each with its interval over them."""
    if len(measured) == 1:
        return dict(measured[0])
    return {name: mean_of_seeds([metrics[name] for metrics in measured]) for name in measured[0]}


def mean_of_seeds(measurements: Sequence[Measurement]) -> Measurement:
    """The mean of a metric over seeds, and its 95 % interval over them (Student's t), within the metric's range."""
    first, values = measurements[0], [measurement.value for measurement in measurements]
    if any(math.isnan(value) for value in values):
        return Measurement(name=first.name, value=math.nan, users=first.users, left_out=first.left_out)
    mean, low, high = student_t(values, within=evaluation.metric_range(first.name))
    return Measurement(name=first.name, value=mean, low=low, high=high, users=first.users, left_out=first.left_out)


def _differences(results: Sequence[Results], reference: Sequence[Results]) -> dict[str, MeanInterval]:
    def mean(rows: Sequence[Results], name: str) -> Float[Tensor, " U"]:
        return torch.stack([values[name] for _, values in rows]).mean(dim=0)

    return {name: paired_difference(mean(results, name), mean(reference, name)) for name in results[0][1]}


def _evaluate(
    run: FinishedRun,
    policy: Policy,
    settings: EvaluateConfig,
    part: PartName,
    *,
    seed: int,
    on_batch: Callable[[int], None],
) -> Results:
    # how much of a history a policy reads is its own affair
    config = replace(settings, max_history=run.artifact.config.evaluate.max_history)
    num_rows = run.dataset.catalog.num_rows
    ranking = evaluation.rank(policy, run.split.part(part), config, num_rows=num_rows, seed=seed, on_batch=on_batch)
    count = torch.from_numpy(run.split.part("train").counts(num_rows))
    measured = evaluation.ranking_metrics(ranking, config, num_rows=num_rows, count=count)
    return {metric.name: metric for metric in measured}, evaluation.user_values(ranking, config)


def _toml(value: object) -> str:
    """A value as a configuration writes it."""
    return "not set" if value is None else repr(list(value) if isinstance(value, tuple) else value)
