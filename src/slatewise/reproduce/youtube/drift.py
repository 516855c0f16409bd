"""The live experiments of sec. 6.3 in kind: policies learned from biased logs of `sim.drift`, then set into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor

from slatewise import config as configs
from slatewise.data.batches import shuffle_rows
from slatewise.encoders import cfn
from slatewise.log import FIRST_ITEM
from slatewise.methods import reinforce
from slatewise.ops.choices import at_choice, bucket_edges
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.sim import drift
from slatewise.training.fit import fit
from slatewise.types import Exploration, Trajectories

WIDTH = 32
NO_CAP = 1e9
REFERENCE = "k16"
"""Matched K, cap e³, γ = .3, β̂ on the shared state: every variant differs from it in one thing."""
OPTIMISER: dict[str, Any] = {"lr": 3e-3, "negatives": {"table_lr": 0.5, "count": 1024}}
"""For all variants; chosen by the uncorrected learner's watch time on seeds that no experiment uses."""
GAMMA = 0.3
"""The longest that is worth while with logs of this size: on two seeds that no experiment uses, the uncorrected learner
earned 125 minutes at 0, 122 at .3, 115 at .5, 107 at .7 and, with a longer log, 106 at .9: what comes much later is
mostly noise to an action."""
VARIANTS: dict[str, dict[str, Any]] = {
    "uncorrected": {"correction": "none"},
    "k1": {"correction": "standard"},
    "k2": {"slate_size": 2},
    "k8": {"slate_size": 8},
    REFERENCE: {},
    "k32": {"slate_size": 32},
    "cap-e5": {"weight_cap": math.exp(5)},
    "no-cap": {"weight_cap": NO_CAP},
    "nis": {"weight_cap": NO_CAP, "self_normalise": True},
    "trpo": {"kl_penalty": 1.0},
    "beta-separate": {"behaviour": {"model": "separate"}},
    "beta-frequency": {"behaviour": {"model": "frequency"}},
    "gamma-0": {"gamma": 0.0},
    "gamma-0.9": {"gamma": 0.9},
    "gamma-0.99": {"gamma": 0.99},
    "hours-4": {"gamma": 1.0, "horizon_hours": 4.0},
    "hours-10": {"gamma": 1.0, "horizon_hours": 10.0},
}
SERVED = {
    "stochastic, τ = 0.5": Exploration(top_m=256, keep=0, temperature=0.5),
    "stochastic, τ = 1": Exploration(top_m=256, keep=0, temperature=1.0),
    "stochastic, τ = 2": Exploration(top_m=256, keep=0, temperature=2.0),
    "explored, 8 of 16 fixed": Exploration(top_m=256, keep=8, temperature=1.0),
}
"""How the reference policy is served besides its 16 best."""
RANKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is logged, learned and tested."""

    users: int
    """Whose stays the log holds."""
    passes: int
    """Over the log."""
    batch: int
    """Users in a batch."""
    test_users: int


FULL = {
    "strong": Size(users=6144, passes=2, batch=16, test_users=1024),
    "mild": Size(users=3072, passes=2, batch=16, test_users=512),
    "uniform": Size(users=3072, passes=2, batch=16, test_users=512),
}
"""On six seeds that no experiment uses, the second pass gained for every variant of the main comparison, the third lost
for the corrected ones. The world that the bars are about gets the longer log."""
EXPLORATION = Size(users=4096, passes=2, batch=16, test_users=1024)
QUICK = Size(users=4096, passes=2, batch=16, test_users=512)


def world(seed: int) -> drift.Config:
    """Every seed has a catalog of its own."""
    return drift.Config(world_seed=seed)


@lru_cache(maxsize=1)
def record_log(name: str, seed: int, users: int) -> Trajectories:
    """The log of a world; kept for the next cell of this process."""
    config = world(seed)
    env = drift.Env(config, num_users=users)
    arms = drift.logging_arms(env, drift.WORLDS[name])
    return record_trajectories(env, arms, steps=config.lifetime, seed=stream_seed(seed, 1), exclude_last=config.memory)


def learner(log: Trajectories, settings: Mapping[str, Any], *, seed: int) -> reinforce.Learner:
    """A learner with fresh weights."""
    catalog = drift.Env(world(seed), num_users=1).catalog
    rewards = at_choice(log.reward, log.choice)[log.choice >= 0].numpy()
    chosen = cfn.Config(width=WIDTH, item_width=WIDTH, reward_edges=bucket_edges(rewards), context_width=0)
    generator = Generator().manual_seed(stream_seed(seed, 2))
    encoder = cfn.Encoder(chosen, catalog, generator=generator)
    method = configs.convert(reinforce.Config, OPTIMISER | {"gamma": GAMMA} | dict(settings), where="variant")
    return reinforce.Learner(method, encoder, catalog, generator=generator)


def learn(learner: reinforce.Learner, log: Trajectories, *, size: Size, seed: int) -> dict[str, float]:
    """Pass over a log in batches of users; returns the means of the last pass."""
    generator = Generator().manual_seed(stream_seed(seed, 3))
    means: dict[str, float] = {}
    for _ in range(size.passes):
        means = fit(learner, shuffle_rows(log, size.batch, generator=generator, whole_only=True))
    return means


def stays(record: Trajectories) -> dict[str, float]:
    """Minutes watched and picks in a stay, means over users."""
    return {
        "minutes": float(record.reward.double().sum(dim=(1, 2)).mean()),
        "picks": float((record.choice >= 0).double().sum(dim=1).mean()),
    }


def serve(policy: reinforce.Policy, *, seed: int, size: Size, exploration: Exploration | None = None) -> Trajectories:
    """Serve a policy to users it has never seen for their whole stay; the same users for all policies of a seed."""
    arms = [Arm(policy=policy, exploration=exploration)]
    return record_stays(arms, world_seed=seed, users=size.test_users, seed=stream_seed(seed, 4))


def record_stays(arms: list[Arm], *, world_seed: int, users: int, seed: int) -> Trajectories:
    """What new users of a world do in their whole stay."""
    env = drift.Env(world(world_seed), num_users=users)
    return record_trajectories(env, arms, steps=env.config.lifetime, seed=seed, exclude_last=env.config.memory)


def run_variant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Learn one variant and test it; the reference also as served in other ways."""
    seed, size = int(settings["seed"]), Size(**settings["size"])
    record = record_log(settings["world"], seed, size.users)
    machine = learner(record, settings["method"], seed=seed)
    losses = learn(machine, record, size=size, seed=seed)
    result: dict[str, Any] = {**stays(serve(machine.policy, seed=seed, size=size)), "losses": losses}
    if settings["variant"] == REFERENCE and settings["serve"]:
        result["served"] = {
            name: stays(serve(machine.policy, seed=seed, size=size, exploration=exploration))
            for name, exploration in SERVED.items()
        }
    return result


