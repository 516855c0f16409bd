"""Ie et al., "SlateQ: A Tractable Decomposition for Reinforcement Learning with Recommendation Sets", IJCAI 2019.

The simulated experiments of sec. 6 in `sim.interest_evolution`: the paper's table with the value of "nothing picked"
fixed at 0, cascade choice, full-slate Q-learning; the live test of sec. 7 in kind. Then ours: the same code with one
setting changed at a time. All figures are minutes watched per session, and the mean true quality of what was watched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._story import Row, Story
from slatewise.reproduce.slateq import fitted, runs, whole
from slatewise.stats import student_t

TITLE = "SlateQ: Q-learning for slates by the values of their items"
SEEDS, QUICK_SEEDS, WHOLE_SEEDS = 5, 2, 3
Add = Callable[..., None]
Results = Mapping[str, Mapping[str, Any]]

PUBLISHED = {
    "Random": (159.2, -0.593),
    "MYOP-TS": (166.3, -0.543),
    "MYOP-GS": (166.3, -0.548),
    "SARSA-TS": (168.4, -0.491),
    "SARSA-GS": (172.1, -0.388),
    "QL-TT-TS": (168.4, -0.493),
    "QL-GT-GS": (172.9, -0.377),
    "QL-OT-TS": (169.0, -0.491),
    "QL-OT-GS": (173.8, -0.341),
    "QL-OT-OS": (174.6, -0.306),
}
"""Table 2 of the paper: return, quality."""
QUICK_ROWS = ("Random", "MYOP-TS", "SARSA-TS", "SARSA-GS", "QL-OT-TS", "QL-OT-GS", "QL-OT-OS")
CASCADE = {
    "Random": (159.9, -0.598),
    "MYOP-TS": (163.6, -0.510),
    "SARSA-TS": (166.8, -0.417),
    "QL-TT-TS": (166.5, -0.423),
    "QL-OT-TS": (167.5, -0.399),
    "QL-OT-OS": (167.6, -0.390),
}
WHOLE = {"Random": (160.6, -0.610), "full-slate Q": (164.2, -0.507), "SARSA-TS": (170.7, -0.534)}
MNL = {"choice": "mnl"}
# attention .65 as released; the scaling that gives random slates the paper's 159.9 (the released .05 gives 92.9)
CASCADES = {"choice": "exponential_cascade", "cascade": {"scaling": 0.315}}
TWENTY = {"choice": "mnl", "num_candidates": 20}
VISIBLE = {"choice": "mnl", "budget_visible": True}
TRAINING = {"MYOP": "myopic", "SARSA": "sarsa", "QL": "q"}
PAPER: dict[str, Any] = {
    "null_value": "zero",
    "choice": {"model": "mnl"},
    "hidden": [256, 32],
    "optimiser": "rmsprop",
    "lr": 1e-3,
    "gamma": 0.99,
    "critic": {"value_unit": 4.0},
    "target_rate": 0.02,
}
"""The paper's network and optimiser; the user's choice model is known to it, as in RecSim's agents."""
LEARNED = PAPER | {"null_value": "learned"}
HIGH = LEARNED | {"critic": {"initial_value": 250.0, "value_unit": 50.0}}
OWN = HIGH | {"reads": "match"}
SEEN = OWN | {"critic": {"linear": True, "initial_value": 300.0, "value_unit": 50.0}, "gamma": 1.0}
OURS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "null value 0 (the paper)": (PAPER, MNL),
    "+ null value learned": (LEARNED, MNL),
    "+ values start high": (HIGH, MNL),
    "+ an item's own interest only": (OWN, MNL),
    "+ time left visible": (SEEN, VISIBLE),
}
"""Each line adds one thing to the one before. Time left is information that the others do not have."""
BEST_HIDDEN, BEST_VISIBLE = list(OURS)[3], list(OURS)[4]
PRICES = [round(0.2 * number, 1) for number in range(16)]
SERVINGS = ["TS", "GS", "OS"]
SHARED, SHARED_CELL = ("QL-OT-TS", "QL-OT-GS", "QL-OT-OS"), "ours-0"
"""One network, served in three ways: what is served is all that these rows differ in. It is the first line of ours."""
CLOSELY = 20_000
"""Users that the shared network is measured on: greedy and optimal slates are nearly the same."""


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Rows of the table by seed, then ours, then the comparisons."""
    size = runs.quick() if quick else runs.full()
    found = []

    def add(name: str, kind: str, seed: int, **settings: Any) -> None:
        common = {"kind": kind, "seed": seed, "size": size}
        found.append(Cell(name=f"{name}-{seed}", settings=common | settings))

    for seed in _seeds(quick, seed_base):
        _add_table(add, size, seed, quick=quick)
    for seed in _seeds(quick, seed_base)[: 1 if quick else None]:
        _add_from_logs(add, seed, quick=quick)
    if not quick:
        for seed in _seeds(quick, seed_base):
            for row in CASCADE:
                _add_row(add, "cascade", row, seed, CASCADES)
        for seed in _seeds(quick, seed_base)[:WHOLE_SEEDS]:
            halved = {"hidden": [32, 16]}, {"size": runs.halved()}
            add("whole-full-slate", "whole", seed, world=TWENTY, **halved[0], **halved[1])
            _add_row(add, "whole", "Random", seed, TWENTY)
            _add_row(add, "whole", "SARSA-TS", seed, TWENTY, method=halved[0], **halved[1])
    add("prices", "prices", seed_base, world=MNL, prices=PRICES)
    return found


def _add_table(add: Add, size: dict[str, int], seed: int, *, quick: bool) -> None:
    for row in QUICK_ROWS if quick else PUBLISHED:
        if row not in SHARED:
            _add_row(add, "mnl", row, seed, MNL)
    for number, (method, world) in enumerate(OURS.values()):
        if not quick or number in (0, 3, 4):
            settings = {"method": method | {"training": "q"}, "world": world, "serve": SERVINGS}
            if f"ours-{number}" == SHARED_CELL:
                settings["size"] = size | {"measured": CLOSELY // 4 if quick else CLOSELY}
            add(f"ours-{number}", "train", seed, curve=not quick, **settings)


def _add_from_logs(add: Add, seed: int, *, quick: bool) -> None:
    learned = OWN | {"choice": {"model": "learned"}}
    add("offline", "offline", seed, method=learned, world=MNL, serve=SERVINGS)
    if not quick:
        add(fitted.NAME, "fitted", seed, **fitted.settings(learned, MNL))
    add("online", "train", seed, method=learned, world=MNL, serve=SERVINGS, curve=False)
    for name, method in (("zero", PAPER), ("learned", OWN)):
        settings = {"method": method | {"training": "sarsa", "choice": {"model": "learned"}}, "world": MNL}
        add(f"live-{name}", "live", seed, serve=["TS"], **settings)


def _add_row(
    add: Add,
    table: str,
    row: str,
    seed: int,
    world: dict[str, Any],
    *,
    method: dict[str, Any] | None = None,
    **size: Any,
) -> None:
    if row == "Random":
        add(f"{table}-{row}", "random", seed, world=world)
        return
    names = row.split("-")
    settings = PAPER | (method or {}) | {"training": TRAINING[names[0]], "serving_slates": runs.LETTERS[names[-1][0]]}
    if names[0] == "QL":
        settings["training_slates"] = runs.LETTERS[names[1][0]]
    add(f"{table}-{row}", "train", seed, world=world, method=settings, serve=[names[-1]], curve=False, **size)


def run(cell: Cell) -> dict[str, Any]:
    """Compute one cell."""
    kinds = {
        "train": runs.train_and_measure,
        "random": runs.measure_random,
        "offline": runs.from_random_log,
        "fitted": fitted.run,
        "live": runs.live,
        "prices": runs.shadow_prices,
        "whole": whole.run,
    }
    return kinds[cell.settings["kind"]](cell.settings)


def tell(results: Results, *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and figures of everything that was run."""
    found = _Found(results, _seeds(quick, seed_base))
    rows, checks = _table(found, quick)
    for more in (
        _ours(found, quick),
        _from_logs(found),
        *([] if quick else [_fitted(found), _cascade(found), _whole(found)]),
    ):
        rows += more[0]
        checks += more[1]
    prices = found.results[f"prices-{seed_base}"]["served"]
    ceiling = max(prices, key=lambda price: prices[price]["return"])
    best = prices[ceiling]
    rows.append(
        Row(
            name=f"reference: known user model, price {ceiling} on time, best of all slates",
            metric="return",
            published=None,
            ours=best["return"],
            low=best["return"] - 1.96 * best["stderr"],
            high=best["return"] + 1.96 * best["stderr"],
        )
    )
    figures = [_compared(found), _curves(found), _quality(found), _priced(prices)] if not quick else [_priced(prices)]
    return Story(rows=tuple(rows), checks=tuple(checks), charts=tuple(figures), notes=_notes(found, quick))


