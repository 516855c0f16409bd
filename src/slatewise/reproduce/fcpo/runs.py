"""The runs of FCPO: one policy that imitated what people like, then what each way of keeping a limit makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.data.ratings import Ratings
from slatewise.encoders import liked
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.evaluation import metrics
from slatewise.log import FIRST_ITEM, PAD
from slatewise.methods import fcpo, random
from slatewise.ops.history import uses_of
from slatewise.protocols import Carry, Policy
from slatewise.reproduce.fcpo.policies import MostLiked, Reranked, RowLearner
from slatewise.rollout.on_policy import learn_on_policy
from slatewise.rollout.play import Arm, play
from slatewise.schedules import geometric, linear
from slatewise.seeds import stream_seed
from slatewise.sim import rating_sessions
from slatewise.training.fit import fit
from slatewise.types import Exploration, Observation, SlateRequest, Trajectories, Uses, used_at_once

LIKED = 0.25
"""A rating of 3.5 on [−1, 1], the scale of the sessions' rewards."""
MEMORY = 0.95
"""What an exposure still counts one update later, where popular items are chosen anew."""
REGROUP = 5
"""Updates after which they are."""
PRICES = (0.0, 6.0, 9.0, 11.0, 13.0, 16.0, 20.0)
"""What the re-ranker takes off the logits of popular items."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How long everything runs."""

    epochs: int = 100
    """Of imitation, over all people."""
    updates: int = 75
    """Of policies under a limit."""
    places: int = 64
    """Sessions of one update."""
    draws: int = 2
    """Times that everybody who is judged plays a session; best lists are the same every time, and played once."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Found with seed 100, by what the people who validate get; the tables judge with the people who test."""

    width: int = 64
    state_width: int = 128
    likes: int = 25
    """Imitated lists follow 0 … 24 likes: as many as a session finds."""
    imitation_lr: float = 0.01
    """At first; it falls to 0."""
    imitation_states: int = 64
    """Many small updates learn more in the same time than 256 at once."""
    temperature: float = 0.25
    """Of the lists after imitation: at 1 nearly every draw is of the long tail."""
    gamma: float = 0.0
    """With what follows a list in its gain, noise drowns the gain: at .99 the gradients of two batches of 64 sessions
    had a cosine of −.03, at .5 one of .15, at 0 one of .81."""
    max_kl: float = 0.3
    last_kl: float = 0.1
    """Divergence of the last update; it falls by the same factor every time, so that policies settle."""
    damping: float = 30.0
    """At .01, H of 64 states is no guide: without a mark, a step of KL .05 lowered other people's cost by .011, at 10
    by .022; with the mark by .028."""
    cg_iterations: int = 4
    fisher_states: int = 64
    multiplier_lr: float = 1.0
    """Of lr .5 with gain 10 or 20 and lr 1 with gain 20, which all kept a limit of .3, the one of the best lists."""
    multiplier_gain: float = 20.0


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
    def exploration(self) -> Exploration:
        """The served form: every row draws from everything that is left."""
        return Exploration(top_m=self.world.catalog.num_items)


@lru_cache(maxsize=1)
def imitated(place: Place, setting: Setting, size: Size, seed: int) -> fcpo.Learner:
    """A policy that gives what people like beside what they liked before, popular or not.

    The last one is kept for the next cell: nobody learns further with it, see `fine_tune`.
    """
    learner = fresh(place, setting, size, seed=seed, temperature=1.0)
    generator = Generator().manual_seed(stream_seed(seed, 11))
    people = place.world.parts["train"]

    def sessions() -> Iterator[Trajectories]:
        for users in torch.split(people[torch.randperm(len(people), generator=generator)], size.places):
            yield liked_sessions(
                place.world.ratings, users, steps=setting.likes, size=place.slate_size, generator=generator
            )

    for _ in range(size.epochs):
        fit(learner, sessions())
    return learner


