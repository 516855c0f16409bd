"""What SlateQ's experiments compute: the published tables, the settings behind every row, and the cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from slatewise.reproduce._cells import Cell
from slatewise.reproduce._results import seed_range
from slatewise.reproduce.slateq import fitted, runs
from slatewise.reproduce.slateq.fitted import SERVINGS

WHOLE_SEEDS = 3
Add = Callable[..., None]

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
WORLDS: dict[str, dict[str, Any]] = {"mnl": MNL, "cascade": CASCADES, "whole": TWENTY}
"""Of each table."""
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
PRICES = [round(0.2 * number, 1) for number in range(16)]
SHARED, SHARED_CELL = ("QL-OT-TS", "QL-OT-GS", "QL-OT-OS"), "ours-0"
"""One network, served in three ways: what is served is all that these rows differ in. It is the first line of ours."""
CLOSELY = 20_000
"""Users that the shared network is measured on: greedy and optimal slates are nearly the same."""


def cells(*, quick: bool, seed_base: int) -> list[Cell]:
    """Rows of the table by seed, then ours, then the comparisons."""
    size = asdict(runs.QUICK if quick else runs.FULL)
    parts = []

    def add(name: str, kind: str, seed: int, **settings: Any) -> None:
        parts.append(Cell.of(name, kind, seed, **{"size": size} | settings))

    seeds = seed_range(seed_base, quick)
    for seed in seeds:
        _add_table(add, size, seed, quick=quick)
    for seed in seeds[: 1 if quick else None]:
        _add_from_logs(add, seed, quick=quick)
    if not quick:
        for seed in seeds:
            for row in CASCADE:
                _add_row(add, "cascade", row, seed)
        small, halved = {"hidden": [32, 16]}, asdict(runs.HALVED)
        for seed in seeds[:WHOLE_SEEDS]:
            add("whole-full-slate", "whole", seed, world=TWENTY, size=halved, **small)
            _add_row(add, "whole", "Random", seed)
            _add_row(add, "whole", "SARSA-TS", seed, method=PAPER | small, size=halved)
    add("prices", "prices", seed_base, world=MNL, prices=PRICES)
    return parts


def _add_table(add: Add, size: dict[str, Any], seed: int, *, quick: bool) -> None:
    for row in QUICK_ROWS if quick else PUBLISHED:
        if row not in SHARED:
            _add_row(add, "mnl", row, seed)
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


def _add_row(add: Add, table: str, row: str, seed: int, *, method: dict[str, Any] = PAPER, **options: Any) -> None:
    world, names = WORLDS[table], row.split("-")
    if row == "Random":
        add(f"{table}-{row}", "random", seed, world=world)
        return
    settings = method | {"training": TRAINING[names[0]], "serving_slates": runs.LETTERS[names[-1][0]]}
    if names[0] == "QL":
        settings["training_slates"] = runs.LETTERS[names[1][0]]
    add(f"{table}-{row}", "train", seed, world=world, method=settings, serve=[names[-1]], curve=False, **options)
