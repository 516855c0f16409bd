"""Items that no event shows are recommended to those who like their kind, by every method with item vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.learning.cold_items import NUM_COLD, NUM_ITEMS, right_share, trained

from slatewise import artifact
from slatewise.data import prepared
from slatewise.log import FIRST_ITEM

pytestmark = pytest.mark.slow
COLD = torch.arange(FIRST_ITEM + NUM_ITEMS - NUM_COLD, FIRST_ITEM + NUM_ITEMS)
METHODS: Mapping[str, Mapping[str, Any]] = {
    "cloning": {},
    "reinforce": {"correction": "none"},
    "slateq": {"gamma": 0.0, "lr": 5e-3},
    "wolpertinger": {"gamma": 0.0, "lr": 1e-2, "neighbour_share": 1.0},
    "fcpo": {},
}


@pytest.mark.parametrize("kind", ["text", "features"])
@pytest.mark.parametrize("method", METHODS)
def test_cold_items_of_the_right_kind_are_recommended(method: str, kind: str, tmp_path: Path) -> None:
    run = trained(tmp_path, method, METHODS[method], content=[kind])
    policy = artifact.load(run / "artifact").policy
    log = prepared.load(tmp_path / "data").interactions
    # half of the twelve are of the right kind: chance, and whatever is the same for everybody, has .5. A longer slate
    # of SlateQ's holds items that nobody would choose, because they take nothing from the others
    assert right_share(policy, log, COLD, k=1 if method == "slateq" else 3) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_without_content_cold_items_are_recommended_at_random(method: str, tmp_path: Path) -> None:
    run = trained(tmp_path, method, METHODS[method], content=[])
    policy = artifact.load(run / "artifact").policy
    log = prepared.load(tmp_path / "data").interactions
    assert right_share(policy, log, COLD, k=6) < 0.8


def test_a_popularity_policy_fails_the_check(tmp_path: Path) -> None:
    run = trained(tmp_path, "popularity", {}, content=["text"], epochs=1)
    policy = artifact.load(run / "artifact").policy
    assert right_share(policy, prepared.load(tmp_path / "data").interactions, COLD, k=3) < 0.7