def fresh(
    place: Place,
    setting: Setting,
    size: Size,
    *,
    seed: int,
    temperature: float | None = None,
    popular: fcpo.ExposureConfig | None = None,
    **more: Any,
) -> fcpo.Learner:
    """A learner with first weights from a seed."""
    catalog, generator = place.world.catalog, Generator().manual_seed(stream_seed(seed, 10))
    epoch = -(-len(place.world.parts["train"]) // size.places)
    config = fcpo.Config(
        slate_size=place.slate_size,
        width=setting.width,
        temperature=setting.temperature if temperature is None else temperature,
        costs="exposure",
        popular=popular or fcpo.ExposureConfig(),
        gamma=setting.gamma,
        trust_region=fcpo.TrustRegionConfig(
            max_kl=geometric(setting.max_kl, setting.last_kl, updates=max(1, size.updates - 1)),
            damping=setting.damping,
            cg_iterations=setting.cg_iterations,
            fisher_states=setting.fisher_states,
        ),
        multiplier=fcpo.MultiplierConfig(lr=setting.multiplier_lr, gain=setting.multiplier_gain),
        imitation=fcpo.ImitationConfig(
            lr=linear(setting.imitation_lr, 0.0, updates=epoch * size.epochs, every=epoch),
            states=setting.imitation_states,
        ),
        reward_at_least=LIKED,
        **more,
    )
    reads = liked.Config(width=setting.state_width, reward_at_least=LIKED, context_width=0)
    learner = fcpo.Learner(config, liked.Encoder(reads, catalog, generator=generator), catalog, generator=generator)
    learner.start_exposure(place.world.ratings.users(place.world.parts["train"]).counts().float())
    return learner


def liked_sessions(
    given: Ratings, people: Int[Tensor, " V"], *, steps: int, size: int, generator: Generator, at_least: float = 3.5
) -> Trajectories:
    """What people liked, in an order drawn at random, one item a step; the first `steps` teach.

    A session's answers do not depend on time, so any order of the same likes is as good as another.
    """
    own = given.users(people)
    kept = own.value >= at_least
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
        user=people.unsqueeze(1).expand(-1, length),
        time=zeros,
        terminated=zeros.bool(),
        truncated=zeros.bool(),
        slate=slate.unsqueeze(2),
        logp=torch.zeros_like(values),
        logp_known=zeros.bool(),
        reward=values,
        cost=torch.zeros_like(values),
        **used_at_once(mask.unsqueeze(2), time=zeros, reward=values),
        mask=mask,
        learn=mask & (torch.arange(length) < steps),
        context=torch.zeros(len(people), length + 1, 0),
    ).pad()


def fine_tune(
    place: Place, start: fcpo.Learner, learner: fcpo.Learner, size: Size, *, seed: int, by_rows: bool = False
) -> dict[str, Any]:
    """Let a learner begin where imitation ended, and play with the people who train.

    Args:
        place: where.
        start: has imitated.
        learner: fresh.
        size: how long.
        seed: of sessions and draws.
        by_rows: draw W from the Gaussian and learn from its density, not from that of the lists.

    Returns:
        cost, reward: of every update; recoveries: how many; unmet: what it says of its limit.
    """
    learner.policy.load_state_dict(start.policy.state_dict())
    history: dict[str, list[float]] = {"cost": [], "reward": []}

    def note(update: int, metrics: dict[str, float]) -> None:
        for name, values in history.items():
            values.append(round(metrics[name], 4))

    learn_on_policy(
        place.env("train", size.places),
        RowLearner(learner) if by_rows else learner,
        rounds=size.updates,
        steps=place.steps,
        exploration=place.exploration,
        seed=seed,
        on_update=note,
    )
    return history | {"recoveries": learner.constraint.recoveries, "unmet": learner.violation() or ""}


