"""The cells of the tree-policy experiments: learn from some people's ratings, judge with the others.

Learning has two parts, the same for the tree and for the softmax over the catalog. First the policy imitates: sessions
are put together from what the people who train have rated, in any order, with items they did not rate in between, and
what they liked is imitated (the learner's own update, reward 1 or 0, no discount). Then it plays with these people.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise import config as configs
from slatewise.data.batches import sample_rows, shuffle_rows
from slatewise.data.ratings import Ratings
from slatewise.encoders import gru
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.item_vectors.ratings import Kind, vectors_of
from slatewise.log import FIRST_ITEM, PAD, Catalog
from slatewise.methods import popularity, tpgr, wolpertinger
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import Learner, Policy
from slatewise.reproduce._learning import random_policy
from slatewise.retrieval.tree import Tree
from slatewise.rollout.on_policy import learn_on_policy
from slatewise.rollout.play import Arm, play
from slatewise.rollout.trajectories import record_trajectories
from slatewise.schedules import Schedule, linear, value_at
from slatewise.seeds import stream_seed
from slatewise.sim.rating_sessions import Config, Env, World, open_world
from slatewise.training.fit import fit
from slatewise.types import Exploration, SlateRequest, Slates, Trajectories

DATA = "data/ml-100k"
CONTEXT = 19
EDGES = (-0.75, -0.25, 0.01, 0.25, 0.75)
"""Borders between the answers that the state tells apart."""
INPUT_SCALE = 6.0
"""What the encoder's first item and answer vectors are multiplied with: as they are drawn, which item it was hardly
moves the state."""
LIKED = 0.25
"""Answers from here on (ratings of 4 and 5) are imitated."""
UNRATED_SHARE = 0.5
"""Part of the sessions that are imitated which a person did not rate, popular items first."""
BEAMS = (1, 8, 128)
"""Widths of the search that are judged beside the policy's own."""


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """One cell: what it earns from the people held out, per session, and how long it took to learn."""
    config = Config(
        data=DATA,
        alpha=float(settings["alpha"]),
        unrated=settings["unrated"],
        valid_share=0.2 if settings["part"] == "valid" else 0.0,
    )
    world = open_world(config)
    env = Env(config, num_users=int(settings["users"]), world=world)
    judge = Env(replace(config, part=settings["part"], in_turn=True), num_users=1, world=world)
    judge = Env(judge.config, num_users=judge.num_people, world=world)
    seed = int(settings["seed"])
    start = time.process_time()
    results: dict[str, Any] = {}
    if settings["kind"] == "changing tree":
        results |= _changing(settings, env, lambda policy: measure(judge, policy, seed=seed, **_serving(env, "sharp")))
        return {"seconds": time.process_time() - start, **results}
    policy = _policies[settings["kind"]](settings, env)
    results["seconds"] = time.process_time() - start
    for name in ("greedy", "sharp", "drawn"):
        results[name] = measure(judge, policy, seed=seed, **_serving(env, name))
    if settings.get("beams"):
        assert isinstance(policy, tpgr.Policy)
        for width in BEAMS:
            policy.beam_width = width
            results[f"beam {width}"] = measure(judge, policy, seed=seed, **_serving(env, "greedy"))
    return results


def measure(env: Env, policy: Policy, *, exploration: Exploration | None, seed: int) -> dict[str, float]:
    """Mean over the people: return and mean reward a step, precision, recall and F1 of what a session showed."""
    steps = env.config.steps
    earned = torch.zeros(env.num_users)
    arms = [Arm(policy=policy, exploration=exploration)]
    sessions = play(env, arms, seed=seed, exclude_last=steps)
    shown: list[Tensor] = []
    for number, (_, step, _) in enumerate(sessions, start=1):
        shown.append(step.slate)
        earned += step.reward.sum(dim=1)
        if number == steps:
            break
    # the people of the first sessions sit there again after a reset
    env.reset(seed=seed)
    is_relevant, relevant = env.relevant(torch.cat(shown, dim=1))
    hits, total = is_relevant.sum(dim=1).float(), relevant.float()
    precision, recall = hits / steps, hits / total.clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-9)
    figures = {"return": earned, "reward": earned / steps, "precision": precision, "recall": recall, "f1": f1}
    return {name: float(values.mean()) for name, values in figures.items()}


