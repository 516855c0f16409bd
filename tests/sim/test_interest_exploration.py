from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.methods import random as uniform
from slatewise.protocols import Env as EnvProtocol
from slatewise.protocols import Policy
from slatewise.rollout.returns import returns
from slatewise.sim.interest_exploration import Config, Env
from slatewise.types import Observation, Slates


def first_places(seen: Observation, k: int) -> Slates:
    assert seen.candidates is not None
    return Slates(items=seen.candidates[:, :k].clone(), logp=torch.zeros(len(seen.user), k))


# no spread: every document of a topic and every user of a type is the same, so chances can be worked by hand
STILL = Config(quality_std=0.0, affinity_std=0.0, slate_size=1, num_candidates=1, user_share=(1.0, 0.0))


def test_chances_by_hand() -> None:
    env = Env(STILL, num_users=40_000)
    seen = env.reset(seed=3)
    assert seen.candidates is not None
    topic = seen.candidates[:, 0] - 2
    step, _ = env.step(first_places(seen, 1))
    # users of type 0: e^.1 + e^.8 = 1.1052 + 2.2255 = 3.3307, e^.7 + e^.2 = 2.0138 + 1.2214 = 3.2352; nothing: 5
    for number, quality, logit in ((0, 2.2255409, 3.3307118), (1, 1.2214028, 3.2351555)):
        about = topic == number
        torch.testing.assert_close(seen.context[about, 0], torch.full((int(about.sum()),), quality))
        chance = 1 / (1 + math.exp(5 - logit))
        rate = float((step.choice[about] == 0).double().mean())
        assert rate == pytest.approx(chance, abs=4 * (chance * (1 - chance) / int(about.sum())) ** 0.5)
    assert float((topic == 1).double().mean()) == pytest.approx(0.8, abs=4 * 0.4 / 200)
    assert torch.equal(step.reward[:, 0], (step.choice == 0).float())


def test_a_slate_of_three_by_hand() -> None:
    # nothing 3 e^0 = e^{ln 3}; every logit e^0 + e^0 = 2: P(each of three) = e² / (3 e² + 3)
    config = Config(
        topic_quality=(0.0, 0.0), affinity=((0.0, 0.0), (0.0, 0.0)), quality_std=0.0, affinity_std=0.0,
        null_logit=math.log(3.0),
    )  # fmt: skip
    env = Env(config, num_users=30_000)
    step, _ = env.step(first_places(env.reset(seed=0), 3))
    share = torch.bincount(step.choice + 1, minlength=4) / 30_000
    each = math.exp(2) / (3 * math.exp(2) + 3)
    expected = torch.tensor([1 - 3 * each, each, each, each])
    torch.testing.assert_close(share, expected, atol=4 * 0.46 / 30_000**0.5, rtol=0)


def test_means_are_means_of_logarithms() -> None:
    env = Env(Config(), num_users=20_000)
    seen = env.reset(seed=1)
    assert seen.candidates is not None
    topic, log_quality = (seen.candidates - 2) % 2, seen.context.double().log()
    for number, mean in enumerate((0.8, 0.2)):
        some = log_quality[topic == number]
        assert float(some.mean()) == pytest.approx(mean, abs=5 * 0.1 / len(some) ** 0.5)
        assert float(some.std()) == pytest.approx(0.1, rel=0.02)
    log_affinity = env.affinity.double().log()
    # the two types lie six deviations apart: one in 700 of each falls on the wrong side and widens both a little
    first = log_affinity[:, 1] > 0.4
    assert float(first.double().mean()) == pytest.approx(0.3, abs=4 * 0.46 / 20_000**0.5)
    for kind, means in ((first, (0.1, 0.7)), (~first, (0.7, 0.1))):
        some = log_affinity[kind]
        torch.testing.assert_close(
            some.mean(dim=0), torch.tensor(means, dtype=torch.float64), atol=5 * 0.1 / len(some) ** 0.5, rtol=0
        )
        assert float(some[:, 0].std()) == pytest.approx(0.1, rel=0.06)


