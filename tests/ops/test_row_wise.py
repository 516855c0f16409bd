import math

import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, lists

from slatewise.ops.row_wise import row_wise_adagrad, sum_by_row


def test_duplicates_are_summed_by_hand() -> None:
    rows, sums = sum_by_row(
        torch.tensor([7, 2, 7, 5]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0], [0.5, 0.5]])
    )
    assert rows.tolist() == [2, 5, 7]
    assert sums.tolist() == [[3.0, 4.0], [0.5, 0.5], [11.0, 22.0]]


def test_nothing_read_moves_nothing() -> None:
    rows, sums = sum_by_row(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    assert rows.shape == (0,)
    assert sums.shape == (0, 3)


def test_adagrad_by_hand() -> None:
    # mean g² = (9 + 16) / 2 = 12.5; G = 3.5 + 12.5 = 16, so the step is .4 / 4 · g
    weight, accumulator = row_wise_adagrad(
        torch.tensor([[1.0, 1.0]]), torch.tensor([3.5]), torch.tensor([[3.0, 4.0]]), learning_rate=0.4
    )
    torch.testing.assert_close(weight, torch.tensor([[0.7, 0.6]]))
    assert accumulator.tolist() == [16.0]


def test_a_row_without_gradient_stays() -> None:
    weight, accumulator = row_wise_adagrad(torch.ones(1, 2), torch.zeros(1), torch.zeros(1, 2), learning_rate=1.0)
    assert weight.tolist() == [[1.0, 1.0]]
    assert accumulator.tolist() == [0.0]


@settings(deadline=None)
@given(rows=lists(integers(0, 9), min_size=1, max_size=40), seed=integers(0, 1000))
def test_sums_are_those_of_a_dense_table(rows: list[int], seed: int) -> None:
    grads = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    dense = torch.zeros(10, 3, dtype=torch.float64)
    for row, grad in zip(rows, grads, strict=True):
        dense[row] += grad
    distinct, sums = sum_by_row(torch.tensor(rows), grads)
    assert distinct.tolist() == sorted(set(rows))
    torch.testing.assert_close(sums, dense[distinct])


def test_sums_are_the_same_bits_for_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 50, (20_000,), generator=generator)
    grads = torch.randn(20_000, 16, generator=generator)
    default_threads, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(sum_by_row(rows, grads)[1])
    finally:
        torch.set_num_threads(default_threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_one_gradient_a_row_is_adagrad_with_a_scalar_memory() -> None:
    """Rows of width 1 are what torch calls Adagrad."""
    generator = torch.Generator().manual_seed(0)
    expected = torch.nn.Parameter(torch.randn(6, 1, generator=generator, dtype=torch.float64))
    optimiser = torch.optim.Adagrad([expected], lr=0.3, eps=1e-10)
    weight, memory = expected.detach().clone(), torch.zeros(6, dtype=torch.float64)
    for _ in range(5):
        grad = torch.randn(6, 1, generator=generator, dtype=torch.float64)
        expected.grad = grad.clone()
        optimiser.step()
        weight, memory = row_wise_adagrad(weight, memory, grad, learning_rate=0.3)
    torch.testing.assert_close(weight, expected.detach())
    assert math.isfinite(float(memory.sum()))
