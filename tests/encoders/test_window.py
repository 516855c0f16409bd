from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from slatewise.data.batches import trajectories
from slatewise.encoders import window
from slatewise.log import Catalog, Windows
from slatewise.testing import check_encoder, toy_catalog, written_log
from slatewise.types import Observation

LOG = written_log(
    [
        [
            {"items": [5, 6], "rewards": [0, 4], "used": [1]},
            {"items": [7, 8], "used": []},
            {"items": [9], "rewards": [2]},
            {"items": [3], "rewards": [1]},
        ]
    ]
)


def test_the_last_uses_newest_first_by_hand() -> None:
    encoder = window.Encoder(window.Config(length=2), toy_catalog())
    zero = np.array([0])
    batch = trajectories(LOG, Windows(user=zero, start=zero, learn=zero, stop=np.array([4])))
    assert encoder(batch)[0].tolist() == [
        [0, 0, 0, 0],
        [6, 0, 4, 0],
        [6, 0, 4, 0],  # nothing was used
        [9, 6, 2, 4],
        [3, 9, 1, 2],
    ]


@pytest.mark.parametrize("length", [1, 3, 100])
def test_a_window_of_any_length_keeps_the_contract(length: int) -> None:
    check_encoder(window, settings={"length": length})


def test_memory_and_state_of_a_new_user_do_not_share_numbers() -> None:
    encoder = window.Encoder(window.Config(length=2), toy_catalog())
    carry = encoder.initial(1)
    state = encoder.state(carry, Observation(user=torch.zeros(1).long(), context=torch.zeros(1, 0)))
    state += 1
    assert carry.tolist() == [[0, 0, 0, 0]]


def test_windows_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="length is 0; expected at least 1 use"):
        window.Config(length=0)


def test_item_numbers_that_a_float_cannot_hold() -> None:
    class Huge(Catalog):
        num_rows = 2**24 + 1

    catalog = toy_catalog()
    huge = Huge(**{field.name: getattr(catalog, field.name) for field in dataclasses.fields(catalog)})
    with pytest.raises(ValueError, match="holds item numbers up to 16,777,216; got 16,777,217"):
        window.Encoder(window.Config(), huge)
