"""The documents of interest evolution: their item numbers, and the qualities that they are drawn from."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtri

from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.sim.interest_evolution.config import STOCK, Config


def document_catalog(config: Config) -> Catalog:
    """An item number for every place of the candidate list and every topic."""
    places, topics = config.num_candidates, config.num_topics
    names = [f"place-{place}-topic-{topic:02d}" for place in range(places) for topic in range(topics)]
    topic = np.tile(np.arange(topics), places)
    features = np.zeros((FIRST_ITEM + places * topics, topics), np.float32)
    features[np.arange(len(topic)) + FIRST_ITEM, topic] = 1.0
    return Catalog(
        vocabulary=Vocabulary(names=pa.array(names)),
        text=("",) * (FIRST_ITEM + places * topics),
        group=np.concatenate([np.zeros(FIRST_ITEM, np.int64), topic + 1]),
        group_names=("", *(f"topic-{topic:02d}" for topic in range(topics))),
        features=features,
    )


def document_qualities(config: Config) -> NDArray[np.float32]:
    """Qualities of all documents there are, topic after topic."""
    size = STOCK // config.num_topics
    points = ndtri((np.arange(size) + 0.5) / size)
    spread = config.quality_std * points / points.std()
    stock: NDArray[np.float32] = (config.topic_quality[:, None] + spread).astype(np.float32).ravel()
    return stock
