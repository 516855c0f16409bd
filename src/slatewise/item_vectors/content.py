"""Content of items as one row of numbers each, which item vectors read beside what is learned of the item itself.

    x_i = [z_i / c ; t_i ; 1] / √n     z: standardised features, t: the text encoder's vector of text and group

Every block has a mean squared norm of 1 over the items that it was fitted to, so that none outweighs another for being
wide; n is their number. What was fitted is kept in `ItemContent.fitted`, and encodes items that come later in the same
way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float

from slatewise.config.sections import ContentKind, ItemsConfig
from slatewise.features import FeatureScale, ItemContent, rescale
from slatewise.language.hashed_text import TextEncoder, fit_text
from slatewise.log import FIRST_ITEM, Catalog


def with_content(catalog: Catalog, settings: ItemsConfig, *, has_events: Bool[np.ndarray, "rows"]) -> Catalog:
    """The catalog with the content that the settings ask for, fitted to all of its items.

    Args:
        catalog: the items.
        settings: which content, and how it is trained.
        has_events: per item number, whether training shows it.

    Raises:
        ValueError: the catalog has no features, or no text.
    """
    if not settings.content:
        return catalog
    fitted: dict[str, np.ndarray] = {}
    if "features" in settings.content:
        features = catalog.features[FIRST_ITEM:]
        if not features.any():
            raise ValueError(
                'items.content names "features", but the catalog has none: import an item table with numbers or '
                'labels, or take content = ["text"]'
            )
        if not np.isfinite(features).all():
            raise ValueError("the catalog's features are not all finite numbers: correct the item table")
        fitted["features.scale"] = np.array(1 / np.sqrt((features.astype(np.float64) ** 2).sum(axis=1).mean()))
    if "text" in settings.content:
        try:
            encoder = fit_text(_texts(catalog), width=settings.text_width)
        except ValueError as error:
            raise ValueError(f'items.content names "text", but {error}') from error
        fitted |= {f"text.{name}": array for name, array in encoder.arrays().items()}
    content = ItemContent(
        values=_encode(catalog, catalog.feature_scales, fitted),
        has_events=_with_reserved(has_events),
        drop=settings.drop,
        fitted=fitted,
    )
    return replace(catalog, content=content)


def with_content_of(
    catalog: Catalog, other: Catalog, *, has_events: Bool[np.ndarray, "rows"], drop: float = 0.0
) -> Catalog:
    """The catalog with content that is encoded as that of another one was, whose items keep theirs.

    Args:
        catalog: the items.
        other: with content.
        has_events: per item number, whether training shows it; items for which the other says so count, too.
        drop: share of learned rows that training leaves out.

    Raises:
        ValueError: features that cannot be compared.
    """
    content = other.content
    assert content is not None
    values = _encode(catalog, other.feature_scales, content.fitted)
    if values.shape[1] != content.values.shape[1]:
        raise ValueError(
            f"the content of the new items has {values.shape[1]} numbers, that of the others {content.values.shape[1]}"
        )
    number = other.vocabulary.encode(catalog.vocabulary.names)
    is_there = np.flatnonzero(number >= FIRST_ITEM)
    values[is_there + FIRST_ITEM] = content.values[number[is_there]]
    has_events = _with_reserved(has_events)
    has_events[is_there + FIRST_ITEM] |= content.has_events[number[is_there]]
    return replace(catalog, content=ItemContent(values=values, has_events=has_events, drop=drop, fitted=content.fitted))


def kinds_of(content: ItemContent) -> tuple[ContentKind, ...]:
    """What a content was made from."""
    return tuple(kind for kind in get_args(ContentKind) if any(name.startswith(kind) for name in content.fitted))


def _encode(
    catalog: Catalog, scales: Sequence[FeatureScale], fitted: Mapping[str, np.ndarray]
) -> Float[np.ndarray, "rows F"]:
    """Rows of content; the last number is the same for every real item.

    Args:
        catalog: the items.
        scales: how the features were standardised that the arrays were fitted to.
        fitted: the arrays.
    """
    blocks = [np.ones((catalog.num_items, 1))]
    if "text.basis" in fitted:
        encoder = TextEncoder.of({name: fitted[f"text.{name}"] for name in ("buckets", "idf", "basis")})
        blocks.insert(0, encoder.encode(_texts(catalog)))
    if "features.scale" in fitted:
        features = rescale(catalog.features[FIRST_ITEM:], catalog.feature_scales, scales)
        blocks.insert(0, features * float(fitted["features.scale"]))
    real = (np.concatenate(blocks, axis=1) / len(blocks) ** 0.5).astype(np.float32)
    return np.concatenate([np.zeros((FIRST_ITEM, real.shape[1]), np.float32), real])


def _texts(catalog: Catalog) -> list[str]:
    """Text of every real item, with the name of its group."""
    groups = [catalog.group_names[group] for group in catalog.group[FIRST_ITEM:].tolist()]
    return [f"{text} {group}" for text, group in zip(catalog.text[FIRST_ITEM:], groups, strict=True)]


def _with_reserved(has_events: Bool[np.ndarray, "rows"]) -> Bool[np.ndarray, "rows"]:
    """The reserved rows are what the method makes of them."""
    result = np.array(has_events, np.bool_)
    result[:FIRST_ITEM] = True
    return result
