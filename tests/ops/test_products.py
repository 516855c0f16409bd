import pytest
import torch
from torch import Tensor

from slatewise.ops import products
from slatewise.ops.products import product


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    x, weight = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    assert product(x, weight).tolist() == [[11.0, 17.0]]
    assert product(x, weight, torch.tensor([0.5, -1.0])).tolist() == [[11.5, 16.0]]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("offset", [False, True])
def test_large_products_are_those_of_torch(transposed: bool, offset: bool) -> None:
    x, bias = _draw(300, 64, seed=0), _draw(200, seed=2)
    weight = _draw(64, 200, seed=1).t() if transposed else _draw(200, 64, seed=1)
    with torch.no_grad():
        result = product(x, weight, bias if offset else None)
    torch.testing.assert_close(result, x @ weight.t() + (bias if offset else 0.0), rtol=1e-4, atol=1e-4)


def test_without_the_fast_kernel_the_plain_one_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = _draw(300, 64, seed=0), _draw(200, 64, seed=1)
    monkeypatch.setattr(products, "_FAST", None)
    with torch.no_grad():
        assert torch.equal(product(x, weight), x @ weight.t())


def test_double_precision_and_recorded_products_stay_torchs_own() -> None:
    x, weight = _draw(300, 64, seed=0).double(), _draw(200, 64, seed=1).double()
    with torch.no_grad():
        assert torch.equal(product(x, weight), x @ weight.t())
    single = _draw(300, 64, seed=0).requires_grad_()
    (grad,) = torch.autograd.grad(product(single, weight.float()).sum(), single)
    torch.testing.assert_close(grad[0], weight.float().sum(dim=0))


def test_a_cut_of_a_larger_matrix() -> None:
    x, weight = _draw(300, 64, seed=0), _draw(200, 96, seed=1)[:, :64]
    with torch.no_grad():
        assert torch.equal(product(x, weight), x @ weight.t())
        assert torch.equal(product(x[:, :32], weight[:, :32]), x[:, :32] @ weight[:, :32].t())
