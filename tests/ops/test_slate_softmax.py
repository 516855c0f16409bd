from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from slatewise.ops.negatives import uniform, whole_catalog
from slatewise.ops.sampled_softmax import sampled_log_softmax
from slatewise.ops.slate_softmax import sampled_log_softmax_slate


def test_by_hand() -> None:
    # scores: items 0 and ln 2; negatives ln 1 (the first item itself) and ln 2, which stands for 3 items
    log_pi = sampled_log_softmax_slate(
        torch.tensor([[1.0]]),
        torch.tensor([[[0.0], [math.log(2)]]]),
        torch.tensor([[0.0], [math.log(2)]]),
        log_weight=torch.tensor([0.0, math.log(3)]),
        hit=torch.tensor([[0, -1]]),
        positive_bias=torch.zeros(1, 2),
        negative_bias=torch.zeros(2),
    )
    # 1 / (1 + 6) and 2 / (2 + 1 + 6)
    torch.testing.assert_close(log_pi.exp(), torch.tensor([[1 / 7, 2 / 9]]))


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 4), exact=st.booleans())
def test_same_numbers_and_gradients_as_item_by_item(seed: int, k: int, exact: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(12, 3, dtype=torch.float64, generator=generator).requires_grad_()
    bias = torch.randn(12, dtype=torch.float64, generator=generator).requires_grad_()
    state = torch.randn(5, 3, dtype=torch.float64, generator=generator).requires_grad_()
    items = torch.rand(5, 10, generator=generator).argsort(dim=1)[:, :k] + 2
    drawn = whole_catalog(first=2, last=11) if exact else uniform(6, first=2, last=11, generator=generator)
    weight = drawn.log_weight.double()
    together = sampled_log_softmax_slate(
        state,
        table[items],
        table[drawn.items],
        log_weight=weight,
        hit=drawn.column(items),
        positive_bias=bias[items],
        negative_bias=bias[drawn.items],
        temperature=2.0,
    )
    flat = items.flatten()
    alone = sampled_log_softmax(
        state.repeat_interleave(k, dim=0),
        table[flat],
        table[drawn.items],
        log_weight=weight,
        hit=drawn.column(flat),
        positive_bias=bias[flat],
        negative_bias=bias[drawn.items],
        temperature=2.0,
    ).view(5, k)
    torch.testing.assert_close(together, alone)
    push = torch.randn(5, k, dtype=torch.float64, generator=generator)
    for actual, expected in zip(
        torch.autograd.grad((push * together).sum(), (state, table, bias)),
        torch.autograd.grad((push * alone).sum(), (state, table, bias)),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected)
    if exact:
        full = torch.log_softmax((state @ table[2:].t()) / 2.0 + bias[2:], dim=1).gather(1, items - 2)
        torch.testing.assert_close(together, full)
