"""Tables with one row an item, learned whole or by the rows that a step reads.

Small catalog: the table is an ordinary parameter. Large catalog: `RowWiseAdagrad` takes it over. Reading rows then
gives tensors that collect their own gradient, so neither a dense (N, D) gradient nor a sparse one ever exists, and
the optimiser's memory is one number a row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from slatewise.ops.row_wise import row_wise_adagrad, summed_by_row


class ItemTable(nn.Module):
    """(N + 2, E) numbers, row i for item number i; zeros at first."""

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_rows, width))
        self.by_row = False
        """True once a `RowWiseAdagrad` learns the table."""
        self.reads: list[tuple[Tensor, Tensor]] = []
        """Items read since the last step with gradients on, and the rows they gave."""

    def forward(self, items: Int[Tensor, "*A"]) -> Float[Tensor, "*A E"]:
        """The rows of some items."""
        rows = F.embedding(items, self.weight)
        if self.by_row and torch.is_grad_enabled():
            rows.requires_grad_()
            self.reads.append((items, rows))
        return rows

    def whole(self) -> Float[Tensor, "N E"]:
        """Every row, for scoring a whole catalog.

        Raises:
            RuntimeError: gradients are on and the table is learned by row, so that they would be lost.
        """
        if self.by_row and torch.is_grad_enabled():
            raise RuntimeError("the table is learned by row; read single rows, or switch gradients off (torch.no_grad)")
        return self.weight


def item_tables(module: nn.Module) -> dict[str, ItemTable]:
    """Every item table inside a module, by its name there."""
    return {name: part for name, part in module.named_modules() if isinstance(part, ItemTable)}


class RowWiseAdagrad:
    """Adagrad on the rows of item tables that a loss read (`slatewise.ops.row_wise`).

    Same reads, same gradients: same bits, whatever the number of threads. Reserved rows (0 and 1) stay as they are
    where `frozen` says so.

    Args:
        tables: by the name their accumulators have in `state_dict`.
        learning_rate: η, above 0.
        epsilon: ε, above 0.
        frozen: rows below this number are never changed.
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
            table.by_row = True
            table.weight.requires_grad_(False)
            self.accumulators[name] = torch.zeros(len(table.weight))

    def forget(self) -> None:
        """Drop what was read without a step (an evaluation with gradients on, a loss that was not finite)."""
        for table in self.tables.values():
            table.reads.clear()

    @torch.no_grad()
    def step(self) -> int:
        """Move every row that has a gradient; returns how many rows that were."""
        moved = 0
        for name, table in self.tables.items():
            reads = [
                (items.flatten(), rows.grad.flatten(0, -2)) for items, rows in table.reads if rows.grad is not None
            ]
            table.reads.clear()
            if not reads:
                continue
            items, grads = (torch.cat(parts) for parts in zip(*reads, strict=True))
            rows, grad = summed_by_row(items, grads)
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
            moved += len(rows)
        return moved

    def state_dict(self) -> dict[str, Tensor]:
        """Accumulators by the name of their table; no copies."""
        return dict(self.accumulators)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put them back.

        Raises:
            ValueError: a table is missing, or has another number of rows.
        """
        for name, accumulator in self.accumulators.items():
            found = state.get(name)
            if found is None or found.shape != accumulator.shape:
                shape = "none" if found is None else f"one of {len(found):,} rows"
                raise ValueError(
                    f'accumulator "{name}": expected {len(accumulator):,} rows, found {shape}; '
                    "the checkpoint belongs to another catalog"
                )
            accumulator.copy_(found)
