from __future__ import annotations

import numpy as np
import pytest

from slatewise.features import FeatureScale, rescale, standardise


def test_a_column_is_standardised_by_hand() -> None:
    values, scale = standardise(np.array([1.0, 5.0, np.nan]), name="x")
    assert values.tolist() == [-1.0, 1.0, 0.0]
    assert scale == FeatureScale(name="x", mean=3.0, deviation=2.0)


@pytest.mark.parametrize(("column", "mean"), [([4.0, 4.0], 4.0), ([np.nan, np.nan], 0.0)])
def test_a_column_that_says_nothing_is_zero(column: list[float], mean: float) -> None:
    values, scale = standardise(np.array(column), name="x")
    assert not values.any()
    assert (scale.mean, scale.deviation) == (mean, 0.0)


def test_features_on_other_scales_by_hand() -> None:
    a, b = FeatureScale(name="a", mean=3.0, deviation=2.0), FeatureScale(name="b", mean=0.0, deviation=1.0)
    other = (b, FeatureScale(name="a", mean=1.0, deviation=4.0), FeatureScale(name="c", mean=9.0, deviation=3.0))
    # a is 3 + 2·1 = 5, so (5 − 1) / 4 = 1; there is no c
    assert rescale(np.array([[1.0, 7.0]]), (a, b), other).tolist() == [[7.0, 1.0, 0.0]]
    same = np.ones((2, 2))
    assert rescale(same, (a, b), (a, b)) is same
    with pytest.raises(ValueError, match="2 features without names"):
        rescale(same, (), other)
