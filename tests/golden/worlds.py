"""What policies earn in every simulated world, and what is learned from a log recorded there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.golden.commands import numbers
from tests.golden.methods import Trainings

SMALL = {
    "interest_evolution": (),
    "interest_exploration": (),
    "long_term_satisfaction": (),
    "topic_boredom": (),
    "drift": ("num_items=200", "num_topics=8", "lifetime=10", "slate_size=4"),
    "topic_graph": ("num_items=300", "num_topics=8", "width=6"),
    "accept_graph": ("num_items=300", "width=6"),
    "toys": (),
}
"""Settings of small worlds."""
KNOWING = {
    "interest_evolution": ("myopic", "oracle"),
    "interest_exploration": ("myopic", "oracle"),
    "long_term_satisfaction": ("myopic", "oracle"),
    "topic_boredom": ("myopic",),
    "drift": ("myopic", "oracle"),
}
PLAYED = ("return", "length", "click_rate", "quality", "steps", "episodes")
RECORDED = "interest_evolution"


def record(trainings: Trainings) -> Iterator[tuple[str, Any]]:
    """Returns of the policies that a world offers; then those of policies learned from its log."""
    for env, settings in SMALL.items():
        for policy in ("random", *KNOWING.get(env, ())):
            yield from _play(trainings, f"{env}, {policy}", env, policy, settings)
    yield from _from_ratings(trainings)
    yield from _from_a_log(trainings)


def _play(
    trainings: Trainings, name: str, env: str, policy: str, settings: tuple[str, ...] = (), *options: str
) -> Iterator[tuple[str, Any]]:
    assigned = [word for setting in settings for word in ("--set", setting)]
    sizes = ("--episodes", "64", "--users", "32", "--seed", "11")
    answer = trainings.commands.answer("simulate", env, "--policy", policy, *sizes, *assigned, *options)
    for key, value in numbers({key: answer[key] for key in PLAYED if key in answer}).items():
        yield f"{name} | {key}", value


def _from_ratings(trainings: Trainings) -> Iterator[tuple[str, Any]]:
    """Sessions that answer with the ratings of a log, also those of a policy that learned from it."""
    learned = "item_knn, window"
    trainings.train(learned)
    data = f'data="{trainings.commands.work / "data" / "ratings"}"'
    completed = ("slate_size=3", "unrated='completed'", "completion_width=4", "part='test'")
    for name, settings in {"one item": (), "lists, completed": completed}.items():
        for label, policy in (("random", "random"), (learned, str(trainings.folder(learned)))):
            everything = (data, "steps=8", *settings)
            yield from _play(trainings, f"rating_sessions, {name}, {label}", "rating_sessions", policy, everything)


def _from_a_log(trainings: Trainings) -> Iterator[tuple[str, Any]]:
    """A log of random slates, a policy and a user model learned from it, and both at work."""
    commands = trainings.commands
    folder = commands.work / "recorded"
    sizes = ("--episodes", "120", "--seed", "12", "--set", "choice=mnl")
    answer = commands.answer("simulate", RECORDED, *sizes, "--record", folder)
    yield "recorded | decisions", answer["record"]["decisions"]
    yield "recorded | outcomes", answer["record"]["outcomes"]
    log = commands.answer("data", "import", folder, "--out", "data/recorded", "--simulated")
    for key, value in numbers(log["counts"]).items():
        yield f"recorded | {key}", value
    for name in ("recorded, slateq", "recorded, user model"):
        for key, value in numbers(trainings.train(name), without=("seconds", "interactions_per_second")).items():
            yield f"{name} | {key}", value
    slateq, model = (str(trainings.folder(name)) for name in ("recorded, slateq", "recorded, user model"))
    choice = ("choice=mnl",)
    yield from _play(trainings, "slateq in its world", RECORDED, slateq, choice)
    explored = ("--top-m", "8", "--keep", "1", "--temperature", "2.0", "--exclude-last", "1")
    yield from _play(trainings, "slateq in its world, exploring", RECORDED, slateq, choice, *explored)
    for policy in ("random", "myopic", slateq):
        label = "slateq" if policy == slateq else policy
        yield from _play(trainings, f"user model, {label}", model, policy)
    for key, value in numbers(commands.answer("simulate", model, "--fidelity", "data/recorded", "--seed", "1")).items():
        yield f"user model, fidelity | {key}", value
