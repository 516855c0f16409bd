"""Wolpertinger's experiments: learn in the accept graph, compute exactly what the policy earns; time its decisions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise import config as configs
from slatewise.log import FIRST_ITEM
from slatewise.methods import wolpertinger
from slatewise.methods.wolpertinger.proto_action import expected_best
from slatewise.reproduce._learning import Size, context_encoder, greedy_items, learn_with_curve
from slatewise.reproduce._timing import cpu_seconds
from slatewise.retrieval.recall import overlap
from slatewise.rollout.off_policy import OffPolicyConfig
from slatewise.seeds import stream_seed
from slatewise.sim import accept_graph
from slatewise.sim.accept_graph import Config, Env, World
from slatewise.types import SlateRequest

CHUNK = 512
"""States decided at a time when a policy is measured."""
BLOCK = 20
"""Decisions timed together."""
JOINT_FULL, JOINT_FEW = "full search, joint critic", "100 nearest, approximate, joint critic"
HIDDEN = 64
"""Units of the joint critic."""
LOSS = 1.5
"""c of the lemma, in units of b."""


def world_config(items: int, settings: Mapping[str, Any]) -> Config:
    """The accept graph as the cell says."""
    return Config(num_items=items, world_seed=settings.get("world_seed", 0))


def learner(settings: Mapping[str, Any], env: Env, *, seed: int) -> wolpertinger.Learner:
    """An untrained learner; what is observed is the state."""
    config = configs.convert(wolpertinger.Config, dict(settings), where="wolpertinger")
    generator = Generator().manual_seed(stream_seed(seed, 3))
    encoder = context_encoder(env.catalog, env.config.width)
    return wolpertinger.Learner(config, encoder, env.catalog, generator=generator)


def train_and_measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Learn by interaction; the curve is the exact return of the greedy policy over transitions seen."""
    size, seed = configs.convert(Size, settings["size"], where="size"), settings["seed"]
    env = Env(world_config(settings["items"], settings), num_users=size.users)
    actor = learner(settings["method"], env, seed=seed)
    curve, seconds = learn_with_curve(
        env, actor, size, seed=stream_seed(seed, 4), measure=lambda: measure(actor.policy, env.world)
    )
    return {"curve": curve, "seconds": seconds}


def measure(policy: wolpertinger.Policy, world: World) -> float:
    """Expected return of a session of the greedy policy: no draws, so no noise."""
    states = world.appearance(torch.arange(world.config.num_items))
    return accept_graph.value_of(world, greedy_items(policy, states, at_a_time=CHUNK)).value


