"""Recall of an approximate retriever against exact search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.errors import Notice
from slatewise.protocols import Retriever


class LowRecallWarning(Notice):
    """The recall of an approximate index is below its target."""


@dataclass(frozen=True, kw_only=True)
class RecallReport:
    """Recall of a retriever against exact search."""

    recall: float
    """Share of the exact items that were retrieved, mean over the queries."""
    worst_tenth: float
    """The same, mean over the tenth of the queries with the lowest recall."""
    depth: int
    """C: items retrieved per query."""
    queries: int
    target: float

    @property
    def holds(self) -> bool:
        """Whether the target is reached."""
        return self.recall >= self.target

    def metrics(self) -> dict[str, float]:
        """The metrics as an artifact's manifest stores them."""
        return {
            f"retrieval_recall@{self.depth}": self.recall,
            f"retrieval_recall_worst_tenth@{self.depth}": self.worst_tenth,
            "retrieval_queries": float(self.queries),
        }


def overlap(retrieved: Int[Tensor, "B C"], exact: Int[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Share of the exact items that are among the retrieved ones, whatever their order."""
    ordered = torch.sort(retrieved, dim=1).values
    at = torch.searchsorted(ordered, exact.contiguous()).clamp(max=retrieved.shape[1] - 1)
    return (ordered.gather(1, at) == exact).float().mean(dim=1)


def measure_recall(
    retriever: Retriever, queries: Float[Tensor, "B E"], exact_items: Int[Tensor, "B C"], *, target: float = 0.95
) -> RecallReport:
    """Recall of a retriever on queries with known exact answers.

    Args:
        retriever: the retriever to evaluate.
        queries: (B, E) states that the policy meets, not item vectors.
        exact_items: (B, C) what `Exact` returns for them.
        target: recall that the report compares with.

    Raises:
        ValueError: no queries.
    """
    if not len(queries):
        raise ValueError("recall needs at least one query")
    depth = exact_items.shape[1]
    share = torch.cat(
        [
            overlap(retriever.search(block, depth)[0], exact)
            for block, exact in zip(torch.split(queries, 256), torch.split(exact_items, 256), strict=True)
        ]
    )
    worst = torch.sort(share).values[: max(1, len(share) // 10)]
    return RecallReport(
        recall=float(share.mean()),
        worst_tenth=float(worst.mean()),
        depth=depth,
        queries=len(queries),
        target=target,
    )
