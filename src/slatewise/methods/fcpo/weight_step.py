"""Weights moved inside a trust region: gradients, curvature and steps as one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slatewise.methods.fcpo.trust_region import Step, backtrack, conjugate_gradient, constrained_step
from slatewise.schedules import Schedule, value_at

NUDGE = 1e-2
"""Length of the step by which outputs are differentiated along a direction."""


@dataclass(frozen=True, kw_only=True)
class TrustRegionConfig:
    """Size of a step, and how it is computed."""

    max_kl: float | Schedule = 1e-4
    """δ: divergence of the lists' distribution in one update, mean over states."""
    damping: float = 1e-2
    """Added to the diagonal of H."""
    cg_iterations: int = 10
    """Of the conjugate gradients."""
    line_search: int = 20
    """Steps of the line search, each .9 of the one before."""
    fisher_states: int = 128
    """States that H is a mean over."""

    def __post_init__(self) -> None:
        for name in ("cg_iterations", "line_search", "fisher_states"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("max_kl", "damping"):
            if not value_at(getattr(self, name), 0) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0")


class LineSearch(NamedTuple):
    """Where the line search ended."""

    share: float
    """Of the step, that was taken; 0 = none."""
    kl: float = 0.0
    reward_advantage: float = 0.0
    """By how much the policy is better, to first order."""


class TrustRegion:
    """Weights of a network, and the steps of constrained policy optimisation on them (arXiv 1705.10528)."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self.weights = list(weights)

    def flat(self) -> Float[Tensor, " M"]:
        """A copy of the weights."""
        return torch.cat([weight.detach().flatten() for weight in self.weights])

    @torch.no_grad()
    def move(self, flat: Float[Tensor, " M"]) -> None:
        """Put numbers in the weights' place."""
        at = 0
        for weight in self.weights:
            weight.copy_(flat[at : at + weight.numel()].view_as(weight))
            at += weight.numel()

    def gradient(self, values: Float[Tensor, "*A"], by: Float[Tensor, "*A"] | None = None) -> Float[Tensor, " M"]:
        """Gradient of ⟨values, by⟩; the graph is kept. 0 for weights that the values do not read.

        Raises:
            FloatingPointError: it is not finite.
        """
        parts = torch.autograd.grad(values, self.weights, grad_outputs=by, retain_graph=True, allow_unused=True)
        flat = torch.cat(
            [
                torch.zeros_like(weight).flatten() if part is None else part.flatten()
                for part, weight in zip(parts, self.weights, strict=True)
            ]
        )
        if not bool(torch.isfinite(flat).all()):
            raise FloatingPointError("the gradient of the lists is not finite: look for extreme rewards or vectors")
        return flat

    def curvature(
        self,
        outputs: Callable[[], Float[Tensor, "*A"]],
        metric: Callable[[Float[Tensor, "*A"]], Float[Tensor, "*A"]],
        *,
        damping: float,
    ) -> Callable[[Float[Tensor, " M"]], Float[Tensor, " M"]]:
        """Product with H + damping · I, where H = Jᵀ M J and J is the Jacobian of the outputs by the weights.

        With M the Hessian of a divergence by the outputs, where it is 0, H is its Hessian by the weights: the terms
        with second derivatives of the network have the factor 0. J v is a central difference, so that encoders whose
        derivative is written out can be differentiated once only.

        Args:
            outputs: of the network; called again after every nudge.
            metric: M, at the outputs as they stand.
            damping: above 0.
        """
        start = self.flat()

        def product(v: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
            length = float(v.norm())
            if not length > 0:
                return torch.zeros_like(v)
            nudge = v * (NUDGE / length)
            with torch.no_grad():
                self.move(start + nudge)
                ahead = outputs()
                self.move(start - nudge)
                along = (ahead - outputs()) * (length / (2 * NUDGE))
                self.move(start)
            return self.gradient(outputs(), metric(along)) + damping * v

        return product

    def search(self, x: Float[Tensor, " M"], accept: Callable[[], float], *, tries: int) -> float:
        """Move along x as far as is accepted, by shares 1, .9, .9², …; returns the share of x, 0 where nothing is.

        Args:
            x: the step.
            accept: called with the weights moved; 1 accepts, less guesses what part of the move might be accepted.
            tries: how many shares.
        """
        start = self.flat()

        def accept_share(share: float) -> float:
            self.move(start + share * x)
            return accept()

        share = backtrack(accept_share, tries=tries) if bool(x.any()) else 0.0
        if not share:
            self.move(start)
        return share

    @staticmethod
    def step(
        g: Float[Tensor, " M"],
        b: Float[Tensor, " M"] | None,
        *,
        excess: float,
        product: Callable[[Float[Tensor, " M"]], Float[Tensor, " M"]],
        max_kl: float,
        iterations: int,
        reward_size: float = 1.0,
        cost_size: float = 1.0,
    ) -> tuple[Step, Float[Tensor, " M"]]:
        """The best step for the gradient g that keeps the cost, of gradient b, at its limit or below.

        Args:
            g: of what is raised.
            b: of the cost; None = no limit.
            excess: cost − limit.
            product: v → H v.
            max_kl: δ.
            iterations: of the conjugate gradients.
            reward_size: mean square of the returns behind g; see `constrained_step`.
            cost_size: of the costs behind b.
        """
        v = conjugate_gradient(product, g, iterations=iterations)
        q = float(torch.dot(g, v))
        if b is None:
            step = constrained_step(q=q, r=0.0, s=0.0, c=-1.0, delta=max_kl, reward_size=reward_size)
            return step, step.of_reward * v
        w = conjugate_gradient(product, b, iterations=iterations)
        step = constrained_step(
            q=q,
            r=float(torch.dot(g, w)),
            s=float(torch.dot(b, w)),
            c=excess,
            delta=max_kl,
            reward_size=reward_size,
            cost_size=cost_size,
        )
        return step, step.of_reward * v + step.of_cost * w
