"""Whether training says that popularity is at least as good as what it learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slatewise.config.run import RunConfig
from slatewise.data.prepared import Dataset
from slatewise.testing import toy_dataset, written_log
from slatewise.training.loop import train

POPULAR = "popularity alone reaches"


def notes(dataset: Dataset, folder: Path, method: dict[str, Any], **train_settings: Any) -> str:
    tables = {
        "data": {"path": str(dataset.path)},
        "method": method,
        "train": {"epochs": 1, "select": "ndcg@1", **train_settings},
        "evaluate": {"k": [1]},
    }
    return "\n".join(train(RunConfig.from_tables(tables), folder / "run").notes)


def one_favourite(path: Path) -> Dataset:
    """Item 2 is used by all of 20 users at last, and by ten of them before; items 3 to 8 by fewer."""
    users = [
        [{"items": [3 + user % 6]}, {"items": [3 + (user + 1) % 6]}, {"items": [2]}, {"items": [9]}]
        for user in range(20)
    ]
    users += [[{"items": [2]}] for _ in range(30)]
    return toy_dataset(path / "data", written_log(users))


def test_a_policy_that_learned_nothing_is_told_of_popularity(tmp_path: Path) -> None:
    said = notes(one_favourite(tmp_path), tmp_path, {"name": "cloning", "lr": 1e-12})
    assert f"{POPULAR} ndcg@1 = 1.0000 on validation" in said
    assert "--method popularity trains it" in said


def test_a_policy_that_is_better_is_not(tmp_path: Path) -> None:
    # every user walks along a ring of ten items, so the last item tells the next one
    users = [[{"items": [2 + (user + step) % 10]} for step in range(8)] for user in range(30)]
    ring = toy_dataset(tmp_path / "data", written_log(users))
    assert POPULAR not in notes(ring, tmp_path, {"name": "cloning", "lr": 0.03}, epochs=15)


def test_counting_methods_are_not_compared(tmp_path: Path) -> None:
    assert POPULAR not in notes(one_favourite(tmp_path), tmp_path, {"name": "popularity"})


def test_a_metric_of_whole_sets_of_lists_does_not_compare_policies(tmp_path: Path) -> None:
    said = notes(one_favourite(tmp_path), tmp_path, {"name": "cloning", "lr": 1e-12}, select="avg_popularity@1")
    assert POPULAR not in said