class _Found:
    """Results by name, one entry per seed."""

    def __init__(self, results: Results, seeds: range) -> None:
        self.results = results
        self.seeds = seeds

    def values(self, name: str, serving: str, figure: str = "return") -> list[float]:
        """A figure of a row, seed by seed, as far as the seeds were run."""
        cells_ = [self.results[f"{name}-{seed}"] for seed in self.seeds if f"{name}-{seed}" in self.results]
        return [float(cell["served"][serving][figure]) for cell in cells_]

    def seconds(self, name: str) -> list[float]:
        return [float(self.results[f"{name}-{s}"]["seconds"]) for s in self.seeds if f"{name}-{s}" in self.results]


def _seeds(quick: bool, seed_base: int) -> range:
    return range(seed_base, seed_base + (QUICK_SEEDS if quick else SEEDS))


def _cell(table: str, row: str) -> str:
    """Name of the cells that a row is read from, without the seed."""
    return SHARED_CELL if table == "mnl" and row in SHARED else f"{table}-{row}"


def _serving(row: str) -> str:
    return "" if row == "Random" else row[-2:]


def _row(name: str, metric: str, values: list[float], published: float | None = None) -> Row:
    mean, low, high = student_t(values)
    return Row(name=name, metric=metric, published=published, ours=mean, low=low, high=high)


