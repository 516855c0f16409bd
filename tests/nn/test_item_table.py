import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.features import ItemContent
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.item_table import ItemTable, RowWiseAdagrad


def _table(rows: int = 6, width: int = 2, seed: int = 0) -> ItemTable:
    table = ItemTable(rows, width)
    with torch.no_grad():
        table.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return table


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def test_a_table_is_an_ordinary_parameter_at_first() -> None:
    table = _table()
    _backward(table(torch.tensor([3, 3])).sum())
    assert table.weight.grad is not None
    assert table.weight.grad.tolist() == [[0, 0], [0, 0], [0, 0], [2, 2], [0, 0], [0, 0]]
    assert table.reads == []


def test_only_the_rows_read_move_and_no_gradient_of_the_table_exists() -> None:
    table = _table()
    initial = table.weight.detach().clone()
    optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.5)
    _backward(table(torch.tensor([[3, 5], [3, 2]])).sum())
    assert optimiser.step() == 3
    assert table.weight.grad is None
    # Adagrad's first step is η g / |g| in rows of equal entries, however often a row was read
    expected = initial.clone()
    expected[[2, 3, 5]] -= 0.5
    torch.testing.assert_close(table.weight.detach(), expected)
    assert optimiser.accumulators["items"].tolist() == [0, 0, 1, 4, 0, 1]  # (1 + 1)² in the row read twice


def test_reads_of_one_step_are_summed_over_calls() -> None:
    whole, pieces = _table(), _table()
    for table, calls in ((whole, [[2, 4, 4]]), (pieces, [[2, 4], [4]])):
        optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.1)
        _backward(sum((table(torch.tensor(call)).square().sum() for call in calls), torch.zeros(())))
        optimiser.step()
    assert torch.equal(whole.weight, pieces.weight)


def test_reserved_rows_stay_where_asked() -> None:
    table = _table()
    initial = table.weight.detach().clone()
    optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.1, frozen=2)
    _backward(table(torch.tensor([0, 1, 2])).sum())
    assert optimiser.step() == 1
    assert torch.equal(table.weight[:2], initial[:2])
    assert not torch.equal(table.weight[2], initial[2])


def test_reading_without_gradients_leaves_no_trace() -> None:
    table = _table()
    optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.1)
    with torch.no_grad():
        table(torch.tensor([2]))
    assert table.reads == []
    assert optimiser.step() == 0


def test_reads_that_no_loss_used_and_forgotten_reads_move_nothing() -> None:
    table = _table()
    initial = table.weight.detach().clone()
    optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.1)
    table(torch.tensor([2]))
    assert optimiser.step() == 0
    _backward(table(torch.tensor([2])).sum())
    optimiser.forget()
    assert optimiser.step() == 0
    assert torch.equal(table.weight, initial)


def test_the_whole_table_cannot_be_read_where_its_gradient_would_be_lost() -> None:
    table = _table()
    assert table.whole().shape == (6, 2)
    RowWiseAdagrad({"items": table}, learning_rate=0.1)
    with pytest.raises(RuntimeError, match="row-wise updates; look up single rows"):
        table.whole()
    with torch.no_grad():
        assert table.whole().shape == (6, 2)


def _train(steps: int, resume_at: int | None = None) -> Tensor:
    table = _table(50, 8)
    optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.1)
    generator = torch.Generator().manual_seed(3)
    for step in range(steps):
        if step == resume_at:
            saved = {name: value.clone() for name, value in optimiser.state_dict().items()}
            weights = {name: value.clone() for name, value in table.state_dict().items()}
            table = _table(50, 8, seed=9)
            table.load_state_dict(weights)
            optimiser = RowWiseAdagrad({"items": table}, learning_rate=0.1)
            optimiser.load_state_dict(saved)
        items = torch.randint(0, 50, (200,), generator=generator)
        _backward((table(items) @ torch.randn(8, 200, generator=generator)).square().mean())
        optimiser.step()
    return table.weight.detach()


def test_same_seed_same_bits() -> None:
    assert torch.equal(_train(5), _train(5))


