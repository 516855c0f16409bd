"""Content of items, encoded once and for further items in the same way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from slatewise.config.sections import ItemsConfig
from slatewise.features import FeatureScale
from slatewise.item_vectors.content import kinds_of, with_content, with_content_of
from slatewise.log import Catalog, Vocabulary

SCALES = (FeatureScale(name="price", mean=10.0, deviation=2.0), FeatureScale(name="label:new", mean=0.5, deviation=0.5))


def catalog(names: list[str], features: list[list[float]], scales: tuple[FeatureScale, ...] = SCALES) -> Catalog:
    rows = np.array([[0.0] * len(scales)] * 2 + features, np.float32).reshape(len(names) + 2, -1)
    return Catalog(
        vocabulary=Vocabulary(names=pa.array(names, pa.string())),
        text=("", "", *(f"title {name}" for name in names)),
        group=np.array([0, 0] + [1] * len(names)),
        group_names=("", "things"),
        features=rows,
        feature_scales=scales,
    )


def test_blocks_have_a_mean_squared_norm_of_one_by_hand() -> None:
    # squared norms 1, 4 and 1: mean 2
    items = catalog(["a", "b", "c"], [[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    shown = np.array([False, False, True, True, False])
    content = with_content(items, ItemsConfig(content=("features",), drop=0.25), has_events=shown).content
    assert content is not None
    half = np.sqrt(0.5)  # 1/√2 of the mean norm, and 1/√2 of the two blocks
    expected = np.array([[half, 0, 1], [0, 2 * half, 1], [-half, 0, 1]]) / np.sqrt(2)
    np.testing.assert_allclose(content.values[2:], expected, rtol=1e-6)
    assert not content.values[:2].any()
    assert (content.has_events.tolist(), content.drop) == ([True, True, True, True, False], 0.25)
    assert kinds_of(content) == ("features",)


def test_items_of_another_catalog_are_encoded_on_the_same_scales() -> None:
    first = with_content(
        catalog(["a", "b"], [[1.0, 1.0], [-1.0, -1.0]]),
        ItemsConfig(content=("features", "text"), text_width=4),
        has_events=np.array([False, False, True, False]),
    )
    # the same columns in another order and on other scales; "c" is what "a" is, 12 and 1
    scales = (
        FeatureScale(name="label:new", mean=0.25, deviation=0.25),
        FeatureScale(name="weight", mean=0.0, deviation=1.0),
        FeatureScale(name="price", mean=0.0, deviation=4.0),
    )
    second = catalog(["b", "c", "a"], [[9.0, 9.0, 9.0], [3.0, 5.0, 3.0], [9.0, 9.0, 9.0]], scales)
    joined = with_content_of(second, first, has_events=np.array([False, False, False, True, False]))
    assert joined.content is not None
    assert first.content is not None
    # what the policy knows keeps its content, whatever the other catalog says of it
    np.testing.assert_array_equal(joined.content.values[[4, 2]], first.content.values[[2, 3]])
    np.testing.assert_allclose(joined.content.values[3, :2], first.content.values[2, :2], rtol=1e-6)
    assert joined.content.has_events.tolist() == [True, True, False, True, True]
    assert kinds_of(joined.content) == ("features", "text")


def test_without_content_nothing_is_added() -> None:
    items = catalog(["a"], [[1.0, 0.0]])
    assert with_content(items, ItemsConfig(), has_events=np.ones(3, np.bool_)) is items


@pytest.mark.parametrize(
    ("items", "settings", "message"),
    [
        (
            catalog(["a"], [[]], ()),
            ItemsConfig(content=("features",)),
            r'content names "features", but the catalog has',
        ),
        (catalog(["a"], [[np.nan, 1.0]]), ItemsConfig(content=("features",)), "not all finite"),
        (
            replace(catalog(["a"], [[1.0, 0.0]]), text=("", "", ""), group=np.zeros(3, np.int64)),
            ItemsConfig(content=("text",)),
            r'content names "text", but no item has a text',
        ),
    ],
)
def test_content_that_is_not_there_is_refused(items: Catalog, settings: ItemsConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_content(items, settings, has_events=np.ones(items.num_rows, np.bool_))


def test_features_without_names_cannot_be_compared() -> None:
    first = with_content(
        catalog(["a", "b"], [[1.0, 0.0], [0.0, 1.0]]),
        ItemsConfig(content=("features",)),
        has_events=np.ones(4, np.bool_),
    )
    nameless = replace(catalog(["c"], [[1.0, 0.0]]), feature_scales=())
    with pytest.raises(ValueError, match="2 features without names"):
        with_content_of(nameless, first, has_events=np.ones(3, np.bool_))


@pytest.mark.parametrize("settings", [{"content": ("text", "text")}, {"text_width": 0}, {"drop": 1.0}])
def test_settings_that_are_refused(settings: dict[str, tuple[str, ...] | float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ItemsConfig(**settings)  # type: ignore[arg-type]
