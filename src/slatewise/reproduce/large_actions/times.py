"""How long one decision takes: every method in turns in one process, beside the raw product of states and items.

Weights are those before learning: a decision takes as long, whatever they are. CPU time, because other work on the
machine does not count in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Policy
from slatewise.reproduce._timing import cpu_seconds
from slatewise.reproduce.large_actions import learners
from slatewise.retrieval import approximate
from slatewise.seeds import stream_seed
from slatewise.types import Exploration, SlateRequest

BATCHES = (1, 1024)
SCORES = 1 << 25
"""Numbers that are scored at a time: where a batch would need more, it is decided in pieces."""
RAW = "raw product"
Decide = Callable[[Float[Tensor, "B D"]], object]


def decision_times(settings: Mapping[str, Any]) -> dict[str, Any]:
    """CPU milliseconds of a decision by method and batch, a figure per block; methods take turns block by block.

    Of a batch that takes longer than `longest` seconds, only the first pieces are timed: pieces are all alike.
    """
    seed, items = int(settings["seed"]), int(settings["items"])
    env = learners.open_env(items, settings["world_seed"], 1)
    generator = Generator().manual_seed(stream_seed(seed, 7))
    world = env.world
    vectors = world.features.contiguous()
    contexts = world.appearance[torch.randint(len(world.appearance), (max(BATCHES),), generator=generator)]
    picks = torch.randint(FIRST_ITEM, env.catalog.num_rows, (max(BATCHES), learners.WINDOW), generator=generator)
    states = {"item_knn": torch.cat([picks.float(), torch.ones(picks.shape)], dim=1)}
    # the raw product reads no mood
    deciders: dict[str, tuple[Decide, int, Tensor]] = {
        RAW: (lambda state: state @ vectors.T, items, contexts[:, : world.config.width].contiguous())
    }
    for name, form in settings["methods"].items():
        policy = learners.build(form["method"], form["settings"], env, generator=generator).policy
        if isinstance(policy, nn.Module):
            policy.eval()
        read = states[form["method"]] if form["method"] in states else learners.states_of(policy, contexts)
        deciders[name] = (_decider(policy, form, items, seed), form.get("scores", items), read)
    milliseconds: dict[str, Any] = {name: {} for name in deciders}
    with torch.inference_mode():
        for batch in BATCHES:
            plans = {}
            for name, (decide, width, read) in deciders.items():
                pieces = list(torch.split(read[:batch], max(1, min(batch, SCORES // width))))
                plans[name] = (decide, *plan(decide, pieces, settings["longest"]))
            works = {name: partial(_decide_block, *each) for name, each in plans.items()}
            for name, seconds in cpu_seconds(works, blocks=settings["blocks"]).items():
                _, pieces, rounds = plans[name]
                decisions = rounds * sum(map(len, pieces))
                milliseconds[name][str(batch)] = [1000 * each / decisions for each in seconds]
    return milliseconds


def _decide_block(decide: Decide, pieces: list[Tensor], rounds: int, block: int) -> None:
    del block  # all are alike
    for _ in range(rounds):
        for piece in pieces:
            decide(piece)


def plan(decide: Decide, pieces: list[Tensor], longest: float) -> tuple[list[Tensor], int]:
    """How many of the pieces, and how often, so that a block takes neither too long nor too short to be measured."""
    decide(pieces[0])  # caches fill, indices are fitted
    start = time.process_time()
    decide(pieces[0])
    once = max(1e-5, time.process_time() - start)
    timed = pieces[: max(1, min(len(pieces), int(longest / once)))]
    return timed, max(1, min(50, int(0.01 / (once * len(timed)))))


def _decider(policy: Policy, form: Mapping[str, Any], items: int, seed: int) -> Decide:
    """What is called for one batch of states."""
    generator = Generator().manual_seed(stream_seed(seed, 8))
    if form.get("retrieve"):
        assert isinstance(policy, RankedPolicy)
        policy.retrieve_with(approximate.Approximate(approximate.Config(**form["retrieve"])))
    if form.get("draws"):
        anything = Exploration(top_m=items)
        return lambda state: policy.recommend(state, SlateRequest(k=1, exploration=anything), generator=generator)
    if "candidates" in form:
        among = learners.candidates(items, form["candidates"], seed)
        return lambda state: policy.recommend(state, SlateRequest(k=1, candidates=among.expand(len(state), -1)))
    return lambda state: policy.recommend(state, SlateRequest(k=1), generator=generator)
