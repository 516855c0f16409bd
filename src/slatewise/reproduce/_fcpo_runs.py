"""The runs of FCPO: one policy that imitated what people like, then what each way of keeping a limit makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise import metrics
from slatewise.data.ratings import Ratings
from slatewise.encoders import gru
from slatewise.errors import located
from slatewise.heads.listed import ListedPolicy
from slatewise.methods import fcpo
from slatewise.protocols import Carry, StateEncoder
from slatewise.sim import Arm, log, play, rating_sessions, stream
from slatewise.train.on_policy import learn_on_policy
from slatewise.types import FIRST_ITEM, Exploration, Observation, Slates, Step, Trajectories

LIKED = 0.25
"""A rating of 3.5 on [−1, 1], the scale of the sessions' rewards."""
MEMORY = 0.95
"""What an exposure still counts one update later, where popular items are chosen anew."""
REGROUP = 5
"""Updates after which they are."""
PRICES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What the re-ranker takes off the logits of popular items."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long everything runs."""

    epochs: int = 40
    """Of imitation, over all people."""
    updates: int = 60
    """Of policies under a limit."""
    places: int = 64
    """Sessions of one update."""
    draws: int = 3
    """Times that everybody who is judged plays a session."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """First guesses, not tuned yet: to be chosen with people who train and seeds from 100 on."""

    width: int = 32
    state_width: int = 64
    temperature: float = 0.25
    """Of the lists after imitation: at 1 nearly every draw is of the long tail."""
    gamma: float = 0.0
    max_kl: float = 0.3
    damping: float = 30.0
    cg_iterations: int = 4
    fisher_states: int = 64
    multiplier_lr: float = 1.0
    multiplier_gain: float = 0.0


def world_config(data: Path | None, *, part: rating_sessions.Part, slate_size: int, steps: int) -> Any:
    """Sessions of some lists; an unrated item earns nothing, and what was shown is no candidate any more."""
    return rating_sessions.Config(
        data=None if data is None else str(data),
        part=part,
        in_turn=part != "train",
        valid_share=0.1,
        alpha=0.0,
        steps=steps,
        slate_size=slate_size,
        list_candidates=True,
    )


@lru_cache(maxsize=1)
def world(data: Path | None, slate_size: int, steps: int) -> rating_sessions.World:
    """Ratings, people by part, and popular items: read once a process."""
    return rating_sessions.open_world(world_config(data, part="train", slate_size=slate_size, steps=steps))


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where everything happens."""

    data: Path | None
    slate_size: int = 10
    steps: int = 10

    @property
    def world(self) -> rating_sessions.World:
        """What all sessions share."""
        return world(self.data, self.slate_size, self.steps)

    def env(self, part: rating_sessions.Part, places: int | None = None) -> rating_sessions.Env:
        """Sessions with the people of a part; all of them at once where no number is given."""
        config = world_config(self.data, part=part, slate_size=self.slate_size, steps=self.steps)
        number = len(self.world.parts[part]) if places is None else places
        return rating_sessions.Env(config, num_users=number, world=self.world)

    @property
    def explore(self) -> Exploration:
        """The served form: every row draws from everything that is left."""
        return Exploration(top_m=self.world.catalog.num_items)


@lru_cache(maxsize=1)
def imitated(place: Place, setting: Setting, size: Size, seed: int) -> fcpo.Learner:
    """A policy that gives what people like beside what they liked before, popular or not.

    The last one is kept for the next cell: nobody learns further with it, see `taught`.
    """
    learner = fresh(place, setting, seed=seed, temperature=1.0)
    generator = Generator().manual_seed(stream(seed, 11))
    people = place.world.parts["train"]
    for _ in range(size.epochs):
        for some in torch.split(people[torch.randperm(len(people), generator=generator)], size.places):
            liked = liked_sessions(
                place.world.ratings, some, steps=place.steps, size=place.slate_size, generator=generator
            )
            learner.update(liked)
    return learner


def fresh(place: Place, setting: Setting, *, seed: int, temperature: float | None = None, **more: Any) -> fcpo.Learner:
    """A learner with first weights from a seed."""
    catalog, generator = place.world.catalog, Generator().manual_seed(stream(seed, 10))
    config = fcpo.Config(
        slate_size=place.slate_size,
        width=setting.width,
        temperature=setting.temperature if temperature is None else temperature,
        costs="exposure",
        gamma=setting.gamma,
        max_kl=setting.max_kl,
        damping=setting.damping,
        cg_iterations=setting.cg_iterations,
        fisher_states=setting.fisher_states,
        multiplier_lr=setting.multiplier_lr,
        multiplier_gain=setting.multiplier_gain,
        reward_at_least=LIKED,
        **more,
    )
    reads = gru.Config(width=setting.state_width, item_width=setting.width, reward_edges=(), context_width=0)
    learner = fcpo.Learner(config, gru.Encoder(reads, catalog, generator=generator), catalog, generator=generator)
    learner.start_exposure(place.world.ratings.users(place.world.parts["train"]).counts().float())
    return learner


