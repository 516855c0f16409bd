"""Texts as vectors: hashed words and character n-grams, TF-IDF, truncated SVD.

    x = Bᵀ w / ‖Bᵀ w‖      w ∝ (1 + ln tf) · idf, of unit length; B: the first right singular vectors of the texts' w

Latent semantic analysis (Deerwester et al. 1990) over n-grams of characters, so that it needs no list of words, no
dictionary and no knowledge of the language: 2 to 4 characters of each word, with its borders, and the word itself.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

BUCKETS = 1 << 18
"""Numbers that a hash can have."""
MOST_BUCKETS = 1 << 16
"""Of these, how many are kept at most: those in most texts."""
MOST_TEXTS = 20_000
"""Texts that an encoder is fitted to at most, evenly spaced; the others are only encoded."""
SIZES = (2, 3, 4)
"""Characters of an n-gram."""
_WORD = re.compile(r"\w+")
_OVERSAMPLING = 10
_ROUNDS = 3
"""Extra columns and rounds of the randomised SVD (Halko, Martinsson & Tropp 2011)."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """Texts → vectors of unit length; of a text without a known word or n-gram, 0."""

    buckets: Int[np.ndarray, "V"]
    """Hashes that count, ascending."""
    idf: Float[np.ndarray, "V"]
    """ln((1 + n) / (1 + df)) + 1 of each."""
    basis: Float[np.ndarray, "V E"]
    """Right singular vectors."""

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "N E"]:
        """One row per text."""
        vectors = _tf_idf(count_hashes(texts)[:, self.buckets], self.idf) @ self.basis
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Float[np.ndarray, "N E"] = (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
        return unit

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that it is made of."""
        return {"buckets": self.buckets, "idf": self.idf, "basis": self.basis}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> TextEncoder:
        """The encoder of these arrays."""
        return cls(buckets=arrays["buckets"], idf=arrays["idf"], basis=arrays["basis"])


def fit_text(texts: Sequence[str], *, width: int) -> TextEncoder:
    """An encoder fitted to some texts; the same texts give the same encoder.

    Args:
        texts: the order does not matter unless there are more than MOST_TEXTS.
        width: E; fewer where the texts have fewer independent words.

    Raises:
        ValueError: a width below 1, or no text with a word.
    """
    if width < 1:
        raise ValueError(f"text_width is {width}; expected at least 1")
    texts = [text for text in texts if _WORD.search(text)]
    if not texts:
        raise ValueError("no item has a text with a word in it")
    step = -(-len(texts) // MOST_TEXTS)
    counts = count_hashes(texts[::step])
    texts_with = np.bincount(counts.indices, minlength=BUCKETS)
    # what a single text has says nothing about another
    shared = np.flatnonzero(texts_with >= min(2, int(texts_with.max())))
    buckets = np.sort(shared[np.argsort(-texts_with[shared], kind="stable")[:MOST_BUCKETS]])
    idf = np.log((1 + counts.shape[0]) / (1 + texts_with[buckets])) + 1
    basis = _singular_vectors(_tf_idf(counts[:, buckets], idf), width)
    return TextEncoder(buckets=buckets, idf=idf.astype(np.float32), basis=basis.astype(np.float32))


def count_hashes(texts: Sequence[str]) -> sparse.csr_matrix:
    """How often each text has each hash, (N, BUCKETS)."""
    of_word: dict[str, list[int]] = {}
    indices: list[int] = []
    ends = [0]
    for text in texts:
        for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
            hashes = of_word.get(word)
            if hashes is None:
                hashes = of_word[word] = _hashes(word)
            indices += hashes
        ends.append(len(indices))
    counts = sparse.csr_matrix(
        (np.ones(len(indices), np.float32), np.array(indices, np.int32), np.array(ends)), shape=(len(texts), BUCKETS)
    )
    counts.sum_duplicates()
    return counts


def _hashes(word: str) -> list[int]:
    """Numbers of a word and of its n-grams."""
    bordered = f" {word} "
    grams = [bordered[at : at + size] for size in SIZES for at in range(len(bordered) - size + 1)]
    # a word of two letters is an n-gram, too: the mark keeps them apart
    return [zlib.crc32(gram.encode()) % BUCKETS for gram in (f"w{word}", *grams)]


def _tf_idf(counts: sparse.csr_matrix, idf: Float[np.ndarray, "V"]) -> sparse.csr_matrix:
    """(1 + ln tf) · idf, rows of unit length."""
    weighted = counts.copy()
    weighted.data = (1 + np.log(weighted.data)) * idf[weighted.indices]
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.diags(1 / np.where(length > 0, length, 1.0)).tocsr() @ weighted


def _singular_vectors(matrix: sparse.csr_matrix, width: int) -> Float[np.ndarray, "V E"]:
    """The first right singular vectors, by subspace iteration from a fixed start."""
    width = min(width, *matrix.shape)
    columns = min(width + _OVERSAMPLING, *matrix.shape)
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], columns), dtype=np.float32)
    left = np.linalg.qr(matrix @ start)[0]
    for _ in range(_ROUNDS):
        left = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ left)[0])[0]
    _, _, right = np.linalg.svd((matrix.T @ left).T, full_matrices=False)
    right = right[:width]
    # a singular vector has no sign of its own
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    return np.ascontiguousarray((right * signs[:, None]).T)
