"""Biases as one more number of each vector."""

from __future__ import annotations

import torch

from slatewise.retrieval.inner_products import extend_query, fold_bias


def test_a_bias_is_one_more_number_and_zeros_fill_the_register() -> None:
    vectors, bias = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([10.0, 20.0])
    query = torch.tensor([[1.0, -1.0]])
    folded = fold_bias(vectors, bias)
    assert folded.shape == (2, 16)
    assert folded[:, :4].tolist() == [[1.0, 2.0, 10.0, 0.0], [3.0, 4.0, 20.0, 0.0]]
    extended = extend_query(query, width=16)
    assert extended[0, :4].tolist() == [1.0, -1.0, 1.0, 0.0]
    assert (extended @ folded.T).tolist() == [[9.0, 19.0]]


def test_without_a_bias_nothing_changes() -> None:
    vectors, query = torch.ones(3, 5), torch.ones(2, 5)
    assert fold_bias(vectors, None) is vectors
    assert extend_query(query, width=5) is query


def test_sixteen_numbers_and_a_bias_take_two_registers() -> None:
    assert fold_bias(torch.ones(1, 16), torch.ones(1)).shape == (1, 32)
    assert fold_bias(torch.ones(1, 15), torch.ones(1)).shape == (1, 16)
