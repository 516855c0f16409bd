"""Item tables (one row per item) with dense or sparse (row-wise) updates.

Small catalog: the table is an ordinary parameter. Large catalog: `RowWiseAdagrad` takes it over. A lookup then returns
rows that collect their own gradient, so that no (N, D) gradient, dense or sparse, is ever allocated, and the optimiser
stores one number per row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from slatewise.ops.row_wise import row_wise_adagrad, sum_by_row


class ItemTable(nn.Module):
    """(N + 2, E) numbers, row i for item number i; zeros initially."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_rows, width))
        self.by_row = False
        """True once a `RowWiseAdagrad` updates the table."""
        self.reads: list[tuple[Tensor, Tensor]] = []
        """Lookups with gradients on since the last step: the items and the rows returned."""

    def forward(self, items: Int[Tensor, "*A"]) -> Float[Tensor, "*A E"]:
        """The rows of items."""
        rows = F.embedding(items, self.weight)
        if self.by_row and torch.is_grad_enabled():
            rows.requires_grad_()
            self.reads.append((items, rows))
        return rows

    def whole(self) -> Float[Tensor, "N E"]:
        """The whole table, for scoring every item.

        Raises:
            RuntimeError: gradients are on and the table has row-wise updates, so that the gradients would be lost.
        """
        if self.by_row and torch.is_grad_enabled():
            raise RuntimeError("the table has row-wise updates; look up single rows, or use torch.no_grad()")
        return self.weight


def item_tables(module: nn.Module) -> dict[str, ItemTable]:
    """Every item table of a module, by its name in the module."""
    return {name: part for name, part in module.named_modules() if isinstance(part, ItemTable)}


class RowWiseAdagrad:
    """Adagrad on the rows of item tables that a loss has looked up (`slatewise.ops.row_wise`).

    Deterministic: the result does not depend on the number of threads. Rows below `frozen` (the reserved rows 0 and 1)
    are not updated.

    Args:
        tables: the tables, by the name of their accumulators in `state_dict`.
        learning_rate: η, above 0.
        epsilon: ε, above 0.
        frozen: rows below this number never change.
    """

    def __init__(
        self, tables: Mapping[str, ItemTable], *, learning_rate: float, epsilon: float = 1e-10, frozen: int = 0
    ) -> None:
        if not learning_rate > 0:
            raise ValueError(f"the learning rate of the item tables is {learning_rate}; expected a number above 0")
        self.tables = dict(tables)
        self.learning_rate = learning_rate
        self.epsilon = epsilon
        self.frozen = frozen
        self.accumulators: dict[str, Tensor] = {}
        for name, table in self.tables.items():
            # from here on lookups collect gradients row by row; the parameter itself gets none
            table.by_row = True
            table.weight.requires_grad_(False)
            self.accumulators[name] = torch.zeros(len(table.weight))

    def forget(self) -> None:
        """Drop lookups without a step (an evaluation with gradients on, a loss that was not finite)."""
        for table in self.tables.values():
            table.reads.clear()

    @torch.no_grad()
    def step(self) -> int:
        """Update every row that has a gradient; returns the number of rows updated."""
        updated = 0
        for name, table in self.tables.items():
            reads = [
                (items.flatten(), rows.grad.flatten(0, -2)) for items, rows in table.reads if rows.grad is not None
            ]
            table.reads.clear()
            if not reads:
                continue
            items, grads = (torch.cat(tensors) for tensors in zip(*reads, strict=True))
            rows, grad = sum_by_row(items, grads)
            if self.frozen:
                start = int(torch.searchsorted(rows, self.frozen))
                rows, grad = rows[start:], grad[start:]
            accumulator = self.accumulators[name]
            weight, memory = row_wise_adagrad(
                table.weight.index_select(0, rows),
                accumulator.index_select(0, rows),
                grad,
                learning_rate=self.learning_rate,
                epsilon=self.epsilon,
            )
            table.weight.index_copy_(0, rows, weight)
            accumulator.index_copy_(0, rows, memory)
            updated += len(rows)
        return updated

    def state_dict(self) -> dict[str, Tensor]:
        """Accumulators by the name of their table; not copied."""
        return dict(self.accumulators)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the accumulators.

        Raises:
            ValueError: a table is missing, or has another number of rows.
        """
        for name, accumulator in self.accumulators.items():
            stored = state.get(name)
            if stored is None or stored.shape != accumulator.shape:
                shape = "none" if stored is None else f"one of {len(stored):,} rows"
                raise ValueError(
                    f'accumulator "{name}": expected {len(accumulator):,} rows, found {shape}; '
                    "the checkpoint belongs to another catalog"
                )
            accumulator.copy_(stored)
