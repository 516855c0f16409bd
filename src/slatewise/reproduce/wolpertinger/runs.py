"""Wolpertinger's experiments: learn in the accept graph, compute exactly what the policy earns; time its decisions."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise import config as configs
from slatewise.encoders import observed
from slatewise.log import FIRST_ITEM
from slatewise.methods import wolpertinger
from slatewise.methods.wolpertinger.proto_action import expected_best
from slatewise.retrieval.recall import overlap
from slatewise.rollout.off_policy import OffPolicyConfig, learn_off_policy
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


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    items: int = 13_138
    users: int = 250
    """Places of the environment that is learned in."""
    steps: int = 480
    """Steps of each place: 120,000 transitions."""
    updates: int = 2
    batch: int = 256
    replay: int = 480
    """Steps kept per place."""
    epsilon: float = 0.05
    epsilon_steps: int = 110
    curve_points: int = 5


def world_config(size: Size, world_seed: int = 0) -> Config:
    """The accept graph as the cell says."""
    return Config(num_items=size.items, world_seed=world_seed)


def learner(settings: dict[str, Any], env: Env, *, seed: int) -> wolpertinger.Learner:
    """An untrained learner; what is observed is the state."""
    config = configs.convert(wolpertinger.Config, settings, where="wolpertinger")
    generator = Generator().manual_seed(stream_seed(seed, 3))
    encoder = observed.Encoder(observed.Config(history=False, context_width=env.config.width), env.catalog)
    return wolpertinger.Learner(config, encoder, env.catalog, generator=generator)


def train_and_measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Learn by interaction; the curve is the exact return of the greedy policy over transitions seen."""
    size, seed = Size(**settings["size"]), settings["seed"]
    env = Env(world_config(size, settings.get("world_seed", 0)), num_users=size.users)
    built = learner(settings["method"], env, seed=seed)
    curve: list[tuple[float, float]] = []
    every = max(1, size.steps // size.curve_points)
    measuring = 0.0

    def watch(step: int, figures: dict[str, float]) -> None:
        nonlocal measuring
        del figures
        if (step + 1) % every == 0:
            begun = time.process_time()
            curve.append(((step + 1) * size.users, measure(built.policy, env.world)))
            measuring += time.process_time() - begun

    started = time.process_time()
    learn_off_policy(env, built, schedule(size), seed=stream_seed(seed, 4), on_step=watch)
    return {"curve": curve, "seconds": time.process_time() - started - measuring}


def measure(policy: wolpertinger.Policy, world: World) -> float:
    """Expected return of a session of the greedy policy: no draws, so no noise."""
    return accept_graph.value_of(world, decisions(policy, world)).value


@torch.no_grad()
def decisions(policy: wolpertinger.Policy, world: World) -> Int[Tensor, " N"]:
    """Row of the item that the policy shows at each state."""
    everywhere = torch.arange(world.config.num_items)
    found = [
        policy.recommend(state, SlateRequest(k=1)).items[:, 0]
        for state in torch.split(world.appearance(everywhere), CHUNK)
    ]
    return torch.cat(found) - FIRST_ITEM


def references(settings: dict[str, Any]) -> dict[str, Any]:
    """Optimum, one-step greedy and random, exactly."""
    world = World(world_config(Size(**settings["size"]), settings.get("world_seed", 0)))
    return {
        "optimum": accept_graph.optimum(world).value,
        "greedy": accept_graph.greedy(world).value,
        "random": accept_graph.random_value(world),
    }


def decision_times(settings: dict[str, Any]) -> dict[str, Any]:
    """CPU milliseconds of one decision for one user, what the search finds, and what the policy then earns.

    Nothing is learned: the critic is set to the chance of acceptance itself and the actor to where the state stands, so
    that only the search makes a difference. Policies take turns, a block of decisions each. CPU time, because other
    work on the machine does not count in it.
    """
    seed, rounds = settings["seed"], settings["rounds"]
    env = Env(Config(num_items=settings["items"], world_seed=settings.get("world_seed", 0)), num_users=1)
    policies = {name: knowing(method, env, seed=seed) for name, method in settings["methods"].items()}
    draw = Generator().manual_seed(stream_seed(seed, 5))
    starts = torch.randint(env.config.num_items, (settings["starts"],), generator=draw)
    blocks = torch.randint(env.config.num_items, (rounds + 1, BLOCK, 1), generator=draw)
    joint = read_together(policies[settings["few"]], draw)
    taken: dict[str, list[float]] = {name: [] for name in (*policies, *joint)}
    with torch.inference_mode():
        for block in blocks:
            states = [env.world.appearance(at) for at in block]
            for name, policy in policies.items():
                begun = time.process_time()
                for state in states:
                    policy.recommend(state, SlateRequest(k=1))
                taken[name].append((time.process_time() - begun) / BLOCK)
            for name in joint:
                begun = time.process_time()
                for state in states:
                    joint[name](state)
                taken[name].append((time.process_time() - begun) / BLOCK)
        # in the first block caches fill and indices are fitted
        kept = {name: values[1:] for name, values in taken.items()}
        full, exact = kept[settings["full"]], policies[settings["exact"]]
        proto = exact.query(env.world.appearance(starts))
        slow, fast = (1000 * statistics.median(kept[name]) for name in joint)
        figures = {
            JOINT_FULL: {"milliseconds": slow, "faster": 1.0},
            JOINT_FEW: {"milliseconds": fast, "faster": slow / fast},
        }
        return figures | {
            name: {
                "milliseconds": 1000 * statistics.median(values),
                "faster": statistics.median(full) / statistics.median(values),
                "recall": _recall(policies[name], exact, proto) if policies[name].searches else 1.0,
                "return": return_from(policies[name], env.world, starts),
            }
            for name, values in kept.items()
            if name in policies
        }


def read_together(policy: wolpertinger.Policy, draw: Generator) -> dict[str, Callable[[Tensor], Tensor]]:
    """Decisions by a critic that is no product: 64 hidden units read state and item together, as in the paper.

    What the units read of the items is computed beforehand, in favour of full search; weights are drawn.
    """
    width, every = policy.networks.features.shape[1], policy.networks.features[FIRST_ITEM:]
    of_state, of_item = torch.randn(2, width, HIDDEN, generator=draw)
    out, ready = torch.randn(HIDDEN, generator=draw), every @ of_item

    def full(state: Tensor) -> Tensor:
        values: Tensor = (ready + state @ of_state).relu_() @ out
        return values.argmax() + FIRST_ITEM

    def few(state: Tensor) -> Tensor:
        near = policy.nearest(policy.query(state), policy.count)[0][0]
        values: Tensor = (ready[near - FIRST_ITEM] + state @ of_state).relu_() @ out
        return near[values.argmax()]

    return {JOINT_FULL: full, JOINT_FEW: few}


def knowing(settings: dict[str, Any], env: Env, *, seed: int) -> wolpertinger.Policy:
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
        some = torch.split(new, CHUNK)
        shown[new] = (
            torch.cat([policy.recommend(world.appearance(at), SlateRequest(k=1)).items[:, 0] for at in some])
            - FIRST_ITEM
        )
        after = torch.unique(shown[new])
        new = after[shown[after] < 0]
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
    found, _ = policy.nearest(proto, policy.count)
    return float(overlap(found, exact.nearest(proto, policy.count)[0]).mean())


def lemma(settings: dict[str, Any]) -> dict[str, Any]:
    """The expected best of k neighbours, by the formula and by draws; Q = 0, b = 1, c = 1.5."""
    draw = Generator().manual_seed(stream_seed(settings["seed"], 6))
    found: dict[str, list[list[float]]] = {}
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
        found[f"{bad:g}"] = points
    return found


def schedule(size: Size) -> OffPolicyConfig:
    """Serving and learning in turns."""
    return OffPolicyConfig(
        steps=size.steps,
        updates=size.updates,
        batch_size=size.batch,
        replay=size.replay,
        epsilon=size.epsilon,
        epsilon_steps=size.epsilon_steps,
    )


def full() -> dict[str, Any]:
    """The sizes behind the table."""
    return asdict(Size())


def quick() -> dict[str, Any]:
    """A smaller catalog and fewer steps: enough to see the order."""
    return asdict(Size(items=2000, steps=320, replay=320, epsilon_steps=100))
