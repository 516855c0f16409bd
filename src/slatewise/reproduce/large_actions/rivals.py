"""The methods of the comparison over the number of items: their settings, what they know, how far they go and why.

Learning rates and discounts come from a handful of trials with worlds and seeds from 100 on, at 1,000 and 10,000 items;
none was searched for. Numbers of interactions, updates, conjugate gradients and probes were cut for time alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slatewise.reproduce.large_actions.learners import Budget

SIZES = (1000, 10_000, 100_000, 1_000_000)
TIMED = (1000, 10_000, 31_623, 100_000, 316_228, 1_000_000)
"""Half decades stand between, so that a slope has points enough."""
CANDIDATES = 1000
NEIGHBOURS = 1000
"""Most neighbours that Wolpertinger with k = 1 % looks at."""
GAMMA = 0.8
ALL = SIZES[-1]


@dataclass(frozen=True)
class Rival:
    """A method with its settings."""

    method: str
    learns: Literal["log", "replay", "rounds"]
    """log: from what the logging policy served; replay: from all it served itself; rounds: from its last round."""
    knows: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float | None = None
    """k / N of Wolpertinger, up to NEIGHBOURS; None = as the settings say."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other entries of the cell: updates and batch, schedule, sessions, candidates."""
    largest: int = ALL
    """The largest N at which it learns here."""
    why: str = ""
    """Why not beyond."""

    def at(self, items: int) -> dict[str, Any]:
        """Its settings at a size."""
        settings = dict(self.settings)
        if self.share is not None:
            settings["neighbours"] = max(1, min(NEIGHBOURS, round(self.share * items)))
        return settings


IDS = "item numbers and the state"
FEATURES = "items' features and the state"
_SEARCH: dict[str, Any] = {"index": "approximate", "flat_below": 20_000, "probes": 64}
_WOLPERTINGER: dict[str, Any] = {
    "embedding": "catalog",
    "critic": {"item_bias": False, "link": "logistic", "state_hidden": [], "initial_value": 1.0},
    "gamma": 0.6,
    "lr": 2e-3,
    "actor": {"lr": 1e-3},
    "target_rate": 0.01,
    "serve": "target",
    "search": _SEARCH,
}
_SCHEDULE = {"schedule": {"updates": 4, "batch_size": 128, "epsilon": 0.05, "epsilon_steps": 50}}
_REINFORCE: dict[str, Any] = {"correction": "standard", "gamma": GAMMA, "lr": 1e-2}
_BATCHES = {"updates": 400, "batch": 64}


def _tree(depth: int) -> dict[str, Any]:
    tree = {"depth": depth}
    return {"gamma": GAMMA, "lr": 3e-2, "baseline": "step", "no_repeats": False, "entropy": 0.01, "tree": tree}


def _by_neighbours(settings: dict[str, Any], **limits: Any) -> Rival:
    return Rival("wolpertinger", "replay", FEATURES, _WOLPERTINGER | settings, extra=_SCHEDULE, **limits)


