from __future__ import annotations

import pytest
import torch

from slatewise.nn.soft_update import soft_update


def test_a_quarter_of_the_way_by_hand() -> None:
    target = [torch.tensor([0.0, 4.0]), torch.tensor([[8.0]])]
    online = [torch.tensor([4.0, 0.0]), torch.tensor([[0.0]], requires_grad=True)]
    soft_update(target, online, 0.25)
    torch.testing.assert_close(target[0], torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(target[1], torch.tensor([[6.0]]))
    assert not target[1].requires_grad
    assert online[0].tolist() == [4.0, 0.0]


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 1.0), (1.0, 3.0)])
def test_rate_0_keeps_and_rate_1_copies(rate: float, expected: float) -> None:
    target = torch.nn.Parameter(torch.tensor([1.0]))
    soft_update([target], [torch.tensor([3.0])], rate)
    assert target.tolist() == [expected]


def test_networks_of_different_numbers_of_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        soft_update([torch.zeros(1)], [], 0.5)
