from __future__ import annotations

import math
from types import ModuleType

import pytest
import torch
from torch import Generator, nn

from slatewise.encoders import gru, liked
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import LogPart
from slatewise.nn.descent import descend
from slatewise.nn.dropout import Dropout, let_dropout_draw
from slatewise.nn.state_dict import flat_state, restore_state
from slatewise.testing import toy_catalog, written_log


def test_a_step_down_the_clipped_gradient_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    # the gradient of ½ |w|² is w, of norm 5: a limit of 1 leaves (.6, .8)
    descend(weight.square().sum() / 2, [weight], optimiser, clip_norm=1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([2.4, 3.2]))
    descend(weight.square().sum() / 2, [weight], optimiser, clip_norm=100.0)
    torch.testing.assert_close(weight.detach(), torch.zeros(2))


def test_what_is_not_finite_touches_no_weight() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    optimiser = torch.optim.Adam([weight], lr=1.0)
    with pytest.raises(FloatingPointError, match=r"the loss is nan: lower method\.lr"):
        descend(weight.sum() * math.nan, [weight], optimiser, clip_norm=1.0)
    with pytest.raises(FloatingPointError, match=r"the gradient's norm is inf: lower method\.lr"):
        descend(weight.sqrt().sum(), [weight], optimiser, clip_norm=1.0)
    assert weight.item() == 0.0
    assert not optimiser.state


def _learner(seed: int) -> tuple[nn.Linear, torch.optim.Adam, Generator]:
    module, generator = nn.Linear(3, 2), Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
    return module, torch.optim.Adam(module.parameters(), lr=0.1, fused=True), generator


def _work(module: nn.Linear, optimiser: torch.optim.Adam, generator: Generator, steps: int) -> None:
    for _ in range(steps):
        inputs = torch.randn(4, 3, generator=generator)
        descend(module(inputs).square().mean(), list(module.parameters()), optimiser, clip_norm=5.0)


def test_a_restored_state_goes_on_bit_for_bit() -> None:
    whole, resumed = _learner(0), _learner(1)
    _work(*whole, steps=3)
    state = {name: value.clone() for name, value in flat_state(*whole).items()}
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    restore_state(*resumed, state)
    for learner in (whole, resumed):
        _work(*learner, steps=3)
    for name, value in flat_state(*whole).items():
        assert torch.equal(flat_state(*resumed)[name], value), name


def test_a_state_from_before_the_first_step() -> None:
    whole, resumed = _learner(0), _learner(1)
    restore_state(*resumed, flat_state(*whole))
    for learner in (whole, resumed):
        _work(*learner, steps=2)
    assert torch.equal(whole[0].weight, resumed[0].weight)


@pytest.mark.parametrize("encoder", [gru, liked])
def test_dropout_of_an_encoder_draws_from_the_learner(encoder: ModuleType) -> None:
    generator = Generator()
    config = encoder.Config(width=2).resolve(LogPart.whole(written_log([[{"items": [2]}]])))
    built = encoder.Encoder(config, toy_catalog())
    let_dropout_draw(built, generator)
    assert [part.generator for part in built.modules() if isinstance(part, Dropout)] == [generator]
    let_dropout_draw(StatelessEncoder(), generator)  # an encoder that is no module has nothing to draw
