"""SlateQ's experiments: train by interaction or from a log, and measure in interest evolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise import config as configs
from slatewise.data.batches import sample_rows
from slatewise.encoders import observed
from slatewise.log import FIRST_ITEM
from slatewise.methods import slateq
from slatewise.ops.choice import choice_weight
from slatewise.ops.slates import Optimiser, best_slates
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Policy, StateEncoder
from slatewise.reproduce import _learning
from slatewise.reproduce._learning import context_encoder, cpu_timed, learn_with_curve, random_policy
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
class Size(_learning.Size):
    """How much of everything; seconds on one core stand beside it in the results."""

    measured: int
    """Users that a finished policy is measured on, one session each, as in the paper."""
    curve_users: int


FULL = Size(
    users=1000,
    interaction=OffPolicyConfig(steps=300, updates=2, batch_size=512, replay=300, epsilon_steps=100),
    measured=5000,
    curve_users=400,
    curve_points=10,
)
"""300,000 transitions, as many as the paper's training steps."""
QUICK = replace(FULL, measured=1500, curve_points=5, curve_users=200)
"""Enough to see the order."""
HALVED = replace(FULL, users=500, measured=1500)
"""For the comparison with full-slate Q, where a look at all slates is what takes the time."""


def world(settings: Mapping[str, Any]) -> Config:
    """Interest evolution as the cell says."""
    return configs.convert(Config, dict(settings), where="interest_evolution")


def encoder(env: Env) -> observed.Encoder:
    """What is observed is the state."""
    return context_encoder(env.catalog, env.config.num_topics + env.config.budget_visible)


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


def learner(settings: Mapping[str, Any], env: Env, *, seed: int) -> slateq.Learner:
    """An untrained learner."""
    config = configs.convert(slateq.Config, dict(settings), where="slateq")
    return slateq.Learner(config, encoder(env), env.catalog, generator=Generator().manual_seed(stream_seed(seed, 3)))


def size_of(settings: Mapping[str, Any]) -> Size:
    """Size of a cell; a segment of SARSA has the next slate in it, too."""
    size = configs.convert(Size, settings["size"], where="size")
    sarsa = settings.get("method", {}).get("training") == "sarsa"
    return replace(size, interaction=replace(size.interaction, segment=2)) if sarsa else size


def train_and_measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Learn in the environment, then measure under each serving that is asked for."""
    size, seed = size_of(settings), settings["seed"]
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    built = learner(settings["method"], env, seed=seed)

    def value() -> float:
        return measure(built.policy, env.config, users=size.curve_users, seed=stream_seed(seed, 5))["return"]

    curve, seconds = learn_with_curve(
        env,
        built,
        size if settings["curve"] else replace(size, curve_points=0),
        seed=stream_seed(seed, 4),
        measure=value,
    )
    return {"seconds": seconds, "curve": curve, "served": servings(built, env, settings, size)}


def measure_random(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Uniformly random slates."""
    env = Env(world(settings["world"]), num_users=1, threads=1)
    seed = stream_seed(settings["seed"], 6)
    return {"served": {"": measure(random_arm(env).policy, env.config, users=size_of(settings).measured, seed=seed)}}


def from_random_log(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Learn from a log that random slates wrote, without interaction, and measure."""
    size, seed = size_of(settings), settings["seed"]
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    log = record_trajectories(env, [random_arm(env)], steps=size.interaction.steps, seed=stream_seed(seed, 7))
    built = learner(settings["method"], env, seed=seed)
    _, seconds = cpu_timed(partial(learn_from_log, built, log, size, seed=stream_seed(seed, 8)))
    return {"seconds": seconds, "served": servings(built, env, settings, size)}


def live(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The live test in kind: SARSA learns from the log of a myopic policy in production, and is set against it.

    The myopic policy has learned v and r by interaction; its log explores nothing.
    """
    size, seed = size_of(settings), settings["seed"]
    env = Env(world(settings["world"]), num_users=size.users, threads=1)
    myopic = {**settings, "method": settings["method"] | {"training": "myopic", "serving_slates": "top_k"}}
    production = learner(myopic["method"], env, seed=seed)
    learn_off_policy(env, production, size_of(myopic).interaction, seed=stream_seed(seed, 4))
    arm = Arm(policy=production.policy, policy_id=1)
    log = record_trajectories(env, [arm], steps=size.interaction.steps, seed=stream_seed(seed, 9))
    built = learner(settings["method"], env, seed=seed + 1)
    learn_from_log(built, log, size, seed=stream_seed(seed, 8))
    sarsa = {f"SARSA-{serving}": each for serving, each in servings(built, env, settings, size).items()}
    return {"served": {"MYOP-TS": servings(production, env, {**settings, "serve": ["TS"]}, size)["TS"]} | sarsa}


def random_arm(env: Env) -> Arm:
    """Serves uniformly random slates."""
    return Arm(policy=random_policy(env.catalog), policy_id=1)


def shadow_prices(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The ceiling: user model and mean qualities known, time worth a fixed price, the best of all slates shown.

    q_i = minutes + price · (change of the time left), by topic; nothing: −price · the time that it costs.
    """
    size, config = size_of(settings), world(settings["world"])
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


def servings(built: slateq.Learner, env: Env, settings: Mapping[str, Any], size: Size) -> dict[str, dict[str, float]]:
    """What a policy earns under each serving that is asked for: TS, GS, OS."""
    metrics = {}
    for serving in settings["serve"]:
        built.policy.serving = LETTERS[serving[0]]
        seed = stream_seed(settings["seed"], 6)
        metrics[serving] = measure(built.policy, env.config, users=size.measured, seed=seed)
    return metrics


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


def learn_from_log(built: slateq.Learner, log: Trajectories, size: Size, *, seed: int) -> None:
    """As many updates as by interaction, with whole sessions drawn at random, about as many steps each."""
    interaction = size.interaction
    sessions = max(1, round(interaction.batch_size / float(log.mask.sum(dim=1).float().mean())))
    updates = interaction.steps * interaction.updates
    fit(built, sample_rows(log, sessions, updates=updates, generator=Generator().manual_seed(seed)))
