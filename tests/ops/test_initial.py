from __future__ import annotations

import torch
from torch import Generator

from slatewise.ops.initial import fan_in_, normal_, uniform_


def test_first_values_have_the_spread_they_name() -> None:
    generator = Generator().manual_seed(0)
    values = torch.zeros(200, 500)
    uniform_(values, 0.3, generator)
    assert 0.299 < float(values.abs().max()) <= 0.3
    assert abs(float(values.mean())) < 0.002
    normal_(values, 0.5, generator)
    assert abs(float(values.std()) - 0.5) < 0.005  # standard error .5/√(2 · 10⁵) = .001
    fan_in_(values, generator)
    # 500 numbers in: 1/√500 = .04472
    assert 0.0446 < float(values.abs().max()) <= 500**-0.5


def test_the_generator_alone_decides() -> None:
    first, second = torch.zeros(3, 3), torch.zeros(3, 3)
    normal_(first, 1.0, Generator().manual_seed(7))
    normal_(second, 1.0, Generator().manual_seed(7))
    assert torch.equal(first, second)
    normal_(second, 1.0, Generator().manual_seed(8))
    assert not torch.equal(first, second)
