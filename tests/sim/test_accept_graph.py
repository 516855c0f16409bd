from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from slatewise.errors import InputError
from slatewise.sim.accept_graph import Config, Env, World, best_against, greedy, optimum, random_value, value_of
from slatewise.types import Slates

SMALL = Config(num_items=600, world_seed=3)


def matrix(world: World) -> Tensor:
    return torch.cat([rows for _, rows in world.rows()]).double()


def by_hand(chances: list[list[float]]) -> World:
    """A world of two or more items whose W is given: q_i are unit vectors, e_j the logits."""
    count = len(chances)
    world = World(Config(num_items=count, width=count, slope=1.0, offset=0.0))
    world.stand = torch.eye(count)
    world.shown = torch.logit(torch.tensor(chances)).T.contiguous()
    return world


def test_acceptance_by_hand() -> None:
    world = World(Config(num_items=2, width=2))
    world.stand = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    world.shown = torch.tensor([[0.5, 9.0], [0.25, -1.0]])
    expected = [1 / (1 + math.exp(-x)) for x in (6 * 0.5 - 3, 6 * 0.25 - 3, 6 * 4.5 - 3, 6 * -0.5 - 3)]
    torch.testing.assert_close(matrix(world).flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0)
    at, item = torch.tensor([0, 1]), torch.tensor([1, 1])
    torch.testing.assert_close(world.accepts(at, item), torch.tensor([expected[1], expected[3]]))


def test_a_value_by_hand() -> None:
    # everybody accepts with ½ and stays or goes alike: V = ½ (1 + .9 V) + ½ · .8 V, so V = .5 / .15
    world = by_hand([[0.5, 0.5], [0.5, 0.5]])
    found = value_of(world, torch.tensor([1, 0]))
    assert found.value == pytest.approx(0.5 / 0.15, abs=1e-4)
    assert random_value(world) == pytest.approx(0.5 / 0.15, abs=1e-3)


def test_the_optimum_of_three_items_is_the_best_of_all_policies() -> None:
    # from item 0, item 1 is accepted more often, but item 2 leads to where everything is accepted
    world = by_hand([[0.2, 0.6, 0.55], [0.1, 0.1, 0.2], [0.3, 0.2, 0.95]])
    values = {shown: value_of(world, torch.tensor(shown)).value for shown in itertools.product(range(3), repeat=3)}
    best = optimum(world)
    assert best.value == pytest.approx(max(values.values()), abs=1e-4)
    assert tuple(best.shown.tolist()) == max(values, key=lambda shown: values[shown]) == (2, 2, 2)
    assert tuple(greedy(world).shown.tolist()) == (1, 2, 2)


def test_values_solve_the_linear_system() -> None:
    world = World(SMALL)
    shown = torch.randint(600, (600,), generator=torch.Generator().manual_seed(0))
    found = value_of(world, shown)
    p = matrix(world)[torch.arange(600), shown]
    step = torch.zeros(600, 600, dtype=torch.float64)
    step[torch.arange(600), shown] = 0.9 * p
    step += (0.8 * (1 - p) / 600).unsqueeze(1)
    exact = torch.linalg.solve(torch.eye(600, dtype=torch.float64) - step, p)
    torch.testing.assert_close(found.values, exact, atol=1e-4, rtol=0)
    accept = matrix(world)
    chances = 0.9 * accept / 600 + 0.8 * (1 - accept.mean(dim=1, keepdim=True)) / 600
    exact = torch.linalg.solve(torch.eye(600, dtype=torch.float64) - chances, accept.mean(dim=1))
    assert random_value(world) == pytest.approx(float(exact.mean()), abs=1e-3)


def test_nothing_is_better_than_the_optimum() -> None:
    world = World(SMALL)
    best = optimum(world)
    _, values = best_against(world, best.values)
    assert float((values - best.values).max()) < 1e-4
    assert random_value(world) < 1 < greedy(world).value < best.value


def test_what_is_played_earns_what_was_computed() -> None:
    env = Env(SMALL, num_users=4000)
    best = optimum(env.world)
    seen, total = env.reset(seed=0), torch.zeros(4000)
    playing = torch.ones(4000, dtype=torch.bool)
    looks = env.world.appearance(torch.arange(600))
    table = {tuple(row.tolist()): int(item) for row, item in zip(looks, best.shown, strict=True)}
    while bool(playing.any()):
        items = torch.tensor([[table[tuple(row.tolist())] + 2] for row in seen.context])
        step, seen = env.step(Slates(items=items, logp=torch.zeros(4000, 1)))
        total += step.reward[:, 0] * playing
        playing &= ~step.terminated
    error = float(total.std()) / 4000**0.5
    assert float(total.mean()) == pytest.approx(best.value, abs=4 * error)


def test_one_goes_where_one_accepted() -> None:
    env = Env(Config(num_items=50, offset=50.0, end_after_accept=1e-6, world_seed=1), num_users=20)
    env.reset(seed=0)
    items = torch.arange(20).unsqueeze(1) + 2
    step, seen = env.step(Slates(items=items, logp=torch.zeros(20, 1)))
    assert step.reward.tolist() == [[1.0]] * 20
    assert torch.equal(seen.context, env.world.appearance(torch.arange(20)))
    step, _ = env.step(Slates(items=torch.zeros(20, 1, dtype=torch.int64), logp=torch.zeros(20, 1)))
    assert step.reward.tolist() == [[0.0]] * 20
    assert step.choice.tolist() == [-1] * 20


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="end_after_reject is 0"):
        Config(end_after_reject=0.0)
    with pytest.raises(ValueError, match="num_items is 0"):
        Config(num_items=0)
    with pytest.raises(ValueError, match="num_users is 0"):
        Env(SMALL, num_users=0)
    with pytest.raises(InputError, match="one item row from 0 to 599"):
        value_of(World(SMALL), torch.full((600,), 600))


def test_one_item_is_a_world_too() -> None:
    world = World(Config(num_items=1))
    assert optimum(world).value == pytest.approx(random_value(world), abs=1e-3)