def test_what_policies_earn() -> None:
    def earned(policy: str) -> float:
        env = Env(Config(session_length=20), num_users=1500)
        served: dict[str, Policy] = {
            "random": uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog),
            "myopic": env.myopic(),
            "oracle": env.oracle(),
        }
        measured = returns(env, served[policy], seed=5)
        assert bool((measured.session_length == 20).all())
        return measured.value / 20

    # the click rate of random slates by integration: a pick of three independent documents
    rng = np.random.default_rng(0)
    kind, topic = rng.choice(2, 200_000, p=[0.3, 0.7]), rng.choice(2, (200_000, 3), p=[0.2, 0.8])
    means = np.array(Config().affinity)[kind]
    affinity = np.take_along_axis(np.exp(means + 0.1 * rng.standard_normal(means.shape)), topic, axis=1)
    quality = np.exp(np.array([0.8, 0.2])[topic] + 0.1 * rng.standard_normal(topic.shape))
    weight = np.exp(affinity + quality).sum(axis=1)
    rate = float((weight / (weight + math.exp(5))).mean())
    # 30,000 slates of 1,500 users: their tastes, not the coins, are what the error comes from
    assert earned("random") == pytest.approx(rate, abs=0.012)
    chance, popular, best = earned("random"), earned("myopic"), earned("oracle")
    assert chance + 0.1 < popular < best + 0.004


def test_knowing_the_user_pays_where_tastes_differ() -> None:
    config = Config(affinity=((0.1, 1.5), (1.5, 0.1)), topic_quality=(0.2, 0.2), null_logit=6.0, session_length=10)
    env = Env(config, num_users=1000)
    known, average = returns(env, env.oracle(), seed=0), returns(env, env.myopic(), seed=0)
    assert known.value > average.value + 4 * (known.stderr**2 + average.stderr**2) ** 0.5


def test_average_appeal_by_hand() -> None:
    # two kinds of users, no spread: E e^g is ½ (e^{e^0} + e^{e^1}) for the first topic and e^{e^0.5} for the second
    config = Config(
        affinity=((0.0, 0.5), (1.0, 0.5)), user_share=(0.5, 0.5), affinity_std=0.0, quality_std=0.0, num_candidates=2,
        slate_size=1, topic_share=(0.5, 0.5), topic_quality=(0.0, 0.0),
    )  # fmt: skip
    env = Env(config, num_users=50)
    seen = env.reset(seed=0)
    scores = env.myopic().scores(torch.zeros(50, 1), seen.candidates)
    appeal = torch.tensor([math.log((math.e + math.exp(math.e)) / 2), math.exp(0.5)])
    assert seen.candidates is not None
    torch.testing.assert_close(scores, appeal[(seen.candidates - 2) % 2] + 1)


def test_sessions_are_cut_off_and_tastes_stay_until_then() -> None:
    env = Env(Config(session_length=3), num_users=40)
    seen = env.reset(seed=0)
    for t in range(1, 8):
        before = env.affinity
        step, after = env.step(first_places(seen, 3))
        assert bool((step.truncated == (t % 3 == 0)).all())
        assert not bool(step.terminated.any())
        assert torch.equal(after.user, step.user + (40 if t % 3 == 0 else 0))
        assert bool((env.affinity == before).all()) == (t % 3 != 0)
        seen = after


def test_empty_places_are_never_picked() -> None:
    env = Env(Config(null_logit=-20.0), num_users=500)
    shown = first_places(env.reset(seed=0), 3)
    shown.items[:, 1:] = 0
    step, seen = env.step(shown)
    assert set(step.choice.tolist()) == {0}
    shown = first_places(seen, 3)
    shown.items[:] = 0
    assert set(env.step(shown)[0].choice.tolist()) == {-1}


def test_what_is_refused() -> None:
    env = Env(Config(), num_users=4)
    assert isinstance(env, EnvProtocol)
    with pytest.raises(InputError, match=r"reset\(seed"):
        env.step(Slates(items=torch.zeros(4, 3, dtype=torch.int64), logp=torch.zeros(4, 3)))
    with pytest.raises(InputError, match=r"reset\(seed"):
        _ = env.affinity
    shown = first_places(env.reset(seed=0), 3)
    shown.items[2, 1] += 1 if (int(shown.items[2, 1]) - 2) % 2 == 0 else -1  # the other topic at the same place
    with pytest.raises(InputError, match=r"user 2, position 1: item \d+: it is none of this user's candidates"):
        env.step(shown)
    with pytest.raises(ValueError, match="num_users is 0"):
        Env(Config(), num_users=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"slate_size": 11}, "slate_size is 11 with 10 candidates"),
        ({"session_length": 0}, "session_length is 0"),
        ({"topic_share": (0.2, 0.7)}, "topic_share is"),
        ({"user_share": ()}, "user_share is"),
        ({"topic_quality": (0.8,)}, "topic_quality has 1 entries for 2 topics"),
        ({"affinity": ((0.1, 0.7),)}, "expected 2 rows of 2 numbers"),
        ({"quality_std": -0.1}, "quality_std is -0.1"),
        ({"affinity_std": math.inf}, "affinity_std is inf"),
        ({"null_logit": math.nan}, "finite weights"),
        ({"topic_quality": (0.8, 9.0)}, "finite weights"),
    ],
)
def test_constants_that_make_no_world(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)