POPULARITY, KNN, CLONING = "popularity", "item-kNN", "cloning"
LOGGED, ON_POLICY, SLATEQ = "REINFORCE from the log", "REINFORCE on-policy", "SlateQ, 1,000 candidates"
TREE2, TREE3, LISTS = "TPGR, depth 2", "TPGR, depth 3", "FCPO, lists of one"
K1, K_SHARE, K_ALL = "Wolpertinger, k = 1", "Wolpertinger, k = 1 %", "Wolpertinger, k = 100 %"
LISTS_OF_ONE: dict[str, Any] = {"slate_size": 1, "width": 20, "vectors": "features"}
_STEP = {"max_kl": 0.01, "cg_iterations": 5, "fisher_states": 64}
TREE_OF_FEATURES = "a tree of the items' features, and the state"
RIVALS: dict[str, Rival] = {
    POPULARITY: Rival("popularity", "log", "how often an item was accepted"),
    KNN: Rival(
        "item_knn",
        "log",
        "what was accepted together, and the last picks in place of the state",
        extra={"sessions": 500},
    ),
    CLONING: Rival(
        "cloning",
        "log",
        IDS,
        {"lr": 1e-2},
        extra=_BATCHES,
        largest=10_000,
        why="a softmax over all items at each of some 400 steps a batch takes too long (and 1.6 GB a batch at 10⁶)",
    ),
    LOGGED: Rival("reinforce", "log", IDS, _REINFORCE, extra=_BATCHES),
    ON_POLICY: Rival(
        "reinforce",
        "rounds",
        IDS,
        _REINFORCE | {"lr": 2e-2},
        largest=1000,
        why="to act it draws from all items, which are sorted for every decision: too long",
    ),
    SLATEQ: Rival(
        "slateq",
        "log",
        FEATURES + "; chooses from 1,000 items drawn at random",
        {"gamma": GAMMA, "target_candidates": 20, "lr": 2e-3},
        extra={"updates": 400, "batch": 32, "candidates": CANDIDATES},
    ),
    K1: _by_neighbours({"neighbours": 1, "search": _SEARCH | {"probes": 8}}),
    K_SHARE: _by_neighbours({}, share=0.01),
    K_ALL: _by_neighbours(
        {"neighbour_share": 1.0},
        largest=100_000,
        why="the target's maximum over 10⁶ items for 128 states, 0.5 GB, in each of some 500 updates: too long",
    ),
    TREE2: Rival("tpgr", "rounds", TREE_OF_FEATURES, _tree(2)),
    TREE3: Rival("tpgr", "rounds", TREE_OF_FEATURES, _tree(3)),
    LISTS: Rival(
        "fcpo",
        "rounds",
        FEATURES,
        LISTS_OF_ONE | {"gamma": GAMMA, "trust_region": _STEP},
        largest=10_000,
        why="each update differentiates a softmax over all items ten times and more: too long",
    ),
}


FULL = Budget()
"""The interactions behind the table: 51,200."""
QUICK = Budget(places=200, steps=128)
"""Half of them."""


def cell_settings(rival: Rival, items: int, seed: int, budget: dict[str, Any], *, short: bool) -> dict[str, Any]:
    """Settings of the cell of a method at a size; the world is the seed's own."""
    settings = {
        "kind": "learn",
        "method": rival.method,
        "learns": rival.learns,
        "settings": rival.at(items),
        "items": items,
        "seed": seed,
        "world_seed": seed,
        "budget": budget,
        **rival.extra,
    }
    halved = {key: settings[key] // 2 for key in ("updates", "sessions") if short and key in settings}
    return settings | halved


RANDOM, SOFTMAX, SOFTMAX_NEAR = "random", "softmax (cloning, REINFORCE), every item", "softmax, approximate search"
SLATEQ_ALL, TREE_DRAW = "SlateQ, every item", "TPGR, depth 3, a draw"


def deciders(items: int) -> dict[str, dict[str, Any]]:
    """What is timed: how each policy decides, and how many numbers that takes per state (for memory)."""
    beam = 32 * round(items ** (1 / 2)) * 40
    lists = {"flat_below": 20_000, "probes": 64}
    plain = {RANDOM: "random", POPULARITY: "popularity", KNN: "item_knn", SOFTMAX: "reinforce"}
    forms: dict[str, dict[str, Any]] = {name: {"method": method, "settings": {}} for name, method in plain.items()}
    forms |= {
        SOFTMAX_NEAR: {"method": "reinforce", "settings": {}, "retrieve": lists, "scores": 64},
        SLATEQ_ALL: {"method": "slateq", "settings": {}, "scores": 100 * items},
        SLATEQ: {"method": "slateq", "settings": {}, "candidates": CANDIDATES, "scores": 100 * min(items, CANDIDATES)},
        LISTS: {"method": "fcpo", "settings": LISTS_OF_ONE},
        TREE2: {"method": "tpgr", "settings": _tree(2), "scores": beam},
        TREE3: {"method": "tpgr", "settings": _tree(3), "scores": 1},
        TREE_DRAW: {"method": "tpgr", "settings": _tree(3), "draws": True, "scores": 1},
    }
    for name in (K1, K_SHARE, K_ALL):
        settings = RIVALS[name].at(items)
        width = items if name == K_ALL else 64 * settings["neighbours"]
        forms[name] = {"method": "wolpertinger", "settings": settings, "scores": width}
    return forms
