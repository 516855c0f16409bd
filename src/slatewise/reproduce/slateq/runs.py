"""SlateQ's experiments: train by interaction or from a log, and measure in interest evolution."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise import config as configs
from slatewise.data.batches import sample_rows
from slatewise.encoders import observed
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import FIRST_ITEM
from slatewise.methods import random as uniform
from slatewise.methods import slateq
from slatewise.ops.choice import choice_weight
from slatewise.ops.slates import Optimiser, best_slates
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Policy, StateEncoder
from slatewise.rollout.episodes import play_episodes
from slatewise.rollout.off_policy import OffPolicyConfig, learn_off_policy
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.seeds import stream_seed
from slatewise.sim.interest_evolution import Config, Env
from slatewise.training.fit import fit
from slatewise.types import SlateRequest, Slates, Trajectories

Best = Callable[[Float[Tensor, "B D"], Int[Tensor, "B C"]], Int[Tensor, "B K"]]
"""Columns of the best slate among candidates."""
LETTERS: dict[str, Optimiser] = {"T": "top_k", "G": "greedy", "O": "optimal"}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything; seconds on one core stand beside it in the results."""

    users: int = 1000
    """Places of the environment that is learned in."""
    steps: int = 300
    """Steps of each place: 300,000 transitions, as many as the paper's training steps."""
    updates: int = 2
    batch: int = 512
    measured: int = 5000
    """Users that a finished policy is measured on, one session each, as in the paper."""
    curve_users: int = 400
    curve_points: int = 10


def world(settings: dict[str, Any]) -> Config:
    """Interest evolution as the cell says."""
    return configs.convert(Config, settings, where="interest_evolution")


def encoder(env: Env) -> observed.Encoder:
    """What is observed is the state."""
    width = env.config.num_topics + env.config.budget_visible
    return observed.Encoder(observed.Config(history=False, context_width=width), env.catalog)


class BestSlates(RankedPolicy):
    """Shows with certainty the slate that a function finds best among the candidates."""

    def __init__(self, encoder: StateEncoder, num_rows: int, best: Best) -> None:
        super().__init__(encoder, num_rows)
        self._best = best

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """The best slate, whatever the exploration."""
        del generator
        assert request.candidates is not None
        items = request.candidates.gather(1, self._best(state, request.candidates))
        return Slates(items=items, logp=torch.zeros(items.shape))


def learner(settings: dict[str, Any], env: Env, *, seed: int) -> slateq.Learner:
    """An untrained learner."""
    config = configs.convert(slateq.Config, settings, where="slateq")
    return slateq.Learner(config, encoder(env), env.catalog, generator=Generator().manual_seed(stream_seed(seed, 3)))


