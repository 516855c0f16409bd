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

from slatewise.report import Check, LineChart
from slatewise.reproduce._cells import Cell, by_kind
from slatewise.reproduce._results import Results, seed_range
from slatewise.reproduce._story import Row, Story, above_zero, chart, check, curve, fact, line
from slatewise.reproduce.youtube import bias as gradient
from slatewise.reproduce.youtube import drift as site
from slatewise.reproduce.youtube import toys
from slatewise.sim.drift import WORLDS
from slatewise.stats import student_t

TITLE = "REINFORCE with top-K off-policy correction"
SEEDS = 5
MAIN_SEEDS = 20
"""Of the variants that the bars compare, in the world they are about: on six other seeds the per cent by which K = 16
differs from K = 1 had a standard deviation of 3.6 (at γ = .9), so that twenty tell 2 % from nothing."""
MAIN = ("logged", "uncorrected", "k1", "k16")
QUICK_VARIANTS = ("k16", "no-cap")
PAIR = ("uncorrected", "k1")
ORDER = (("k16", "k1"), ("k1", "uncorrected"), ("k16", "no-cap"))
"""The first of each pair is expected above the second."""
EXPLORE = {"top_m": 256, "keep": 8, "temperature": 1.0}
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
    parts = toys.cells(seed_base=seed_base)

    def add(name: str, kind: str, seed: int, size: site.Size, *, world: str = "strong", **settings: Any) -> None:
        parts.append(Cell.of(f"{world}-{name}", kind, seed, world=world, size=asdict(size), **settings))

    for world in _worlds(quick):
        size = site.QUICK if quick else site.FULL[world]
        for seed in _seeds(quick, seed_base, world, "k16"):
            add("pair", "pair", seed, size, world=world, methods={name: site.VARIANTS[name] for name in PAIR})
            for variant in _variants(quick):
                if seed in _seeds(quick, seed_base, world, variant):
                    options = {"variant": variant, "serve": not quick and seed < seed_base + SEEDS}
                    add(variant, "variant", seed, size, world=world, method=site.VARIANTS[variant], **options)
    if not quick:
        for seed in _seeds(quick, seed_base, "strong", "exploration"):
            add("exploration", "exploration", seed, site.EXPLORATION, method={}, exploration=EXPLORE)
        add("gradient", "gradient", seed_base, site.EXPLORATION, method={})
    return parts


run = by_kind(
    toys=toys.run,
    pair=site.run_pair,
    variant=site.run_variant,
    exploration=site.run_exploration,
    gradient=gradient.run,
)
"""Compute one cell."""


def tell(cells: Mapping[str, Mapping[str, Any]], *, quick: bool, seed_base: int) -> Story:
    """Rows, checks and charts of everything that was run."""
    results = Results(cells)
    rows, checks, charts = toys.tell(results, seed_base=seed_base)
    for world in _worlds(quick):
        minutes = _minutes(results, world, quick)
        rows += [Row.of(f"{world}: {name}", "minutes a stay", values) for name, values in minutes.items()]
        rows += _relative(world, minutes)
        top = f"{world}: K = 1, nominations outside the control's top ranks"
        rows.append(Row.of(top, "times the control's", results.values(f"{world}-pair", "outside"), 3.0))
        test, control = (results.values(f"{world}-pair", name, "picks") for name in ("k1", "uncorrected"))
        rows.append(Row.of(f"{world}: K = 1 against uncorrected", "% videos viewed", _change(test, control), 0.53))
        charts.append(_cdf(results, world))
        if not quick:
            rows += _serving_rows(results, world)
        checks += _quick_checks(minutes) if quick else _world_checks(world, minutes)
    if not quick:
        rows += _exploration_rows(results)
        checks += _exploration_checks(results)
        (errors,) = results["strong-gradient"]
        charts += [_bias(errors), _over_k(results)]
        rows += [
            Row.of(f"gradient, negatives {sampler}, {count} of 10,000 items", "relative bias", float(value["bias"]))
            for sampler, by_count in errors.items()
            for count, value in by_count.items()
        ]
    return Story(rows=tuple(rows), checks=tuple(checks), charts=tuple(charts), notes=(_note(quick),))


def _worlds(quick: bool) -> list[str]:
    return ["strong"] if quick else list(WORLDS)


def _seeds(quick: bool, seed_base: int, world: str, variant: str) -> range:
    return seed_range(seed_base, quick, full=MAIN_SEEDS if world == "strong" and variant in MAIN else SEEDS)


def _variants(quick: bool) -> tuple[str, ...]:
    return QUICK_VARIANTS if quick else tuple(name for name in site.VARIANTS if name not in PAIR)


def _minutes(results: Results, world: str, quick: bool) -> dict[str, list[float]]:
    """Minutes of a stay by variant, one entry a seed."""
    minutes = {name: results.values(f"{world}-pair", name, "minutes") for name in ("logged", *PAIR)}
    return minutes | {name: results.values(f"{world}-{name}", "minutes") for name in _variants(quick)}


