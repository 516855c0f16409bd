"""Chen et al., "Large-scale Interactive Recommendation with Tree-structured Policy Gradient", AAAI 2019.

Sessions of 32 items with people of MovieLens-100K whose ratings answer (0 where there is none), four fifths of them to
learn from and one fifth to judge with, everyone once. All policies read the same state and see the same number of
sessions; the softmax over the catalog is the tree of depth 1, so nothing else differs.

Settings, and how each kind of policy is served, were looked for on a fifth of the people taken from those who train,
with seed 100: some fifteen for the tree, twelve for the softmax over the catalog, eight for Wolpertinger; from each
the best was taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slatewise.report import Check, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._movielens import fingerprint
from slatewise.reproduce._results import Results, seed_range, shares
from slatewise.reproduce._story import Row, Story, at_least, chart, check, curve, fact
from slatewise.reproduce.tpgr import runs
from slatewise.stats import student_t

TITLE = "TPGR: a policy gradient that walks down a balanced tree of items"
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
WITHOUT_STATE = {"random": "random", "popularity": "popularity", "best-liked": "best list for everybody"}
CHANGES = ("late items missing", "late items added", "added and practised", "other items removed")
METRICS = ("return", "precision", "recall", "f1")


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Trees by cut and vectors, depths, α, completed ratings, and what they are compared with; all on every seed."""
    parts: dict[str, Cell] = {}
    common = (QUICK_SIZE if quick else SIZE) | {"part": "test", "data": fingerprint(Path(runs.DATA))}

    def add(name: str, kind: str, seed: int, alpha: float, unrated: str = "zero", **settings: Any) -> None:
        settings = common | {"alpha": alpha, "unrated": unrated} | settings
        cell = Cell.of(_cell(name, alpha, unrated), kind, seed, **settings)
        parts[cell.name] = cell

    def add_tree(cut: str, vectors: str, depth: int, *, seed: int, alpha: float = ALPHA, unrated: str = "zero") -> None:
        method = (SOFTMAX if depth == 1 else TREE) | {"tree": {"depth": depth, "cut": cut}}
        options = {"beams": True} if (cut, vectors, depth) == MAIN else {}
        add(tree_name(cut, vectors, depth), "tree", seed, alpha, unrated, method=method, vectors=vectors, **options)

    seeds = seed_range(seed_base, quick, short=1)
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
    return list(parts.values())


def tree_name(cut: str, vectors: str, depth: int) -> str:
    """How a cell with a tree is called; all trees of depth 1 are one and the same."""
    if depth == 1:
        return "softmax"
    return f"tree-{cut}-{depth}" if cut == "random" else f"tree-{cut}-{vectors}-{depth}"


def run(cell: Cell) -> dict[str, Any]:
    """Train and judge one policy."""
    return runs.run(cell.settings)