def _serving(env: Env, name: str) -> dict[str, Exploration | None]:
    """greedy: the best of the beam; drawn: a walk; sharp: a walk at half the temperature."""
    if name == "greedy":
        return {"exploration": None}
    return {"exploration": Exploration(top_m=env.catalog.num_items, temperature=0.5 if name == "sharp" else 1.0)}


def _tree(settings: Mapping[str, Any], env: Env) -> Policy:
    """Train the tree policy; depth 1 is the softmax over the catalog."""
    learner, _ = _plant(settings, env)
    _imitate(settings, env, learner)
    _practise(settings, env, learner, rounds=int(settings["rounds"]))
    return learner.policy


def _plant(settings: Mapping[str, Any], env: Env) -> tuple[tpgr.Learner, Tree | None]:
    """A learner that has learned nothing yet, and the tree of its items."""
    generator = Generator().manual_seed(int(settings["seed"]))
    encoder = _encoder(env, generator)
    config = configs.convert(tpgr.Config, settings["method"], where="tpgr")
    config = replace(config, lr=_falling(settings, config.lr, rounds=int(settings["rounds"])))
    learner = tpgr.Learner(config, encoder, env.catalog, generator=generator)
    if learner.config.tree.depth == 1:
        return learner, None
    return learner, learner.policy.plant_vectors(_vectors(settings["vectors"], env, generator), generator=generator)


def _vectors(kind: str, env: Env, generator: Generator) -> Float[Tensor, "rows E"]:
    if kind == "text":
        return text_vectors(env.catalog)
    of_ratings: dict[str, Kind] = {"ratings": "ratings", "vae": "vae", "factors": "factors"}
    return vectors_of(_training_ratings(env.world), of_ratings[kind], generator=generator)


def text_vectors(catalog: Catalog) -> Float[Tensor, "rows E"]:
    """Words of titles and genres that at least two items share, weighted by tf·idf, every item of length 1."""
    words = [
        Counter(re.findall(r"\w+", f"{text} {catalog.group_names[group]}".lower()))
        for text, group in zip(catalog.text, catalog.group, strict=True)
    ]
    shared = Counter(word for item in words for word in item)
    column = {word: number for number, word in enumerate(sorted(word for word, n in shared.items() if n > 1))}
    weights = torch.zeros(catalog.num_rows, len(column))
    for row, item in enumerate(words):
        for word, times in item.items():
            if word in column:
                weights[row, column[word]] = times
    weights *= torch.log(catalog.num_items / (weights > 0).sum(dim=0).clamp(min=1))
    both = torch.cat([weights, torch.from_numpy(catalog.features.clip(min=0.0))], dim=1)
    return torch.nn.functional.normalize(both, dim=1)


def _imitate(settings: Mapping[str, Any], env: Env, learner: tpgr.Learner) -> list[Trajectories]:
    """Some passes over sessions made of what the people who train have rated, each pass with other sessions."""
    passes = int(settings["passes"])
    generator = Generator().manual_seed(stream_seed(int(settings["seed"]), 11))
    config = replace(
        learner.config,
        gamma=0.0,
        baseline="none",
        unit_advantage=False,
        entropy=0.0,
        reward_at_least=LIKED,
        weight_cap=None,
    )
    config = replace(config, lr=float(settings["imitation_lr"]))
    imitator = tpgr.Learner(config, learner.policy.encoder, env.catalog, generator=generator)
    imitator.policy.load_state_dict(learner.policy.state_dict())
    sessions = made_sessions(env.world, env.config, passes=passes, generator=generator)
    for session in sessions:
        fit(imitator, shuffle_rows(session, int(settings["batch"]), generator=generator))
    learner.policy.load_state_dict(imitator.policy.state_dict())
    return sessions


