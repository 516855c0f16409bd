"""The cells of the tree-policy experiments: train on some people's ratings, judge with the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.data.ratings import Ratings
from slatewise.encoders import gru
from slatewise.heads.item_vectors import vectors_of
from slatewise.heads.ranked import RankedPolicy
from slatewise.methods import popularity, random, tpgr, wolpertinger
from slatewise.protocols import Learner, Policy
from slatewise.sim import Arm, log, play, stream
from slatewise.sim.rating_sessions import Config, Env, World, open_world
from slatewise.sim.toys import NoHistory
from slatewise.train.on_policy import learn_on_policy
from slatewise.types import Exploration, Trajectories

DATA = "data/ml-100k"
CONTEXT = 19
EDGES = (-0.75, -0.25, 0.01, 0.25, 0.75)
"""Borders between the answers that the state tells apart."""


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """One cell: what it earns from the people held out, per session, and how long it took to learn."""
    config = Config(data=DATA, alpha=float(settings["alpha"]), valid_share=0.2 if settings["part"] == "valid" else 0.0)
    world = open_world(config)
    env = Env(config, num_users=int(settings["users"]), world=world)
    judge = Env(replace(config, part=settings["part"], in_turn=True), num_users=1, world=world)
    judge = Env(judge.config, num_users=judge.num_people, world=world)
    begun = time.process_time()
    policy = _policies[settings["kind"]](settings, env)
    seconds = time.process_time() - begun
    seed = int(settings["seed"])
    draws = Exploration(top_m=env.catalog.num_items)
    found = {"greedy": judged(judge, policy, None, seed), "drawn": judged(judge, policy, draws, seed)}
    return {"seconds": seconds, **found}


def judged(env: Env, policy: Policy, explore: Exploration | None, seed: int) -> dict[str, float]:
    """Mean over the people: return and mean reward a step, precision, recall and F1 of what a session showed."""
    steps = env.config.steps
    earned = torch.zeros(env.num_users)
    arms = [Arm(policy=policy, explore=explore)]
    sessions = play(env, arms, seed=seed, exclude_last=steps)
    shown: list[Tensor] = []
    for number, (_, step, _) in enumerate(sessions, start=1):
        shown.append(step.slate)
        earned += step.reward.sum(dim=1)
        if number == steps:
            break
    # the people of the first sessions sit there again after a reset
    env.reset(seed=seed)
    found, relevant = env.relevant(torch.cat(shown, dim=1))
    hits, total = found.sum(dim=1).float(), relevant.float()
    precision, recall = hits / steps, hits / total.clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
    figures = {"return": earned, "reward": earned / steps, "precision": precision, "recall": recall, "f1": f1}
    return {name: float(values.mean()) for name, values in figures.items()}


def _tree(settings: Mapping[str, Any], env: Env) -> Policy:
    """Train the tree policy; depth 1 is the softmax over the catalog."""
    generator = Generator().manual_seed(int(settings["seed"]))
    encoder = _encoder(env, generator)
    learner = tpgr.Learner(
        tpgr.Config(**{"baseline": "step", **settings["method"]}), encoder, env.catalog, generator=generator
    )
    if learner.config.depth > 1:
        vectors = vectors_of(_known(env.world), settings["vectors"], generator=generator)
        learner.policy.planted(vectors, generator=generator)
    learn_on_policy(
        env,
        learner,
        updates=int(settings["updates"]),
        steps=env.config.steps,
        explore=Exploration(top_m=env.catalog.num_items),
        seed=int(settings["seed"]),
        exclude_last=env.config.steps,
    )
    return learner.policy


def _wolpertinger(settings: Mapping[str, Any], env: Env) -> Policy:
    """One nearest item to the actor's point, vectors learned with the critic; the same number of sessions.

    A share of the sessions, falling from all to a tenth, is random; updates draw from everything played so far.
    """
    generator = Generator().manual_seed(int(settings["seed"]))
    learner: Learner = wolpertinger.Learner(
        wolpertinger.Config(**{"neighbours": 1, "gamma": 0.6, **settings["method"]}),
        _encoder(env, generator),
        env.catalog,
        generator=generator,
    )
    floor = random.Policy(random.Config(), NoHistory(), env.catalog)
    anything = Exploration(top_m=env.catalog.num_items)
    kept: list[Trajectories] = []
    updates = int(settings["updates"])
    for number in range(updates):
        share = max(0.1, 1 - 2 * number / updates)
        arms = [Arm(policy=floor, share=share, explore=anything)]
        if share < 1:
            arms.append(Arm(policy=learner.policy, policy_id=1, share=1 - share))
        seed = stream(int(settings["seed"]), number)
        kept.append(log(env, arms, steps=env.config.steps, seed=seed, exclude_last=env.config.steps))
        for _ in range(int(settings["learn"])):
            batch = kept[int(torch.randint(len(kept), (), generator=generator))]
            first = int(torch.randint(max(1, env.num_users - 32), (), generator=generator))
            learner.update(batch.select(slice(first, first + 32)))
    return learner.policy


def _popular(settings: Mapping[str, Any], env: Env) -> Policy:
    """The items that most people rated; the same for everybody."""
    del settings
    policy = popularity.Policy(popularity.Config(), NoHistory(), env.catalog)
    policy.count += _known(env.world).counts()
    return policy


def _best_liked(settings: Mapping[str, Any], env: Env) -> Policy:
    """The items with the largest sum of answers by the people who train: the best a policy without a state can show."""
    del settings
    known = _known(env.world)
    low, high = known.scale
    value = (known.value - (low + high) / 2) * 2 / (high - low)
    return _Fixed(torch.zeros(known.num_rows).index_add_(0, known.item, value))


def _random(settings: Mapping[str, Any], env: Env) -> Policy:
    del settings
    return random.Policy(random.Config(), NoHistory(), env.catalog)


class _Fixed(RankedPolicy):
    """The same scores for everybody."""

    def __init__(self, scores: Float[Tensor, " rows"]) -> None:
        super().__init__(NoHistory(), len(scores))
        self.register_buffer("fixed", scores)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Scores of some items, or of all rows."""
        fixed = self.get_buffer("fixed")
        return fixed.expand(len(state), -1) if items is None else fixed[items]


def _encoder(env: Env, generator: Generator) -> gru.Encoder:
    config = gru.Config(width=64, item_width=64, reward_edges=EDGES, context_width=CONTEXT)
    return gru.Encoder(config, env.catalog, generator=generator)


def _known(world: World) -> Ratings:
    """What the people who train have rated."""
    return world.ratings.users(world.parts["train"])


_policies: dict[str, Callable[[Mapping[str, Any], Env], Policy]] = {
    "tree": _tree,
    "wolpertinger": _wolpertinger,
    "popularity": _popular,
    "best liked": _best_liked,
    "random": _random,
}
