"""β̂: which item the logging policy showed, estimated on the same state with the gradient stopped (Chen et al. 2019,
sec. 4.2).

It gives the *single-draw* probability of an item, the number that belongs into π/β. A logged slate factor is another
number (a fixed slot has factor 1) and never comes through here.
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
    """A model of what was shown."""

    def log_beta(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        logged_by: Int[Tensor, " P"],
        negatives: Negatives | None = None,
    ) -> Float[Tensor, "P K"]:
        """Log β̂ of the real items of each slate, every one as a single draw; `logged_by` numbers the logging policy."""
        ...

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row of the catalog; −inf for reserved rows."""
        ...


class BehaviourHead(nn.Module):
    """A softmax head that cannot move the encoder, unless that encoder is its own."""

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
        """Log β̂ of the real items of each slate, whoever showed them. Negatives as for π."""
        del logged_by
        return self.softmax.log_prob_slate(self._read(state), slate, negatives)

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row."""
        del logged_by
        return self.softmax.log_probs(self._read(state))

    def _read(self, state: Float[Tensor, "P D"]) -> Float[Tensor, "P D"]:
        return state.detach() if self.stop_gradient else state


class BehaviourByPolicy(nn.Module):
    """A head for every policy that the log names; number 0 is whatever has no name."""

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
        """Log β̂ of the real items of each slate under the policy that showed it."""
        parts = [
            (rows, head.log_beta(state[rows], slate[rows], logged_by[rows], negatives))
            for head, rows in self._by(logged_by)
        ]
        return _put_together(parts, slate.shape[1], len(slate))

    def log_betas(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log β̂ of every row under the policy that showed the slate."""
        parts = [(rows, head.log_betas(state[rows], logged_by[rows])) for head, rows in self._by(logged_by)]
        return _put_together(parts, parts[0][1].shape[1] if parts else 0, len(state))

    def _by(self, logged_by: Int[Tensor, " P"]) -> list[tuple[BehaviourHead, Int[Tensor, " _"]]]:
        """The heads that are asked, and the rows that ask them."""
        found = []
        for number in torch.unique(logged_by).tolist():
            if number >= len(self.heads):
                raise ValueError(
                    f"the log names policy number {number}, there are heads for {len(self.heads)}: "
                    f"set method.logging_policies to {number + 1} or more"
                )
            head = self.heads[number]
            assert isinstance(head, BehaviourHead)
            found.append((head, (logged_by == number).nonzero().squeeze(1)))
        return found


class BehaviourFrequency(nn.Module):
    """How often each item was shown so far, whatever the state: β̂(a) = (n_a + 1) / (Σ n + N)."""

    shown: Tensor

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.register_buffer("shown", torch.zeros(num_rows, dtype=torch.int64))

    def count(self, items: Int[Tensor, " P"]) -> None:
        """Add what was shown."""
        self.shown += torch.bincount(items, minlength=len(self.shown))

    def log_beta(
        self,
        state: Float[Tensor, "P D"],
        slate: Int[Tensor, "P K"],
        logged_by: Int[Tensor, " P"],
        negatives: Negatives | None = None,
    ) -> Float[Tensor, "P K"]:
        """Log β̂ of each item; nothing else plays a part."""
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
    """Rows computed in parts, in their own order."""
    if not parts:
        return torch.zeros(length, width)
    back = torch.cat([rows for rows, _ in parts]).argsort()
    return torch.cat([part for _, part in parts])[back]