def liked_sessions(
    given: Ratings, people: Int[Tensor, " V"], *, steps: int, size: int, generator: Generator, liked: float = 3.5
) -> Trajectories:
    """What people liked, in an order drawn at random, one item a step; the first `steps` teach.

    A session's answers do not depend on time, so any order of the same likes is as good as another.
    """
    own = given.users(people)
    kept = own.value >= liked
    user, item = own.user[kept], own.item[kept]
    order = torch.argsort(user.double() + torch.rand(len(user), generator=generator).double() * 0.999)
    user, item = user[order], item[order]
    count = torch.bincount(user, minlength=len(people))
    column = torch.arange(len(user)) - torch.repeat_interleave(count.cumsum(0) - count, count)
    length = steps + size - 1
    early = column < length
    slate = torch.zeros(len(people), length, dtype=torch.int64)
    slate[user[early], column[early]] = item[early]
    mask = slate >= FIRST_ITEM
    zeros = torch.zeros_like(slate)
    values = mask.unsqueeze(2).float()
    return Trajectories(
        event_id=zeros,
        policy_id=zeros,
        user=people.unsqueeze(1).expand(-1, length).clone(),
        time=zeros,
        terminated=zeros.bool(),
        truncated=zeros.bool(),
        slate=slate.unsqueeze(2),
        logp=torch.zeros_like(values),
        logp_known=zeros.bool(),
        reward=values,
        cost=torch.zeros_like(values),
        choice=torch.where(mask, 0, -1),
        mask=mask,
        learn=mask & (torch.arange(length) < steps),
        context=torch.zeros(len(people), length + 1, 0),
    )


def taught(place: Place, start: fcpo.Learner, learner: fcpo.Learner, size: Size, *, seed: int) -> dict[str, Any]:
    """Let a learner begin where imitation ended, and play with the people who train.

    Returns:
        cost, reward: of every update; recoveries: how many; unmet: what it says of its limit.
    """
    learner.policy.load_state_dict(start.policy.state_dict())
    costs: list[float] = []
    rewards: list[float] = []

    def note(number: int, figures: dict[str, float]) -> None:
        costs.append(round(figures["cost"], 4))
        rewards.append(round(figures["reward"], 4))

    env = place.env("train", size.places)
    learn_on_policy(
        env, learner, updates=size.updates, steps=place.steps, explore=place.explore, seed=seed, on_update=note
    )
    return {"cost": costs, "reward": rewards, "recoveries": learner.recoveries, "unmet": learner.unmet() or ""}


def taught_by_rows(place: Place, start: fcpo.Learner, learner: fcpo.Learner, size: Size, *, seed: int) -> None:
    """The same by drawing W from the Gaussian and learning from its density."""
    learner.policy.load_state_dict(start.policy.state_dict())
    actor = RowActor(learner.policy)
    env = place.env("train", size.places)
    for number in range(size.updates):
        played = log(env, [Arm(policy=actor, explore=place.explore)], steps=place.steps, seed=stream(seed, number))
        learner.update(played, actor.taken())


class RowActor:
    """Serves by W drawn from the Gaussian, and keeps every W; no propensity is known."""

    def __init__(self, policy: fcpo.Policy) -> None:
        self.policy = policy
        self.encoder: StateEncoder = policy.encoder
        self._rows: list[Tensor] = []

    def recommend(
        self,
        state: Float[Tensor, "B D"],
        k: int,
        *,
        candidates: Int[Tensor, "B C"] | None = None,
        exclude: Int[Tensor, "B X"] | None = None,
        explore: Exploration | None = None,
        generator: Generator | None = None,
    ) -> Slates:
        """Draw W, give its list."""
        del explore
        if generator is None:
            raise located("rows cannot be drawn without a generator")
        rows, items = self.policy.draw(state, k, candidates=candidates, exclude=exclude, generator=generator)
        self._rows.append(rows)
        return Slates(items=items, logp=torch.zeros(items.shape))

    def taken(self) -> Float[Tensor, "B T K E"]:
        """The W of all steps since the last call."""
        rows, self._rows = torch.stack(self._rows, dim=1), []
        return rows

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """At W = μ."""
        return self.policy.log_pi(state, items)

    def log_prob(
        self,
        state: Float[Tensor, "B D"],
        slate: Int[Tensor, "B K"],
        *,
        candidates: Int[Tensor, "B C"] | None = None,
        exclude: Int[Tensor, "B X"] | None = None,
        explore: Exploration | None = None,
    ) -> Float[Tensor, "B K"]:
        """At W = μ."""
        return self.policy.log_prob(state, slate, candidates=candidates, exclude=exclude, explore=explore)

    def state_dict(self) -> dict[str, Any]:
        """The policy's."""
        return self.policy.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """The policy's."""
        return self.policy.load_state_dict(state)