def made_sessions(world: World, config: Config, *, passes: int, generator: Generator) -> list[Trajectories]:
    """A session of every person who trains, `passes` times: rated and unrated items in any order, answered."""
    people = world.parts["train"]
    env = Env(replace(config, part="train", alpha=0.0, in_turn=True), num_users=len(people), world=world)
    rated_log = _training_ratings(world)
    rated = torch.zeros(len(people), rated_log.num_rows, dtype=torch.bool)
    rated[rated_log.user, rated_log.item] = True
    popular = rated_log.counts().double().log()
    sessions = []
    for number in range(passes):
        noise = torch.rand(rated.shape, generator=generator)
        first = torch.where(rated, noise, -1.0).topk(config.steps, dim=1)
        gumbel = -torch.empty(rated.shape, dtype=torch.float64).exponential_(generator=generator).log_()
        other = (popular + gumbel).masked_fill(rated, -torch.inf).topk(config.steps, dim=1)
        fill = torch.rand(noise.shape[0], config.steps, generator=generator) < UNRATED_SHARE
        is_rated = (first.values >= 0) & ~(fill & (other.values > -torch.inf))
        plan = torch.where(is_rated, first.indices, other.indices.masked_fill(other.values == -torch.inf, PAD))
        seed = stream_seed(config.split_seed, number)
        record = record_trajectories(
            env, [Arm(policy=_Planned(plan, rated_log.num_rows))], steps=config.steps, seed=seed
        )
        sessions.append(record.replace(logp_known=torch.zeros_like(record.logp_known)))
    return sessions


def _practise(settings: Mapping[str, Any], env: Env, learner: tpgr.Learner, *, rounds: int) -> None:
    """Play with all places, learn from a batch of the sessions at a time, play again.

    Places hold people drawn at random, so that neighbours make as good a batch as any.
    """
    learn_on_policy(
        env,
        learner,
        rounds=rounds,
        steps=env.config.steps,
        exploration=Exploration(top_m=env.catalog.num_items),
        seed=int(settings["seed"]),
        exclude_last=env.config.steps,
        batch_size=int(settings["batch"]),
    )


