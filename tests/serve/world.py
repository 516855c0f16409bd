"""A small real policy, trained by nobody; and what its service wrote, read as the trainer reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor, nn

from slatewise import artifact as artifacts
from slatewise import config as configs
from slatewise.config.run import RunConfig
from slatewise.data import Dataset, import_path
from slatewise.data.batches import trajectories
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary, Windows
from slatewise.serve import Recommender
from slatewise.types import Trajectories

NUM_ITEMS = 40


class Open(Protocol):
    """The fixture `serve`."""

    def __call__(self, run: Path, **options: Any) -> Recommender: ...


def priced(num_items: int = NUM_ITEMS) -> pa.Table:
    """Columns of items: item i costs i, every third is sold out; kinds are a, b, a, b, … but for the last."""
    numbers = range(num_items)
    return pa.table(
        {
            "price": pa.array([float(number) for number in numbers]),
            "in_stock": pa.array([number % 3 > 0 for number in numbers]),
            "kind": pa.array(["ab"[number % 2] for number in numbers[:-1]] + [None]),
        }
    )


def catalog(num_items: int = NUM_ITEMS, *, columns: pa.Table | None = None) -> Catalog:
    """Items i0 … with titles, but for the last one."""
    rows = num_items + FIRST_ITEM
    titles = [f"Title of i{number}" for number in range(num_items - 1)]
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"i{number}" for number in range(num_items)], pa.string())),
        text=("", "", *titles, ""),
        group=np.zeros(rows, np.int64),
        group_names=("",),
        features=np.zeros((rows, 0), np.float32),
        columns=columns,
    )


def save_artifact(
    folder: Path,
    *,
    seed: int = 0,
    num_items: int = NUM_ITEMS,
    tables: dict[str, Any] | None = None,
    simulated: bool = False,
    columns: pa.Table | None = None,
) -> Path:
    """An artifact of a policy with first weights."""
    defaults = {
        "method": {"name": "cloning"},
        "encoder": {
            "name": "gru",
            "width": 8,
            "item_width": 6,
            "reward_edges": [1.0, 3.0],
            "context_width": 0,
        },
    }
    config = RunConfig.from_tables(defaults | (tables or {}))
    items = catalog(num_items, columns=columns)
    generator = Generator().manual_seed(seed)
    encoder = configs.find("encoders", config.encoder.name).Encoder(config.encoder.settings, items, generator=generator)
    policy = configs.find("methods", config.method.name).Policy(
        config.method.settings, encoder, items, generator=generator
    )
    assert isinstance(policy, nn.Module)
    with torch.no_grad():
        for weight in policy.parameters():
            # so that states differ visibly, and a stranger's items too
            weight.mul_(3.0).add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    source = artifacts.Source(name="toy", simulated=simulated)
    artifacts.save(folder, policy=policy, catalog=items, config=config, metrics={}, source=source)
    return folder


def imported(events: Path, out: Path) -> Dataset:
    """The folder of events, as `data import` reads it."""
    return import_path(events, out)


def history(dataset: Dataset, user_id: str) -> Trajectories:
    """Everything one user did, as the trainer reads it."""
    number = dataset.users.number(user_id)
    count = np.diff(dataset.interactions.user_offsets)[number]
    whole = Windows(user=np.array([number]), start=np.array([0]), learn=np.array([0]), stop=np.array([count]))
    return trajectories(dataset.interactions, whole)


def in_numbers_of(items: Catalog, dataset: Dataset, past: Trajectories) -> Trajectories:
    """The same history in the item numbers of another catalog."""
    number = np.concatenate([[0, 1], items.vocabulary.encode(dataset.catalog.vocabulary.names)])
    return past.replace(slate=torch.from_numpy(number)[past.slate])


def state_of(recommender: Recommender, dataset: Dataset, user_id: str, step: int) -> Tensor:
    """(1, D): what the encoder's `forward` makes of a user's log before a step; −1 = after all of it."""
    artifact = recommender.artifact
    past = in_numbers_of(artifact.catalog, dataset, history(dataset, user_id))
    with torch.inference_mode():
        states: Tensor = artifact.policy.encoder(past)
    return states[:, step]