@torch.no_grad()
def judged(
    place: Place,
    policy: Policy,
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
    arms = [Arm(policy=policy, exploration=None if greedy else place.exploration)]
    for number in range(1 if greedy else draws):
        left: Tensor | None = None
        for step, (_, happened, _) in enumerate(play(env, arms, seed=stream_seed(seed, number)), start=1):
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

    def judge(policy: Policy, number: int, **more: Any) -> dict[str, float]:
        return judged(place, policy, part=part, draws=size.draws, seed=stream_seed(seed, 100 + number), **more)

    if settings["kind"] == "trust_region":
        served = fresh(place, setting, size, seed=seed).policy
        served.load_state_dict(start.policy.state_dict())
        found["imitation"] = {"judged": judge(served, 0)}
        found["random"] = {"judged": judge(uniform(place), 1)}
        for limit in settings["limits"]:
            fixed = MostLiked(served, likes(place), place.world.popular, limit, place.slate_size)
            found[f"most_liked-{_name(limit)}"] = {"judged": judge(fixed, 1, greedy=True)}
    for number, limit in enumerate(settings["limits"]):
        more: dict[str, Any] = {"cost_limit": limit, "constraint": settings["kind"]}
        learner = fresh(place, setting, size, seed=seed, popular=fcpo.ExposureConfig(memory=MEMORY), **more)
        first = learner.exposure.popular.clone()
        told = fine_tune(place, start, learner, size, seed=stream_seed(seed, 12))
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
            regrouped = fcpo.ExposureConfig(memory=MEMORY, regroup_every=REGROUP)
            drifting = fresh(place, setting, size, seed=seed, popular=regrouped, **more)
            told = fine_tune(place, start, drifting, size, seed=stream_seed(seed, 12))
            found["drifting"] = {
                "once": found[_name(limit)] | followed(learner, first, partial(judge, number=40)),
                "drifting": told
                | {"judged": judge(drifting.policy, 2 + number)}
                | followed(drifting, first, partial(judge, number=40)),
            }
    if settings.get("rows"):
        learner = fresh(place, setting, size, seed=seed)
        fine_tune(place, start, learner, size, seed=stream_seed(seed, 12), by_rows=True)
        found["rows"] = {"judged": judge(learner.policy, 41)}
    return found | {"seconds": time.monotonic() - begun}


def uniform(place: Place) -> Policy:
    """Lists at random."""
    return random.Policy(random.Config(), StatelessEncoder(), place.world.catalog)


def likes(place: Place) -> Float[Tensor, " rows"]:
    """How many of the people who train like each item."""
    given = place.world.ratings.users(place.world.parts["train"])
    return torch.bincount(given.item[given.value >= 3.5], minlength=place.world.catalog.num_rows).float()


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
    place, size, setting = _parts(settings)
    learner = fresh(place, setting, size, seed=0)
    policy, k = learner.policy, place.slate_size
    found: dict[str, Any] = {}
    for batch in (1, 64):
        _, happened, after = next(play(place.env("train", batch), [Arm(policy=policy)], seed=0))
        carry = policy.encoder.step(policy.encoder.initial(batch), uses_of(happened))
        state = policy.encoder.state(carry, after)
        works: list[Callable[[], object]] = [
            partial(policy.recommend, state, SlateRequest(k=k)),
            partial(_single_picks, policy, k, carry, state, after=after, moving=True),
            partial(_single_picks, policy, k, carry, state, after=after, moving=False),
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
    policy: fcpo.Policy, k: int, carry: Carry, state: Tensor, *, after: Observation, moving: bool
) -> None:
    """K lists of one, what was shown excluded; with `moving`, each as if it had been used."""
    shown = torch.zeros(len(state), 0, dtype=torch.int64)
    for _ in range(k):
        slates = policy.recommend(state, SlateRequest(k=1, exclude=shown))
        shown = torch.cat([shown, slates.items], dim=1)
        if moving:
            item, one = slates.items, torch.ones_like(slates.logp)
            uses = Uses(item=item, reward=one, time=torch.zeros_like(item), present=item != PAD)
            carry = policy.encoder.step(carry, uses)
            state = policy.encoder.state(carry, after)


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
