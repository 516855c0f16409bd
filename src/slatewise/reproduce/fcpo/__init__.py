"""FCPO on ratings: whole lists under a limit on popular items, beside a multiplier and a re-ranker.

Sessions of ten lists of ten with people whose ratings are known (sim/rating_sessions); policies learn from some people
and are judged with others. Every policy begins as the same imitation of what people like. A list is drawn by the served
procedure, row by row from everything that the session has not shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import numpy as np

from slatewise.report import Check, LineChart
from slatewise.reproduce._cells import Cell, by_kind
from slatewise.reproduce._movielens import DATA, fingerprint
from slatewise.reproduce._results import Results, differences, seed_range
from slatewise.reproduce._story import Row, Story, at_most, chart, check, curve, fact, line, positive
from slatewise.reproduce.fcpo import runs, times
from slatewise.stats import student_t

TITLE = "lists of MovieLens-100K under a limit on popular items"
LIMITS, QUICK_LIMITS = (0.4, 0.3, 0.2), (0.4, 0.2)
DRIFT_LIMIT = 0.3
POINT = 0.01
METRICS = ("rate", "ndcg", "gini", "coverage", "hits")
KINDS = {"trust_region": "FCPO", "lagrangian": "multiplier"}


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Per seed: no limit, limits, drifting groups by the trust region; limits by a multiplier, drawn rows; the time."""
    experiment = runs.Experiment(data=str(DATA))
    if quick:
        experiment = replace(experiment, epochs=30, updates=45, places=32)
    limits = list(QUICK_LIMITS if quick else LIMITS)
    shared = {"experiment": asdict(experiment), "data": fingerprint(), "part": "test"}
    kinds: dict[str, dict[str, Any]] = {
        "trust_region": {"limits": [None, *limits], "drift": None if quick else DRIFT_LIMIT},
        "lagrangian": {"limits": limits, "rows": not quick},
    }
    return [
        Cell(name="speed", settings=shared | {"kind": "speed", "turns": 9, "repeats": 20}),
        *(
            Cell.of(kind, kind, seed, **shared, **settings)
            for seed in seed_range(seed_base, quick, short=1)
            for kind, settings in kinds.items()
        ),
    ]


run = by_kind(speed=times.speed, trust_region=runs.keep_limits, lagrangian=runs.keep_limits)
"""One of them."""


def tell(cells: Mapping[str, Mapping[str, Any]], *, quick: bool, seed_base: int) -> Story:
    """Rows of every variant, the bars, the frontier."""
    results, limits, speed = Results(cells), QUICK_LIMITS if quick else LIMITS, cells["speed"]
    ratio = speed["1"]["ratio"]
    return Story(
        rows=(*_rows(results, limits), *_speed_rows(speed)),
        checks=(
            *_limit_checks(results, limits),
            *_rival_checks(results, limits),
            *_drift_checks(results),
            fact("a list of 10 in one pass ≥ 4× faster", ratio >= 4, f"{ratio:.2f}×"),
        ),
        charts=(*(_frontier(results, limits, metric) for metric in _AGAINST), _learning(results, limits)),
        notes=_notes(results, seed_base),
    )


_FREE = (
    ("random", "random lists"),
    ("most_liked-off", "most liked items, the same for everybody"),
    ("imitation", "imitation"),
    ("off", "FCPO, no limit"),
)
_GROUPS = {"drifting": "groups drift with exposure", "once": "groups fixed once"}
_AGAINST = {
    "gini": ("frontier", "Quality against inequality of exposure", "Gini"),
    "rate": ("rate", "Quality against the share of popular items", "share of popular items"),
}
_FOLLOWED = {
    "now": "rate of what is popular now",
    "kept": "first popular items still so",
    "recoveries": "recovery steps",
}
_SPEED = {
    "milliseconds": "ms a batch",
    "ratio": "times as long by single picks",
    "bare": "times as long by single picks without the encoder",
}


def _rows(results: Results, limits: Sequence[float]) -> list[Row]:
    def metrics(label: str, kind: str, *keys: str | int) -> list[Row]:
        return [Row.of(label, metric, results.values(kind, *keys, metric)) for metric in METRICS]

    rows = [row for name, label in _FREE for row in metrics(label, "trust_region", name, "judged")]
    for limit in limits:
        label = f"most liked items, the same for everybody, limit {limit:g}"
        rows += metrics(label, "trust_region", f"most_liked-{limit:g}", "judged")
    for kind, name in KINDS.items():
        for limit in limits:
            label = f"{name}, limit {limit:g}"
            rows += metrics(label, kind, f"{limit:g}", "judged")
            rows += metrics(f"{label}, best lists", kind, f"{limit:g}", "greedy")
            rows.append(Row.of(label, "recovery steps", results.values(kind, f"{limit:g}", "recoveries")))
    for at, price in enumerate(runs.PRICES):
        rows += metrics(f"re-ranker, price {price:g}", "trust_region", "reranker", at)
    if "drifting" in results["trust_region"][0]:
        for group, words in _GROUPS.items():
            label = f"FCPO, limit {DRIFT_LIMIT:g}, {words}"
            rows += metrics(label, "trust_region", "drifting", group, "judged")
            rows += [
                Row.of(label, metric, results.values("trust_region", "drifting", group, key))
                for key, metric in _FOLLOWED.items()
            ]
    if "rows" in results["lagrangian"][0]:
        rows += metrics("FCPO by drawn rows, no limit", "lagrangian", "rows", "judged")
    return rows


def _speed_rows(speed: Mapping[str, Mapping[str, float]]) -> list[Row]:
    return [
        Row.of(f"a list of 10 in one pass, batch {batch}", metric, times[key])
        for batch, times in speed.items()
        for key, metric in _SPEED.items()
    ]


