"""Item tables (one row per item) with dense or sparse (row-wise) updates.

Small catalog: the table is an ordinary parameter. Large catalog: `RowWiseAdagrad` takes it over. A lookup then returns
rows that collect their own gradient, so that no (N, D) gradient, dense or sparse, is ever allocated, and the optimiser
stores one number per row.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.features import ItemContent
from slatewise.nn.dropout import Dropout
from slatewise.ops.initial import normal_
from slatewise.ops.row_wise import row_wise_adagrad, sum_by_row


class ContentMap(nn.Module):
    """What content adds to the rows of an item table: x ↦ Mᵀx, linear in the numbers that are known of an item.

    Items without an event in training have no learned row: while the module trains, their rows are left out and get no
    gradient, so they stay 0. Of the others, a share is left out at random (DropoutNet, Volkovs et al. 2017).
    """

    def __init__(self, content: ItemContent, width: int) -> None:
        super().__init__()
        self.source = content
        self.weight = nn.Parameter(torch.zeros(content.values.shape[1], width))
        """M"""
        self.dropout = Dropout(content.drop)

    def forward(self, rows: Float[Tensor, "*A E"], items: Int[Tensor, "*A"] | None) -> Float[Tensor, "*A E"]:
        """Rows with content; of items, or of every item number for None."""
        values = torch.from_numpy(self.source.values)
        if self.training:
            learned = torch.from_numpy(self.source.has_events)
            learned = learned if items is None else learned[items]
            mask = self.dropout.keep_mask(learned)
            rows = rows * (learned if mask is None else learned * mask).unsqueeze(-1)
        return rows + (values if items is None else values[items]) @ self.weight


class ItemTable(nn.Module):
    """(N + 2, E) numbers, row i for item number i; zeros initially.

    With content, a row is what is learned of the item itself plus a map of its content, which is all that an item
    without events has.
    """

    def __init__(self, num_rows: int, width: int, content: ItemContent | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_rows, width))
        self.content = None if content is None else ContentMap(content, width)
        self._sum: tuple[tuple[int, int], Tensor] | None = None
        """The whole table with content, and the versions of the weights that it was computed from."""
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
        return rows if self.content is None else self.content(rows, items)

    def reset(self, std: float, generator: Generator) -> None:
        """Draw initial rows; with content, its map is drawn instead, and the learned rows start at 0."""
        normal_(self.weight if self.content is None else self.content.weight, std, generator)

    def train(self, mode: bool = True) -> ItemTable:
        """Set the mode; what was computed before a step is computed again after it."""
        self._sum = None
        return super().train(mode)

    def is_closed(self, items: Int[Tensor, "*A"] | None) -> Bool[Tensor, "*A"] | None:
        """True for items that training must not hold against: they have no event; None where there are none such.

        An item that could not be shown is no evidence that users do not want its kind.
        """
        if self.content is None or not self.training:
            return None
        closed = ~torch.from_numpy(self.content.source.has_events)
        return closed if items is None else closed[items]

    def whole(self) -> Float[Tensor, "N E"]:
        """The whole table, for scoring every item.

        Raises:
            RuntimeError: gradients are on and the table has row-wise updates, so that the gradients would be lost.
        """
        if self.by_row and torch.is_grad_enabled():
            raise RuntimeError("the table has row-wise updates; look up single rows, or use torch.no_grad()")
        if self.content is None:
            return self.weight
        if self.training or torch.is_grad_enabled():
            rows: Tensor = self.content(self.weight, None)
            return rows
        versions = (self.weight._version, self.content.weight._version)
        if self._sum is None or self._sum[0] != versions:
            self._sum = versions, self.content(self.weight, None)
        return self._sum[1]


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