def test_a_resumed_run_goes_on_bit_for_bit() -> None:
    assert torch.equal(_train(6, resume_at=3), _train(6))


def test_rows_learn_a_regression() -> None:
    table, target = _table(20, 4), torch.randn(20, 4, generator=torch.Generator().manual_seed(5))
    optimiser = RowWiseAdagrad({"items": table}, learning_rate=1.0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(600):
        items = torch.randint(0, 20, (8,), generator=generator)
        _backward((table(items) - target[items]).square().sum())
        optimiser.step()
    assert float((table.weight - target).abs().max()) < 0.01


def test_a_checkpoint_of_another_catalog_is_refused() -> None:
    optimiser = RowWiseAdagrad({"items": _table(6)}, learning_rate=0.1)
    with pytest.raises(ValueError, match="expected 6 rows, found one of 7 rows"):
        optimiser.load_state_dict({"items": torch.zeros(7)})
    with pytest.raises(ValueError, match="found none"):
        optimiser.load_state_dict({})


def test_a_learning_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="learning rate"):
        RowWiseAdagrad({"items": _table()}, learning_rate=0.0)


def _content(*, drop: float = 0.0) -> ItemContent:
    """Two numbers for each of six rows; the last item has no event."""
    values = np.array([[0, 0], [0, 0], [1, 0], [0, 1], [1, 1], [2, 0]], np.float32)
    return ItemContent(values=values, has_events=np.arange(6) < 5, drop=drop, fitted={})


def test_a_row_with_content_is_learned_row_and_map_by_hand() -> None:
    table = ItemTable(6, 2, _content())
    assert table.content is not None
    with torch.no_grad():
        table.weight[3] = torch.tensor([0.5, 0.5])
        table.content.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    expected = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [3.5, 4.5], [4.0, 6.0], [2.0, 4.0]])
    table.eval()
    with torch.no_grad():
        whole = table.whole()
        assert torch.equal(whole, expected)
        assert table.whole() is whole  # nothing has changed
        table.weight[2] += 1.0
        assert torch.equal(table.whole()[2], torch.tensor([2.0, 3.0]))
    assert torch.equal(table(torch.tensor([[3, 5]])), expected[[3, 5]].unsqueeze(0))


@pytest.mark.parametrize("by_row", [False, True])
def test_an_item_without_events_keeps_a_learned_row_of_zero(by_row: bool) -> None:
    table = ItemTable(6, 2, _content())
    table.reset(0.5, torch.Generator().manual_seed(0))
    assert table.content is not None
    assert not table.weight.any()
    assert table.content.weight.any()
    assert table.is_closed(None) is not None
    assert table.is_closed(torch.tensor([4, 5])).tolist() == [False, True]  # type: ignore[union-attr]
    assert table.eval().is_closed(None) is None
    table.train()
    row_wise = RowWiseAdagrad({"items": table}, learning_rate=0.5) if by_row else None
    optimiser = torch.optim.Adam([weight for weight in table.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        _backward((table(torch.tensor([4, 5])) - 1).square().sum())
        optimiser.step()
        if row_wise is not None:
            row_wise.step()
    assert table.weight[4].any()
    assert not table.weight[5].any()


def test_learned_rows_are_left_out_at_random_and_content_stays() -> None:
    table = ItemTable(6, 1, _content(drop=0.5))
    with torch.no_grad():
        table.weight.fill_(10.0)
        table.weight[5] = 0.0
    items = torch.full((400,), 3)
    assert torch.equal(table(items), torch.full((400, 1), 10.0))  # nothing draws without a generator
    let_dropout_draw(table, torch.Generator().manual_seed(0))
    rows = table(items)
    assert set(rows.flatten().tolist()) == {0.0, 10.0}
    assert 150 < int((rows == 0).sum()) < 250
    assert torch.equal(table.eval()(items), torch.full((400, 1), 10.0))


def test_a_copied_table_shares_the_content() -> None:
    table = ItemTable(6, 1, _content())
    copied = copy.deepcopy(table)
    assert table.content is not None
    assert copied.content is not None
    assert copied.content.source is table.content.source
    assert copied.content.weight is not table.content.weight
