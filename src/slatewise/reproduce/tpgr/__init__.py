"""Chen et al., "Large-scale Interactive Recommendation with Tree-structured Policy Gradient", AAAI 2019.

Sessions of 32 items with people of MovieLens-100K whose ratings answer (0 where there is none), four fifths of them to
learn from and one fifth to judge with, everyone once. All policies read the same state and see the same number of
sessions; the softmax over the catalog is the tree of depth 1, so nothing else differs.

Settings, and how each kind of policy is served, were looked for on a fifth of the people taken from those who train,
with seed 100: some fifteen for the tree, twelve for the softmax over the catalog, eight for Wolpertinger; from each
the best was taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slatewise.data import prepared
from slatewise.errors import located
from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._story import Row, Story
from slatewise.reproduce.tpgr import runs
from slatewise.stats import student_t

TITLE = "TPGR: a policy gradient that walks down a balanced tree of items"
SEEDS, QUICK_SEEDS = 5, 1
SIZE: dict[str, Any] = {"users": 256, "batch": 32, "rounds": 32, "passes": 20, "imitation_lr": 0.012}
"""256 sessions a round, learned from by 32; passes over everybody's made sessions before that."""
QUICK_SIZE = SIZE | {"rounds": 8, "passes": 3}
LONGER = 72
"""Rounds of a tree that may learn about as long, in processor time, as the softmax over the catalog in 32."""
ALPHA = 0.1
ALPHAS = (0.0, 0.1, 0.2)
COMMON: dict[str, Any] = {"gamma": 0.6, "hidden": 32, "baseline": "value", "unit_advantage": True, "weight_cap": 2.0}
TREE = COMMON | {"entropy": 0.06, "lr": 0.008}
SOFTMAX = COMMON | {"entropy": 0.04, "lr": 0.006}
WOLPERTINGER: dict[str, Any] = {
    "gamma": 0.6,
    "critic": {"link": "logistic"},
    "serve": "target",
    "lr": 3e-3,
    "actor": {"lr": 3e-3},
}
SERVED = {"tree": "sharp", "softmax": "greedy"}
"""How the learned policies are served; all others greedily."""
FORMS = ("greedy", "sharp", "drawn")
LEARNED = ("softmax", "tree", "from-scratch")
MAIN = ("pca", "ratings", 2)
"""Cut, vectors and depth of the tree that the checks are about."""
VECTORS = ("ratings", "vae", "factors", "text")
TREES = [*((cut, vectors, 2) for cut in ("pca", "kmeans") for vectors in VECTORS), ("random", "ratings", 2)]
DEPTHS = (1, 2, 3, 4)
KINDRED = [(cut, MAIN[1], 2) for cut in ("pca", "kmeans")]
LONG = "tree-longer"
FIXED = ("popularity", "best liked")
"""Know no seed: computed once."""
CHANGES = ("late items missing", "late items added", "added and practised", "other items removed")
Results = Mapping[str, Mapping[str, Any]]
METRICS = ("return", "precision", "recall", "f1")


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Trees by cut and vectors, depths, α, completed ratings, and what they are compared with; all on every seed."""
    found: dict[str, Cell] = {}
    common = (QUICK_SIZE if quick else SIZE) | {"part": "test", "data": _fingerprint()}

    def add(name: str, kind: str, seed: int, alpha: float, unrated: str = "zero", **settings: Any) -> None:
        full = _cell(name, alpha, unrated, seed)
        given = {"kind": kind, "seed": seed, "alpha": alpha, "unrated": unrated}
        found[full] = Cell(name=full, settings=common | given | settings)

    def add_tree(cut: str, vectors: str, depth: int, *, seed: int, alpha: float = ALPHA, unrated: str = "zero") -> None:
        method = (SOFTMAX if depth == 1 else TREE) | {"tree": {"depth": depth, "cut": cut}}
        more = {"beams": True} if (cut, vectors, depth) == MAIN else {}
        add(tree_name(cut, vectors, depth), "tree", seed, alpha, unrated, method=method, vectors=vectors, **more)

    seeds = range(seed_base, seed_base + (QUICK_SEEDS if quick else SEEDS))
    alphas = (ALPHA,) if quick else ALPHAS
    # what the checks are about comes first, so that a run that was stopped can tell most
    for seed in seeds:
        for cut, vectors, depth in dict.fromkeys([MAIN, TREES[-1], *(() if quick else KINDRED)]):
            add_tree(cut, vectors, depth, seed=seed)
        for alpha in alphas:
            add("random", "random", seed, alpha)
    for kind in FIXED:
        for alpha in alphas:
            add(kind.replace(" ", "-"), kind, seeds[0], alpha)
    for seed in seeds:
        add_tree(*MAIN[:2], 1, seed=seed)
        add("wolpertinger", "wolpertinger", seed, ALPHA, method=WOLPERTINGER)
    for seed in () if quick else seeds:
        for depth in DEPTHS[1:]:
            add_tree(*MAIN[:2], depth, seed=seed)
        for alpha in ALPHAS:
            add_tree(*MAIN, seed=seed, alpha=alpha)
        method = TREE | {"tree": {"depth": MAIN[2], "cut": MAIN[0]}}
        add("changing-tree", "changing tree", seed, ALPHA, method=method, vectors=MAIN[1])
        add(LONG, "tree", seed, ALPHA, method=method, vectors=MAIN[1], rounds=LONGER)
        add("from-scratch", "tree", seed, ALPHA, method=method, vectors=MAIN[1], passes=0)
        for cut, vectors, depth in TREES:
            add_tree(cut, vectors, depth, seed=seed)
        add_tree(*MAIN, seed=seed, unrated="completed")
        add("random", "random", seed, ALPHA, "completed")
    for kind in () if quick else FIXED:
        add(kind.replace(" ", "-"), kind, seeds[0], ALPHA, "completed")
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
    found = _Found(results, range(seed_base, seed_base + (QUICK_SEEDS if quick else SEEDS)))
    names = _names()
    rows = []
    for name, label in names.items():
        if found.has(name):
            rows += [_row(label, _said(metric, found.served(name)), found.values(name, metric)) for metric in METRICS]
        rows += [
            _row(label, f"return, {served}", found.values(name, served=served))
            for served in FORMS
            if found.has(name) and name.startswith(LEARNED) and served != found.served(name)
        ]
    main = tree_name(*MAIN)
    rows += [
        _row(f"{names[main]}, beam of {width}", "return, greedy", found.values(main, served=f"beam {width}"))
        for width in runs.BEAMS
        if found.has(main, served=f"beam {width}")
    ]
    short = {"random": "random", "popularity": "popularity", "best-liked": "best list for everybody"}
    short |= {main: "tree"}
    others = [(f"α = {alpha:g}", alpha, "zero") for alpha in ALPHAS if alpha != ALPHA]
    for label, alpha, unrated in [*others, ("unrated items answered by factors", ALPHA, "completed")]:
        if found.has(main, alpha, unrated):
            rows += [
                _row(f"{label}: {short[name]}", "return", found.values(name, "return", alpha, unrated))
                for name in short
            ]
    if found.has("changing-tree", served=CHANGES[0]):
        rows += [
            _row(f"a tree that changes: {change}", "return", found.values("changing-tree", served=change))
            for change in CHANGES
        ]
    rows += [
        _row(label, _SHARE, found.share(name))
        for name, label in (
            (main, "tree, share of the softmax"),
            (LONG, "tree that learns as long, share of the softmax"),
        )
        if found.has(name)
    ]
    rows += [
        _row(names[name], "seconds to learn", found.seconds(name))
        for name in ("softmax", main, LONG)
        if found.has(name)
    ]
    return Story(
        rows=tuple(rows),
        checks=tuple(_checks(found, quick)),
        charts=tuple(_figures(found, names)),
        notes=_notes(quick),
    )


_SHARE = "(ours − random) / (softmax − random)"


class _Found:
    """Results by name, α, answer of unrated items, and seed."""

    def __init__(self, results: Results, seeds: Sequence[int]) -> None:
        self.results = results
        self.seeds = seeds

    def has(self, name: str, alpha: float = ALPHA, unrated: str = "zero", served: str | None = None) -> bool:
        """Whether it was computed."""
        cell = self.results.get(_cell(name, alpha, unrated, self.seeds[0]))
        return cell is not None and (served is None or served in cell)

    def served(self, name: str) -> str:
        """How a policy is served in the main rows."""
        if name == "softmax":
            return SERVED["softmax"]
        return SERVED["tree"] if name.startswith(LEARNED) else "greedy"

    def values(
        self,
        name: str,
        metric: str = "return",
        alpha: float = ALPHA,
        unrated: str = "zero",
        served: str | None = None,
    ) -> list[float]:
        """One figure per seed."""
        cells = [self.results[_cell(name, alpha, unrated, self.seed(name, seed))] for seed in self.seeds]
        return [float(cell[served or self.served(name)][metric]) for cell in cells]

    def seed(self, name: str, seed: int) -> int:
        """The seed of the cell that stands for a seed."""
        return self.seeds[0] if name.replace("-", " ") in FIXED else seed

    def seconds(self, name: str) -> list[float]:
        """Processor time of learning, per seed."""
        return [float(self.results[_cell(name, ALPHA, "zero", seed)]["seconds"]) for seed in self.seeds]

    def share(self, name: str, served: str | None = None) -> list[float]:
        """(Ours − random) / (softmax − random) per seed; random and softmax are means over seeds."""
        floor, top = (student_t(self.values(one))[0] for one in ("random", "softmax"))
        return [(value - floor) / (top - floor) for value in self.values(name, served=served)]


def _cell(name: str, alpha: float, unrated: str, seed: int) -> str:
    return f"{name}-a{alpha:g}{'' if unrated == 'zero' else '-' + unrated}-{seed}"


def _names() -> dict[str, str]:
    names = {"random": "random", "popularity": "popularity", "best-liked": "best list for everybody"}
    names |= {"wolpertinger": "Wolpertinger, k = 1", "softmax": "softmax over the catalog (depth 1)"}
    for cut, vectors, depth in TREES:
        names[tree_name(cut, vectors, depth)] = f"tree, {cut}" + ("" if cut == "random" else f" of {vectors}")
    for depth in DEPTHS[2:]:
        names[tree_name(*MAIN[:2], depth)] = f"tree, {MAIN[0]} of {MAIN[1]}, depth {depth}"
    names[LONG] = f"tree, {MAIN[0]} of {MAIN[1]}, {LONGER} rounds"
    return names | {"from-scratch": f"tree, {MAIN[0]} of {MAIN[1]}, without imitation first"}


def _said(metric: str, served: str) -> str:
    return f"{metric}, {served}" if metric == "return" else f"{metric}@32, {served}"


def _checks(found: _Found, quick: bool) -> list[Check]:
    main, chance = tree_name(*MAIN), tree_name(*TREES[-1])
    checks = [_at_least("from as many sessions, the tree earns ≥ 98 % of the softmax", 0.98, found.share(main))]
    if found.has(LONG):
        name = "in about as much processor time, the tree earns ≥ 98 % of the softmax"
        checks.append(_at_least(name, 0.98, found.share(LONG)))
    checks += [_above(found, main, other, quick) for other in ("wolpertinger", "popularity", "best-liked")]
    for cut in ("pca", "kmeans"):
        tree = tree_name(cut, MAIN[1], 2)
        if found.has(tree):
            checks += [_above(found, tree, chance, quick, served) for served in ("sharp", "greedy")]
    if found.has("changing-tree", served=CHANGES[2]):
        whole = student_t(found.share(main))[0]
        late = [value / whole for value in found.share("changing-tree", served=CHANGES[2])]
        name = "a tree that got a tenth of its items late, and a quarter more practice, earns ≥ 95 % of a whole one"
        checks.append(_at_least(name, 0.95, late))
    return checks


def _at_least(name: str, bar: float, values: Sequence[float]) -> Check:
    mean, low, high = student_t(values)
    return Check(
        name=f"{name}, random subtracted from both",
        holds=mean >= bar,
        figure=f"{mean:.3f}" + (f" ({low:.3f} … {high:.3f})" if math.isfinite(low) else ""),
    )


def _above(found: _Found, name: str, other: str, quick: bool, served: str | None = None) -> Check:
    ours, theirs = (student_t(found.values(one, served=served)) for one in (name, other))
    labels = _names()
    both = f", both {served}" if served else ""
    return Check(
        name=f"{labels[name]} above {labels[other]}{both}" + ("" if quick else ", intervals disjoint"),
        holds=ours[0] > theirs[0] if quick else ours[1] > theirs[2],
        figure=f"{_with_interval(ours)} beside {_with_interval(theirs)}",
    )


def _with_interval(one: tuple[float, float, float]) -> str:
    mean, low, high = one
    return f"{mean:.2f}" + (f" ({low:.2f} … {high:.2f})" if math.isfinite(low) else "")


def _row(name: str, metric: str, values: Sequence[float]) -> Row:
    mean, low, high = student_t(values)
    infinite = not math.isfinite(low)
    return Row(
        name=name,
        metric=metric,
        published=None,
        ours=mean,
        low=math.nan if infinite else low,
        high=math.nan if infinite else high,
    )


def _figures(found: _Found, names: Mapping[str, str]) -> list[LineChart]:
    there = [(name, label) for name, label in names.items() if found.has(name)]
    figures = [
        _dots("policies", "What a session earns, α = .1", [(label, found.values(name)) for name, label in there])
    ]
    depths = [(str(depth), tree_name(*MAIN[:2], depth)) for depth in DEPTHS]
    if all(found.has(name) for _, name in depths):
        entries = [(label, found.values(name)) for label, name in depths]
        figures.append(_dots("depth", "Depth of the tree, 1 = softmax over the catalog", entries, "choices to an item"))
    main = tree_name(*MAIN)
    if all(found.has(main, alpha) for alpha in ALPHAS):
        lines = {
            "tree": main,
            "best list for everybody": "best-liked",
            "popularity": "popularity",
        }
        figures.append(
            LineChart(
                name="alpha",
                title="What a row of good answers is worth",
                x="α",
                y="return of a session of 32 items",
                curves=tuple(
                    _curve(label, [(a, found.values(name, "return", a)) for a in ALPHAS])
                    for label, name in lines.items()
                ),
            )
        )
    return figures


def _dots(name: str, title: str, entries: Sequence[tuple[str, Sequence[float]]], x: str = "") -> LineChart:
    return LineChart(
        name=name,
        title=title,
        x=x,
        y="return of a session of 32 items",
        labels=tuple(label for label, _ in entries),
        curves=(_curve("mean over seeds", [(float(place), values) for place, (_, values) in enumerate(entries)]),),
    )


def _curve(name: str, points: Sequence[tuple[float, Sequence[float]]]) -> Curve:
    found = [student_t(values) for _, values in points]
    return Curve(
        name=name,
        x=tuple(x for x, _ in points),
        y=tuple(mean for mean, _, _ in found),
        half=tuple(high - mean if math.isfinite(high) else 0.0 for mean, _, high in found),
    )


def _notes(quick: bool) -> tuple[str, ...]:
    size = QUICK_SIZE if quick else SIZE
    longer = "" if quick else f"; where {LONGER} rounds stand, more"
    return (
        f"Every learned policy saw {size['passes']} sessions of each person who trains, put together from ratings, and "
        f"played {size['rounds'] * size['users']:,} sessions of 32 items{longer}. Greedy "
        "serves the best item of a beam search (exact at depth 1); drawn is one walk per item, sharp one at half the "
        "temperature. No item comes twice in a session. Intervals are over seeds: the people are the same.",
        "Ratings are put on [−1, 1] with the lowest of the log at −1, so a rating of 3 is worth nothing. The paper's "
        "figures are on other scales and splits, and are not repeated here.",
    )


def _fingerprint() -> str:
    if not prepared.is_prepared(Path(runs.DATA)):
        raise located(
            "MovieLens-100K is not here",
            file=runs.DATA,
            advice="Bring it first: slatewise data fetch ml-100k --accept-license",
        )
    return prepared.load(Path(runs.DATA)).fingerprint
