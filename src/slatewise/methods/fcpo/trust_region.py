"""One step of constrained policy optimisation: a quadratic trust region and one linear constraint.

Achiam et al., "Constrained Policy Optimization", ICML 2017 (arXiv 1705.10528), sec. 5.2 and 6:

    max_x gᵀx    subject to    c + bᵀx ≤ 0    and    ½ xᵀHx ≤ δ

with g the gradient of the objective, b that of the cost, c by how much the cost is above its limit, and H the Hessian
of the divergence from the policy that acted. The dual has two numbers, and each has a closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Case = Literal["free", "bound", "recovery", "none"]
NOTHING = 1e-12
"""A squared length that counts as 0, relative to the squared size of what it was made of."""


class Step(NamedTuple):
    """The step x = of_reward · H⁻¹g + of_cost · H⁻¹b, the multipliers behind it, and which case it is."""

    of_reward: float
    of_cost: float
    trust: float
    """λ, of the trust region."""
    penalty: float
    """ν, of the constraint."""
    case: Case
    """free: the constraint does not bind; bound: it does; recovery: no point of the region keeps it, so the step goes
    straight down the cost; none: there is no direction to go."""


def constrained_step(
    *,
    q: float,
    r: float,
    s: float,
    c: float,
    delta: float,
    reward_size: float = 1.0,
    cost_size: float = 1.0,
) -> Step:
    """The optimal step from four numbers (sec. 6.1 and appendix 10.2, for a maximum).

    With A = q − r²/s and B = 2δ − c²/s the dual, over the trust region's multiplier λ, is

        −½ (A/λ + Bλ) + rc/s    where λc + r > 0   (the constraint binds, ν = (λc + r)/s)
        −½ (q/λ + 2δλ)          elsewhere          (ν = 0)

    and each part has its maximum at a square root, moved to the end of its interval where it lies outside.

    Args:
        q: gᵀH⁻¹g.
        r: gᵀH⁻¹b.
        s: bᵀH⁻¹b.
        c: cost − limit; above 0 the limit is not kept now.
        delta: δ > 0.
        reward_size: mean square of the returns behind g; a q that is nothing beside it is rounding.
        cost_size: mean square of the costs behind b, to which s is compared.
    """
    earns = q > NOTHING * reward_size
    whole = math.sqrt(2 * delta / q) if earns else 0.0
    free = Step(whole, 0.0, math.sqrt(q / (2 * delta)) if earns else 0.0, 0.0, "free" if whole else "none")
    if s <= NOTHING * cost_size:
        # nothing that the policy can do changes the cost
        return free if c <= 0 else Step(0.0, 0.0, 0.0, 0.0, "none")
    B = 2 * delta - c * c / s
    if B <= 0:
        if c > 0:
            return Step(0.0, -math.sqrt(2 * delta / s), 0.0, 0.0, "recovery")
        return free
    A = max(q - r * r / s, 0.0)
    bound_trust = _within(math.sqrt(A / B), r, c, binds=True)
    free_trust = _within(math.sqrt(q / (2 * delta)), r, c, binds=False)
    bound_value = -math.inf if bound_trust is None else -0.5 * (_over(A, bound_trust) + B * bound_trust) + r * c / s
    free_value = -math.inf if free_trust is None else -0.5 * (_over(q, free_trust) + 2 * delta * free_trust)
    if bound_trust is None or free_value >= bound_value:
        return free
    if bound_trust <= 0 or NOTHING * max(q, reward_size) > A:
        # along the constraint there is nothing to gain: go to it, straight
        return Step(0.0, -c / s, 0.0, r / s, "bound")
    penalty = (bound_trust * c + r) / s
    return Step(1 / bound_trust, -penalty / bound_trust, bound_trust, penalty, "bound")


def conjugate_gradient(
    product: Callable[[Float[Tensor, " M"]], Float[Tensor, " M"]],
    right: Float[Tensor, " M"],
    *,
    iterations: int = 10,
    tolerance: float = 1e-10,
) -> Float[Tensor, " M"]:
    """Solve H x = right, from products with a positive definite H alone (Hestenes & Stiefel 1952).

    Args:
        product: v → H v.
        right: the right side; 0 gives 0.
        iterations: at most.
        tolerance: squared length of what is left, relative to that of the right side, at which to stop.
    """
    solution = torch.zeros_like(right)
    rest = right.clone()
    direction = right.clone()
    size = first = torch.dot(rest, rest)
    for _ in range(iterations):
        if not float(size) > tolerance * float(first):
            break
        moved = product(direction)
        curvature = torch.dot(direction, moved)
        if not float(curvature) > 0:
            break
        along = size / curvature
        solution = solution + along * direction
        rest = rest - along * moved
        new_size = torch.dot(rest, rest)
        direction = rest + (new_size / size) * direction
        size = new_size
    return solution


def backtrack(accept: Callable[[float], float], *, shrink: float = 0.9, tries: int = 20) -> float:
    """A share 1, shrink, shrink², … of a step that is accepted; 0 where none of them is.

    Args:
        accept: called with the share; 1 accepts it, less refuses it and guesses what part of it might be accepted.
            Shares above the guess are not tried: where a divergence is too large, its root says at once how far to go
            back.
        shrink: in (0, 1).
        tries: how many shares there are.
    """
    power = 0
    while power < tries:
        share = shrink**power
        guess = accept(share)
        if guess >= 1:
            return share
        # a hair less than the guess is the guess
        power += max(1, math.ceil(math.log(guess) / math.log(shrink) - 1e-9)) if guess > 0 else tries
    return 0.0


def _within(trust: float, r: float, c: float, *, binds: bool) -> float | None:
    """The λ ≥ 0 nearest to `trust` where λc + r > 0 (binds) or ≤ 0; None where there is no such λ."""
    if c == 0:
        return trust if (r > 0) == binds else None
    edge = -r / c
    # c > 0: it binds above the edge; c < 0: below
    above = (c > 0) == binds
    if above:
        return max(trust, edge, 0.0)
    return min(trust, edge) if edge > 0 else None


def _over(numerator: float, denominator: float) -> float:
    if denominator > 0:
        return numerator / denominator
    return 0.0 if numerator <= 0 else math.inf
