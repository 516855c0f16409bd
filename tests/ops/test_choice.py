from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slatewise.errors import InputError
from slatewise.ops.choice import cascade_probabilities, choice_probabilities, choice_weight, pick


def test_choice_weight_by_hand() -> None:
    affinity = torch.tensor([-1.0, 0.0, 0.5])
    torch.testing.assert_close(choice_weight(affinity, "proportional"), torch.tensor([0.0, 1.0, 1.5]))
    torch.testing.assert_close(choice_weight(affinity, "mnl"), torch.tensor([1 / math.e, 1.0, math.sqrt(math.e)]))


def test_choice_probabilities_by_hand() -> None:
    chances = choice_probabilities(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([4.0, 2.0]))
    torch.testing.assert_close(chances, torch.tensor([[0.125, 0.375, 0.5], [0.0, 0.0, 1.0]]))


def test_cascade_by_hand() -> None:
    chances = cascade_probabilities(torch.tensor([[0.5, 0.2, 1.0, 0.3]], dtype=torch.float64))
    # .5 · then .5 × .2 · then .4 × 1 · nobody gets past a certain pick
    torch.testing.assert_close(chances, torch.tensor([[0.5, 0.1, 0.4, 0.0, 0.0]], dtype=torch.float64))


@given(attraction=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_cascade_is_a_distribution(attraction: list[float]) -> None:
    chances = cascade_probabilities(torch.tensor([attraction], dtype=torch.float64))
    assert float(chances.sum()) == pytest.approx(1.0, abs=1e-12)
    assert bool((chances >= 0).all())


def test_pick_inverts_the_cumulative_weights() -> None:
    weight = torch.tensor([[1.0, 0.0, 2.0]]).expand(5, 3)
    luck = torch.tensor([0.0, 0.24, 0.25, 0.74, 0.75])
    assert pick(weight, torch.ones(5), luck).tolist() == [0, 0, 2, 2, -1]


@given(
    weight=st.lists(st.floats(0, 1e3, width=32), min_size=1, max_size=5),
    null=st.floats(0.125, 1e3, width=32),
    seed=st.integers(0, 2**32 - 1),
)
def test_pick_never_takes_an_empty_place(weight: list[float], null: float, seed: int) -> None:
    luck = torch.rand(256, generator=torch.Generator().manual_seed(seed))
    luck[0] = 1 - 2**-24  # the largest number below 1
    weights = torch.tensor([weight]).expand(256, -1)
    choice = pick(weights, torch.full((256,), null), luck)
    chosen_weight = weights.gather(1, choice.clamp(min=0).unsqueeze(1)).squeeze(1)
    assert bool(((choice == -1) | (chosen_weight > 0)).all())


def test_pick_follows_the_probabilities() -> None:
    weight, null = torch.tensor([[0.5, 1.5, 1.0]]), torch.tensor([2.0])
    luck = (torch.arange(20_000) + 0.5) / 20_000  # every number equally often: no statistics needed
    choice = pick(weight.expand(20_000, -1), null.expand(20_000), luck)
    share = torch.bincount(choice + 1, minlength=4) / 20_000
    torch.testing.assert_close(share, torch.tensor([0.4, 0.1, 0.3, 0.2]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("weight", "null", "message"),
    [
        ([0.0, 0.0], 0.0, "all choice weights of slate 0 are 0"),
        ([1.0, math.nan], 1.0, r"slate 0 are \[1, nan, 1\]"),
        ([1.0, -0.5], 1.0, "expected finite numbers ≥ 0"),
        ([1.0, math.inf], 1.0, "expected finite numbers ≥ 0"),
    ],
)
def test_weights_that_give_no_distribution(weight: list[float], null: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choice_probabilities(torch.tensor([weight]), torch.tensor([null]))


def test_cascade_refuses_what_is_no_probability() -> None:
    with pytest.raises(InputError, match=r"attraction 1\.2 is not a probability"):
        cascade_probabilities(torch.tensor([[0.5, 1.2]]))
