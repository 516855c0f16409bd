"""Chen et al., "Top-K Off-Policy Correction for a REINFORCE Recommender System", WSDM 2019 (arXiv 1812.02353).

The bandits of sec. 6.1 have answers in closed form. The experiments of sec. 6.3 were run on a live video site, and are
repeated in kind: in `sim.drift`, with three logs of different bias. Published live figures are relative changes of
watch time in per cent; ours are the same of minutes in a user's stay, per seed (its own catalog, log and users) and
paired: both sides of a comparison learn from the same log and are tested on the same users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from slatewise.report import Check, Curve, LineChart
from slatewise.reproduce._cells import Cell
from slatewise.reproduce._story import Row, Story
from slatewise.reproduce.youtube import bias as gradient
from slatewise.reproduce.youtube import drift as site
from slatewise.reproduce.youtube import toys
from slatewise.sim.drift import WORLDS
from slatewise.stats import student_t

TITLE = "REINFORCE with top-K off-policy correction"
SEEDS, QUICK_SEEDS = 5, 2
MAIN_SEEDS = 20
"""Of the variants that the bars compare, in the world they are about: on six other seeds the per cent by which K = 16
differs from K = 1 had a standard deviation of 3.6 (at γ = .9), so that twenty tell 2 % from nothing."""
MAIN = ("logged", "uncorrected", "k1", "k16")
QUICK_VARIANTS = ("k16", "no-cap")
PAIR = ("uncorrected", "k1")
EXPLORE = {"top_m": 256, "keep": 8, "temperature": 1.0}
Results = Mapping[str, Mapping[str, Any]]

COMPARISONS = (
    # what, against what, published change of watch time in per cent
    ("K = 1 against uncorrected", "k1", "uncorrected", None),
    ("top-K (K = 16, cap e³) against uncorrected", "k16", "uncorrected", None),
    ("top-K (K = 16, cap e³) against K = 1", "k16", "k1", 0.85),
    ("top-K with K = 1 against K = 16", "k1", "k16", -0.66),
    ("top-K with K = 2 against K = 16", "k2", "k16", -0.35),
    ("top-K with K = 8 against K = 16", "k8", "k16", 0.15),
    ("top-K with K = 32 against K = 16", "k32", "k16", 0.0),
    ("cap e⁵ against e³", "cap-e5", "k16", -0.52),
    ("no cap against e³", "no-cap", "k16", None),
    ("NIS, no cap, against cap e³", "nis", "k16", None),
    ("KL penalty (TRPO) against none", "trpo", "k16", None),
    ("β̂ with its own encoder against stop-gradient", "beta-separate", "k16", None),
    ("β̂ as plain frequency against stop-gradient", "beta-frequency", "k16", None),
    ("γ = 0 against .3", "gamma-0", "k16", None),
    ("γ = .9 against .3", "gamma-0.9", "k16", None),
    ("γ = .99 against .3", "gamma-0.99", "k16", None),
    ("returns within 4 hours against γ = .3", "hours-4", "k16", None),
    ("returns within 10 hours against γ = .3", "hours-10", "k16", None),
)


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Bandits by seed; then, by world and seed, the control and the test, and the other variants."""
    found = toys.cells(seed_base=seed_base)
    for world in _worlds(quick):
        size = asdict(site.QUICK if quick else site.FULL[world])
        for seed in _seeds(quick, seed_base, world, "k16"):
            common = {"world": world, "seed": seed, "size": size}
            methods = {name: site.VARIANTS[name] for name in PAIR}
            found.append(Cell(name=f"{world}-{seed}-pair", settings={"kind": "pair", "methods": methods, **common}))
            for variant in _variants(quick):
                if seed in _seeds(quick, seed_base, world, variant):
                    settings = {"kind": "variant", "variant": variant, "method": site.VARIANTS[variant], **common}
                    serve = not quick and seed < seed_base + SEEDS
                    found.append(Cell(name=f"{world}-{seed}-{variant}", settings={**settings, "serve": serve}))
    if not quick:
        for seed in _seeds(quick, seed_base, "strong", "exploration"):
            settings = {"kind": "exploration", "method": {}, "exploration": EXPLORE, "world": "strong", "seed": seed}
            settings["size"] = asdict(site.EXPLORATION)
            found.append(Cell(name=f"strong-{seed}-exploration", settings=settings))
    if not quick:
        settings = {"kind": "gradient", "world": "strong", "seed": seed_base, "method": {}}
        settings["size"] = asdict(site.EXPLORATION)
        found.append(Cell(name="gradient", settings=settings))
    return found


def run(cell: Cell) -> dict[str, Any]:
    """Compute one cell."""
    kinds = {
        "toys": toys.run,
        "pair": site.run_pair,
        "variant": site.run_variant,
        "exploration": site.run_exploration,
        "gradient": gradient.run,
    }
    return kinds[cell.settings["kind"]](cell.settings)


