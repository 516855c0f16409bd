"""Estimates β̂ of the logging policy (Chen et al. 2019, sec. 4.2).

All estimates are *single-draw* probabilities of an item, as π/β needs them. They are not the factors of a logged slate
(a fixed slot has factor 1).
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM
from slatewise.nn.softmax import SoftmaxHead
from slatewise.ops.negatives import Negatives


class Behaviour(Protocol):
    """A model of the policy that wrote the log."""

    def log_beta(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        logged_by: Int[Tensor, " P"],
        negatives: Negatives | None = None,
    ) -> Float[Tensor, "P K"]:
        """Log β̂ of the real items of each slate, each as a single draw.

        Args:
            state: (P, D) the state of each slate.
            slate: (P, K) item numbers, ≥ 2.
            logged_by: (P,) number of the policy that showed each slate.
            negatives: items that stand for the whole catalog; None = exact.
        """
        ...

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row of the catalog; −inf for reserved rows."""
        ...


class BehaviourHead(nn.Module):
    """A softmax head on the encoder's state, which does not train the encoder while `stop_gradient` is True."""

    def __init__(
        self, width: int, num_rows: int, *, stop_gradient: bool = True, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.stop_gradient = stop_gradient
        self.softmax = SoftmaxHead(width, num_rows, generator=generator)

    def log_beta(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        logged_by: Int[Tensor, " P"],
        negatives: Negatives | None = None,
    ) -> Float[Tensor, "P K"]:
        """Log β̂ of the real items of each slate, the same for every logging policy; see `Behaviour.log_beta`.

        Args:
            state: (P, D) the state of each slate.
            slate: (P, K) item numbers, ≥ 2.
            logged_by: not used.
            negatives: items that stand for the whole catalog; None = exact.
        """
        del logged_by
        return self.softmax.log_prob_slate(self._inputs(state), slate, negatives)

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row."""
        del logged_by
        return self.softmax.log_probs(self._inputs(state))

    def _inputs(self, state: Float[Tensor, "P D"]) -> Float[Tensor, "P D"]:
        return state.detach() if self.stop_gradient else state


class BehaviourByPolicy(nn.Module):
    """One softmax head per logging policy; number 0 stands for decisions without a policy name."""

    def __init__(self, width: int, num_rows: int, num_policies: int, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.heads = nn.ModuleList(BehaviourHead(width, num_rows, generator=generator) for _ in range(num_policies))

    def log_beta(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        logged_by: Int[Tensor, " P"],
        negatives: Negatives | None = None,
    ) -> Float[Tensor, "P K"]:
        """Log β̂ of the real items of each slate under the policy that showed it.

        Args:
            state: (P, D) the state of each slate.
            slate: (P, K) item numbers, ≥ 2.
            logged_by: (P,) number of the policy that showed each slate.
            negatives: items that stand for the whole catalog; None = exact.

        Raises:
            ValueError: a policy number without a head.
        """
        parts = [
            (rows, head.log_beta(state[rows], slate[rows], logged_by[rows], negatives))
            for head, rows in self._by_head(logged_by)
        ]
        return _put_together(parts, slate.shape[1], len(slate))

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row under the policy that showed the slate."""
        parts = [(rows, head.log_betas(state[rows], logged_by[rows])) for head, rows in self._by_head(logged_by)]
        return _put_together(parts, parts[0][1].shape[1] if parts else 0, len(state))

    def _by_head(self, logged_by: Int[Tensor, " P"]) -> list[tuple[BehaviourHead, Int[Tensor, " _"]]]:
        """The heads in use, and the rows of each."""
        heads = []
        for number in torch.unique(logged_by).tolist():
            if number >= len(self.heads):
                raise ValueError(
                    f"the log names policy number {number}, there are heads for {len(self.heads)}: "
                    f"set method.behaviour.logging_policies to {number + 1} or more"
                )
            head = self.heads[number]
            assert isinstance(head, BehaviourHead)
            heads.append((head, (logged_by == number).nonzero().squeeze(1)))
        return heads


class BehaviourFrequency(nn.Module):
    """How often each item was shown so far, whatever the state: β̂(a) = (n_a + 1) / (Σ n + N)."""

    shown: Tensor

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.register_buffer("shown", torch.zeros(num_rows, dtype=torch.int64))

    def count(self, items: Int[Tensor, " P"]) -> None:
        """Add shown items to the counts."""
        self.shown += torch.bincount(items, minlength=len(self.shown))

    def log_beta(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        logged_by: Int[Tensor, " P"],
        negatives: Negatives | None = None,
    ) -> Float[Tensor, "P K"]:
        """Log β̂ of each item, which depends on the item alone.

        Args:
            state: not used.
            slate: (P, K) item numbers, ≥ 2.
            logged_by: not used.
            negatives: not used.
        """
        del state, logged_by, negatives
        return self._logits()[slate]

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row."""
        del logged_by
        return self._logits().expand(len(state), -1)

    def _logits(self) -> Float[Tensor, " N"]:
        number = self.shown[FIRST_ITEM:] + 1
        return nn.functional.pad((number / number.sum()).log(), (FIRST_ITEM, 0), value=float("-inf"))


def _put_together(
    parts: list[tuple[Int[Tensor, " _"], Float[Tensor, "_ A"]]], width: int, length: int
) -> Float[Tensor, "P A"]:
    """Concatenate rows computed in parts, in their original order."""
    if not parts:
        return torch.zeros(length, width)
    back = torch.cat([rows for rows, _ in parts]).argsort()
    return torch.cat([part for _, part in parts])[back]