def _change(ours: list[float], other: list[float]) -> list[float]:
    """Per cent, seed by seed, for the seeds that both have."""
    return [100 * (a / b - 1) for a, b in zip(ours, other, strict=False)]


def _relative(world: str, minutes: dict[str, list[float]]) -> list[Row]:
    return [
        Row.of(f"{world}: {name}", "% watch time", _change(minutes[ours], minutes[other]), published)
        for name, ours, other, published in COMPARISONS
        if ours in minutes and other in minutes
    ]


def _quick_checks(minutes: dict[str, list[float]]) -> list[Check]:
    """Two seeds carry no interval; that both point the same way is all they can say."""
    changes = {
        f"strong: {better} above {worse} on both seeds": _change(minutes[better], minutes[worse])
        for better, worse in ORDER
    }
    return [
        fact(name, min(change) > 0, ", ".join(f"{value:+.2f} %" for value in change))
        for name, change in changes.items()
    ]


def _world_checks(world: str, minutes: dict[str, list[float]]) -> list[Check]:
    if world == "uniform":
        name = "uniform: nothing to correct, so K = 1 does not gain on uncorrected"
        change = _change(minutes["k1"], minutes["uncorrected"])
        return [check(name, change, lambda mean: mean.low <= 0, "+.2f", unit=" %")]
    none, single, matched = (student_t(minutes[name]) for name in ("uncorrected", "k1", "k16"))
    return [
        *(_gains(f"{world}: {better} above {worse}", minutes[better], minutes[worse]) for better, worse in ORDER),
        fact(
            f"{world}: intervals of uncorrected < K = 1 < matched K lie apart",
            none.high < single.low and single.high < matched.low,
            ", ".join(mean.text(".1f") for mean in (none, single, matched)),
        ),
    ]


def _gains(name: str, ours: list[float], other: list[float]) -> Check:
    return check(f"{name} (paired interval)", _change(ours, other), above_zero, "+.2f", unit=" %")


def _serving_rows(results: Results, world: str) -> list[Row]:
    best = results.values(f"{world}-k16", "minutes")[:SEEDS]
    rows = []
    for name in site.SERVED:
        minutes = [float(result["served"][name]["minutes"]) for result in results[f"{world}-k16"][:SEEDS]]
        label = f"{world}: K = 16 served {name}, against its 16 best"
        rows.append(Row.of(label, "% watch time", _change(minutes, best), 0.0 if name == "stochastic, τ = 1" else None))
    return rows


def _exploration_rows(results: Results) -> list[Row]:
    arms = results["strong-exploration"][0]
    rows = [
        Row.of(f"strong: production, {arm}", "minutes a stay", results.values("strong-exploration", arm, "minutes"))
        for arm in arms
    ]
    return rows + [Row.of(name, "% watch time", _change(*arms), 0.07) for name, arms in _generations(results).items()]


def _exploration_checks(results: Results) -> list[Check]:
    return [_gains(f"{name}: helps the next policy", *arms) for name, arms in _generations(results).items()]


def _generations(results: Results) -> dict[str, tuple[list[float], list[float]]]:
    """Minutes with exploration data and without, by generation."""

    def minutes(generation: int, arm: str) -> list[float]:
        return results.values("strong-exploration", f"generation {generation}, {arm}", "minutes")

    name = "strong: 5 % exploration data, generation"
    return {f"{name} {number}": (minutes(number, "test"), minutes(number, "control")) for number in (1, 2)}


def _cdf(results: Results, world: str) -> LineChart:
    curves = [
        curve(
            label,
            site.RANKS,
            [results.values(f"{world}-pair", "cdf", name, place) for place in range(len(site.RANKS))],
        )
        for name, label in (("control", "uncorrected (control)"), ("test", "K = 1 (test)"))
    ]
    title, x = (
        f"{world}: nominations by the control's rank of the item",
        "rank of the item among the control's nominations",
    )
    return chart(f"nominations-{world}", title, x, "share of the nominations up to there", curves, log="x")


def _bias(errors: Mapping[str, Any]) -> LineChart:
    curves = [
        line(
            f"{sampler}, {kind}", map(float, by_count), [float(value[kind]) or math.nan for value in by_count.values()]
        )
        for kind in ("bias", "noise")
        for sampler, by_count in errors.items()
    ]
    title = "Sampled softmax: bias and noise of the gradient, relative to the exact gradient"
    return chart("gradient-bias", title, "negatives", "relative norm", curves, log="xy")


def _over_k(results: Results) -> LineChart:
    names = ("uncorrected", "k1", "k2", "k8", "k16", "k32", "no-cap")
    by_world = {world: _minutes(results, world, False) for world in WORLDS}
    curves = [
        curve(world, range(len(names)), [_change(minutes[name], minutes["k16"]) for name in names])
        for world, minutes in by_world.items()
    ]
    title = "Watch time against K = 16, cap e³, in the three worlds"
    return chart("variants", title, "variant", "% watch time", curves, labels=names)


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
