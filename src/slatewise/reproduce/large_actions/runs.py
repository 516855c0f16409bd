"""Cells of the comparison over the number of items: what a method earns, computed exactly, and how long it learned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from jaxtyping import Int
from torch import Tensor

from slatewise.protocols import Policy
from slatewise.reproduce._learning import cpu_timed, greedy_items
from slatewise.reproduce.large_actions import learners
from slatewise.rollout.returns import returns
from slatewise.seeds import stream_seed
from slatewise.sim import topic_graph
from slatewise.sim.topic_graph import World

SCORES = 1 << 25
"""Numbers that a policy may score at a time when it is measured: 128 MB."""
MOST_PLACES = 250


def references(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Optimum, best next step, the logging policy and random, exactly."""
    world = learners.open_world(settings["items"], settings["world_seed"])
    return {
        "optimum": topic_graph.optimum(world).value,
        "greedy": topic_graph.greedy(world).value,
        "logging": topic_graph.logged_value(world),
        "random": topic_graph.random_value(world),
    }


def learn_and_measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Learn, then the return of the greedy policy: exact where it reads the state, by sessions where the history."""
    world = learners.open_cell(settings).world
    policy, seconds = cpu_timed(partial(learners.learn, settings))
    if "sessions" in settings:
        value = _simulate(policy, settings)
    else:
        value = topic_graph.value_of(world, show_greedily(policy, world, settings)).value
    return {"value": value, "seconds": seconds}


def show_greedily(policy: Policy, world: World, settings: Mapping[str, Any]) -> Int[Tensor, " S"]:
    """Row of the item that a greedy policy shows at each topic."""
    candidates, width = None, world.config.num_items
    if "candidates" in settings:
        candidates = learners.candidates(width, settings["candidates"], int(settings["seed"]))
        width = 100 * len(candidates)
    states = learners.states_of(policy, world.appearance)
    return greedy_items(policy, states, at_a_time=max(1, SCORES // width), candidates=candidates)


def _simulate(policy: Policy, settings: Mapping[str, Any]) -> float:
    """Mean return of sessions that were played."""
    places = max(4, min(MOST_PLACES, SCORES // settings["items"]))
    env = learners.open_env(settings["items"], settings["world_seed"], places)
    sessions = max(1, settings["sessions"] // places)
    return returns(env, policy, seed=stream_seed(int(settings["seed"]), 6), sessions=sessions).value
