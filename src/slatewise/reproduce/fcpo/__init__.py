"""FCPO on ratings: whole lists under a limit on popular items, beside a multiplier and a re-ranker.

Sessions of ten lists of ten with people whose ratings are known (sim/rating_sessions); policies learn from some people
and are judged with others. Every policy begins as the same imitation of what people like. A list is drawn by the served
procedure, row by row from everything that the session has not shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from slatewise.data import prepared
from slatewise.errors import located
from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce import Cell, Row, Story
from slatewise.reproduce.fcpo import runs
from slatewise.stats import student_t

TITLE = "lists of MovieLens-100K under a limit on popular items"
DATA = Path("data/ml-100k")
LIMITS = (0.4, 0.3, 0.2)
DRIFT_LIMIT = 0.3
POINT = 0.01
SEEDS = 5
METRICS = ("rate", "ndcg", "gini", "coverage", "hits")
WORDS = {"trust_region": "FCPO", "lagrangian": "multiplier"}


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Per seed: no limit, limits, drifting groups by the trust region; limits by a multiplier, drawn rows; the time."""
    size = runs.Size(epochs=30, updates=45, places=32) if quick else runs.Size()
    limits: tuple[float | None, ...] = (None, 0.4, 0.2) if quick else (None, *LIMITS)
    place, setting = runs.Place(data=DATA), runs.Setting()
    shared = runs.settings_of(size, setting, place, data=_fingerprint(), part="test")
    found = [Cell(name="speed", settings=shared | {"kind": "speed", "turns": 9, "repeats": 20})]
    for seed in range(seed_base, seed_base + (1 if quick else SEEDS)):
        own = shared | {"seed": seed}
        ours = {"kind": "trust_region", "limits": list(limits), "drift": None if quick else DRIFT_LIMIT}
        rival = {"kind": "lagrangian", "limits": list(limits[1:]), "rows": not quick}
        found += [
            Cell(name=f"trust_region-{seed}", settings=own | ours),
            Cell(name=f"lagrangian-{seed}", settings=own | rival),
        ]
    return found


def run(cell: Cell) -> dict[str, Any]:
    """One of them."""
    return (runs.speed if cell.settings["kind"] == "speed" else runs.limited)(cell.settings)