class Reranked(ListedPolicy):
    """Another policy's rows with a price on popular items: the fair re-ranker, drawn in the same way."""

    def __init__(self, policy: fcpo.Policy, popular: Bool[Tensor, " rows"], price: float) -> None:
        super().__init__(policy.encoder, policy.item, temperature=policy.temperature)
        self.policy = policy
        self.taken_off = price * popular.float()

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """The other policy's."""
        return self.policy.rows(state, k)

    def logits(self, rows: Float[Tensor, "B K E"]) -> Float[Tensor, "B K N"]:
        """Less the price."""
        return self.policy.logits(rows) - self.taken_off


class Random(ListedPolicy):
    """All items alike."""

    def __init__(self, policy: fcpo.Policy) -> None:
        super().__init__(policy.encoder, policy.item, temperature=1.0)

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """Zeros."""
        return torch.zeros(len(state), k, self.item.weight.shape[1])


@torch.no_grad()
def judged(
    place: Place,
    policy: ListedPolicy,
    *,
    part: rating_sessions.Part,
    draws: int,
    seed: int,
    popular: Bool[Tensor, " rows"] | None = None,
    greedy: bool = False,
) -> dict[str, float]:
    """What lists are like for people of a part, each of whom plays a session.

    Args:
        place: where.
        policy: who serves.
        part: with whom.
        draws: times that everybody plays.
        seed: of the draws.
        popular: what counts as popular; None = as the sessions say.
        greedy: show the best list in place of drawing it.

    Returns:
        rate: share of popular items; ndcg: of a list, hits being items rated at least 3.5 and not shown before, mean
        over lists of people to whom something is left to find; gini, coverage: of exposure; hits: of a list.
    """
    env = place.env(part)
    given, catalog = place.world.ratings, place.world.catalog
    popular = place.world.popular if popular is None else popular
    exposure = torch.zeros(catalog.num_rows)
    ndcg: list[Tensor] = []
    hits_of: list[Tensor] = []
    likes = torch.bincount(given.user[given.value >= env.config.relevant], minlength=given.num_users)
    arms = [Arm(policy=policy, explore=None if greedy else place.explore)]
    for number in range(draws):
        left: Tensor | None = None
        for step, (_, happened, _) in enumerate(play(env, arms, seed=stream(seed, number)), start=1):
            if left is None:
                person = env.person  # nobody changes before the last step
                left = likes[person]
            value, rated = given.of(person, happened.slate)
            hits = rated & (value >= env.config.relevant)
            open_ = left > 0
            ndcg.append(metrics.ndcg(hits[open_], left[open_]))
            hits_of.append(hits.sum(dim=1).float())
            left = left - hits.sum(dim=1)
            exposure += torch.bincount(happened.slate.flatten(), minlength=len(exposure)).float()
            if step == place.steps:
                break
    exposure = exposure[FIRST_ITEM:]
    return {
        "rate": float(exposure[popular[FIRST_ITEM:]].sum() / exposure.sum()),
        "ndcg": float(torch.cat(ndcg).mean()),
        "gini": metrics.gini(exposure),
        "coverage": metrics.coverage(exposure),
        "hits": float(torch.cat(hits_of).mean()),
    }


