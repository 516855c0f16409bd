import pytest
import torch
from torch import Tensor

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
