from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from slatewise.methods.fcpo.trust_region import Step, backtrack, conjugate_gradient, constrained_step


def step_of(g: Tensor, b: Tensor, c: float, delta: float, hessian: Tensor) -> tuple[Step, Tensor]:
    v, w = torch.linalg.solve(hessian, g), torch.linalg.solve(hessian, b)
    found = constrained_step(q=float(g @ v), r=float(g @ w), s=float(b @ w), c=c, delta=delta)
    return found, found.of_reward * v + found.of_cost * w


@pytest.mark.parametrize(
    ("g", "c", "case", "x", "trust", "price"),
    [
        # the disc of radius 1, g = (3, ±4), the cost is the second coordinate
        ((3.0, 4.0), -2.0, "free", (0.6, 0.8), 5.0, 0.0),  # the limit lies outside of the disc
        ((3.0, 4.0), -0.9, "free", (0.6, 0.8), 5.0, 0.0),  # inside, but above the best point
        ((3.0, 4.0), -0.6, "bound", (0.8, 0.6), 3.75, 1.75),
        ((3.0, 4.0), 0.0, "bound", (1.0, 0.0), 3.0, 4.0),
        ((3.0, 4.0), 0.6, "bound", (0.8, -0.6), 3.75, 6.25),  # now above the limit, and the disc reaches it
        ((3.0, -4.0), 0.6, "free", (0.6, -0.8), 5.0, 0.0),  # the best point is below the limit by itself
        ((3.0, -4.0), 0.9, "bound", (math.sqrt(0.19), -0.9), 3 / math.sqrt(0.19), -4 + 2.7 / math.sqrt(0.19)),
        ((3.0, 4.0), 2.0, "recovery", (0.0, -1.0), 0.0, 0.0),  # the disc does not reach the limit
    ],
)
def test_steps_in_a_disc_by_hand(
    g: tuple[float, float], c: float, case: str, x: tuple[float, float], trust: float, price: float
) -> None:
    found, step = step_of(torch.tensor(g), torch.tensor([0.0, 1.0]), c, 0.5, torch.eye(2))
    assert found.case == case
    torch.testing.assert_close(step, torch.tensor(x), atol=1e-5, rtol=1e-5)
    assert found.trust == pytest.approx(trust, abs=1e-5)
    assert found.penalty == pytest.approx(price, abs=1e-5)


def test_a_region_that_is_an_ellipse() -> None:
    # H = diag(1, 4), δ = ½: x² + 4 y² ≤ 1; g = (1, 0) goes to (1, 0), and y ≤ −½ leaves the lowest point only
    hessian = torch.diag(torch.tensor([1.0, 4.0]))
    g, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(step_of(g, b, -1.0, 0.5, hessian)[1], torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(step_of(g, b, 0.3, 0.5, hessian)[1], torch.tensor([0.8, -0.3]))
    found, x = step_of(g, b, 0.5 + 1e-4, 0.5, hessian)
    assert found.case == "recovery"
    torch.testing.assert_close(x, torch.tensor([0.0, -0.5]))


def test_what_earns_is_what_costs() -> None:
    # g = b: nothing to gain along the limit, so straight to it
    g = torch.tensor([0.0, 2.0])
    for c in (-0.5, 0.5):
        found, x = step_of(g, g, c, 0.5, torch.eye(2))
        assert found.case == "bound"
        torch.testing.assert_close(x, torch.tensor([0.0, -c / 2]))


def test_nothing_to_go_by() -> None:
    assert constrained_step(q=0.0, r=0.0, s=0.0, c=-1.0, delta=0.5).case == "none"
    # the cost cannot be changed: go on while it is kept, stand still when it is not
    assert constrained_step(q=4.0, r=0.0, s=0.0, c=-1.0, delta=0.5) == Step(0.5, 0.0, 2.0, 0.0, "free")
    assert constrained_step(q=4.0, r=0.0, s=0.0, c=1.0, delta=0.5) == Step(0.0, 0.0, 0.0, 0.0, "none")
    # nothing to earn: go to the limit, no further
    assert constrained_step(q=0.0, r=0.0, s=1.0, c=0.5, delta=0.5) == Step(0.0, -0.5, 0.0, 0.0, "bound")
    assert constrained_step(q=0.0, r=0.0, s=1.0, c=-0.5, delta=0.5).case == "none"


@pytest.mark.parametrize(("reward_unit", "cost_unit"), [(1e-8, 1.0), (1e6, 1e-8), (1.0, 1e8)])
def test_units_of_reward_and_cost_do_not_matter(reward_unit: float, cost_unit: float) -> None:
    # g = (3, 4), b = (0, 1): q = 25, r = 4, s = 1, in other units
    for c in (-0.6, 0.6, 2.0):
        plain = constrained_step(q=25.0, r=4.0, s=1.0, c=c, delta=0.5)
        other = constrained_step(
            q=25 * reward_unit**2,
            r=4 * reward_unit * cost_unit,
            s=cost_unit**2,
            c=c * cost_unit,
            delta=0.5,
            reward_size=reward_unit**2,
            cost_size=cost_unit**2,
        )
        assert other.case == plain.case
        assert other.of_reward * reward_unit == pytest.approx(plain.of_reward, abs=1e-9)
        assert other.of_cost * cost_unit == pytest.approx(plain.of_cost, abs=1e-9)


def test_rounding_is_nothing_beside_large_returns() -> None:
    assert constrained_step(q=1e-8, r=0.0, s=0.0, c=-1.0, delta=0.5).case == "free"
    assert constrained_step(q=1e-8, r=0.0, s=0.0, c=-1.0, delta=0.5, reward_size=1e6).case == "none"


@given(seed=st.integers(0, 10_000), c=st.floats(-1.5, 1.5))
def test_no_point_of_the_region_is_better(seed: int, c: float) -> None:
    generator = Generator().manual_seed(seed)
    factor = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    hessian = factor @ factor.T + 0.3 * torch.eye(2, dtype=torch.float64)
    g, b = torch.randn(2, 2, generator=generator, dtype=torch.float64).unbind()
    delta = 0.4
    found, x = step_of(g, b, c, delta, hessian)
    assert float(0.5 * x @ hessian @ x) <= delta * (1 + 1e-6)
    # the region as an image of the disc, rim and inside
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)
    rim = torch.stack([angle.cos(), angle.sin()], dim=1)
    disc = torch.cat([rim * radius for radius in torch.linspace(0, 1, 41, dtype=torch.float64)])
    points = math.sqrt(2 * delta) * disc @ torch.linalg.inv(torch.linalg.cholesky(hessian))
    cost = c + points @ b
    kept = cost <= 0
    if found.case == "recovery":
        assert not bool(kept.any())
        assert float(c + x @ b) <= float(cost.min()) + 1e-6
    elif bool(kept.any()):
        assert float(c + x @ b) <= 1e-6
        assert float(x @ g) >= float((points[kept] @ g).max()) - 1e-6


