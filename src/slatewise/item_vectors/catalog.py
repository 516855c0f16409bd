"""Item vectors from the catalog's features."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.log import FIRST_ITEM, Catalog


def catalog_vectors(catalog: Catalog) -> Float[Tensor, "N E"]:
    """The catalog's features, divided by their mean norm.

    Raises:
        ValueError: no features, NaN, an item whose features are all 0, or two items with identical features.
    """
    features = np.ascontiguousarray(catalog.features, dtype=np.float32)
    real = features[FIRST_ITEM:]
    advice = 'correct the features, or learn the vectors: embedding = "learned"'
    if not features.shape[1]:
        raise ValueError('embedding = "catalog", but the catalog has no features; use embedding = "learned"')
    broken = np.flatnonzero(~np.isfinite(real).all(axis=1))
    if len(broken):
        name = catalog.vocabulary.name(int(broken[0]) + FIRST_ITEM)
        raise ValueError(f'the features of item "{name}" hold NaN or infinity ({len(broken)} items): {advice}')
    norm = np.linalg.norm(real, axis=1)
    if not norm.all():
        name = catalog.vocabulary.name(int(np.flatnonzero(norm == 0)[0]) + FIRST_ITEM)
        raise ValueError(f'the features of item "{name}" are all 0, so that it has no direction: {advice}')
    order = np.lexsort(real.T)
    same = np.flatnonzero((real[order[1:]] == real[order[:-1]]).all(axis=1))
    if len(same):
        first, second = (catalog.vocabulary.name(int(order[same[0] + i]) + FIRST_ITEM) for i in (0, 1))
        raise ValueError(
            f'items "{first}" and "{second}" have the same features ({len(same)} such pairs), so that no search can '
            f"distinguish them: {advice}"
        )
    return torch.from_numpy(features / norm.mean())
