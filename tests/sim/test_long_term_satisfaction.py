from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.errors import InputError
from slatewise.protocols import Env as EnvProtocol
from slatewise.rollout.returns import returns
from slatewise.sim.long_term_satisfaction import Config, Env
from slatewise.types import Observation, SlateRequest, Slates


def shown(seen: Observation, place: torch.Tensor) -> Slates:
    assert seen.candidates is not None
    return Slates(items=seen.candidates.gather(1, place.unsqueeze(1)), logp=torch.zeros(len(place), 1))


def test_one_step_by_hand() -> None:
    config = Config(sensitivity=0.5, innovation_std=0.0, choc_std=0.0, kale_std=0.0)
    env = Env(config, num_users=50)
    seen = env.reset(seed=0)
    exposure = env.exposure
    assert float(exposure.abs().max()) <= 0.5 / 0.3
    place = torch.arange(50) % 10
    step, _ = env.step(shown(seen, place))
    clickbait = seen.context.gather(1, place.unsqueeze(1)).squeeze(1)
    satisfaction = 1 / (1 + torch.exp(-0.5 * exposure))
    torch.testing.assert_close(step.reward[:, 0], torch.exp(satisfaction * (4 + clickbait)))
    torch.testing.assert_close(env.exposure, 0.7 * exposure - 2 * (clickbait - 0.5))
    assert bool((step.choice == 0).all())


def test_engagement_and_exposure_scatter_as_they_should() -> None:
    config = Config(choc_std=0.5, kale_std=1.5, innovation_std=0.2, sensitivity=0.0)
    env = Env(config, num_users=20_000)
    seen = env.reset(seed=1)
    before = env.exposure
    best = seen.context.argmax(dim=1)
    step, _ = env.step(shown(seen, best))
    clickbait = seen.context.gather(1, best.unsqueeze(1)).squeeze(1)
    # satisfaction ½: log engagement is N((4 + c)/2, (1.5 − c)²)
    rest = (step.reward[:, 0].log() - (4 + clickbait) / 2) / (1.5 - clickbait)
    assert float(rest.mean()) == pytest.approx(0.0, abs=4 / 20_000**0.5)
    assert float(rest.std()) == pytest.approx(1.0, rel=0.025)
    innovation = env.exposure - 0.7 * before + 2 * (clickbait - 0.5)
    assert float(innovation.mean()) == pytest.approx(0.0, abs=4 * 0.2 / 20_000**0.5)
    assert float(innovation.std()) == pytest.approx(0.2, rel=0.025)


def test_users_differ_at_first_as_in_the_released_code() -> None:
    env = Env(Config(), num_users=20_000)
    env.reset(seed=0)
    # uniform of width 1/.3: deviation 1/(.3 √12)
    assert float(env.exposure.mean()) == pytest.approx(0.0, abs=4 * 0.9623 / 20_000**0.5)
    assert float(env.exposure.std()) == pytest.approx(1 / (0.3 * math.sqrt(12)), rel=0.02)


def test_sessions_end_after_sixty_slates() -> None:
    env = Env(Config(), num_users=5)
    seen = env.reset(seed=0)
    for t in range(1, 122):
        step, after = env.step(shown(seen, torch.zeros(5, dtype=torch.int64)))
        assert bool((step.terminated == (t % 60 == 0)).all())
        assert not bool(step.truncated.any())
        assert torch.equal(after.user, seen.user + (5 if t % 60 == 0 else 0))
        seen = after


