"""Every method of the house as it learns in the topic graph from the same number of interactions.

From a log: `interactions` steps that `topic_graph.logging_policy` served. Online: as many steps that the method served
itself. On-policy methods learn from each step once, those with a replay or a log as often as their settings say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise import config as configs
from slatewise.data.batches import sample_rows
from slatewise.encoders import observed, window
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import FIRST_ITEM
from slatewise.methods import cloning, fcpo, item_knn, popularity, random, reinforce, slateq, tpgr, wolpertinger
from slatewise.protocols import Carry, Learner, Policy
from slatewise.reproduce._learning import context_encoder
from slatewise.rollout.off_policy import OffPolicyConfig, learn_off_policy
from slatewise.rollout.on_policy import learn_on_policy
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.sim.topic_graph import Config, Env, World, logging_policy
from slatewise.training.fit import fit
from slatewise.types import Exploration, Observation, Trajectories, Uses

Settings = Mapping[str, Any]
PASS = 1000
"""Sessions read at a time by methods that count."""
WINDOW = 5
"""Picks that item-kNN remembers."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many interactions, and how they come."""

    places: int = 400
    """Users at a time, of a log and with a replay."""
    steps: int = 128
    """Steps of each: 51,200 interactions."""
    round_places: int = 128
    """Users at a time of on-policy methods, who learn after each round."""
    round_steps: int = 8

    @property
    def interactions(self) -> int:
        """Of all."""
        return self.places * self.steps

    @property
    def rounds(self) -> int:
        """Of on-policy methods."""
        return self.interactions // (self.round_places * self.round_steps)


@lru_cache(maxsize=1)
def open_world(items: int, world_seed: int) -> World:
    """The world of a cell; cells of the same world follow each other."""
    return World(Config(num_items=items, world_seed=world_seed))


@lru_cache(maxsize=2)
def open_env(items: int, world_seed: int, places: int) -> Env:
    """The environment of a cell; it is reset before each use."""
    world = open_world(items, world_seed)
    return Env(world.config, num_users=places, world=world)


@lru_cache(maxsize=1)
def record_log(items: int, world_seed: int, places: int, steps: int, seed: int) -> Trajectories:
    """The log of a cell, a session per row, its propensities known."""
    env = open_env(items, world_seed, places)
    arms = [Arm(policy=logging_policy(env, what_is_seen(env)), policy_id=1)]
    return record_trajectories(env, arms, steps=steps, seed=stream_seed(seed, 1))


def what_is_seen(env: Env) -> observed.Encoder:
    """The context is the state: where one stands, and the mood there."""
    return context_encoder(env.catalog, env.config.width + 1)


class Mapped(nn.Module):
    """The context times a learned matrix, the identity at first: what items that are known by number share."""

    def __init__(self, env: Env) -> None:
        super().__init__()
        self.width = env.config.width + 1
        self.map = nn.Parameter(torch.eye(self.width))

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """States before each step and after the last."""
        return trajectories.context @ self.map.T

    def initial(self, num_users: int) -> Carry:
        """Nothing to remember."""
        return torch.zeros(num_users, 1)

    def step(self, carry: Carry, uses: Uses) -> Carry:
        """Nothing to remember."""
        del uses
        return carry

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        """The context, mapped."""
        del carry
        return observation.context @ self.map.T


def build(method: str, settings: Settings, env: Env, *, generator: Generator) -> Learner:
    """An untrained learner of a method with the encoder it reads.

    Wolpertinger, SlateQ, FCPO and the tree see the items' features; the others know items by number alone.
    """
    module, encoder = METHODS[method], _encoders.get(method, what_is_seen)(env)
    config = configs.convert(module.Config, dict(settings), where=method)
    learner: Learner = module.Learner(config, encoder, env.catalog, generator=generator)
    if isinstance(learner, tpgr.Learner) and learner.config.tree.depth > 1:
        learner.policy.plant_vectors(torch.from_numpy(env.catalog.features), generator=generator)
    if isinstance(learner, fcpo.Learner):
        learner.policy.set_vectors(torch.from_numpy(env.catalog.features))
    return learner


