"""Each of the first methods reaches the known answer of a toy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from slatewise import config as configs
from slatewise.config import DataConfig, EvaluateConfig
from slatewise.data import splits
from slatewise.data.batches import shuffled_batches
from slatewise.encoders import gru
from slatewise.evaluation import evaluate
from slatewise.log import FIRST_ITEM, Interactions, LogPart
from slatewise.methods import cloning, reinforce
from slatewise.protocols import Learner, ResolvesFromLog
from slatewise.sim import toys
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.types import SlateRequest, Trajectories

pytestmark = pytest.mark.slow


def build(
    method: str, encoder: str, num_items: int, *, settings: dict[str, Any], seed: int = 0, **more: Any
) -> Learner:
    catalog, generator = toy_catalog(num_items), Generator().manual_seed(seed)
    methods, encoders = configs.find("methods", method), configs.find("encoders", encoder)
    config = configs.convert(encoders.Config, more, where="encoder")
    resolved = (
        config.resolve(LogPart.whole(written_log([[{"items": [2]}]])))
        if isinstance(config, ResolvesFromLog)
        else config
    )
    built = encoders.Encoder(resolved, catalog, generator=generator)
    learner: Learner = methods.Learner(
        configs.convert(methods.Config, settings, where="method"), built, catalog, generator=generator
    )
    return learner


def passes(learner: Learner, log: Interactions, *, epochs: int, batch_size: int = 32) -> None:
    wins = LogPart.whole(log).windows(max_length=100)
    for epoch in range(epochs):
        for batch in shuffled_batches(log, wins, batch_size=batch_size, generator=np.random.default_rng(epoch)):
            learner.update(batch)


@pytest.mark.parametrize("encoder", ["cfn", "gru", "lstm"])
def test_cloning_needs_memory_to_see_what_comes_next(encoder: str) -> None:
    """Users repeat two items that are theirs, and a third one between them: a b x b a x …, so x alone says nothing."""
    generator, shared = np.random.default_rng(0), FIRST_ITEM
    users = []
    for _ in range(200):
        a, b = generator.choice(np.arange(shared + 1, shared + 8), size=2, replace=False).tolist()
        users.append([{"items": [item]} for item in [a, b, shared] * 4])
    log = written_log(users)
    more: dict[str, Any] = {"width": 32, "item_width": 16} | ({"cell": "lstm"} if encoder == "lstm" else {})
    name = "gru" if encoder == "lstm" else encoder
    learner = build("cloning", name, 8, settings={"lr": 0.01}, **more)
    passes(learner, log, epochs=40)
    wins = LogPart.whole(log).windows(max_length=100)
    (batch,) = shuffled_batches(log, wins, batch_size=200, generator=np.random.default_rng(0))
    with torch.no_grad():
        states = learner.policy.encoder(batch)
        # from the second round on, everything is known; after the shared item only memory says what a is
        first = learner.policy.recommend(states[:, 3:-1].flatten(0, 1), SlateRequest(k=1)).items.view(200, -1)
    right = (first == batch.slate[:, 3:, 0]).float().mean()
    assert float(right) > 0.98


def test_cloning_ends_at_the_logging_policy() -> None:
    log = toys.behaviour_log(toys.BIASED, events=50_000, seed=0, propensities=False)
    encoder = gru.Encoder(
        gru.Config(width=4, reward_edges=(), context_width=0), toys.catalog(10), generator=Generator()
    )
    learner = cloning.Learner(cloning.Config(lr=0.02), encoder, toys.catalog(10), generator=Generator())
    for at in range(0, 50_000, 250):
        learner.update(log.rows(slice(at, at + 250)))
    items = torch.arange(FIRST_ITEM, FIRST_ITEM + 10).unsqueeze(0)
    with torch.no_grad():
        beta = learner.policy.log_pi(torch.zeros(1, 4), items).exp()[0]
    torch.testing.assert_close(beta, torch.tensor(toys.BIASED.behaviour), atol=0.03, rtol=0)


def two_steps(sessions: int, *, seed: int) -> Trajectories:
    """Sessions of two steps. First item 2 pays 1, 3 pays ½ and makes the second step pay 5 whatever is shown."""
    generator = np.random.default_rng(seed)
    users: list[list[dict[str, Any]]] = []
    for _ in range(sessions):
        first, second = generator.integers(FIRST_ITEM, FIRST_ITEM + 4, size=2).tolist()
        pay = {2: 1.0, 3: 0.5}.get(first, 0.1)
        users.append(
            [
                {"items": [first], "rewards": [pay]},
                {"items": [second], "rewards": [5.0 if first == 3 else 0.1], "end": True},
            ]
        )
    log = written_log(users)
    wins = LogPart.whole(log).windows(max_length=2)
    (batch,) = shuffled_batches(log, wins, batch_size=sessions, generator=np.random.default_rng(0))
    return batch


@pytest.mark.parametrize(("gamma", "best"), [(0.0, 2), (0.9, 3)])
def test_reinforce_shows_what_pays_later_as_far_as_it_looks_ahead(gamma: float, best: int) -> None:
    log = two_steps(8000, seed=0)
    settings = {"correction": "standard", "baseline": True, "gamma": gamma, "lr": 0.01}
    learner = build("reinforce", "gru", 4, settings=settings, width=8, item_width=8)
    assert isinstance(learner, reinforce.Learner)
    for _ in range(12):
        for at in range(0, 8000, 250):
            learner.update(log.rows(slice(at, at + 250)))
    with torch.no_grad():
        pi = learner.policy.log_pi(torch.zeros(1, 8), torch.tensor([[2, 3, 4, 5]])).exp()[0]
    assert float(pi[best - FIRST_ITEM]) > 0.95


def test_neighbours_stay_within_a_taste() -> None:
    """A checkerboard: even users use even items, odd users odd ones. What is left of the own colour comes first."""
    generator = np.random.default_rng(0)
    users = []
    for user in range(60):
        own = generator.permutation(np.arange(FIRST_ITEM + user % 2, FIRST_ITEM + 20, 2))[:7]
        users.append([{"items": [item]} for item in own.tolist()])
    log = written_log(users)
    learner = build("item_knn", "window", 20, settings={})
    passes(learner, log, epochs=1)
    wins = LogPart.whole(log).windows(max_length=100)
    for batch in shuffled_batches(log, wins, batch_size=60, generator=generator):
        with torch.no_grad():
            used = batch.slate[:, :, 0]
            lists = learner.policy.recommend(
                learner.policy.encoder(batch)[:, -1], SlateRequest(k=3, exclude=used)
            ).items
        assert torch.equal(lists % 2, (batch.user[:, :1] % 2).expand(-1, 3))


def test_popularity_and_chance_where_they_belong(tmp_path: Path) -> None:
    """Items are used in proportion to 10, 9, … 1: how often each method finds one in its list of three is known."""
    generator = np.random.default_rng(0)
    weight = np.arange(10, 0, -1) / 55
    draws = generator.choice(10, size=(400, 8), p=weight) + FIRST_ITEM
    data = toy_dataset(
        tmp_path / "data",
        written_log([[{"items": [item]} for item in row] for row in draws.tolist()]),
        catalog=toy_catalog(10),
    )
    split = splits.split_log(DataConfig(path=""), data.interactions)
    train, test = split.train, split.test
    config = EvaluateConfig(k=(3,), exclude_seen=False)
    found = {}
    for method in ("popularity", "random"):
        learner = build(method, "window", 10, settings={})
        wins = train.windows(max_length=100)
        for batch in shuffled_batches(data.interactions, wins, batch_size=50, generator=generator):
            learner.update(batch)
        found[method] = evaluate(learner.policy, data, test, config, trained_on=train).value("recall@3")
    # (10 + 9 + 8) / 55 = .491 and 3/10, each within 4 σ = 4 √(.25 / 400) = .1
    assert found["popularity"] == pytest.approx(27 / 55, abs=0.1)
    assert found["random"] == pytest.approx(0.3, abs=0.1)