def _falling(settings: Mapping[str, Any], lr: float | Schedule, *, rounds: int, start: int = 0) -> Schedule:
    """A learning rate that falls to 0 round by round."""
    updates = -(-int(settings["users"]) // int(settings["batch"]))
    return linear(value_at(lr, 0), 0.0, updates=max(1, rounds * updates), every=updates, start=start * updates)


def _changing(
    settings: Mapping[str, Any], env: Env, judge: Callable[[Policy], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """A tree that loses and gets items: every tenth is missing while the policy learns, and is added afterwards."""
    learner, tree = _plant(settings, env)
    assert tree is not None
    policy = learner.policy
    vectors = _vectors(settings["vectors"], env, Generator().manual_seed(int(settings["seed"])))
    order = torch.randperm(
        env.catalog.num_items, generator=Generator().manual_seed(stream_seed(int(settings["seed"]), 13))
    )
    late, removed = (FIRST_ITEM + order).tensor_split(10)[:2]
    tree.remove(late, vectors[late])
    policy.plant(tree)
    rounds = int(settings["rounds"])
    _imitate(settings, env, learner)
    _practise(settings, env, learner, rounds=rounds)
    results = {"late items missing": judge(policy)}
    tree.add(late, vectors[late])
    policy.plant(tree)
    results["late items added"] = judge(policy)
    # the same learner with another schedule, which begins where the first one ended
    config = replace(learner.config, lr=_falling(settings, learner.config.lr, rounds=rounds // 4, start=rounds))
    longer = tpgr.Learner(config, policy.encoder, env.catalog, generator=Generator())
    longer.load_state_dict(learner.state_dict())
    _practise(settings, env, longer, rounds=rounds // 4)
    policy = longer.policy
    results["added and practised"] = judge(policy)
    tree.remove(removed, vectors[removed])
    policy.plant(tree)
    results["other items removed"] = judge(policy)
    return results


def _wolpertinger(settings: Mapping[str, Any], env: Env) -> Policy:
    """One nearest item to the actor's point, vectors learned with the critic; the same sessions, as many updates.

    It learns from everything seen so far: first from the sessions that the others imitate, then also from its own, of
    which a share is random that falls from all to a tenth.
    """
    generator = Generator().manual_seed(int(settings["seed"]))
    learner: Learner = wolpertinger.Learner(
        configs.convert(wolpertinger.Config, {"neighbours": 1, **settings["method"]}, where="wolpertinger"),
        _encoder(env, generator),
        env.catalog,
        generator=generator,
    )
    floor = random_policy(env.catalog)
    anything = Exploration(top_m=env.catalog.num_items)
    recordings = made_sessions(env.world, env.config, passes=int(settings["passes"]), generator=generator)
    rounds, batch = int(settings["rounds"]), int(settings["batch"])

    def batches(updates: int) -> Iterator[Trajectories]:
        for _ in range(updates):
            recording = recordings[int(torch.randint(len(recordings), (), generator=generator))]
            yield from sample_rows(recording, batch, updates=1, generator=generator)

    fit(learner, batches(sum(-(-len(recording.mask) // batch) for recording in recordings)))
    for number in range(rounds):
        share = max(0.1, 1 - 2 * number / rounds)
        arms = [Arm(policy=floor, share=share, exploration=anything)]
        if share < 1:
            arms.append(Arm(policy=learner.policy, policy_id=1, share=1 - share))
        seed = stream_seed(int(settings["seed"]), number)
        steps = env.config.steps
        recordings.append(record_trajectories(env, arms, steps=steps, seed=seed, exclude_last=steps))
        fit(learner, batches(-(-env.num_users // batch)))
    return learner.policy


def _popular(settings: Mapping[str, Any], env: Env) -> Policy:
    """The items that most people rated; the same for everybody."""
    del settings
    policy = popularity.Policy(popularity.Config(), StatelessEncoder(), env.catalog)
    policy.count += _training_ratings(env.world).counts()
    return policy


def _best_liked(settings: Mapping[str, Any], env: Env) -> Policy:
    """The items with the largest sum of answers by the people who train: the best a policy without a state can show."""
    del settings
    people = env.world.parts["train"]
    judge = Env(replace(env.config, part="train", in_turn=True), num_users=len(people), world=env.world)
    judge.reset(seed=0)
    items = torch.arange(FIRST_ITEM, env.catalog.num_rows).expand(len(people), -1)
    return _Fixed(torch.nn.functional.pad(judge.answers(items).sum(dim=0), (FIRST_ITEM, 0)))


def _random(settings: Mapping[str, Any], env: Env) -> Policy:
    del settings
    return random_policy(env.catalog)


class _Fixed(RankedPolicy):
    """The same scores for everybody."""

    def __init__(self, scores: Float[Tensor, " rows"]) -> None:
        super().__init__(StatelessEncoder(), len(scores))
        self.register_buffer("fixed", scores)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Scores of some items, or of all rows."""
        fixed = self.get_buffer("fixed")
        return fixed.expand(len(state), -1) if items is None else fixed[items]


class _Planned(RankedPolicy):
    """Shows every place what a plan says, step by step."""

    def __init__(self, plan: Int[Tensor, "B T"], num_rows: int) -> None:
        super().__init__(StatelessEncoder(), num_rows)
        self.plan, self.turn = plan, 0

    def recommend(
        self, state: Float[Tensor, "B D"], request: SlateRequest, *, generator: Generator | None = None
    ) -> Slates:
        """The next column of the plan."""
        del state, generator
        items = self.plan[:, self.turn : self.turn + request.k]
        self.turn += request.k
        return Slates(items=items, logp=torch.zeros(items.shape))


def _encoder(env: Env, generator: Generator) -> gru.Encoder:
    config = gru.Config(width=64, item_width=64, reward_edges=EDGES, context_width=CONTEXT)
    encoder = gru.Encoder(config, env.catalog, generator=generator)
    with torch.no_grad():
        encoder.reader.item.weight.mul_(INPUT_SCALE)
        encoder.reader.bucket.mul_(INPUT_SCALE)
    return encoder


def _training_ratings(world: World) -> Ratings:
    """What the people who train have rated."""
    return world.ratings.users(world.parts["train"])


_policies: dict[str, Callable[[Mapping[str, Any], Env], Policy]] = {
    "tree": _tree,
    "wolpertinger": _wolpertinger,
    "popularity": _popular,
    "best liked": _best_liked,
    "random": _random,
}