def tell(results: Mapping[str, dict[str, Any]], *, quick: bool, seed_base: int) -> Story:
    """Rows of every variant, the bars, the frontier."""
    limits = (0.4, 0.2) if quick else LIMITS
    ours, rival = (
        [value for name, value in results.items() if name.startswith(f"{kind}-")]
        for kind in ("trust_region", "lagrangian")
    )
    rows: list[Row] = []
    for name, label in _FREE:
        rows += _figures(label, [one[name]["judged"] for one in ours])
    for limit in limits:
        label = f"most liked items, the same for everybody, limit {limit:g}"
        rows += _figures(label, [one[f"most_liked-{limit:g}"]["judged"] for one in ours])
    for kind, found in (("trust_region", ours), ("lagrangian", rival)):
        for limit in limits:
            label = f"{WORDS[kind]}, limit {limit:g}"
            rows += _figures(label, [one[f"{limit:g}"]["judged"] for one in found])
            rows += _figures(f"{label}, best lists", [one[f"{limit:g}"]["greedy"] for one in found])
            rows.append(_row(label, "recovery steps", [float(one[f"{limit:g}"]["recoveries"]) for one in found]))
    for at, price in enumerate(runs.PRICES):
        rows += _figures(f"re-ranker, price {price:g}", [one["reranker"][at] for one in ours])
    for name, said in () if quick else _GROUPS.items():
        label = f"FCPO, limit {DRIFT_LIMIT:g}, {said}"
        found = [one["drifting"][name] for one in ours]
        rows += _figures(label, [one["judged"] for one in found])
        for key, metric in (
            ("now", "rate of what is popular now"),
            ("kept", "first popular items still so"),
            ("recoveries", "recovery steps"),
        ):
            rows.append(_row(label, metric, [float(one[key]) for one in found]))
    if not quick:
        rows += _figures("FCPO by drawn rows, no limit", [one["rows"]["judged"] for one in rival])
    for batch, timed in results["speed"].items():
        label = f"a list of 10 in one pass, batch {batch}"
        for metric in ("milliseconds", "ratio", "bare"):
            rows.append(Row(name=label, metric=_SPEED[metric], published=None, ours=timed[metric]))

    seeds = sorted({int(name.rsplit("-", 1)[1]) for name in results if "-" in name})
    notes = [
        f"Means over the seeds {seeds}, intervals by Student's t over seeds; first seed {seed_base}. Popular are the "
        f"20 % of the items with the most ratings by the people who train.",
        *(["One seed has no interval: its checks go by the figure alone."] if len(seeds) == 1 else []),
        "ndcg, gini and rate are of lists drawn as served; 'best lists' takes every row's best item instead. A "
        "temperature that is right for the first is not chosen for the second.",
        *sorted({f"{name.replace('_', ' ').replace('-', ', seed ')}: {said}" for name, said in _unmet(results)}),
    ]
    return Story(
        rows=tuple(rows),
        checks=tuple(_checks(ours, rival, results["speed"], limits)),
        charts=(*(_frontier(ours, rival, limits, metric) for metric in _AGAINST), _learning(ours, limits)),
        notes=tuple(notes),
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
_SPEED = {
    "milliseconds": "ms a batch",
    "ratio": "times as long by single picks",
    "bare": "times as long by single picks without the encoder",
}


def _checks(
    ours: list[dict[str, Any]], rival: list[dict[str, Any]], speed: dict[str, Any], limits: Sequence[float]
) -> list[Check]:
    checks = []
    for limit in limits:
        value, low, high = student_t([one[f"{limit:g}"]["judged"]["rate"] for one in ours])
        checks.append(
            Check(
                name=f"held-out rate of popular items ≤ limit + 1 point at {limit:g}",
                holds=value <= limit + POINT,
                figure=_said(value, low, high),
            )
        )
    gini = [
        student_t([one[name]["judged"]["gini"] for one in ours])[0] for name in ("off", *(f"{x:g}" for x in limits))
    ]
    checks.append(
        Check(
            name="Gini falls with every limit",
            holds=all(after < before for before, after in pairwise(gini)),
            figure=" → ".join(f"{value:.3f}" for value in gini),
        )
    )
    loss = student_t([1 - one["0.4"]["judged"]["ndcg"] / one["off"]["judged"]["ndcg"] for one in ours])
    checks.append(Check(name="NDCG loss at .4 ≤ 15 %", holds=loss[0] <= 0.15, figure=_said(*loss)))
    lines = {
        "the multiplier": [
            [one["off"]["judged"], *_under_limits(other, limits)] for one, other in zip(ours, rival, strict=True)
        ],
        "the re-ranker": [one["reranker"] for one in ours],
    }
    for name, by_seed in lines.items():
        for metric, words in (("gini", "at the same Gini or less"), ("rate", "at the same rate of popular items")):
            gaps = [
                _mean([above(point, line, metric) for point in _under_limits(one, limits)])
                for one, line in zip(ours, by_seed, strict=True)
            ]
            value, low, high = student_t(gaps)
            checks.append(
                Check(
                    name=f"NDCG {words} above that of {name}",
                    holds=_positive(value, low),
                    figure=_said(value, low, high, digits=4),
                )
            )
    drift = [one["drifting"] for one in ours if "drifting" in one]
    if drift:
        value, low, high = student_t([one["drifting"]["now"] for one in drift])
        checks.append(
            Check(
                name=f"rate of what is popular now ≤ limit + 1 point at {DRIFT_LIMIT:g}, groups drifting",
                holds=value <= DRIFT_LIMIT + POINT,
                figure=_said(value, low, high),
            )
        )
        value, low, high = student_t([one["once"]["now"] - one["drifting"]["now"] for one in drift])
        checks.append(
            Check(
                name="less of what is popular now than with groups fixed once",
                holds=_positive(value, low),
                figure=_said(value, low, high),
            )
        )
    ratio = speed["1"]["ratio"]
    checks.append(Check(name="a list of 10 in one pass ≥ 4× faster", holds=ratio >= 4, figure=f"{ratio:.2f}×"))
    return checks


def above(point: Mapping[str, float], line: Sequence[Mapping[str, float]], metric: str = "gini") -> float:
    """NDCG of a point less the most that a line of points reaches, by straight pieces, with no more of a metric.

    A line that does not come down so far is held by its lowest end: what is better in both is above it, and nothing can
    be said (NaN) of a point that is lower in both.
    """
    ordered = sorted((one[metric], one["ndcg"]) for one in line)
    at, ndcg = np.array([x for x, _ in ordered]), np.array([y for _, y in ordered])
    if point[metric] < at[0]:
        gap = point["ndcg"] - float(ndcg[0])
        return gap if gap > 0 else math.nan
    here = float(np.interp(point[metric], at, ndcg))
    return point["ndcg"] - float(max(here, ndcg[at <= point[metric]].max()))


def _under_limits(one: Mapping[str, Any], limits: Sequence[float]) -> list[dict[str, float]]:
    return [one[f"{limit:g}"]["judged"] for limit in limits]


def _positive(value: float, low: float) -> bool:
    """Above 0, the whole interval where there is one."""
    return (low if math.isfinite(low) else value) > 0


def _mean(gaps: Sequence[float]) -> float:
    kept = [gap for gap in gaps if math.isfinite(gap)]
    return float(np.mean(kept)) if kept else math.nan


def _frontier(
    ours: list[dict[str, Any]], rival: list[dict[str, Any]], limits: Sequence[float], against: str
) -> LineChart:
    lines = {
        "FCPO": [[one[name]["judged"] for one in ours] for name in ("off", *(f"{limit:g}" for limit in limits))],
        "multiplier": [[one[f"{limit:g}"]["judged"] for one in rival] for limit in limits],
        "re-ranker": [[one["reranker"][at] for one in ours] for at in range(len(runs.PRICES))],
    }
    curves = []
    for name, points in lines.items():
        pairs = [[student_t([one[metric] for one in point]) for metric in (against, "ndcg")] for point in points]
        curves.append(
            Curve(
                name=name,
                x=tuple(value[0] for value, _ in pairs),
                y=tuple(ndcg[0] for _, ndcg in pairs),
                half=tuple(ndcg[2] - ndcg[0] for _, ndcg in pairs),
            )
        )
    name, title, x = _AGAINST[against]
    return LineChart(name=name, title=title, x=x, y="NDCG@10", curves=tuple(curves))


def _learning(ours: list[dict[str, Any]], limits: Sequence[float]) -> LineChart:
    curves = []
    for name in ("off", *(f"{limit:g}" for limit in limits)):
        costs = np.array([one[name]["cost"] for one in ours])
        curves.append(
            Curve(
                name=f"limit {name}",
                x=tuple(float(update) for update in range(costs.shape[1])),
                y=tuple(float(value) for value in costs.mean(axis=0)),
            )
        )
    return LineChart(
        name="learning",
        title="Share of popular items while learning",
        x="update",
        y="share of popular items",
        curves=tuple(curves),
    )


def _figures(label: str, found: list[dict[str, Any]]) -> list[Row]:
    return [_row(label, metric, [one[metric] for one in found]) for metric in METRICS]


def _row(label: str, metric: str, values: list[float]) -> Row:
    value, low, high = student_t(values)
    finite = math.isfinite(low)
    return Row(
        name=label,
        metric=metric,
        published=None,
        ours=value,
        low=low if finite else math.nan,
        high=high if finite else math.nan,
    )


def _unmet(results: Mapping[str, dict[str, Any]]) -> list[tuple[str, str]]:
    found = []
    for name, value in results.items():
        told = [part for part in value.values() if isinstance(part, dict)]
        found += [(name, str(one["unmet"])) for one in told if one.get("unmet")]
    return found


def _said(value: float, low: float, high: float, *, digits: int = 3) -> str:
    if not math.isfinite(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _fingerprint() -> str:
    if not prepared.is_prepared(DATA):
        raise located(
            "MovieLens-100K is not here",
            file=DATA,
            advice="Bring it first: slatewise data fetch ml-100k --accept-license",
        )
    return prepared.load(DATA).fingerprint
