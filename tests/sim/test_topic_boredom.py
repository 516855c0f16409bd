from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.methods import random as uniform
from slatewise.protocols import Env as EnvProtocol
from slatewise.rollout.returns import returns
from slatewise.sim.topic_boredom import BoredomConfig, Config, Env
from slatewise.types import Slates

# everything above the offset is clicked, nothing else: no coin is tossed
SURE = Config(num_items=60, num_topics=4, slate_size=6, slope=1e6, attention=1.0, session_length=40, offset=0.25)


def slates(items: list[list[int]]) -> Slates:
    return Slates(items=torch.tensor(items), logp=torch.zeros(len(items), len(items[0])))


def best(env: Env) -> Slates:
    items = env.scores()[:, 2:].topk(env.slate_size, dim=1).indices + 2
    return Slates(items=items, logp=torch.zeros(items.shape))


class OneUser:
    """The rules once more, word by word, for one user."""

    def __init__(self, env: Env, taste: NDArray[np.float64], looked: NDArray[np.float64]) -> None:
        self.env, self.taste, self.turn = env, taste, 0
        self.clicks: deque[tuple[int, int]] = deque(maxlen=env.config.boredom.recent_clicks)  # (topic, turn)
        self.clicks.extend((int(env.topic[i]), 0) for i in env.first_look[looked > 0])
        self.bored_for = [0] * env.config.num_topics

    def step(self, slate: NDArray[np.int64]) -> list[bool]:
        config = self.env.config
        self.turn += 1
        self.bored_for = [max(0, left - 1) for left in self.bored_for]
        for topic in range(config.num_topics):
            count = sum(t == topic for t, _ in self.clicks)
            if count >= config.boredom.threshold and not self.bored_for[topic]:
                self.bored_for[topic] = config.boredom.turns
        worth = self.taste.reshape(config.num_topics, -1).copy()
        worth[np.array(self.bored_for) > 0] = 0
        clicked = [float(self.env.vector[i] @ worth.ravel()) > config.offset for i in slate]
        for item in slate[clicked]:
            self.clicks.append((int(self.env.topic[item]), self.turn))
            self.taste = 0.9 * self.taste + 0.1 * self.env.vector[item]
            self.taste /= np.linalg.norm(self.taste.reshape(config.num_topics, -1), axis=1).sum()
        while self.clicks and self.clicks[0][1] < self.turn - config.boredom.recent_turns:
            self.clicks.popleft()
        return clicked


