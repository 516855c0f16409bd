"""The two distributions of lists that rows give: each row a softmax, or the rows themselves (Ge et al. 2021, eq. 7–9).

Both say how likely what was shown is, how far other outputs of the head are from those that drew, and what the Hessian
of that divergence does to a direction; that is all a trust region needs.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM
from slatewise.ops.list_rows import closed_columns, curvature_product, row_divergence, row_mean, row_normaliser
from slatewise.ops.sampling import NEG_INF


@runtime_checkable
class Drawn(Protocol):
    """What was drawn at P states, compared with outputs [μ ; log σ] of the head."""

    log_p: Float[Tensor, "P K"]
    """As the policy that drew has it."""

    def slope(self, advantage: Float[Tensor, "P K"]) -> Float[Tensor, "P K E2"]: ...  # noqa: D102
    def compare(  # noqa: D102
        self, outputs: Float[Tensor, "P K E2"]
    ) -> tuple[Float[Tensor, "P K"], Float[Tensor, ""]]: ...
    def metric(self, along: Float[Tensor, "Q K E2"]) -> Float[Tensor, "Q K E2"]: ...  # noqa: D102


class RowSoftmaxes:
    """Lists at W = μ: each row a softmax over what earlier slots left.

    Args:
        old: outputs of the policy that drew.
        vectors: V / τ; rows of reserved numbers are never chosen.
        slate: items shown; 0 = an empty slot.
        open_items: what could be shown; None = everything.
        sample: states that the metric is a mean over.
    """

    def __init__(
        self,
        old: Float[Tensor, "P K E2"],
        vectors: Float[Tensor, "N E"],
        slate: Int[Tensor, "P K"],
        open_items: Bool[Tensor, "P N"] | None,
        sample: Bool[Tensor, " P"],
    ) -> None:
        self.vectors, self.width = vectors, vectors.shape[1]
        self.chosen = vectors[slate]
        self.shown = slate >= FIRST_ITEM
        real = (torch.arange(len(vectors)) >= FIRST_ITEM).unsqueeze(0)
        self.closed = closed_columns(slate, real if open_items is None else open_items & real)
        with torch.no_grad():
            self.old = old[..., : self.width].detach()
            self.normaliser = row_normaliser(self.old, vectors, self.closed)
            self.mean = row_mean(self.old, vectors, self.closed, self.normaliser)
            self.log_p = ((self.old * self.chosen).sum(dim=2) - self.normaliser) * self.shown
            logits = (self.old[sample] @ vectors.T).masked_fill_(self.closed[sample], NEG_INF)
            self.old_probabilities = torch.softmax(logits, dim=2) * self.shown[sample].unsqueeze(2)

    def slope(self, advantage: Float[Tensor, "P K"]) -> Float[Tensor, "P K E2"]:
        """Gradient of Σ advantage · log p by the outputs that drew, mean over states: advantage · (v − E[v])."""
        mean = (advantage * self.shown).unsqueeze(2) * (self.chosen - self.mean) / len(self.old)
        return torch.cat([mean, torch.zeros_like(mean)], dim=2)

    def compare(self, outputs: Float[Tensor, "P K E2"]) -> tuple[Float[Tensor, "P K"], Float[Tensor, ""]]:
        """Log-probability of each item shown, 0 for empty slots; and KL(old‖new) of lists, mean over states.

        The divergence goes along the lists shown, which makes it the chain rule's mean over lists.
        """
        rows = outputs[..., : self.width]
        normaliser = row_normaliser(rows, self.vectors, self.closed)
        log_p = ((rows * self.chosen).sum(dim=2) - normaliser) * self.shown
        kl = row_divergence(self.old, rows, self.mean, self.normaliser, normaliser)
        return log_p, (kl * self.shown).sum() / len(rows)

    def metric(self, along: Float[Tensor, "Q K E2"]) -> Float[Tensor, "Q K E2"]:
        """Hessian of the divergence by the outputs at the states of `sample`; σ has no part in it."""
        moved = curvature_product(self.old_probabilities, self.vectors, along[..., : self.width]) / len(along)
        return torch.cat([moved, torch.zeros_like(moved)], dim=2)


class RowGaussians:
    """Rows W themselves as what was drawn.

    Args:
        old: outputs of the policy that drew.
        rows: W.
        slate: items shown; rows of empty slots count nothing.
        sample: states that the metric is a mean over.
    """

    def __init__(
        self,
        old: Float[Tensor, "P K E2"],
        rows: Float[Tensor, "P K E"],
        slate: Int[Tensor, "P K"],
        sample: Bool[Tensor, " P"],
    ) -> None:
        self.rows, self.old, self.sample = rows, old.detach(), sample
        self.shown = slate >= FIRST_ITEM
        self.log_p = self.compare(self.old)[0]

    def slope(self, advantage: Float[Tensor, "P K"]) -> Float[Tensor, "P K E2"]:
        """Gradient of Σ advantage · log-density, mean over states.

        By μ it is advantage · z/σ, by log σ advantage · (z² − 1).
        """
        mean, log_std = self.old.chunk(2, dim=2)
        z = (self.rows - mean) * torch.exp(-log_std)
        by = (advantage * self.shown).unsqueeze(2) / len(self.old)
        return torch.cat([by * z * torch.exp(-log_std), by * (z.square() - 1)], dim=2)

    def compare(self, outputs: Float[Tensor, "P K E2"]) -> tuple[Float[Tensor, "P K"], Float[Tensor, ""]]:
        """Log-density of each row, without the constant that every ratio cancels; and KL(old‖new), mean over states.

        KL = Σ log(σ'/σ) + (σ² + (μ − μ')²)/(2σ'²) − ½.
        """
        old_mean, old_log_std = self.old.chunk(2, dim=2)
        mean, log_std = outputs.chunk(2, dim=2)
        density = -0.5 * ((self.rows - mean) * torch.exp(-log_std)).square() - log_std
        squares = (2 * old_log_std).exp() + (old_mean - mean).square()
        kl = log_std - old_log_std + 0.5 * squares * torch.exp(-2 * log_std) - 0.5
        return density.sum(dim=2) * self.shown, (kl.sum(dim=2) * self.shown).sum() / len(self.rows)

    def metric(self, along: Float[Tensor, "Q K E2"]) -> Float[Tensor, "Q K E2"]:
        """Its Hessian by the outputs at the states of `sample`: 1/σ² for μ, 2 for log σ."""
        mean, log_std = along.chunk(2, dim=2)
        old = self.old[self.sample].chunk(2, dim=2)[1]
        moved = torch.cat([mean * torch.exp(-2 * old), 2 * log_std], dim=2)
        return moved * self.shown[self.sample].unsqueeze(2) / len(along)
