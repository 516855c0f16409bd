"""The items of the video site."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.seeds import stream_seed
from slatewise.sim.drift.config import Config


class Items:
    """The catalog's hidden and visible numbers; row i belongs to item number i, reserved rows are 0."""

    def __init__(self, config: Config) -> None:
        generator = Generator().manual_seed(stream_seed(config.world_seed, 0))

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        count = config.num_items
        centres = normalize(normal(config.num_topics, config.width), dim=1)
        topic = torch.randint(config.num_topics, (count,), generator=generator)
        spread = config.items.topic_spread * normalize(normal(count, config.width), dim=1)
        appeal = normal(count)
        self.centres = centres
        self.topic = _rows(topic)
        self.vector = _rows(normalize(centres[topic] + spread, dim=1))
        self.appeal = _rows(config.items.appeal_std * appeal)
        self.quality = _rows(normal(count))
        self.length = _rows(config.items.length_minutes * torch.exp(config.items.length_spread * normal(count)))
        correlation = config.items.popularity_appeal
        tendency = correlation * appeal + math.sqrt(1 - correlation**2) * normal(count)
        self.popularity_rank = _rows(torch.argsort(torch.argsort(tendency, descending=True)) + 1)
        """1 = most popular."""


def _rows(values: Tensor) -> Tensor:
    return torch.cat([values.new_zeros(FIRST_ITEM, *values.shape[1:]), values])


def item_catalog(config: Config, items: Items) -> Catalog:
    """The items by name, with their topics and vectors."""
    names = pa.array([f"item-{i}" for i in range(1, config.num_items + 1)])
    group = items.topic.numpy().copy() + 1
    group[:FIRST_ITEM] = 0
    return Catalog(
        vocabulary=Vocabulary(names=names),
        text=("",) * (config.num_items + FIRST_ITEM),
        group=group,
        group_names=("", *(f"topic-{g}" for g in range(1, config.num_topics + 1))),
        features=np.ascontiguousarray(items.vector.numpy()),
    )