def tell(results: Results, *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and figures of everything that was run."""
    rows, checks, figures = toys.tell(results, seed_base=seed_base)
    for world in _worlds(quick):
        seeds = _seeds(quick, seed_base, world, "k16")
        minutes = _minutes(results, world, quick, seed_base)
        rows += _absolute(world, minutes) + _relative(world, minutes)
        outside = [float(results[f"{world}-{seed}-pair"]["outside"]) for seed in seeds]
        rows.append(
            _row(f"{world}: K = 1, nominations outside the control's top ranks", "times the control's", outside, 3.0)
        )
        picks = {
            name: [float(results[f"{world}-{seed}-pair"][name]["picks"]) for seed in seeds]
            for name in ("uncorrected", "k1")
        }
        rows.append(
            _row(
                f"{world}: K = 1 against uncorrected",
                "% videos viewed",
                _change(picks["k1"], picks["uncorrected"]),
                0.53,
            )
        )
        figures.append(_cdf(results, world, seeds))
        if not quick:
            rows += _served(results, world, seeds[:SEEDS])
        checks += _quick_checks(minutes) if quick else _world_checks(world, minutes)
    if not quick:
        more = _exploration(results, _seeds(quick, seed_base, "strong", "exploration"))
        rows += more[0]
        checks += more[1]
        figures += [_bias(results["gradient"]), _over_k(results, seed_base)]
        rows += [
            Row(
                name=f"gradient, negatives {sampler}, {count} of 10,000 items",
                metric="relative bias",
                published=None,
                ours=float(value["bias"]),
            )
            for sampler, by_count in results["gradient"].items()
            for count, value in by_count.items()
        ]
    return Story(rows=tuple(rows), checks=tuple(checks), charts=tuple(figures), notes=(_note(quick),))


def _worlds(quick: bool) -> list[str]:
    return ["strong"] if quick else list(WORLDS)


def _seeds(quick: bool, seed_base: int, world: str, variant: str) -> range:
    full = MAIN_SEEDS if world == "strong" and variant in MAIN else SEEDS
    return range(seed_base, seed_base + (QUICK_SEEDS if quick else full))


def _variants(quick: bool) -> tuple[str, ...]:
    return QUICK_VARIANTS if quick else tuple(name for name in site.VARIANTS if name not in PAIR)


def _minutes(results: Results, world: str, quick: bool, seed_base: int) -> dict[str, list[float]]:
    """Minutes of a stay by variant, one entry a seed."""
    found = {}
    for name in ("logged", *PAIR):
        seeds = _seeds(quick, seed_base, world, name)
        found[name] = [float(results[f"{world}-{seed}-pair"][name]["minutes"]) for seed in seeds]
    for name in _variants(quick):
        seeds = _seeds(quick, seed_base, world, name)
        found[name] = [float(results[f"{world}-{seed}-{name}"]["minutes"]) for seed in seeds]
    return found


def _change(ours: list[float], other: list[float]) -> list[float]:
    """Per cent, seed by seed, for the seeds that both have."""
    return [100 * (a / b - 1) for a, b in zip(ours, other, strict=False)]


def _row(name: str, metric: str, values: list[float], published: float | None) -> Row:
    mean, low, high = student_t(values)
    return Row(name=name, metric=metric, published=published, ours=mean, low=low, high=high)


def _absolute(world: str, minutes: dict[str, list[float]]) -> list[Row]:
    return [_row(f"{world}: {name}", "minutes a stay", values, None) for name, values in minutes.items()]


def _relative(world: str, minutes: dict[str, list[float]]) -> list[Row]:
    return [
        _row(f"{world}: {name}", "% watch time", _change(minutes[ours], minutes[other]), published)
        for name, ours, other, published in COMPARISONS
        if ours in minutes and other in minutes
    ]


def _quick_checks(minutes: dict[str, list[float]]) -> list[Check]:
    """Two seeds carry no interval; that both point the same way is all they can say."""
    checks = []
    for better, worse in (("k16", "k1"), ("k1", "uncorrected"), ("k16", "no-cap")):
        change = _change(minutes[better], minutes[worse])
        checks.append(
            Check(
                name=f"strong: {better} above {worse} on both seeds",
                holds=min(change) > 0,
                figure=", ".join(f"{value:+.2f} %" for value in change),
            )
        )
    return checks


def _world_checks(world: str, minutes: dict[str, list[float]]) -> list[Check]:
    def above(better: str, worse: str) -> Check:
        mean, low, high = student_t(_change(minutes[better], minutes[worse]))
        return Check(
            name=f"{world}: {better} above {worse} (paired interval)",
            holds=low > 0,
            figure=f"{mean:+.2f} % [{low:+.2f}, {high:+.2f}]",
        )

    if world == "uniform":
        mean, low, high = student_t(_change(minutes["k1"], minutes["uncorrected"]))
        return [
            Check(
                name="uniform: nothing to correct, so K = 1 does not gain on uncorrected",
                holds=low <= 0,
                figure=f"{mean:+.2f} % [{low:+.2f}, {high:+.2f}]",
            )
        ]
    apart = [student_t(minutes[name]) for name in ("uncorrected", "k1", "k16")]
    return [
        above("k16", "k1"),
        above("k1", "uncorrected"),
        above("k16", "no-cap"),
        Check(
            name=f"{world}: intervals of uncorrected < K = 1 < matched K lie apart",
            holds=apart[0][2] < apart[1][1] and apart[1][2] < apart[2][1],
            figure=", ".join(f"{mean:.1f} [{low:.1f}, {high:.1f}]" for mean, low, high in apart),
        ),
    ]


def _served(results: Results, world: str, seeds: range) -> list[Row]:
    cells_ = [results[f"{world}-{seed}-k16"] for seed in seeds]
    base = [float(cell["minutes"]) for cell in cells_]
    return [
        _row(
            f"{world}: K = 16 served {name}, against its 16 best",
            "% watch time",
            _change([float(cell["served"][name]["minutes"]) for cell in cells_], base),
            0.0 if name == "stochastic, τ = 1" else None,
        )
        for name in site.SERVED
    ]


def _exploration(results: Results, seeds: range) -> tuple[list[Row], list[Check]]:
    found = [results[f"strong-{seed}-exploration"] for seed in seeds]

    def minutes(name: str) -> list[float]:
        return [float(cell[name]["minutes"]) for cell in found]

    rows = [_row(f"strong: production, {name}", "minutes a stay", minutes(name), None) for name in found[0]]
    checks = []
    for generation in (1, 2):
        change = _change(minutes(f"generation {generation}, test"), minutes(f"generation {generation}, control"))
        name = f"strong: 5 % exploration data, generation {generation}"
        rows.append(_row(name, "% watch time", change, 0.07))
        mean, low, high = student_t(change)
        checks.append(
            Check(
                name=f"{name}: helps the next policy (paired interval)",
                holds=low > 0,
                figure=f"{mean:+.2f} % [{low:+.2f}, {high:+.2f}]",
            )
        )
    return rows, checks


def _cdf(results: Results, world: str, seeds: range) -> LineChart:
    curves = []
    for name, label in (("control", "uncorrected (control)"), ("test", "K = 1 (test)")):
        points = [
            student_t([float(results[f"{world}-{seed}-pair"]["cdf"][name][place]) for seed in seeds])
            for place in range(len(site.RANKS))
        ]
        curves.append(
            Curve(
                name=label,
                x=tuple(float(rank) for rank in site.RANKS),
                y=tuple(mean for mean, _, _ in points),
                half=tuple(high - mean if math.isfinite(high) else 0.0 for mean, _, high in points),
            )
        )
    return LineChart(
        name=f"nominations-{world}",
        title=f"{world}: nominations by the control's rank of the item",
        x="rank of the item among the control's nominations",
        y="share of the nominations up to there",
        curves=tuple(curves),
        log_x=True,
    )


def _bias(found: Mapping[str, Any]) -> LineChart:
    curves = []
    for kind in ("bias", "noise"):
        for sampler, by_count in found.items():
            curves.append(
                Curve(
                    name=f"{sampler}, {kind}",
                    x=tuple(float(count) for count in by_count),
                    y=tuple(float(value[kind]) or math.nan for value in by_count.values()),
                )
            )
    return LineChart(
        name="gradient-bias",
        title="Sampled softmax: bias and noise of the gradient, relative to the exact gradient",
        x="negatives",
        y="relative norm",
        curves=tuple(curves),
        log_x=True,
        log_y=True,
    )


def _over_k(results: Results, seed_base: int) -> LineChart:
    names = ("uncorrected", "k1", "k2", "k8", "k16", "k32", "no-cap")
    curves = []
    for world in WORLDS:
        minutes = _minutes(results, world, False, seed_base)
        points = [student_t(_change(minutes[name], minutes["k16"])) for name in names]
        curves.append(
            Curve(
                name=world,
                x=tuple(float(place) for place in range(len(names))),
                y=tuple(mean for mean, _, _ in points),
                half=tuple(high - mean for mean, _, high in points),
            )
        )
    return LineChart(
        name="variants",
        title="Watch time against K = 16, cap e³, in the three worlds",
        x="variant",
        y="% watch time",
        curves=tuple(curves),
        labels=names,
    )


def _note(quick: bool) -> str:
    form = (
        "two seeds of one world, a shorter log"
        if quick
        else f"{SEEDS} seeds of each world, {MAIN_SEEDS} of the main comparison"
    )
    return (
        f"Simulated site: {form}. Published figures are changes on a live site with 10⁶ and more items and logged "
        "policies close to the tested ones; ours start from a log of simple policies, so differences are larger. "
        "Signs and order are what can be compared. Slates hold 16 items in all variants, whatever K the gradient uses. "
        f"Softmaxes are sampled: {site.OPTIMISER['negatives']['count']:,} negatives by use."
    )
