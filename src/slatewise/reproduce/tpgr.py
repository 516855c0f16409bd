"""Chen et al., "Large-scale Interactive Recommendation with Tree-structured Policy Gradient", AAAI 2019.

Sessions of 32 items with people of MovieLens-100K whose ratings answer (0 where there is none), four fifths of them to
learn from and one fifth to judge with, everyone once. All policies read the same state and play the same number of
sessions; the softmax over the catalog is the tree of depth 1, so nothing else differs. Settings are first guesses,
not tuned yet: to be chosen on people taken from those who train, with seeds from 100 on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slatewise.data import prepared
from slatewise.errors import located
from slatewise.reproduce import _tpgr_runs as runs
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._story import Check, Curve, Figure, Row, Story, interval

TITLE = "TPGR: a policy gradient that walks down a balanced tree of items"
SOURCES = (
    "data/ratings.py",
    "encoders/_history.py",
    "encoders/gru.py",
    "heads/item_vectors.py",
    "heads/tree_softmax.py",
    "methods/tpgr.py",
    "methods/wolpertinger.py",
    "ops/returns.py",
    "reproduce/_tpgr_runs.py",
    "retrieval/tree.py",
    "sim/_rollout.py",
    "sim/rating_sessions.py",
    "train/on_policy.py",
)
SEEDS, QUICK_SEEDS = 5, 1
UPDATES, QUICK_UPDATES = 150, 40
USERS = 256
ALPHA = 0.1
ALPHAS = (0.0, 0.1, 0.2)
MAIN = ("kmeans", "factors", 2)
"""Cut, vectors and depth of the tree that the checks are about."""
SETTINGS: dict[str, Any] = {"gamma": 0.6, "entropy": 0.01, "lr": 3e-3, "hidden": 32}
LEARN = 4
"""Updates of Wolpertinger after each round of sessions."""
TREES = [
    *((cut, vectors, 2) for cut in ("pca", "kmeans") for vectors in ("ratings", "vae", "factors")),
    ("random", "factors", 2),
]
DEPTHS = (1, 2, 3, 4)
FLOOR = ("random", "popularity", "best liked")
Results = Mapping[str, Mapping[str, Any]]


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Trees by cut and vectors, depths, α, and what they are compared with; every one on every seed."""
    found: dict[str, Cell] = {}
    fingerprint = _fingerprint()
    common = {"users": USERS, "part": "test", "data": fingerprint, "updates": QUICK_UPDATES if quick else UPDATES}

    def add(name: str, kind: str, seed: int, alpha: float, **settings: Any) -> None:
        full = f"{name}-a{alpha:g}-{seed}"
        found[full] = Cell(name=full, settings=common | {"kind": kind, "seed": seed, "alpha": alpha} | settings)

    def add_tree(cut: str, vectors: str, depth: int, seed: int, alpha: float = ALPHA) -> None:
        method = SETTINGS | {"depth": depth, "cut": cut, "vectors": vectors}
        add(tree_name(cut, vectors, depth), "tree", seed, alpha, method=method, vectors=vectors)

    for seed in _seeds(quick, seed_base):
        for cut, vectors, depth in [MAIN, ("random", "factors", 2)] if quick else TREES:
            add_tree(cut, vectors, depth, seed)
        for depth in (1,) if quick else DEPTHS:
            add_tree(*MAIN[:2], depth, seed)
        for alpha in () if quick else ALPHAS:
            for depth in (1, 2):
                add_tree(*MAIN[:2], depth, seed, alpha)
        for alpha in (ALPHA,) if quick else ALPHAS:
            for kind in FLOOR:
                add(kind.replace(" ", "-"), kind, seed, alpha)
        add("wolpertinger", "wolpertinger", seed, ALPHA, method={}, learn=LEARN)
    return list(found.values())


def tree_name(cut: str, vectors: str, depth: int) -> str:
    """How a cell with a tree is called; all trees of depth 1 are one and the same."""
    if depth == 1:
        return "softmax"
    return f"tree-{cut}-{depth}" if cut == "random" else f"tree-{cut}-{vectors}-{depth}"


def run(cell: Cell) -> dict[str, Any]:
    """Train and judge one policy."""
    return runs.run(cell.settings)