def test_only_the_first_document_matters() -> None:
    def play(slate: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        env = Env(Config(slate_size=3), num_users=20)
        env.reset(seed=4)
        step, _ = env.step(Slates(items=torch.tensor([slate] * 20), logp=torch.zeros(20, 3)))
        return step.reward, env.exposure

    (one, exposure), (other, same) = play([4, 2, 3]), play([4, 0, 0])
    assert torch.equal(one, other)
    assert torch.equal(exposure, same)
    assert bool((one[:, 1:] == 0).all())
    assert bool((one[:, 0] > 0).all())


def test_an_empty_slate_takes_its_turn_and_nothing_else() -> None:
    env = Env(Config(session_length=2), num_users=6)
    env.reset(seed=0)
    before = env.exposure
    nothing = Slates(items=torch.zeros(6, 1, dtype=torch.int64), logp=torch.zeros(6, 1))
    step, _ = env.step(nothing)
    assert bool((step.choice == -1).all())
    assert bool((step.reward == 0).all())
    assert torch.equal(env.exposure, before)
    assert bool(env.step(nothing)[0].terminated.all())


def test_released_constants_reward_clickbait() -> None:
    env = Env(Config(), num_users=100)
    seen = env.reset(seed=0)
    for _ in range(60):
        most = seen.context.argmax(dim=1)
        sweet = shown(seen, most).items
        for policy in (env.myopic(), env.oracle()):
            assert torch.equal(
                policy.recommend(torch.zeros(100, 1), SlateRequest(k=1, candidates=seen.candidates)).items, sweet
            )
        _, seen = env.step(shown(seen, most))


def test_the_optimum_is_the_optimum_of_a_small_world() -> None:
    # two steps, one candidate fewer than interesting: brute force over what may come, by simulation of many worlds
    config = Config(
        sensitivity=1.5, session_length=2, num_candidates=2, innovation_std=0.0, choc_std=0.0, kale_std=0.0, memory=0.5
    )
    env = Env(config, num_users=64)
    seen = env.reset(seed=2)
    exposure = env.exposure.double().numpy()
    clickbait = seen.context.double().numpy()
    future = np.random.default_rng(0).random((20_000, 2))

    def engaged(n: np.ndarray, c: np.ndarray) -> np.ndarray:
        value: np.ndarray = np.exp((4 + c) / (1 + np.exp(-1.5 * n)))
        return value

    after = 0.5 * exposure[:, None] - 2 * (clickbait - 0.5)
    last = np.stack([engaged(np.full((20_000, 1), n), future).max(axis=1).mean() for n in after.ravel()])
    worth = engaged(exposure[:, None], clickbait) + last.reshape(after.shape)
    policy = env.oracle()
    scores = policy.scores(torch.zeros(64, 1), seen.candidates).double().numpy()
    np.testing.assert_allclose(scores, worth, rtol=0.004)
    _, seen = env.step(shown(seen, torch.zeros(64, dtype=torch.int64)))
    # at the last step only what it pays counts
    last_scores = policy.scores(torch.zeros(64, 1), seen.candidates).double().numpy()
    now = engaged(env.exposure.double().numpy()[:, None], seen.context.double().numpy())
    np.testing.assert_allclose(last_scores, now, rtol=1e-5)


def test_greed_loses_where_satisfaction_matters() -> None:
    env = Env(Config(sensitivity=0.3), num_users=400)
    best, greedy = returns(env, env.oracle(), seed=0), returns(env, env.myopic(), seed=0)
    # 981 at random, 479 greedy, 1,655 at best (1,000 users)
    assert best.value == pytest.approx(1655, abs=4 * best.stderr + 4 * 9.1)
    assert greedy.value == pytest.approx(479, abs=4 * greedy.stderr + 4 * 2.9)


def test_what_is_refused() -> None:
    env = Env(Config(), num_users=4)
    assert isinstance(env, EnvProtocol)
    with pytest.raises(InputError, match=r"reset\(seed"):
        env.step(Slates(items=torch.full((4, 1), 2), logp=torch.zeros(4, 1)))
    with pytest.raises(InputError, match=r"reset\(seed"):
        _ = env.exposure
    env.reset(seed=0)
    with pytest.raises(InputError, match="item 12: expected an item number from 2 to 11"):
        env.step(Slates(items=torch.full((4, 1), 12), logp=torch.zeros(4, 1)))
    with pytest.raises(ValueError, match="num_users is 0"):
        Env(Config(), num_users=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"slate_size": 11}, "slate_size is 11 with 10 candidates"),
        ({"session_length": 0}, "session_length is 0"),
        ({"memory": 1.0}, "memory is 1.0"),
        ({"sensitivity": math.inf}, "sensitivity is inf"),
        ({"innovation_std": -1.0}, "innovation_std is -1"),
        ({"choc_std": math.nan}, "choc_std is nan"),
        ({"kale_mean": 50.0}, "kale_mean is 50"),
    ],
)
def test_constants_that_make_no_world(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)