def open_cell(settings: Settings) -> Env:
    """What is there before a cell's method begins: the environment, and the log where it learns from one."""
    budget, where = Budget(**settings["budget"]), (settings["items"], settings["world_seed"])
    if settings["learns"] == "log":
        record_log(*where, budget.places, budget.steps, int(settings["seed"]))
    return open_env(*where, budget.round_places if settings["learns"] == "rounds" else budget.places)


def learn(settings: Settings) -> Policy:
    """The policy of a cell, when all its interactions are spent."""
    seed, budget, env = int(settings["seed"]), Budget(**settings["budget"]), open_cell(settings)
    generator = Generator().manual_seed(stream_seed(seed, 2))
    learner = build(settings["method"], settings["settings"], env, generator=generator)
    if settings["learns"] == "rounds":
        draws = Exploration(top_m=env.catalog.num_items)
        learn_on_policy(
            env, learner, rounds=budget.rounds, steps=budget.round_steps, exploration=draws, seed=stream_seed(seed, 3)
        )
    elif settings["learns"] == "replay":
        schedule = OffPolicyConfig(steps=budget.steps, replay=budget.steps, **settings["schedule"])
        learn_off_policy(env, learner, schedule, seed=stream_seed(seed, 3))
    else:
        record = record_log(settings["items"], settings["world_seed"], budget.places, budget.steps, seed)
        learn_from_log(learner, record, updates=settings.get("updates"), batch=settings.get("batch", 0))
    return learner.policy


def learn_from_log(learner: Learner, record: Trajectories, *, updates: int | None, batch: int) -> None:
    """Some updates with sessions drawn at random; methods that count read all once."""
    if isinstance(learner, slateq.Learner):
        record = as_lists(record)
    sessions = len(record.mask)
    if learner.single_pass or updates is None:
        fit(learner, (record.rows(slice(start, start + PASS)).trim() for start in range(0, sessions, PASS)))
    else:
        draw = Generator().manual_seed(stream_seed(sessions, 4))
        fit(learner, sample_rows(record, batch, updates=updates, generator=draw))


def as_lists(record: Trajectories) -> Trajectories:
    """A log of single items as one of lists with an empty second place, for a method that learns from lists."""
    columns = ("slate", "logp", "reward", "cost", "used", "used_time", "use_reward")
    return record.replace(**{name: torch.nn.functional.pad(getattr(record, name), (0, 1)) for name in columns})


def candidates(items: int, count: int, seed: int) -> Int[Tensor, " C"]:
    """The items that a method which cannot score all chooses from: drawn once, the same at every state."""
    if items <= count:
        return torch.arange(FIRST_ITEM, FIRST_ITEM + items)
    draw = Generator().manual_seed(stream_seed(seed, 5))
    # with replacement, then each once: a permutation of 10⁶ numbers is not needed
    rows: Tensor = torch.unique(torch.randint(FIRST_ITEM, FIRST_ITEM + items, (count,), generator=draw))
    return rows


@torch.no_grad()
def states_of(policy: Policy, context: Float[Tensor, "B X"]) -> Float[Tensor, "B D"]:
    """The state that a policy reads where this is seen and nothing was shown before."""
    observation = Observation(user=torch.arange(len(context)), context=context)
    return policy.encoder.state(policy.encoder.initial(len(context)), observation)


METHODS = {
    module.__name__.rpartition(".")[2]: module
    for module in (random, popularity, item_knn, cloning, reinforce, slateq, wolpertinger, tpgr, fcpo)
}
_encoders: dict[str, Callable[[Env], Any]] = {
    "random": lambda _: StatelessEncoder(),
    "popularity": lambda _: StatelessEncoder(),
    "cloning": Mapped,
    "reinforce": Mapped,
    "item_knn": lambda env: window.Encoder(window.Config(length=WINDOW), env.catalog),
}