@pytest.mark.parametrize("show", ["best", "random", "mixed"])
def test_many_users_live_as_one_does(show: str) -> None:
    env = Env(SURE, num_users=12)
    seen = env.reset(seed=1)
    users = [
        OneUser(env, taste, looked)
        for taste, looked in zip(env.taste.double().numpy(), seen.context.numpy(), strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    clicks, bored = 0, 0
    for t in range(39):
        shown = best(env)
        if show == "random" or (show == "mixed" and t % 3):
            items = torch.rand(12, 60, generator=generator).topk(6, dim=1).indices + 2
            shown = Slates(items=items, logp=torch.zeros(12, 6))
        # a score within rounding of the offset could go either way
        worth = (env.scores().gather(1, shown.items) - SURE.offset).abs()
        assert float(worth.min()) > 1e-6
        bored += int(env.boring_topics.sum())
        expected = [user.step(slate) for user, slate in zip(users, shown.items.numpy(), strict=True)]
        step, _ = env.step(shown)
        assert step.reward.bool().tolist() == expected, t
        assert step.choice.tolist() == [row.index(True) if any(row) else -1 for row in expected]
        np.testing.assert_allclose(env.taste.numpy(), np.stack([user.taste for user in users]), atol=2e-6)
        clicks += int(step.reward.sum())
    assert clicks > 150
    if show != "random":
        assert bored > 100


def test_a_click_moves_the_taste_by_hand() -> None:
    config = Config(num_items=3, num_topics=2, topic_width=1, slate_size=1, slope=1e6, attention=1.0, offset=0.4)
    env = Env(config, num_users=1)
    env.reset(seed=0)
    env.vector[:] = np.array([[0, 0], [0, 0], [1, 0], [0.6, 0.8], [0, 1]])
    env._taste[:] = [[0.5, 0.5]]
    step, _ = env.step(slates([[3]]))  # .5 · .6 + .5 · .8 = .7 > .4
    assert step.reward.tolist() == [[1.0]]
    # .9 · .5 + .1 · .6 = .51, .9 · .5 + .1 · .8 = .53; the norms of the topics sum to 1.04
    torch.testing.assert_close(env.taste, torch.tensor([[0.51 / 1.04, 0.53 / 1.04]]))
    env._taste[:] = [[0.3, 0.7]]
    step, _ = env.step(slates([[2]]))  # .3 < .4
    assert step.choice.tolist() == [-1]
    torch.testing.assert_close(env.taste, torch.tensor([[0.3, 0.7]]))


def test_boredom_by_hand() -> None:
    # five clicks in topic 0 in one slate: bored for the next five turns; they are too old in the one after
    config = Config(
        num_items=12,
        num_topics=2,
        topic_width=1,
        slate_size=5,
        slope=1e6,
        attention=1.0,
        offset=0.1,
        boredom=BoredomConfig(recent_turns=4),
    )
    env = Env(config, num_users=1)
    env.reset(seed=0)
    env.vector[2:8] = [1, 0]
    env.vector[8:] = [0, 1]
    env.topic[2:8] = 0
    env.topic[8:] = 1
    env._click_turn[:] = -100
    env._bored_for[:] = 0
    env._taste[:] = [[0.9, 0.1]]
    step, _ = env.step(slates([[2, 3, 4, 5, 6]]))
    assert step.reward.tolist() == [[1.0] * 5]
    for turn in range(2, 7):
        assert env.boring_topics.tolist() == [[True, False]], turn
        assert env.scores()[0, 2:8].tolist() == [0.0] * 6
        step, _ = env.step(slates([[2, 3, 4, 5, 6]]))
        assert step.reward.tolist() == [[0.0] * 5]
    assert env.boring_topics.tolist() == [[False, False]]
    step, _ = env.step(slates([[2, 3, 4, 5, 0]]))
    assert step.reward.tolist() == [[1.0, 1.0, 1.0, 1.0, 0.0]]
    assert env.boring_topics.tolist() == [[False, False]]  # four are not five


@pytest.mark.parametrize(
    ("settings", "fading"),
    [
        ({}, [1.0, 0.85, 0.7225]),
        ({"examination": "mixed"}, [(1 + 0.7225) / 2, 0.85, (1 + 0.7225) / 2]),
        ({"diversity_penalty": 3.0, "diversity_limit": 3}, [1 / 3, 0.85 / 3, 0.7225 / 3]),
        ({"diversity_penalty": 3.0, "diversity_limit": 4}, [1.0, 0.85, 0.7225]),
    ],
)
def test_examination_by_position(settings: dict[str, Any], fading: list[float]) -> None:
    # relevance σ(0) = ½ everywhere: slope 0
    config = Config(num_items=30, num_topics=1, slate_size=3, slope=0.0, **settings)
    env = Env(config, num_users=20_000)
    env.reset(seed=0)
    step, _ = env.step(slates([[2, 3, 4]] * 20_000))
    rate = step.reward.mean(dim=0)
    torch.testing.assert_close(rate, 0.5 * torch.tensor(fading), atol=4 * 0.5 / 20_000**0.5, rtol=0)


def test_relevance_by_hand() -> None:
    # a user all of whose taste is one topic, an item of norm 1 at an angle: score .30, σ(100 · .02) = .8808
    config = Config(num_items=2, num_topics=2, topic_width=1, slate_size=1, attention=1.0)
    env = Env(config, num_users=20_000)
    env.reset(seed=0)
    env.vector[2] = [0.30, 0.954]
    env._taste[:] = [1.0, 0.0]
    env._bored_for[:] = 0
    step, _ = env.step(slates([[2]] * 20_000))
    assert float(step.reward.mean()) == pytest.approx(0.8808, abs=4 * 0.324 / 20_000**0.5)


def test_users_and_items_are_drawn_as_released() -> None:
    env = Env(Config(), num_users=3000)
    seen = env.reset(seed=0)
    assert env.vector.shape == (1002, 20)
    np.testing.assert_allclose(np.linalg.norm(env.vector[2:], axis=1), 1.0, rtol=1e-5)
    assert not env.vector[:2].any()
    assert bool((env.taste >= 0).all())
    norms = torch.linalg.vector_norm(env.taste.view(3000, 10, 2), dim=2)
    torch.testing.assert_close(norms.sum(dim=1), torch.ones(3000))
    assert seen.context.shape == (3000, 10)
    # the first look shows every topic's best item, from topic 0 on
    assert env.topic[env.first_look].tolist() == list(range(10))
    longest = np.linalg.norm(env.vector.reshape(-1, 10, 2), axis=2).argmax(axis=0)
    assert env.first_look.tolist() == longest.tolist()
    chance = torch.sigmoid(100 * (env.taste @ torch.from_numpy(env.vector[env.first_look]).T - 0.28))
    expected = (chance * 0.85 ** torch.arange(10)).mean(dim=0)
    torch.testing.assert_close(seen.context.mean(dim=0), expected, atol=0.03, rtol=0)
    # more of an item lies in its main topic where the vectors are raised to a higher power
    share = [
        float((np.linalg.norm(Env(Config(concentration=power), num_users=1).vector[2:].reshape(-1, 10, 2), axis=2) ** 2)
        .max(axis=1).mean()) for power in (1.0, 1.5)
    ]  # fmt: skip
    assert 0.4 < share[0] < share[1] - 0.1


def test_published_short_term_oracle() -> None:
    env = Env(Config(), num_users=400)
    greedy = returns(env, env.myopic(), seed=1)
    assert bool((greedy.session_length == 100).all())
    # published: 107.7 (mean of 500 sessions); item draws 0 … 9 give 97 … 110
    assert abs(greedy.value - 107.7) < 4 * greedy.stderr
    sharp = Env(Config(concentration=1.5), num_users=200)
    short = returns(sharp, sharp.myopic(), seed=1)
    assert abs(short.value - 72.2) < 4 * short.stderr + 0.5
    few = Env(Config(), num_users=100)
    random = returns(few, uniform.Policy(uniform.Config(), StatelessEncoder(), few.catalog), seed=1)
    assert abs(random.value - 32.5) < 4 * random.stderr + 0.4


def test_sessions_end_and_somebody_new_comes() -> None:
    env = Env(Config(num_items=50, slate_size=5, session_length=4), num_users=30)
    seen = env.reset(seed=0)
    assert seen.context.shape == (30, 5)
    first = seen.context
    for t in range(1, 9):
        step, after = env.step(best(env))
        assert bool((step.terminated == (t % 4 == 0)).all())
        assert torch.equal(after.user, seen.user + (30 if t % 4 == 0 else 0))
        assert torch.equal(after.context, seen.context) == (t % 4 != 0)
        seen = after
    assert not torch.equal(seen.context, first)
    assert not bool(env._click_turn.max() > 0)


@pytest.mark.parametrize(("shows", "groups", "width"), [("names", 1, 0), ("topics", 11, 0), ("vectors", 11, 20)])
def test_what_the_catalog_tells(shows: Any, groups: int, width: int) -> None:
    env = Env(Config(num_items=40, catalog_shows=shows), num_users=1)
    assert len(env.catalog.group_names) == groups
    assert env.catalog.features.shape == (42, width)
    expected = env.topic[2:] + 1 if groups > 1 else np.zeros(40)
    assert env.catalog.group[2:].tolist() == expected.tolist()
    assert env.catalog.group[:2].tolist() == [0, 0]


def test_what_is_refused() -> None:
    env = Env(SURE, num_users=2)
    assert isinstance(env, EnvProtocol)
    for look in (
        lambda: env.step(slates([[2, 3, 4, 5, 6, 7]] * 2)),
        lambda: env.taste,
        lambda: env.boring_topics,
        env.scores,
    ):
        with pytest.raises(InputError, match=r"reset\(seed"):
            look()
    env.reset(seed=0)
    with pytest.raises(InputError, match="in the slate already"):
        env.step(slates([[2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 2]]))
    with pytest.raises(ValueError, match="num_users is 0"):
        Env(SURE, num_users=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_items": 0}, "num_items is 0"),
        ({"slate_size": 1001}, "slate_size is 1001, the catalog has 1000 items"),
        ({"attention": 1.2}, "attention is 1.2"),
        ({"taste_memory": -0.1}, "taste_memory is -0.1"),
        ({"concentration": 0.0}, "concentration is 0.0"),
        ({"diversity_penalty": 0.5}, "diversity_penalty is 0.5"),
    ],
)
def test_constants_that_make_no_world(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_boredom_that_makes_no_world() -> None:
    with pytest.raises(ValueError, match="recent_turns is 0"):
        BoredomConfig(recent_turns=0)
