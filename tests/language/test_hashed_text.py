"""Texts as vectors, without knowledge of their language."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from slatewise.language import hashed_text
from slatewise.language.hashed_text import BUCKETS, TextEncoder, count_hashes, fit_text

KINDS = {
    "english": ("red apple pie", "sweet apple juice", "fresh apples", "grey stone wall", "rolling stones", "stone age"),
    "chinese": ("红苹果派", "甜苹果汁", "新鲜苹果", "灰石头墙", "滚动石头", "石头时代"),
    "russian": ("красное яблоко", "яблочный сок", "свежие яблоки", "каменная стена", "серый камень", "камень века"),
}


def bucket(gram: str) -> int:
    return zlib.crc32(gram.encode()) % BUCKETS


def test_a_word_and_its_n_grams_are_counted_by_hand() -> None:
    counts = count_hashes(["Ab, ab!", "", "…"])
    assert counts.shape == (3, BUCKETS)
    # the word, then " a", "ab", "b ", " ab", "ab ", " ab ", each twice
    expected = {bucket(gram): 2.0 for gram in ("wab", " a", "ab", "b ", " ab", "ab ", " ab ")}
    assert dict(zip(counts[0].indices.tolist(), counts[0].data.tolist(), strict=True)) == expected
    assert counts[1:].nnz == 0


def test_weights_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # words alone, and every one of them counts
    monkeypatch.setattr(hashed_text, "SIZES", ())
    encoder = fit_text(["a b", "a b b", "a", "a"], width=2)
    buckets = [bucket("wa"), bucket("wb")]
    assert encoder.buckets.tolist() == sorted(buckets)
    idf = dict(zip(encoder.buckets.tolist(), encoder.idf.tolist(), strict=True))
    assert idf[buckets[0]] == pytest.approx(1.0)  # ln(5/5) + 1
    assert idf[buckets[1]] == pytest.approx(1.5108256)  # ln(5/3) + 1
    # two words, two dimensions: nothing is lost, so that inner products are those of the weights (1 + ln tf) · idf
    pair = encoder.encode(["a b", "a b b"])
    b = 1.5108256 * (1 + np.log(2))
    expected = (1 + 1.5108256 * b) / np.sqrt((1 + 1.5108256**2) * (1 + b**2))
    assert float(pair[0] @ pair[1]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("language", KINDS)
def test_texts_of_one_kind_are_closer_than_those_of_two_in_any_language(language: str) -> None:
    texts = KINDS[language]
    encoder = fit_text(texts * 3, width=4)
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    products = vectors @ vectors.T
    same = np.arange(6)[:, None] // 3 == np.arange(6) // 3
    assert products[same & ~np.eye(6, dtype=bool)].mean() > products[~same].mean() + 0.3


def test_the_same_texts_give_the_same_numbers_and_arrays_give_them_again() -> None:
    texts = [f"title {number} of kind {number % 3}" for number in range(50)]
    encoder = fit_text(texts, width=8)
    again = fit_text(texts, width=8)
    loaded = TextEncoder.of(encoder.arrays())
    vectors = encoder.encode(texts)
    assert vectors.dtype == np.float32
    for other in (again, loaded):
        np.testing.assert_array_equal(other.encode(texts), vectors)
    # a text does not depend on those beside it
    np.testing.assert_allclose(encoder.encode(texts[7:9]), vectors[7:9], rtol=1e-5, atol=1e-6)


def test_a_text_without_a_known_word_is_zero() -> None:
    encoder = fit_text(["one two", "two three"], width=2)
    assert not encoder.encode(["", "…!", "xyzzyx"]).any()


def test_more_texts_than_are_fitted_are_still_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashed_text, "MOST_TEXTS", 10)
    monkeypatch.setattr(hashed_text, "MOST_BUCKETS", 12)
    texts = [f"title {number}" for number in range(95)]
    encoder = fit_text(texts, width=4)
    assert (encoder.basis.shape[0], len(encoder.buckets)) == (12, 12)
    assert encoder.encode(texts).shape == (95, 4)


@pytest.mark.parametrize(
    ("texts", "width", "message"), [(["a"], 0, "text_width is 0; expected at least 1"), (["", "…"], 3, "no item has a")]
)
def test_what_cannot_be_fitted(texts: list[str], width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_text(texts, width=width)


def test_a_single_text_is_enough() -> None:
    assert fit_text(["lonely words"], width=5).encode(["lonely words"]).tolist() == [[1.0]]
