from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor, nn

from slatewise.methods.fcpo.drawn_lists import RowGaussians, RowSoftmaxes
from slatewise.methods.fcpo.gaussian_lists import GaussianListHead
from slatewise.methods.fcpo.weight_step import TrustRegion

SLATE = torch.tensor([[3, 5], [2, 0], [4, 3]])
EVERY = torch.ones(3, dtype=torch.bool)


def head_and_state() -> tuple[GaussianListHead, Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    head = GaussianListHead(3, 2, 2, hidden=4, generator=generator).double()
    state = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    vectors = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    return head, state, vectors


@pytest.mark.parametrize("kind", ["softmaxes", "gaussians"])
def test_the_product_is_with_the_hessian_of_the_divergence(kind: str) -> None:
    head, state, vectors = head_and_state()
    region = TrustRegion(list(head.parameters()))
    old = head.both(state, 2).detach()
    drawn: RowSoftmaxes | RowGaussians
    if kind == "softmaxes":
        open_items = torch.ones(3, 6, dtype=torch.bool)
        open_items[2, 2] = False
        drawn = RowSoftmaxes(old, vectors, SLATE, open_items, EVERY)
    else:
        drawn = RowGaussians(old, torch.zeros(3, 2, 2, dtype=torch.float64), SLATE, EVERY)
    names = [name for name, _ in head.named_parameters()]

    def divergence(flat: Tensor) -> Tensor:
        parts, at = {}, 0
        for name, weight in zip(names, head.parameters(), strict=True):
            parts[name] = flat[at : at + weight.numel()].view_as(weight)
            at += weight.numel()
        mean, log_std = torch.func.functional_call(head, parts, (state, 2))
        return drawn.compare(torch.cat([mean, log_std], dim=2))[1]

    hessian = torch.autograd.functional.hessian(divergence, region.flat())  # type: ignore[no-untyped-call]
    product = region.curvature(lambda: head.both(state, 2), drawn.metric, damping=0.25)
    before = region.flat()
    for seed in range(3):
        v = torch.randn(len(before), generator=Generator().manual_seed(seed), dtype=torch.float64)
        torch.testing.assert_close(product(v), hessian @ v + 0.25 * v, atol=1e-4, rtol=1e-3)
    assert torch.equal(region.flat(), before)
    assert not bool(product(torch.zeros_like(before)).any())


@pytest.mark.parametrize("kind", ["softmaxes", "gaussians"])
def test_the_slope_is_that_of_the_log_probabilities(kind: str) -> None:
    head, state, vectors = head_and_state()
    generator = Generator().manual_seed(1)
    gain = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    old = head.both(state, 2).detach().requires_grad_()
    drawn: RowSoftmaxes | RowGaussians
    if kind == "softmaxes":
        drawn = RowSoftmaxes(old, vectors, SLATE, None, EVERY)
    else:
        rows = torch.randn(3, 2, 2, generator=generator, dtype=torch.float64)
        drawn = RowGaussians(old, rows, SLATE, EVERY)
    log_p = drawn.compare(old)[0]
    torch.testing.assert_close(drawn.log_p, log_p.detach())
    (slope,) = torch.autograd.grad((gain * log_p).sum() / 3, old)
    torch.testing.assert_close(drawn.slope(gain), slope)


def test_lists_and_their_divergence_by_hand() -> None:
    # V: items 2 and 3 are 0 and log 3; a row of 1 gives them the chances ¼ and ¾
    vectors = torch.tensor([[0.0], [0.0], [0.0], [math.log(3)]])
    slate = torch.tensor([[3, 2]])
    old = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    drawn = RowSoftmaxes(old, vectors, slate, None, EVERY[:1])
    torch.testing.assert_close(drawn.compare(old)[0].exp(), torch.tensor([[0.75, 1.0]]))
    assert float(drawn.compare(old)[1]) == pytest.approx(0.0, abs=1e-6)
    # a row of 0: ½ and ½; ¼ log ½ + ¾ log 3/2, and nothing from the second slot, which has no choice
    flat = torch.zeros_like(old)
    assert float(drawn.compare(flat)[1]) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    # p (1 − p) (log 3)²; the second slot has none, and σ has none
    moved = drawn.metric(torch.ones(1, 2, 2))
    torch.testing.assert_close(moved, torch.tensor([[[0.1875 * math.log(3) ** 2, 0.0], [0.0, 0.0]]]))


def test_gaussians_by_hand() -> None:
    old = torch.tensor([[[0.0, math.log(2)]], [[0.0, 0.0]]])
    drawn = RowGaussians(old, torch.tensor([[[2.0]], [[9.0]]]), torch.tensor([[3], [0]]), EVERY[:2])
    # −½ (2/2)² − log 2; the second slot is empty
    torch.testing.assert_close(drawn.compare(old)[0], torch.tensor([[-0.5 - math.log(2)], [0.0]]))
    new = torch.tensor([[[1.0, 0.0]], [[5.0, 1.0]]])
    # log ½ + (4 + 1)/2 − ½, mean over two states
    assert float(drawn.compare(new)[1]) == pytest.approx((-math.log(2) + 2) / 2)
    torch.testing.assert_close(drawn.metric(torch.ones(2, 1, 2)), torch.tensor([[[0.25, 2.0]], [[0.0, 0.0]]]) / 2)


def test_a_slot_for_which_nothing_is_left_counts_nothing() -> None:
    slate = torch.tensor([[2, 3, 0]])
    outputs = torch.zeros(1, 3, 2).requires_grad_()
    drawn = RowSoftmaxes(outputs.detach(), torch.tensor([[0.0], [0.0], [1.0], [2.0]]), slate, None, EVERY[:1])
    log_p, divergence = drawn.compare(outputs)
    torch.testing.assert_close(log_p.exp().detach(), torch.tensor([[0.5, 1.0, 1.0]]))
    (gradient,) = torch.autograd.grad(log_p.sum() + divergence, outputs)
    assert bool(torch.isfinite(gradient).all())


def test_a_search_that_finds_nothing_leaves_the_weights() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    region = TrustRegion([weight])
    assert region.search(torch.ones(2), lambda: 0.9, tries=3) == 0.0
    assert weight.tolist() == [1.0, 2.0]
    assert region.search(torch.ones(2), lambda: 1.0 if weight[0] < 1.95 else 0.9, tries=3) == pytest.approx(0.9)
    torch.testing.assert_close(weight.detach(), torch.tensor([1.9, 2.9]))
    assert region.search(torch.zeros(2), lambda: 1.0, tries=3) == 0.0


def test_weights_that_are_not_read_have_no_gradient() -> None:
    read, other = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([5.0]))
    region = TrustRegion([read, other])
    assert region.gradient(read.square()).tolist() == [4.0, 0.0]
    with pytest.raises(FloatingPointError, match="not finite"):
        region.gradient(read / 0)