def test_conjugate_gradients_by_hand() -> None:
    hessian, right = torch.tensor([[4.0, 1.0], [1.0, 3.0]]), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(
        conjugate_gradient(lambda v: hessian @ v, right, iterations=1), torch.tensor([1.0, 2.0]) * 5 / 20
    )
    torch.testing.assert_close(
        conjugate_gradient(lambda v: hessian @ v, right, iterations=2), torch.tensor([1 / 11, 7 / 11])
    )
    assert not bool(conjugate_gradient(lambda v: hessian @ v, torch.zeros(2)).any())


@given(seed=st.integers(0, 1000), size=st.integers(1, 8))
def test_as_many_iterations_as_unknowns_solve_it(seed: int, size: int) -> None:
    generator = Generator().manual_seed(seed)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float64)
    hessian = factor @ factor.T + torch.eye(size, dtype=torch.float64)
    x = torch.randn(size, generator=generator, dtype=torch.float64)
    found = conjugate_gradient(lambda v: hessian @ v, hessian @ x, iterations=2 * size, tolerance=1e-24)
    torch.testing.assert_close(found, x, atol=1e-6, rtol=1e-6)


def test_a_product_that_is_not_positive_ends_the_search() -> None:
    assert conjugate_gradient(lambda v: -v, torch.ones(2)).tolist() == [0.0, 0.0]


def test_backtracking_by_hand() -> None:
    assert backtrack(lambda share: 1.0) == 1.0
    assert backtrack(lambda share: 1.0 if share < 0.8 else 0.9) == pytest.approx(0.9**3)  # .9, .81, .729
    tried: list[float] = []

    def never(share: float) -> float:
        tried.append(share)
        return 0.9

    assert backtrack(never) == 0.0
    assert len(tried) == 20
    assert tried[-1] == pytest.approx(0.9**19)
    assert backtrack(lambda share: 1.0 if share <= 0.25 else 0.5, shrink=0.5, tries=3) == 0.25
    # a guess of .3 leaves out what is above it: 1, then ¼; a guess of 0 ends the search
    tried.clear()

    def guessed(share: float) -> float:
        tried.append(share)
        return 1.0 if share <= 0.3 else 0.3

    assert backtrack(guessed, shrink=0.5) == 0.25
    assert tried == [1.0, 0.25]
    assert backtrack(lambda share: 0.0) == 0.0