def _rows(found: _Found, table: str, published: Mapping[str, tuple[float, float]], label: str = "") -> list[Row]:
    rows = []
    for metric, place in (("return", 0), ("quality", 1)):
        for row, figures in published.items():
            values = found.values(_cell(table, row), _serving(row), metric)
            if values:
                rows.append(_row(f"{label}{row}", metric, values, figures[place]))
    return rows


def _above(
    found: _Found, better: tuple[str, str], worse: tuple[str, str], name: str, *, or_equal: bool = False
) -> Check:
    """A paired comparison, whose interval must exclude the wrong sign; with `or_equal` it may end at 0."""
    changes = [a - b for a, b in zip(found.values(*better), found.values(*worse), strict=True)]
    mean, low, high = student_t(changes)
    if len(changes) == 1:
        return Check(name=f"{name} (one seed)", holds=mean > 0, figure=f"{mean:+.2f}")
    holds = low >= 0 if or_equal else low > 0
    return Check(name=f"{name} (paired interval)", holds=holds, figure=f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")


def _table(found: _Found, quick: bool) -> tuple[list[Row], list[Check]]:
    rows = _rows(found, "mnl", PUBLISHED)
    far = [row for row in rows if row.metric == "return" and abs(row.ours - (row.published or 0)) > 5]
    worst = max((row for row in rows if row.metric == "return"), key=lambda row: abs(row.ours - (row.published or 0)))
    checks = [
        Check(
            name="every mean of the published table within ± 5",
            holds=not far,
            figure=f"furthest: {worst.name}, {worst.ours:.1f} against {worst.published}",
        )
    ]
    order = [("SARSA-TS", "MYOP-TS", False), ("SARSA-GS", "SARSA-TS", False), ("QL-OT-GS", "QL-OT-TS", False)]
    if not quick:
        order += [("SARSA-GS", "MYOP-GS", False), ("QL-GT-GS", "QL-TT-TS", False)]
    order.append(("QL-OT-OS", "QL-OT-GS", True))
    for better, worse, or_equal in order:
        pair = ((_cell("mnl", better), better[-2:]), (_cell("mnl", worse), worse[-2:]))
        checks.append(
            _above(found, *pair, f"{better} {'not below' if or_equal else 'above'} {worse}", or_equal=or_equal)
        )
    return rows, checks


def _ours(found: _Found, quick: bool) -> tuple[list[Row], list[Check]]:
    rows, checks = [], []
    for number, name in enumerate(OURS):
        for serving in SERVINGS:
            values = found.values(f"ours-{number}", serving)
            if values:
                rows.append(_row(f"ours, QL-OT-{serving}: {name}", "return", values))
    for number, name, bar in ((3, "time left hidden", 250.0), (4, "time left visible", 270.0)):
        mean, low, high = student_t(found.values(f"ours-{number}", "OS"))
        seconds = max(found.seconds(f"ours-{number}"))
        checks.append(
            Check(
                name=f"ours, {name}: OS at least {bar:.0f}",
                holds=mean >= bar,
                figure=f"{mean:.1f} [{low:.1f}, {high:.1f}]",
            )
        )
        if quick:  # without the measurements of the curve in between
            checks.append(
                Check(
                    name=f"ours, {name}: trained in at most a minute",
                    holds=seconds <= 60,
                    figure=f"{seconds:.0f} s of one core",
                )
            )
    return rows, checks


def _from_logs(found: _Found) -> tuple[list[Row], list[Check]]:
    rows, checks = [], []
    floor = found.values("mnl-Random", "")
    for serving in SERVINGS:
        offline, online = found.values("offline", serving), found.values("online", serving)
        ratio = [(a - c) / (b - c) for a, b, c in zip(offline, online, floor, strict=False)]
        rows.append(_row(f"from a random log, QL-OT-{serving}", "return", offline))
        rows.append(_row(f"the same by interaction, QL-OT-{serving}", "return", online))
        rows.append(_row(f"from a random log, QL-OT-{serving}", "share of the gain by interaction", ratio))
        if serving == "OS":
            mean, low, high = student_t(ratio)
            checks.append(
                Check(
                    name="learned from a random log: at least .9 of the gain by interaction (OS)",
                    holds=mean >= 0.9,
                    figure=f"{mean:.3f} [{low:.3f}, {high:.3f}]",
                )
            )
    for name, label in (("zero", "null value 0"), ("learned", "null value learned")):
        cell = f"live-{name}"
        rows += [
            _row(f"live in kind, {label}: {row}", "return", found.values(cell, row)) for row in ("MYOP-TS", "SARSA-TS")
        ]
        check = f"live in kind, {label}: SARSA-TS from the log of MYOP-TS above it"
        checks.append(_above(found, (cell, "SARSA-TS"), (cell, "MYOP-TS"), check))
    return rows, checks


def _fitted(found: _Found) -> tuple[list[Row], list[Check]]:
    floor, gains = found.values("mnl-Random", ""), {}
    for serving in SERVINGS:
        inside, online = found.values(fitted.NAME, serving), found.values("online", serving)
        gains[serving] = [(a - c) / (b - c) for a, b, c in zip(inside, online, floor, strict=True)]
    return fitted.tell({str(seed): found.results[f"{fitted.NAME}-{seed}"] for seed in found.seeds}, gains)


def _cascade(found: _Found) -> tuple[list[Row], list[Check]]:
    pair = (("cascade-SARSA-TS", "TS"), ("cascade-MYOP-TS", "TS"))
    optimal = (("cascade-QL-OT-OS", "OS"), ("cascade-MYOP-TS", "TS"))
    checks = [
        _above(found, *pair, "cascade choice: SARSA-TS above MYOP-TS"),
        _above(found, *optimal, "cascade choice: QL-OT-OS above MYOP-TS"),
    ]
    return _rows(found, "cascade", CASCADE, "cascade choice: "), checks


def _whole(found: _Found) -> tuple[list[Row], list[Check]]:
    label = "20 candidates: "
    rows = []
    for name, cell, serving in (
        ("Random", "whole-Random", ""),
        ("full-slate Q", "whole-full-slate", ""),
        ("SARSA-TS", "whole-SARSA-TS", "TS"),
    ):
        for place, metric in enumerate(("return", "quality")):
            rows.append(_row(f"{label}{name}", metric, found.values(cell, serving, metric), WHOLE[name][place]))
    times = [a / b for a, b in zip(found.seconds("whole-full-slate"), found.seconds("whole-SARSA-TS"), strict=True)]
    rows.append(_row(f"{label}full-slate Q, time of training", "times SARSA-TS's", times, 6.0))
    return rows, []


def _compared(found: _Found) -> LineChart:
    means = [student_t(found.values(_cell("mnl", row), _serving(row))) for row in PUBLISHED]
    places = tuple(float(place) for place in range(len(means)))
    return LineChart(
        name="table",
        title="The published table, null value fixed at 0",
        x="policy",
        y="minutes a session",
        curves=(
            Curve(name="published", x=places, y=tuple(figures[0] for figures in PUBLISHED.values())),
            Curve(
                name="ours",
                x=places,
                y=tuple(mean for mean, _, _ in means),
                half=tuple(high - mean for mean, _, high in means),
            ),
        ),
        labels=tuple(PUBLISHED),
    )


def _curves(found: _Found) -> LineChart:
    curves = []
    for number, name in enumerate(OURS):
        seeds = [found.results[f"ours-{number}-{seed}"]["curve"] for seed in found.seeds]
        points = [student_t([float(curve[place][1]) for curve in seeds]) for place in range(len(seeds[0]))]
        curves.append(
            Curve(
                name=name,
                x=tuple(float(step) for step, _ in seeds[0]),
                y=tuple(mean for mean, _, _ in points),
                half=tuple(high - mean if math.isfinite(high) else 0.0 for mean, _, high in points),
            )
        )
    return LineChart(
        name="training",
        title="Return while learning, QL-OT-OS, one setting added at a time",
        x="transitions seen",
        y="minutes a session",
        curves=tuple(curves),
    )


def _quality(found: _Found) -> LineChart:
    points = [(row, _cell("mnl", row), _serving(row)) for row in PUBLISHED]
    points += [(name, f"ours-{number}", "OS") for number, name in enumerate(OURS) if number]
    curves = []
    for label, cell, serving in points:
        mean = student_t(found.values(cell, serving))
        curves.append(
            Curve(
                name=label,
                x=(student_t(found.values(cell, serving, "quality"))[0],),
                y=(mean[0],),
                half=(mean[2] - mean[0],),
            )
        )
    return LineChart(
        name="quality",
        title="Return against the true quality of what is watched",
        x="mean quality of watched documents",
        y="minutes a session",
        curves=tuple(curves),
    )


def _priced(prices: Mapping[str, Mapping[str, float]]) -> LineChart:
    return LineChart(
        name="prices",
        title="Known user model, fixed price on time, best of all slates: the ceiling",
        x="price of a minute, in minutes",
        y="minutes a session",
        curves=(
            Curve(
                name="known user model",
                x=tuple(float(price) for price in prices),
                y=tuple(figures["return"] for figures in prices.values()),
                half=tuple(1.96 * figures["stderr"] for figures in prices.values()),
            ),
        ),
    )


def _notes(found: _Found, quick: bool) -> tuple[str, ...]:
    low = student_t(found.values("ours-0", "OS"))[0]
    high = student_t(found.values("ours-3", "OS"))[0]
    notes = [
        "Why the published figures are low: with Q̄(s, ⊥) = 0, picking nothing counts as the end of the session, "
        "although it costs half a minute and the session goes on, so slates are chosen to be picked now, and documents "
        "that give time back look hardly better than others. Learning that one number, from values that start high "
        f"enough for good documents to be tried, takes the same learner from {low:.0f} to {high:.0f} minutes a session "
        "on the same 300,000 transitions.",
        "The row with time left visible uses information that the paper's policies do not have. TS sorts by "
        "v (Q̄ − Q̄_⊥) everywhere, which is v Q̄ where Q̄_⊥ is 0.",
        "Cascade choice: the paper does not give its constants, and those released with the code give random slates "
        "92.9 minutes (published: 159.9). Ours keep the released attention of .65 and scale attraction so that random "
        "slates earn the published figure; the myopic policy then earns more than published, so the paper's users "
        "differ in more than that.",
    ]
    return tuple(notes[:2] if quick else notes)