def train_and_measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Learn in the environment, then measure under each serving that is asked for."""
    size, seed = Size(**settings["size"]), settings["seed"]
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    built = learner(settings["method"], env, seed=seed)
    curve: list[tuple[float, float]] = []
    every = max(1, size.steps // size.curve_points)

    def watch(step: int, figures: dict[str, float]) -> None:
        del figures
        if settings["curve"] and (step + 1) % every == 0:
            now = measure(built.policy, env.config, users=size.curve_users, seed=stream_seed(seed, 5))
            curve.append(((step + 1) * size.users, now["return"]))

    started = time.process_time()
    learn_off_policy(env, built, off_policy(settings["method"], size), seed=stream_seed(seed, 4), on_step=watch)
    seconds = time.process_time() - started
    return {
        "seconds": seconds,
        "curve": curve,
        "served": served(built.policy, env.config, settings["serve"], size, seed),
    }


def measure_random(settings: dict[str, Any]) -> dict[str, Any]:
    """Uniformly random slates."""
    size, config = Size(**settings["size"]), world(settings["world"])
    env = Env(config, num_users=1, threads=1)
    policy = uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog)
    return {"served": {"": measure(policy, config, users=size.measured, seed=stream_seed(settings["seed"], 6))}}


def from_random_log(settings: dict[str, Any]) -> dict[str, Any]:
    """Learn from a log that random slates wrote, without interaction, and measure."""
    size, seed = Size(**settings["size"]), settings["seed"]
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    arm = Arm(policy=uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog), policy_id=1)
    record = record_trajectories(env, [arm], steps=size.steps, seed=stream_seed(seed, 7))
    built = learner(settings["method"], env, seed=seed)
    started = time.process_time()
    learn_from_log(built, record, updates=size.steps * size.updates, batch=size.batch, seed=stream_seed(seed, 8))
    seconds = time.process_time() - started
    return {"seconds": seconds, "served": served(built.policy, env.config, settings["serve"], size, seed)}


def live(settings: dict[str, Any]) -> dict[str, Any]:
    """The live test in kind: SARSA learns from the log of a myopic policy in production, and is set against it.

    The myopic policy has learned v and r by interaction; its log explores nothing.
    """
    size, seed = Size(**settings["size"]), settings["seed"]
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    production = learner(settings["method"] | {"training": "myopic", "serving_slates": "top_k"}, env, seed=seed)
    schedule = off_policy(settings["method"] | {"training": "myopic"}, size)
    learn_off_policy(env, production, schedule, seed=stream_seed(seed, 4))
    record = record_trajectories(
        env, [Arm(policy=production.policy, policy_id=1)], steps=size.steps, seed=stream_seed(seed, 9)
    )
    built = learner(settings["method"], env, seed=seed + 1)
    learn_from_log(built, record, updates=size.steps * size.updates, batch=size.batch, seed=stream_seed(seed, 8))
    found = {"MYOP-TS": served(production.policy, env.config, ["TS"], size, seed)["TS"]}
    for serving, figures in served(built.policy, env.config, settings["serve"], size, seed).items():
        found[f"SARSA-{serving}"] = figures
    return {"served": found}


def shadow_prices(settings: dict[str, Any]) -> dict[str, Any]:
    """The ceiling: user model and mean qualities known, time worth a fixed price, the best of all slates shown.

    q_i = minutes + price · (change of the time left), by topic; nothing: −price · the time that it costs.
    """
    size, config = Size(**settings["size"]), world(settings["world"])
    env = Env(config, num_users=1, threads=1)
    quality = torch.from_numpy(config.topic_quality)

    def value(price: float) -> dict[str, float]:
        gain = config.length * (1 + price * (config.budget_gain * quality - 1))
        lost = torch.tensor(-price * config.null_cost)

        def best(state: Float[Tensor, "B D"], candidates: Int[Tensor, "B C"]) -> Int[Tensor, "B K"]:
            topic = (candidates - FIRST_ITEM) % config.num_topics
            weight = choice_weight(state.gather(1, topic), config.choice)
            null = choice_weight(torch.full((len(state),), config.null_mass), config.choice)
            return best_slates(
                weight, gain[topic], null, lost.expand(len(state)), config.slate_size, optimiser="optimal"
            )

        return measure(
            BestSlates(encoder(env), env.catalog.num_rows, best),
            config,
            users=size.measured,
            seed=stream_seed(settings["seed"], 6),
        )

    return {"served": {f"{price:g}": value(price) for price in settings["prices"]}}


def served(
    policy: slateq.Policy, config: Config, servings: list[str], size: Size, seed: int
) -> dict[str, dict[str, float]]:
    """Figures of a policy under each serving: TS, GS, OS."""
    found = {}
    for serving in servings:
        policy.serving = LETTERS[serving[0]]
        found[serving] = measure(policy, config, users=size.measured, seed=stream_seed(seed, 6))
    return found


def measure(policy: Policy, config: Config, *, users: int, seed: int) -> dict[str, float]:
    """One session of each user, greedily served.

    Mean return and its standard error, slates a session, picks per slate, mean true quality of what was picked.
    """
    env = Env(config, num_users=users, threads=1)
    played = play_episodes(env, policy, episodes=1, seed=seed, serve_finished=False)
    metrics = {"return": "return", "length": "length", "rate": "click_rate", "quality": "quality"}
    return {name: played.metric(metric).value for name, metric in metrics.items()} | {
        "stderr": float(played.returns.std() / users**0.5)
    }


def learn_from_log(built: slateq.Learner, record: Trajectories, *, updates: int, batch: int, seed: int) -> None:
    """Batches of whole sessions, about `batch` steps each, drawn at random."""
    generator = Generator().manual_seed(seed)
    sessions = max(1, round(batch / float(record.mask.sum(dim=1).float().mean())))
    fit(built, sample_rows(record, sessions, updates=updates, generator=generator))


def full() -> dict[str, int]:
    """The sizes behind the table."""
    return asdict(Size())


def halved() -> dict[str, int]:
    """For the comparison with full-slate Q, where a look at all slates is what takes the time."""
    return asdict(Size(users=500, measured=1500))


def quick() -> dict[str, int]:
    """Enough to see the order."""
    return asdict(Size(measured=1500, curve_points=5, curve_users=200))


def off_policy(method: dict[str, Any], size: Size) -> OffPolicyConfig:
    """Serving and learning in turns; a segment of SARSA has the next slate in it, too."""
    return OffPolicyConfig(
        steps=size.steps,
        updates=size.updates,
        batch_size=size.batch,
        segment=2 if method.get("training") == "sarsa" else 1,
        replay=size.steps,
        epsilon_steps=size.steps // 3,
    )
