"""Numbers that are known of items and users besides their events. Axes: N rows · E features · F content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, kw_only=True)
class FeatureScale:
    """How a column of features was standardised: (value − mean) / deviation."""

    name: str
    mean: float
    deviation: float
    """0 where all values are the same; the feature is 0 then."""


@dataclass(frozen=True, kw_only=True)
class ItemContent:
    """What is known of items besides their events, as one row of numbers each, for item vectors that read it."""

    values: Float[np.ndarray, "rows F"]
    """One row per item number; the reserved rows are 0."""
    has_events: Bool[np.ndarray, "rows"]
    """True where training shows the item; the others have no learned row."""
    drop: float = 0.0
    """Share of learned rows that training leaves out at random, so that content learns to do without them."""
    fitted: Mapping[str, np.ndarray]
    """The arrays that encode further items in the same way (`item_vectors.content`)."""

    def __deepcopy__(self, memo: object) -> ItemContent:
        # nothing changes it: networks that are copied share it
        return self


def standardise(values: Float[np.ndarray, "N"], *, name: str) -> tuple[Float[np.ndarray, "N"], FeatureScale]:
    """A column with mean 0 and standard deviation 1 over its known values; unknown values (NaN) become the mean, 0.

    Args:
        values: of the column; a column in which all known values are the same becomes 0.
        name: of the column.
    """
    is_known = np.isfinite(values)
    if not is_known.any():
        return np.zeros(len(values)), FeatureScale(name=name, mean=0.0, deviation=0.0)
    mean, deviation = float(values[is_known].mean()), float(values[is_known].std())
    scale = FeatureScale(name=name, mean=mean, deviation=deviation)
    centred = np.where(is_known, values - values[is_known].mean(), 0.0)
    return (centred / deviation if deviation > 0 else np.zeros(len(values))), scale


def rescale(
    features: Float[np.ndarray, "N E"], scales: Sequence[FeatureScale], other: Sequence[FeatureScale]
) -> Float[np.ndarray, "N E2"]:
    """Standardised features on other scales, column by column by name; a column that is not there is 0, the mean.

    Args:
        features: one row each.
        scales: of its columns.
        other: the scales to express them on.

    Raises:
        ValueError: columns without names where names are needed to compare them.
    """
    if tuple(scales) == tuple(other):
        return features
    if len(scales) != features.shape[1]:
        raise ValueError(f"{features.shape[1]} features without names cannot be compared with others")
    columns = {scale.name: (features[:, index], scale) for index, scale in enumerate(scales)}
    result = np.zeros((len(features), len(other)), np.float32)
    for place, scale in enumerate(other):
        if scale.name in columns and scale.deviation > 0:
            column, its_scale = columns[scale.name]
            raw = column.astype(np.float64) * its_scale.deviation + its_scale.mean
            result[:, place] = (raw - scale.mean) / scale.deviation
    return result
