from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from slatewise.encoders import observed
from slatewise.errors import InputError
from slatewise.methods import slateq
from slatewise.policies.epsilon_greedy import epsilon_greedy
from slatewise.rollout.off_policy import OffPolicyConfig, learn_off_policy
from slatewise.sim import interest_evolution
from slatewise.types import Slates


def test_mixture_by_enumeration() -> None:
    greedy, count, epsilon = (3, 5), 4, 0.3
    candidates = torch.tensor([2, 3, 4, 5])
    generator = torch.Generator().manual_seed(0)
    batch = 60_000
    served = epsilon_greedy(
        Slates(items=torch.tensor([greedy]).expand(batch, -1), logp=torch.zeros(batch, 2)),
        epsilon,
        candidates=candidates.expand(batch, -1),
        generator=generator,
    )
    total = 0.0
    for pair in itertools.permutations([2, 3, 4, 5], 2):
        chance = epsilon / (count * (count - 1)) + (1 - epsilon) * (pair == greedy)
        rows = (served.items == torch.tensor(pair)).all(dim=1)
        assert abs(float(rows.float().mean()) - chance) < 5 * math.sqrt(chance / batch)
        # first position: ε/4, and 1 − ε more for the item that greedy begins with
        first = epsilon / count + (1 - epsilon) * (pair[0] == greedy[0])
        torch.testing.assert_close(
            served.logp[rows][0].exp(), torch.tensor([first, chance / first]), atol=1e-6, rtol=1e-5
        )
        total += float(served.logp[rows][0].sum().exp())
    assert total == pytest.approx(1.0, abs=1e-5)


def test_without_exploration_it_is_greedy() -> None:
    greedy = Slates(items=torch.tensor([[4, 2]]), logp=torch.zeros(1, 2))
    served = epsilon_greedy(greedy, 0.0, candidates=torch.tensor([[2, 3, 4]]), generator=torch.Generator())
    assert served.items.tolist() == [[4, 2]]
    assert served.logp.tolist() == [[0.0, 0.0]]


def test_padded_candidates() -> None:
    greedy = Slates(items=torch.tensor([[4, 2]]), logp=torch.zeros(1, 2))
    with pytest.raises(InputError, match="some are padded"):
        epsilon_greedy(greedy, 0.5, candidates=torch.tensor([[2, 4, 0]]), generator=torch.Generator())


def test_exploration_falls_from_all_to_epsilon() -> None:
    schedule = OffPolicyConfig(warm_up=10, epsilon=0.1, epsilon_steps=110)
    assert [schedule.exploration(step) for step in (0, 9, 10)] == [1.0, 1.0, 1.0]
    assert schedule.exploration(60) == pytest.approx(0.55)
    assert schedule.exploration(110) == schedule.exploration(1000) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"epsilon": 1.5}, "epsilon is 1.5"),
        ({"warm_up": 2, "segment": 2}, "longer than a segment of 2"),
    ],
)
def test_schedules_that_make_no_sense(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OffPolicyConfig(**settings)


def _learned(seed: int) -> tuple[slateq.Learner, list[dict[str, float]]]:
    env = interest_evolution.Env(interest_evolution.Config(choice="mnl", budget=30.0), num_users=40)
    encoder = observed.Encoder(observed.Config(history=False, context_width=20), env.catalog)
    config = slateq.Config(reads="match", choice=slateq.ChoiceConfig(model="mnl"), hidden=(8,), training="sarsa")
    learner = slateq.Learner(config, encoder, env.catalog, generator=torch.Generator().manual_seed(0))
    figures: list[dict[str, float]] = []
    schedule = OffPolicyConfig(steps=25, warm_up=5, batch_size=32, segment=2, replay=10, epsilon_steps=15)
    learn_off_policy(env, learner, schedule, seed=seed, on_step=lambda _, last: figures.append(last))
    return learner, figures


def test_both_draws_can_come_from_one_generator() -> None:
    def weights(generator: torch.Generator | None) -> dict[str, Tensor]:
        env = interest_evolution.Env(interest_evolution.Config(choice="mnl", budget=30.0), num_users=10)
        encoder = observed.Encoder(observed.Config(history=False, context_width=20), env.catalog)
        learner = slateq.Learner(
            slateq.Config(hidden=(4,)), encoder, env.catalog, generator=torch.Generator().manual_seed(0)
        )
        config = OffPolicyConfig(steps=12, batch_size=8, replay=10, epsilon_steps=15)
        learn_off_policy(env, learner, config, seed=3, generator=generator)
        return dict(learner.policy.state_dict())

    source = torch.Generator().manual_seed(5)
    start = source.get_state()
    given = weights(source)
    assert not torch.equal(source.get_state(), start)
    again = weights(torch.Generator().manual_seed(5))
    assert all(torch.equal(value, again[name]) for name, value in given.items())
    own = weights(None)
    assert any(not torch.equal(value, own[name]) for name, value in given.items())


def test_same_seed_same_weights() -> None:
    (one, figures), (same, _), (other, _) = (_learned(seed) for seed in (0, 0, 1))
    assert [bool(entry) for entry in figures] == [False] * 5 + [True] * 20
    weights = [learner.policy.state_dict() for learner in (one, same, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert any(not torch.equal(value, weights[2][name]) for name, value in weights[0].items())