def tell(results: Results, *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and figures of everything that was run."""
    found = _Found(results, _seeds(quick, seed_base))
    names: dict[str, str] = {"random": "random", "popularity": "popularity", "best-liked": "best liked, no state"}
    names |= {"wolpertinger": "Wolpertinger, k = 1", "softmax": "softmax over the catalog (depth 1)"}
    for cut, vectors, depth in TREES:
        names[tree_name(cut, vectors, depth)] = f"tree, {cut}" + ("" if cut == "random" else f" of {vectors}")
    for depth in DEPTHS[2:]:
        names[tree_name(*MAIN[:2], depth)] = f"tree, {MAIN[0]} of {MAIN[1]}, depth {depth}"
    rows = []
    for name, label in names.items():
        if not found.has(name, ALPHA):
            continue
        rows += [
            _row(label, f"{metric}, greedy", found.values(name, ALPHA, metric))
            for metric in ("return", "f1", "precision", "recall")
        ]
        rows.append(_row(label, "return, drawn", found.values(name, ALPHA, "return", "drawn")))
    for alpha in ALPHAS:
        if alpha != ALPHA and found.has("softmax", alpha):
            rows += [
                _row(f"α = {alpha:g}: {names[name]}", "return, greedy", found.values(name, alpha))
                for name in ("random", "popularity", "best-liked", "softmax", tree_name(*MAIN))
            ]
    checks = _checks(found, quick)
    rows += [_row(*one) for one in _shares(found)]
    return Story(rows=tuple(rows), checks=tuple(checks), figures=tuple(_figures(found, names)), notes=_notes(quick))


class _Found:
    """Results by name, α and seed."""

    def __init__(self, results: Results, seeds: Sequence[int]) -> None:
        self.results = results
        self.seeds = seeds

    def has(self, name: str, alpha: float) -> bool:
        """Whether it was computed."""
        return f"{name}-a{alpha:g}-{self.seeds[0]}" in self.results

    def values(self, name: str, alpha: float, metric: str = "return", served: str = "greedy") -> list[float]:
        """One figure per seed."""
        return [float(self.results[f"{name}-a{alpha:g}-{seed}"][served][metric]) for seed in self.seeds]

    def share(self, name: str, alpha: float) -> list[float]:
        """(Ours − random) / (softmax − random) per seed; random and softmax are means over seeds."""
        floor = interval(self.values("random", alpha))[0]
        top = interval(self.values("softmax", alpha))[0]
        return [(value - floor) / (top - floor) for value in self.values(name, alpha)]


def _shares(found: _Found) -> list[tuple[str, str, list[float]]]:
    main = tree_name(*MAIN)
    return [
        (f"α = {alpha:g}: tree, share of the softmax", "(ours − random) / (softmax − random)", found.share(main, alpha))
        for alpha in ALPHAS
        if found.has(main, alpha) and found.has("softmax", alpha)
    ]


def _checks(found: _Found, quick: bool) -> list[Check]:
    main = tree_name(*MAIN)
    mean, low, high = interval(found.share(main, ALPHA))
    checks = [
        Check(
            name="the tree earns ≥ 98 % of the softmax over the catalog, random subtracted from both",
            holds=mean >= 0.98,
            figure=f"{mean:.3f}" + (f" ({low:.3f} … {high:.3f})" if math.isfinite(low) else ""),
        )
    ]
    pairs = [(main, other) for other in ("wolpertinger", "popularity")]
    chance = tree_name("random", "factors", 2)
    pairs += [(tree_name(*tree), chance) for tree in (MAIN, ("pca", "factors", 2))]
    return checks + [_above(found, name, other, quick) for name, other in pairs if found.has(name, ALPHA)]


def _above(found: _Found, name: str, other: str, quick: bool) -> Check:
    ours, theirs = (interval(found.values(one, ALPHA)) for one in (name, other))
    return Check(
        name=f"{name} above {other}" + ("" if quick else ", intervals disjoint"),
        holds=ours[0] > theirs[0] if quick else ours[1] > theirs[2],
        figure=f"{ours[0]:.2f} beside {theirs[0]:.2f}",
    )


def _row(name: str, metric: str, values: Sequence[float]) -> Row:
    mean, low, high = interval(values)
    infinite = not math.isfinite(low)
    return Row(
        name=name,
        metric=metric,
        published=None,
        ours=mean,
        low=math.nan if infinite else low,
        high=math.nan if infinite else high,
    )


def _figures(found: _Found, names: Mapping[str, str]) -> list[Figure]:
    there = [name for name in names if found.has(name, ALPHA)]
    figures = [
        _dots(found, "policies", "What a session earns, α = .1", [(names[name], name, ALPHA) for name in there], "")
    ]
    depths = [(f"{depth}", tree_name(*MAIN[:2], depth), ALPHA) for depth in DEPTHS]
    if all(found.has(name, alpha) for _, name, alpha in depths):
        figures.append(_dots(found, "depth", "Depth of the tree", depths, "choices on the way to an item"))
    return figures


def _dots(found: _Found, name: str, title: str, entries: Sequence[tuple[str, str, float]], x: str) -> Figure:
    points = [interval(found.values(cell, alpha)) for _, cell, alpha in entries]
    return Figure(
        name=name,
        title=title,
        x=x,
        y="return of a session of 32 items",
        labels=tuple(label for label, _, _ in entries),
        curves=(
            Curve(
                name="greedy, mean over seeds",
                x=tuple(float(place) for place in range(len(points))),
                y=tuple(mean for mean, _, _ in points),
                half=tuple(high - mean if math.isfinite(high) else 0.0 for mean, _, high in points),
            ),
        ),
    )


def _notes(quick: bool) -> tuple[str, ...]:
    sessions = (QUICK_UPDATES if quick else UPDATES) * USERS
    return (
        f"Every learned policy played {sessions:,} sessions of 32 items. Greedy serves the best item of a beam search "
        "(exact at depth 1); drawn is one walk per item. No item comes twice in a session.",
        "Ratings are put on [−1, 1] with the lowest of the log at −1, so a rating of 3 is worth nothing. The paper's "
        "figures are on other scales and splits, and are not repeated here.",
    )


def _seeds(quick: bool, seed_base: int) -> range:
    return range(seed_base, seed_base + (QUICK_SEEDS if quick else SEEDS))


def _fingerprint() -> str:
    if not prepared.is_prepared(Path(runs.DATA)):
        raise located(
            "MovieLens-100K is not here",
            file=runs.DATA,
            advice="Bring it first: slatewise data fetch ml-100k --accept-license",
        )
    return prepared.load(Path(runs.DATA)).fingerprint
