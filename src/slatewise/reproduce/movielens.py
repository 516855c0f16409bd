"""MovieLens-100K, leave-one-out: imitation and what the correction of REINFORCE trades, over seeds.

The last item of a user tests, the last but one validates; full ranking over the catalog, seen items excluded. Nothing
is chosen here: the configurations in configs/ml-100k are those that the validation part chose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from slatewise import config as configs
from slatewise.data import prepared
from slatewise.data.prepared import Dataset
from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._movielens import DATA, fingerprint
from slatewise.reproduce._results import Results, seed_range
from slatewise.reproduce._story import Row, Story

TITLE = "next items of MovieLens-100K, leave-one-out, full ranking"
RATING = 4.0
"""A held-out item rated at least this much is liked."""

# Elsewhere, same protocol: popularity, item-kNN; the plain GRU over whole sequences stands beside cloning.
PUBLISHED = {
    ("popularity", "ndcg@10"): 0.0354,
    ("popularity", "recall@10"): 0.0710,
    ("item_knn", "ndcg@10"): 0.0629,
    ("item_knn", "recall@10"): 0.1145,
    ("cloning", "ndcg@10"): 0.082,
    ("cloning", "recall@10"): 0.16,
}
BARS = (
    ("cloning", "ndcg@10", 0.078),
    ("cloning", "recall@10", 0.150),
    ("reinforce", "ndcg@10", 0.065),
    ("reinforce", "recall@10", 0.125),
    ("reinforce-from-scratch", "ndcg@10", 0.065),
    ("reinforce-from-scratch", "recall@10", 0.125),
)
METRICS = ("ndcg@10", "recall@10", "liked_ndcg@10", "liked_recall@10", "liked_share@10", "coverage@10", "gini@10")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One line of the table: a shipped configuration and what is changed in it."""

    name: str
    label: str
    config: str
    corrected: bool = False
    """Trained with an off-policy correction."""
    set: tuple[str, ...] = ()


def variants() -> tuple[Variant, ...]:
    """The lines of the table, from the shipped configurations."""
    table = configs.read_toml(_shipped() / "demo.toml")
    return tuple(
        configs.convert(Variant, run, where=f"demo.toml [[run]] {number}")
        for number, run in enumerate(table["run"], start=1)
    )


def tables_of(variant: Variant, dataset: Dataset, *, seed: int = 0) -> dict[str, Any]:
    """Settings of a variant on a data set; a log without ratings has no threshold of liking.

    Args:
        variant: the line of the table.
        dataset: the log, MovieLens or another.
        seed: of weights, order and draws.
    """
    tables = configs.override(configs.read_toml(_shipped() / variant.config), list(variant.set))
    tables["data"] = {"path": str(dataset.path), "split": "leave_one_out"}
    tables.setdefault("train", {})["seed"] = seed
    if float(dataset.interactions.reward.max(initial=0.0)) < RATING:
        tables["evaluate"].pop("liked_at_least", None)
        tables["method"].pop("reward_at_least", None)
        tables["train"].pop("select", None)
    k = min(10, dataset.catalog.num_items)
    tables["evaluate"]["k"] = [k]
    if k < 10:
        tables["train"]["select"] = f"ndcg@{k}"
    if "slate_size" in tables["method"]:
        tables["method"]["slate_size"] = min(tables["method"]["slate_size"], dataset.catalog.num_items)
    return tables


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """One training and evaluation each: every variant on every seed; counting methods do not depend on one."""
    data = fingerprint()
    return [
        Cell(name=f"{variant.name}-{seed}", settings={"variant": variant.name, "seed": seed, "data": data})
        for variant in variants()
        for seed in seed_range(seed_base, quick, full=3, short=1)
    ]


def run(cell: Cell) -> dict[str, Any]:
    """Figures of one run on the validation and the test part."""
    from slatewise.training.judging import judge, open_run
    from slatewise.training.loop import train

    variant = next(variant for variant in variants() if variant.name == cell.settings["variant"])
    tables = tables_of(variant, prepared.load(DATA), seed=int(cell.settings["seed"]))
    with tempfile.TemporaryDirectory() as folder:
        result = train(tables, Path(folder) / variant.name)
        opened = open_run(result.folder)
        evaluations = {part: judge(opened, part, behaviour=None) for part in ("valid", "test")}
    return {
        "epochs": result.epochs,
        "seconds": result.seconds,
        **{part: {metric.name: metric.value for metric in each.metrics} for part, each in evaluations.items()},
    }


def tell(cells: Mapping[str, Mapping[str, Any]], *, quick: bool, seed_base: int) -> Story:
    """The table, the bars and what the correction trades."""
    del quick
    results, lines = Results(cells), variants()
    rows = {
        (variant.name, metric): Row.of(
            variant.label,
            metric,
            results.values(variant.name, "test", metric),
            PUBLISHED.get((variant.name, metric)),
        )
        for variant in lines
        for metric in METRICS
    }
    means = {key: row.ours for key, row in rows.items()}
    ours, clone = means["reinforce", "liked_recall@10"], means["cloning", "liked_recall@10"]
    checks = [
        Check(name=f"{name} {metric} ≥ {bar}", holds=means[name, metric] >= bar, figure=f"{means[name, metric]:.4f}")
        for name, metric, bar in BARS
    ]
    checks.append(
        Check(
            name="REINFORCE without correction finds liked held-out items at least as often as cloning",
            # means of the same number of hits may differ in their last digit
            holds=ours >= clone - 1e-9,
            figure=f"{ours:.4f} beside {clone:.4f}",
        )
    )
    chart = LineChart(
        name="trade",
        title="What the correction trades: agreement with the log for coverage",
        x="",
        y="test metric, mean over seeds",
        labels=tuple(variant.label for variant in lines),
        curves=tuple(
            Curve(
                name=metric,
                x=tuple(map(float, range(len(lines)))),
                y=tuple(means[variant.name, metric] for variant in lines),
            )
            for metric in ("recall@10", "liked_recall@10", "coverage@10")
        ),
    )
    seeds = list(range(seed_base, seed_base + len(results["cloning"])))
    notes = (
        f"Means over the seeds {seeds}, intervals by Student's t over seeds; first seed {seed_base}.",
        "Next-item recall measures agreement with the policy that wrote the log, and the correction removes just that "
        "agreement: a corrected form loses recall by design. Judge it where the reward is known (`slatewise reproduce "
        "youtube`).",
    )
    return Story(rows=tuple(rows.values()), checks=tuple(checks), charts=(chart,), notes=notes)


def _shipped() -> Path:
    return Path(str(resources.files("slatewise"))) / "configs" / "ml-100k"