def references(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Optimum, one-step greedy and random, exactly."""
    world = World(world_config(settings["items"], settings))
    return {
        "optimum": accept_graph.optimum(world).value,
        "greedy": accept_graph.greedy(world).value,
        "random": accept_graph.random_value(world),
    }


def decision_times(settings: Mapping[str, Any]) -> dict[str, Any]:
    """CPU milliseconds of one decision for one user, what the search finds, and what the policy then earns.

    Nothing is learned: the critic is set to the chance of acceptance itself and the actor to where the state stands, so
    that only the search makes a difference. Policies take turns, a block of decisions each. CPU time, because other
    work on the machine does not count in it.
    """
    seed, rounds = settings["seed"], settings["rounds"]
    env = Env(world_config(settings["items"], settings), num_users=1)
    policies = {name: set_by_hand(method, env, seed=seed) for name, method in settings["methods"].items()}
    draw = Generator().manual_seed(stream_seed(seed, 5))
    starts = torch.randint(env.config.num_items, (settings["starts"],), generator=draw)
    blocks = torch.randint(env.config.num_items, (rounds + 1, BLOCK, 1), generator=draw)
    joint = joint_deciders(policies[settings["few"]], draw)
    states = [[env.world.appearance(at) for at in block] for block in blocks]
    deciders: dict[str, Callable[[Tensor], object]] = {
        **{name: partial(policy.recommend, request=SlateRequest(k=1)) for name, policy in policies.items()},
        **joint,
    }

    def decide_block(name: str, block: int) -> None:
        for state in states[block]:
            deciders[name](state)

    with torch.inference_mode():
        seconds = cpu_seconds({name: partial(decide_block, name) for name in deciders}, blocks=rounds)
        medians = {name: statistics.median(values) / BLOCK for name, values in seconds.items()}
        exact = policies[settings["exact"]]
        proto = exact.networks.proto(env.world.appearance(starts))
        times = {
            name: {
                "milliseconds": 1000 * each,
                "faster": medians[settings["full"] if name in policies else JOINT_FULL] / each,
            }
            for name, each in medians.items()
        }
        for name, policy in policies.items():
            times[name]["recall"] = _recall(policy, exact, proto) if policy.searches else 1.0
            times[name]["return"] = return_from(policy, env.world, starts)
    return times


def joint_deciders(policy: wolpertinger.Policy, draw: Generator) -> dict[str, Callable[[Tensor], Tensor]]:
    """Decisions by a critic that is no product: 64 hidden units read state and item together, as in the paper.

    What the units read of the items is computed beforehand, in favour of full search; weights are drawn.
    """
    width, every = policy.networks.features.shape[1], policy.networks.features[FIRST_ITEM:]
    of_state, of_item = torch.randn(2, width, HIDDEN, generator=draw)
    out, ready = torch.randn(HIDDEN, generator=draw), every @ of_item

    def full(state: Tensor) -> Tensor:
        values: Tensor = (ready + state @ of_state).relu_() @ out
        return values.argmax() + FIRST_ITEM

    def nearest_only(state: Tensor) -> Tensor:
        near = policy.nearest(policy.networks.proto(state), policy.count)[0][0]
        values: Tensor = (ready[near - FIRST_ITEM] + state @ of_state).relu_() @ out
        return near[values.argmax()]

    return {JOINT_FULL: full, JOINT_FEW: nearest_only}


def set_by_hand(settings: Mapping[str, Any], env: Env, *, seed: int) -> wolpertinger.Policy:
    """A policy that nobody trained: Q(s, a) = W + a constant, and the proto-action points along q."""
    config, policy = env.config, learner(settings, env, seed=seed).policy
    critic, width = policy.networks.critic(), env.config.width
    # the state is √E q; the item's tower reads √E times its features in units of their mean norm
    norm = float(env.world.shown.norm(dim=1).mean())
    with torch.no_grad():
        for weight in policy.networks.parameters():
            weight.zero_()
        for net, slope in (
            (critic.state, config.slope / width**0.5),
            (critic.item, norm / width**0.5),
            (policy.networks.actor, 1.0),
        ):
            matrix, _ = net.parameters()
            matrix[:width].copy_(slope * torch.eye(width))
        *_, last = critic.item.parameters()
        last[-1] = config.offset
        assert critic.span is not None
        critic.span.fill_(math.log(math.e - 1))  # softplus⁻¹(1)
    return policy.eval()


@torch.inference_mode()
def return_from(policy: wolpertinger.Policy, world: World, starts: Int[Tensor, " S"]) -> float:
    """Expected return of sessions that start, and go on after a reject, at any of these states.

    Exact for them: only states that the policy leads to from there are looked at, and each of them once.
    """
    config, shown = world.config, torch.full((world.config.num_items,), -1)
    new = torch.unique(starts)
    while len(new):
        shown[new] = greedy_items(policy, world.appearance(new), at_a_time=CHUNK)
        following = torch.unique(shown[new])
        new = following[shown[following] < 0]
    reached = (shown >= 0).nonzero().squeeze(1)
    p = world.accepts(reached, shown[reached]).double()
    values, change = torch.zeros(config.num_items, dtype=torch.float64), 1.0
    while change > accept_graph.TOLERANCE:
        on, off = (1 - config.end_after_accept) * values[shown[reached]], (1 - config.end_after_reject)
        better = p * (1 + on) + (1 - p) * off * values[starts].mean()
        change = float((better - values[reached]).abs().max())
        values[reached] = better
    return float(values[starts].mean())


def _recall(policy: wolpertinger.Policy, exact: wolpertinger.Policy, proto: Float[Tensor, "B E"]) -> float:
    """Share of the k nearest items that a policy's search finds."""
    nearest, _ = policy.nearest(proto, policy.count)
    return float(overlap(nearest, exact.nearest(proto, policy.count)[0]).mean())


def lemma(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The expected best of k neighbours, by the formula and by draws; Q = 0, b = 1, c = 1.5."""
    draw = Generator().manual_seed(stream_seed(settings["seed"], 6))
    curves: dict[str, list[list[float]]] = {}
    for bad in settings["bad"]:
        points = []
        for k in settings["k"]:
            good = 2 * torch.rand(settings["draws"], k, generator=draw) - 1
            is_bad = torch.rand(settings["draws"], k, generator=draw) < bad
            best = torch.where(is_bad, torch.tensor(-LOSS), good).amax(dim=1)
            said = expected_best(
                torch.zeros(()),
                half_width=torch.ones(()),
                loss=torch.tensor(LOSS),
                bad=torch.tensor(bad, dtype=torch.float32),
                k=torch.tensor(float(k)),
            )
            points.append([float(k), float(said), float(best.mean())])
        curves[f"{bad:g}"] = points
    return curves


FULL = Size(
    users=250,
    interaction=OffPolicyConfig(steps=480, updates=2, batch_size=256, replay=480, epsilon=0.05, epsilon_steps=110),
    curve_points=5,
)
"""120,000 transitions."""
QUICK = replace(FULL, interaction=replace(FULL.interaction, steps=320, replay=320, epsilon_steps=100))
"""Fewer steps: enough to see the order."""