def _limit_checks(results: Results, limits: Sequence[float]) -> Iterator[Check]:
    for limit in limits:
        rates = results.values("trust_region", f"{limit:g}", "judged", "rate")
        name = f"held-out rate of popular items ≤ limit + 1 point at {limit:g}"
        yield check(name, rates, at_most(limit + POINT))
    gini = [student_t(results.values("trust_region", name, "judged", "gini")).mean for name in _names(limits)]
    falls = all(lower < higher for higher, lower in pairwise(gini))
    yield fact("Gini falls with every limit", falls, " → ".join(f"{value:.3f}" for value in gini))
    ndcg = (results.values("trust_region", name, "judged", "ndcg") for name in ("0.4", "off"))
    loss = [1 - limited / free for limited, free in zip(*ndcg, strict=True)]
    yield check("NDCG loss at .4 ≤ 15 %", loss, at_most(0.15))


def _rival_checks(results: Results, limits: Sequence[float]) -> Iterator[Check]:
    ours, rivals = results["trust_region"], results["lagrangian"]
    lines = {
        "the multiplier": [
            [free["off"]["judged"], *_under_limits(rival, limits)] for free, rival in zip(ours, rivals, strict=True)
        ],
        "the re-ranker": [result["reranker"] for result in ours],
    }
    for name, by_seed in lines.items():
        for metric, words in (("gini", "at the same Gini or less"), ("rate", "at the same rate of popular items")):
            gaps = [
                _mean([above(point, line, metric) for point in _under_limits(result, limits)])
                for result, line in zip(ours, by_seed, strict=True)
            ]
            yield check(f"NDCG {words} above that of {name}", gaps, positive, ".4f")


def _drift_checks(results: Results) -> Iterator[Check]:
    if "drifting" in results["trust_region"][0]:
        once, drifting = (results.values("trust_region", "drifting", group, "now") for group in ("once", "drifting"))
        name = f"rate of what is popular now ≤ limit + 1 point at {DRIFT_LIMIT:g}, groups drifting"
        yield check(name, drifting, at_most(DRIFT_LIMIT + POINT))
        yield check("less of what is popular now than with groups fixed once", differences(once, drifting), positive)


def above(point: Mapping[str, float], line: Sequence[Mapping[str, float]], metric: str = "gini") -> float:
    """NDCG of a point less the most that a line of points reaches, by straight pieces, with no more of a metric.

    A line that does not come down so far is held by its lowest end: what is better in both is above it, and nothing can
    be said (NaN) of a point that is lower in both.
    """
    ordered = sorted((entry[metric], entry["ndcg"]) for entry in line)
    at, ndcg = np.array([x for x, _ in ordered]), np.array([y for _, y in ordered])
    if point[metric] < at[0]:
        gap = point["ndcg"] - float(ndcg[0])
        return gap if gap > 0 else math.nan
    level = float(np.interp(point[metric], at, ndcg))
    return point["ndcg"] - float(max(level, ndcg[at <= point[metric]].max()))


def _names(limits: Sequence[float]) -> list[str]:
    """Where the results without a limit and with each limit stand."""
    return ["off", *(f"{limit:g}" for limit in limits)]


def _under_limits(result: Mapping[str, Any], limits: Sequence[float]) -> list[dict[str, float]]:
    return [result[f"{limit:g}"]["judged"] for limit in limits]


def _mean(gaps: Sequence[float]) -> float:
    finite = [gap for gap in gaps if math.isfinite(gap)]
    return float(np.mean(finite)) if finite else math.nan


def _frontier(results: Results, limits: Sequence[float], against: str) -> LineChart:
    free, *under = [(name, "judged") for name in _names(limits)]
    lines: dict[str, tuple[str, list[tuple[str | int, ...]]]] = {
        "FCPO": ("trust_region", [free, *under]),
        "multiplier": ("lagrangian", [*under]),
        "re-ranker": ("trust_region", [("reranker", at) for at in range(len(runs.PRICES))]),
    }
    curves = [
        curve(
            label,
            [student_t(results.values(kind, *keys, against)).mean for keys in points],
            [results.values(kind, *keys, "ndcg") for keys in points],
        )
        for label, (kind, points) in lines.items()
    ]
    name, title, x = _AGAINST[against]
    return chart(name, title, x, "NDCG@10", curves)


def _learning(results: Results, limits: Sequence[float]) -> LineChart:
    costs = {
        name: np.array([result[name]["cost"] for result in results["trust_region"]]).mean(axis=0)
        for name in _names(limits)
    }
    curves = [line(f"limit {name}", range(len(cost)), cost) for name, cost in costs.items()]
    return chart("learning", "Share of popular items while learning", "update", "share of popular items", curves)


def _notes(results: Results, seed_base: int) -> tuple[str, ...]:
    seeds = [seed_base + number for number in range(len(results["trust_region"]))]
    unmet = {
        f"{cell.replace('_', ' ').replace('-', ', seed ')}: {part['unmet']}"
        for cell, result in results.cells.items()
        for part in result.values()
        if isinstance(part, dict) and part.get("unmet")
    }
    return (
        f"Means over the seeds {seeds}, intervals by Student's t over seeds; first seed {seed_base}. Popular are the "
        f"20 % of the items with the most ratings by the people who train.",
        *(["One seed has no interval: its checks go by the figure alone."] if len(seeds) == 1 else []),
        "ndcg, gini and rate are of lists drawn as served; 'best lists' takes every row's best item instead. A "
        "temperature that is right for the first is not chosen for the second.",
        *sorted(unmet),
    )