def run_pair(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The control (uncorrected) and the test (K = 1) together: their nominations are compared item by item."""
    seed, size = int(settings["seed"]), Size(**settings["size"])
    record = record_log(settings["world"], seed, size.users)
    result: dict[str, Any] = {}
    shown: dict[str, Tensor] = {}
    for name, method in settings["methods"].items():
        machine = learner(record, method, seed=seed)
        losses = learn(machine, record, size=size, seed=seed)
        test = serve(machine.policy, seed=seed, size=size)
        shown[name] = torch.bincount(test.slate.flatten(), minlength=machine.policy.num_rows)[FIRST_ITEM:].double()
        result[name] = {**stays(test), "losses": losses}
    result["logged"] = stays(record)
    result["cdf"], result["outside"] = nominations(shown["uncorrected"], shown["k1"])
    return result


def nominations(control: Tensor, test: Tensor) -> tuple[dict[str, list[float]], float]:
    """Shares of the nominations that go to the control's first items, and how much more the test nominates elsewhere.

    Args:
        control: how often the control nominated each item; its order ranks them.
        test: the same of the test.

    Returns:
        cdf: at RANKS, for both.
        outside: the test's share outside the items that make up 90 % of the control's nominations, over the
            control's own share there.
    """
    order = torch.argsort(control, descending=True, stable=True)
    curves = {name: (counts / counts.sum())[order].cumsum(0) for name, counts in (("control", control), ("test", test))}
    last = int(torch.searchsorted(curves["control"], torch.tensor(0.9 - 1e-9, dtype=torch.float64)))
    outside = (1 - float(curves["test"][last])) / max(1e-12, 1 - float(curves["control"][last]))
    points = [min(rank, len(control)) - 1 for rank in RANKS]
    return {name: curve[points].tolist() for name, curve in curves.items()}, outside


def run_exploration(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Two generations retrained on the log of the one before; the test's log has 5 % of its users explored.

    Users are split 90/5/5: two deterministic buckets and one stochastic. The control learns from the first two, the
    test from the first and the third, so both have the same amount of data (sec. 6.3).
    """
    seed, size = int(settings["seed"]), Size(**settings["size"])
    exploration = Exploration(**settings["exploration"])
    record = record_log(settings["world"], seed, size.users)
    first = learner(record, settings["method"], seed=seed)
    learn(first, record, size=size, seed=seed)
    weights = {"control": first.state_dict(), "test": first.state_dict()}
    result: dict[str, Any] = {"generation 0": stays(serve(first.policy, seed=seed, size=size))}
    # both arms serve the same policy at first: one log, dealt to both
    served = record_serving(first.policy, exploration, seed=seed, generation=1, users=size.users)
    for generation in (1, 2):
        for arm in ("control", "test"):
            machine = learner(record, settings["method"], seed=seed)
            machine.load_state_dict(weights[arm])
            fresh = served
            if generation > 1:
                fresh = record_serving(machine.policy, exploration, seed=seed, generation=generation, users=size.users)
            bucket = fresh.policy_id[:, 0]
            read = fresh.rows(bucket != (3 if arm == "control" else 2))
            learn(machine, read, size=size, seed=stream_seed(seed, 20 + generation))
            weights[arm] = machine.state_dict()
            result[f"generation {generation}, {arm}"] = stays(serve(machine.policy, seed=seed, size=size))
    return result


def record_serving(
    policy: reinforce.Policy, exploration: Exploration, *, seed: int, generation: int, users: int
) -> Trajectories:
    """What a policy's own serving leaves behind: 90 % + 5 % of the users deterministic (1, 2), 5 % stochastic (3)."""
    arms = [
        Arm(policy=policy, policy_id=1, share=90.0),
        Arm(policy=policy, policy_id=2, share=5.0),
        Arm(policy=policy, policy_id=3, share=5.0, exploration=exploration),
    ]
    return record_stays(arms, world_seed=seed, users=users, seed=stream_seed(seed, 10 + generation))