def tell(cells: Mapping[str, Mapping[str, Any]], *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and charts of everything that was run."""
    del seed_base
    learned = _Policies(Results(cells))
    return Story(
        rows=(*_rows(learned), *_other_worlds(learned), *_learning(learned)),
        checks=tuple(_checks(learned, quick)),
        charts=tuple(_charts(learned)),
        notes=_notes(quick),
    )


class _Policies:
    """Results by name, α and answer of unrated items, one entry per seed."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.names = _names()
        self.num_seeds = len(results[_cell(tree_name(*MAIN))])

    def has(self, name: str, alpha: float = ALPHA, unrated: str = "zero", served: str | None = None) -> bool:
        """Whether it was computed."""
        cells = self.results[_cell(name, alpha, unrated)]
        return bool(cells) and (served is None or served in cells[0])

    def serving(self, name: str) -> str:
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
        """One number per seed; what knows no seed stands for all."""
        values = self.results.values(_cell(name, alpha, unrated), served or self.serving(name), metric)
        return values * self.num_seeds if name.replace("-", " ") in FIXED else values

    def share(self, name: str, served: str | None = None) -> list[float]:
        """(Ours − random) / (softmax − random) per seed; random and softmax are means over seeds."""
        ours = self.values(name, served=served)
        floor, top = ([student_t(self.values(each)).mean] * len(ours) for each in ("random", "softmax"))
        return shares(ours, floor, top)


def _cell(name: str, alpha: float = ALPHA, unrated: str = "zero") -> str:
    return f"{name}-a{alpha:g}{'' if unrated == 'zero' else '-' + unrated}"


def _names() -> dict[str, str]:
    names = WITHOUT_STATE | {"wolpertinger": "Wolpertinger, k = 1", "softmax": "softmax over the catalog (depth 1)"}
    for cut, vectors, depth in TREES:
        names[tree_name(cut, vectors, depth)] = f"tree, {cut}" + ("" if cut == "random" else f" of {vectors}")
    for depth in DEPTHS[2:]:
        names[tree_name(*MAIN[:2], depth)] = f"tree, {MAIN[0]} of {MAIN[1]}, depth {depth}"
    names[LONG] = f"tree, {MAIN[0]} of {MAIN[1]}, {LONGER} rounds"
    return names | {"from-scratch": f"tree, {MAIN[0]} of {MAIN[1]}, without imitation first"}


def _rows(learned: _Policies) -> list[Row]:
    rows = []
    for name, label in learned.names.items():
        if not learned.has(name):
            continue
        main = learned.serving(name)
        rows += [
            Row.of(label, f"{metric if metric == 'return' else metric + '@32'}, {main}", learned.values(name, metric))
            for metric in METRICS
        ]
        rows += [
            Row.of(label, f"return, {served}", learned.values(name, served=served))
            for served in FORMS
            if name.startswith(LEARNED) and served != main
        ]
    tree = tree_name(*MAIN)
    return rows + [
        Row.of(
            f"{learned.names[tree]}, beam of {width}", "return, greedy", learned.values(tree, served=f"beam {width}")
        )
        for width in runs.BEAMS
        if learned.has(tree, served=f"beam {width}")
    ]


def _other_worlds(learned: _Policies) -> list[Row]:
    """With another α, with completed ratings, with a tree that changes."""
    short = WITHOUT_STATE | {tree_name(*MAIN): "tree"}
    worlds = [(f"α = {alpha:g}", alpha, "zero") for alpha in ALPHAS if alpha != ALPHA]
    worlds.append(("unrated items answered by factors", ALPHA, "completed"))
    rows = [
        Row.of(f"{label}: {words}", "return", learned.values(name, "return", alpha, unrated))
        for label, alpha, unrated in worlds
        for name, words in short.items()
        if learned.has(name, alpha, unrated)
    ]
    return rows + [
        Row.of(f"a tree that changes: {change}", "return", learned.values("changing-tree", served=change))
        for change in CHANGES
        if learned.has("changing-tree", served=change)
    ]


def _learning(learned: _Policies) -> list[Row]:
    tree = tree_name(*MAIN)
    shares = {tree: "tree, share of the softmax", LONG: "tree that learns as long, share of the softmax"}
    return [
        Row.of(label, "(ours − random) / (softmax − random)", learned.share(name))
        for name, label in shares.items()
        if learned.has(name)
    ] + [
        Row.of(learned.names[name], "seconds to learn", learned.results.values(_cell(name), "seconds"))
        for name in ("softmax", tree, LONG)
        if learned.has(name)
    ]


def _checks(learned: _Policies, quick: bool) -> Iterator[Check]:
    tree, chance = tree_name(*MAIN), tree_name(*TREES[-1])
    yield _at_least("from as many sessions, the tree earns ≥ 98 % of the softmax", 0.98, learned.share(tree))
    if learned.has(LONG):
        name = "in about as much processor time, the tree earns ≥ 98 % of the softmax"
        yield _at_least(name, 0.98, learned.share(LONG))
    for other in ("wolpertinger", "popularity", "best-liked"):
        yield _above(learned, tree, other, quick)
    for cut in ("pca", "kmeans"):
        parted = tree_name(cut, MAIN[1], 2)
        if learned.has(parted):
            for served in ("sharp", "greedy"):
                yield _above(learned, parted, chance, quick, served)
    if learned.has("changing-tree", served=CHANGES[2]):
        whole = student_t(learned.share(tree)).mean
        late = [value / whole for value in learned.share("changing-tree", served=CHANGES[2])]
        name = "a tree that got a tenth of its items late, and a quarter more practice, earns ≥ 95 % of a whole one"
        yield _at_least(name, 0.95, late)


def _at_least(name: str, bar: float, values: Sequence[float]) -> Check:
    return check(f"{name}, random subtracted from both", values, at_least(bar))


def _above(learned: _Policies, name: str, other: str, quick: bool, served: str | None = None) -> Check:
    ours, theirs = (student_t(learned.values(each, served=served)) for each in (name, other))
    both = f", both {served}" if served else ""
    label = f"{learned.names[name]} above {learned.names[other]}{both}" + ("" if quick else ", intervals disjoint")
    holds = ours.mean > theirs.mean if quick else ours.low > theirs.high
    return fact(label, holds, f"{ours.text('.2f')} beside {theirs.text('.2f')}")


def _charts(learned: _Policies) -> Iterator[LineChart]:
    computed = {label: learned.values(name) for name, label in learned.names.items() if learned.has(name)}
    yield _dots("policies", "What a session earns, α = .1", computed)
    depths = {str(depth): tree_name(*MAIN[:2], depth) for depth in DEPTHS}
    if all(learned.has(name) for name in depths.values()):
        entries = {label: learned.values(name) for label, name in depths.items()}
        yield _dots("depth", "Depth of the tree, 1 = softmax over the catalog", entries, "choices to an item")
    tree = tree_name(*MAIN)
    if all(learned.has(tree, alpha) for alpha in ALPHAS):
        lines = {"tree": tree, "best list for everybody": "best-liked", "popularity": "popularity"}
        curves = [
            curve(label, ALPHAS, [learned.values(name, "return", alpha) for alpha in ALPHAS])
            for label, name in lines.items()
        ]
        yield chart("alpha", "What a row of good answers is worth", "α", "return of a session of 32 items", curves)


def _dots(name: str, title: str, entries: Mapping[str, Sequence[float]], x: str = "") -> LineChart:
    curves = [curve("mean over seeds", range(len(entries)), entries.values())]
    return chart(name, title, x, "return of a session of 32 items", curves, labels=entries)


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
