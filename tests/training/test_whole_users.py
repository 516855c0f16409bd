"""Counting methods read whole users, however long: a piece of a user is no user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from slatewise.config.run import RunConfig
from slatewise.testing import toy_dataset
from slatewise.training import loop


def learned(tmp_path: Path, name: str, **train: Any) -> tuple[int, dict[str, Tensor]]:
    """Steps and weights of item_knn on the users of two tastes, with ten events each in the training part."""
    if not (tmp_path / "data").exists():
        toy_dataset(tmp_path / "data")
    settings = {
        "data": {"path": str(tmp_path / "data")},
        "method": {"name": "item_knn"},
        "train": {"select": "ndcg@5", **train},
        "evaluate": {"k": [5]},
    }
    result = loop.train(RunConfig.from_tables(settings), tmp_path / name)
    return result.steps, load_file(result.folder / "artifact" / "weights.safetensors")


def test_no_user_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, whole = learned(tmp_path, "whole", max_length=1024, batch_size=24)
    assert steps == 1
    assert learned(tmp_path, "short", max_length=3, batch_size=24)[0] == 1
    # two users of ten events at most are in memory at once
    monkeypatch.setattr(loop, "MOST_CELLS", 20)
    steps, cut = learned(tmp_path, "cut", max_length=3, batch_size=24)
    assert steps == 12
    for name, value in whole.items():
        assert bool((cut[name] == value).all()), name