def limited(settings: dict[str, Any]) -> dict[str, Any]:
    """One way of keeping limits, one seed, everything from the same start.

    By the trust region: no limit as well, and what a re-ranker makes of that policy; and one limit on what is popular
    now (exposure fades, and the groups follow it) beside the same limit on what was popular once, both judged by both:
    by the first groups, and by the groups that the policy's own fading exposure has made. By a multiplier: no limit
    learned from the density of drawn rows as well, the paper's policy gradient.
    """
    begun = time.monotonic()
    place, size, setting = _parts(settings)
    seed, part = int(settings["seed"]), settings["part"]
    start = imitated(place, setting, size, seed)
    found: dict[str, Any] = {}

    def judge(policy: ListedPolicy, number: int, **more: Any) -> dict[str, float]:
        return judged(place, policy, part=part, draws=size.draws, seed=stream(seed, 100 + number), **more)

    if settings["kind"] == "trust_region":
        served = fresh(place, setting, seed=seed).policy
        served.load_state_dict(start.policy.state_dict())
        found["imitation"] = {"judged": judge(served, 0)}
        found["random"] = {"judged": judge(Random(served), 1)}
    for number, limit in enumerate(settings["limits"]):
        more: dict[str, Any] = {"cost_limit": limit, "constraint": settings["kind"], "exposure_memory": MEMORY}
        learner = fresh(place, setting, seed=seed, **more)
        first = learner.exposure.popular.clone()
        told = taught(place, start, learner, size, seed=stream(seed, 12))
        found[_name(limit)] = told | {
            "judged": judge(learner.policy, 2 + number),
            "greedy": judge(learner.policy, 2 + number, greedy=True),
        }
        if limit is None:
            found["reranker"] = [
                judge(Reranked(learner.policy, place.world.popular, price), 50 + at) | {"price": price}
                for at, price in enumerate(PRICES)
            ]
        if limit is not None and limit == settings.get("drift"):
            drifting = fresh(place, setting, seed=seed, **more, regroup_every=REGROUP)
            told = taught(place, start, drifting, size, seed=stream(seed, 12))
            found["drifting"] = {
                "once": found[_name(limit)] | followed(learner, first, partial(judge, number=40)),
                "drifting": told
                | {"judged": judge(drifting.policy, 2 + number)}
                | followed(drifting, first, partial(judge, number=40)),
            }
    if settings.get("rows"):
        learner = fresh(place, setting, seed=seed)
        taught_by_rows(place, start, learner, size, seed=stream(seed, 12))
        found["rows"] = {"judged": judge(learner.policy, 41)}
    return found | {"seconds": time.monotonic() - begun}


def followed(
    learner: fcpo.Learner, first: Bool[Tensor, " rows"], judge: Callable[..., dict[str, float]]
) -> dict[str, float]:
    """How much is shown of what its own exposure has made popular, and how much of that was popular at first."""
    now = learner.exposure.most_shown()
    return {
        "now": judge(learner.policy, popular=now)["rate"],
        "kept": float((now & first).sum() / first.sum()),
    }


@torch.no_grad()
def speed(settings: dict[str, Any]) -> dict[str, Any]:
    """Time of a list in one pass beside single picks, each of which is one pass and one step of the encoder."""
    place, _, setting = _parts(settings)
    learner = fresh(place, setting, seed=0)
    policy, k = learner.policy, place.slate_size
    found: dict[str, Any] = {}
    for batch in (1, 64):
        env = place.env("train", batch)
        seen = env.reset(seed=0)
        carry, state = policy.encoder.initial(seen)
        happened, after = env.step(policy.recommend(state, k, candidates=seen.candidates))
        carry, state = policy.encoder.step(carry, happened, after)
        works: list[Callable[[], object]] = [
            partial(policy.recommend, state, k),
            partial(_single_picks, policy, k, carry, state, happened=happened, after=after, moving=True),
            partial(_single_picks, policy, k, carry, state, happened=happened, after=after, moving=False),
        ]
        turns: list[list[float]] = []
        for _ in range(settings["turns"] + 1):
            taken = []
            for work in works:
                at = time.perf_counter()
                for _ in range(settings["repeats"]):
                    work()
                taken.append((time.perf_counter() - at) / settings["repeats"])
            turns.append(taken)
        found[str(batch)] = {
            # the first turn warms up
            "ratio": median(taken[1] / taken[0] for taken in turns[1:]),
            "bare": median(taken[2] / taken[0] for taken in turns[1:]),
            "milliseconds": 1000 * median(taken[0] for taken in turns[1:]),
        }
    return found


def _single_picks(
    policy: fcpo.Policy, k: int, carry: Carry, state: Tensor, *, happened: Step, after: Observation, moving: bool
) -> None:
    """K lists of one, what was shown excluded; with `moving`, each as if it had been picked."""
    shown = torch.zeros(len(state), 0, dtype=torch.int64)
    for _ in range(k):
        slates = policy.recommend(state, 1, exclude=shown)
        shown = torch.cat([shown, slates.items], dim=1)
        if moving:
            one = torch.ones_like(slates.logp)
            first = torch.zeros(len(state), dtype=torch.int64)
            picked = replace(happened, slate=slates.items, logp=slates.logp, reward=one, cost=0 * one, choice=first)
            carry, state = policy.encoder.step(carry, picked, after)


def settings_of(size: Size, setting: Setting, place: Place, **more: Any) -> dict[str, Any]:
    """What a cell is made of."""
    data = None if place.data is None else str(place.data)
    return {"size": asdict(size), "setting": asdict(setting), "place": asdict(place) | {"data": data}, **more}


def _parts(settings: dict[str, Any]) -> tuple[Place, Size, Setting]:
    data = settings["place"]["data"]
    place = Place(**settings["place"] | {"data": None if data is None else Path(data)})
    return place, Size(**settings["size"]), Setting(**settings["setting"])


def _name(limit: float | None) -> str:
    return "off" if limit is None else f"{limit:g}"


__all__ = ["Place", "Setting", "Size", "limited", "settings_of", "speed"]
