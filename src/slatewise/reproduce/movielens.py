"""MovieLens-100K, leave-one-out: imitation and what the correction of REINFORCE trades, over seeds.

The last item of a user tests, the last but one validates; full ranking over the catalog, seen items excluded. Nothing
is chosen here: the configurations in configs/ml-100k are those that the validation part chose.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from slatewise import config as configs
from slatewise.config import DataConfig
from slatewise.config.run import RunConfig
from slatewise.data import prepared
from slatewise.data.prepared import Dataset
from slatewise.methods import reinforce
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._movielens import DATA, fingerprint
from slatewise.reproduce._results import Results, seed_range
from slatewise.reproduce._story import Row, Story, chart, fact, line

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


@dataclass(frozen=True, kw_only=True)
class Variants:
    """demo.toml."""

    run: tuple[Variant, ...]


def variants() -> tuple[Variant, ...]:
    """The lines of the table, from the shipped configurations."""
    return configs.convert(Variants, configs.read_toml(_config_folder() / "demo.toml"), where="demo.toml").run


def config_of(variant: Variant, dataset: Dataset, *, seed: int = 0) -> RunConfig:
    """Settings of a variant on a data set; a log without ratings has no threshold of liking.

    Args:
        variant: the line of the table.
        dataset: the log, MovieLens or another.
        seed: of weights, order and draws.
    """
    config = RunConfig.from_toml(_config_folder() / variant.config, variant.set)
    items = dataset.catalog.num_items
    has_ratings = float(dataset.interactions.reward.max(initial=0.0)) >= RATING
    k, settings = min(10, items), config.method.settings
    if isinstance(settings, reinforce.Config):
        at_least = settings.reward_at_least if has_ratings else None
        settings = replace(settings, slate_size=min(settings.slate_size, items), reward_at_least=at_least)
    select = config.train.select if has_ratings and k == 10 else None
    liked_at_least = config.evaluate.liked_at_least if has_ratings else None
    return replace(
        config,
        data=DataConfig(path=str(dataset.path), split="leave_one_out"),
        method=replace(config.method, settings=settings),
        train=replace(config.train, seed=seed, select=select),
        evaluate=replace(config.evaluate, k=(k,), liked_at_least=liked_at_least),
    )


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
    from slatewise.training.finished_run import evaluate_run, open_run
    from slatewise.training.loop import train

    variant = next(variant for variant in variants() if variant.name == cell.settings["variant"])
    config = config_of(variant, prepared.load(DATA), seed=int(cell.settings["seed"]))
    with tempfile.TemporaryDirectory() as folder:
        result = train(config, Path(folder) / variant.name)
        opened = open_run(result.folder)
        evaluations = {part: evaluate_run(opened, part, behaviour=None) for part in ("valid", "test")}
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
        fact(f"{name} {metric} ≥ {bar}", means[name, metric] >= bar, f"{means[name, metric]:.4f}")
        for name, metric, bar in BARS
    ]
    label = "REINFORCE without correction finds liked held-out items at least as often as cloning"
    # means of the same number of hits may differ in their last digit
    checks.append(fact(label, ours >= clone - 1e-9, f"{ours:.4f} beside {clone:.4f}"))
    curves = [
        line(metric, range(len(lines)), [means[variant.name, metric] for variant in lines])
        for metric in ("recall@10", "liked_recall@10", "coverage@10")
    ]
    title, y = "What the correction trades: agreement with the log for coverage", "test metric, mean over seeds"
    trade = chart("trade", title, "", y, curves, labels=[variant.label for variant in lines])
    seeds = list(range(seed_base, seed_base + len(results["cloning"])))
    notes = (
        f"Means over the seeds {seeds}, intervals by Student's t over seeds; first seed {seed_base}.",
        "Next-item recall measures agreement with the policy that wrote the log, and the correction removes just that "
        "agreement: a corrected form loses recall by design. Judge it where the reward is known (`slatewise reproduce "
        "youtube`).",
    )
    return Story(rows=tuple(rows.values()), checks=tuple(checks), charts=(trade,), notes=notes)


def _config_folder() -> Path:
    return Path(str(resources.files("slatewise"))) / "configs" / "ml-100k"
