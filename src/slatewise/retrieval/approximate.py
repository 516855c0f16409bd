"""Approximate maximum inner product search by faiss; at 10⁶ items about a hundred times as fast as exact search.

Up to `flat_below` items every vector is compared, in bfloat16. Above, an inverted file holds the items in lists around
centroids (of unit norm, so that a list is a direction and long vectors do not gather in lists of their own), and only
the lists nearest to the query are read, with 8 bits per number. Items are added and removed without fitting again; a
hash map from item to list entry lets one be removed in a microsecond.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from slatewise.log import PAD
from slatewise.retrieval import _items
from slatewise.retrieval._lists import build_lists, read_lists
from slatewise.retrieval.recall import LowRecallWarning, RecallReport, measure_recall


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the approximate index."""

    flat_below: int = 200_000
    """Up to this many items at the time of the fit, every vector is compared."""
    lists: int = 4096
    """Centroids; fewer where there are less than 39 items for each (faiss warns below that)."""
    probes: int = 32
    """Lists read per query; `tune` sets it from the recall reached."""
    fit_vectors: int = 160_000
    """Number of vectors, drawn at random, that the centroids are fitted to."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lists", "probes", "fit_vectors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


class Approximate:
    """A faiss index with updates; `recall` holds the last measurement."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.probes = self.config.probes
        self.recall: RecallReport | None = None
        self._positions = _items.ItemPositions()
        self._index: Any = None
        self._lists: Any = None
        self._width = 0

    def __len__(self) -> int:
        return self._positions.count

    @property
    def lists(self) -> int:
        """Number of lists; 0 for the flat form."""
        return 0 if self._lists is None else int(self._lists.nlist)

    @property
    def width(self) -> int:
        """E"""
        return self._width

    @property
    def flat(self) -> bool:
        """True where every vector is compared."""
        return self._lists is None

    def fit(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"] | None = None) -> Approximate:
        """Replace the index: fit the centroids and add these vectors.

        Args:
            vectors: (N, E) one per item; not stored in full precision.
            items: (N,) their numbers; None = 0 … N − 1.

        Raises:
            ValueError: NaN, a repeated or negative number, or different lengths.
        """
        array, numbers = _items.checked_pair(vectors, items)
        self._width = array.shape[1]
        self._positions, self._lists, self.recall = _items.ItemPositions(), None, None
        if len(array) <= self.config.flat_below:
            # the flat form has no parameters that depend on the data: nothing to fit
            self._index = faiss.index_factory(self._width, "IDMap,SQbf16", faiss.METRIC_INNER_PRODUCT)
        else:
            self._fit_lists(array)
        self._hold(array, numbers)
        return self

    def arrays(self) -> dict[str, Tensor]:
        """Everything an index with lists is made of, as `from_arrays` reads it.

        Raises:
            ValueError: the flat form, which follows from the vectors.
        """
        if self._lists is None:
            raise ValueError("the flat form has nothing to keep; fit it again")
        return read_lists(self._lists) | {"probes": torch.tensor(self.probes)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Tensor], config: Config | None = None) -> Approximate:
        """The index that `arrays` was read from; it answers every query alike.

        Args:
            arrays: as `arrays` gives them. They come from a file, so everything is checked: faiss trusts its input.
            config: of later fits.

        Raises:
            ValueError: arrays that make no index.
        """
        index = cls(config)
        index._index = index._lists = build_lists(arrays)
        index._width = index._lists.d
        probes = int(arrays["probes"]) if "probes" in arrays and not arrays["probes"].ndim else 0
        if not 1 <= probes <= index._lists.nlist:
            raise ValueError(f"probes is {probes}; expected 1 … {index._lists.nlist}")
        index.probes = probes
        numbers = arrays["ids"].numpy()
        index._positions.put(numbers, np.zeros_like(numbers))
        return index

    def search(self, query: Float[Tensor, "B E"], c: int) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Approximately the c items with the largest inner product, best first, and their approximate inner products.

        Where the lists that were read hold fewer than c items, the rest is item 0 with score −inf.

        Raises:
            ValueError: empty index, another width, NaN, or c outside 1 … number of items.
        """
        array = _items.checked_search(query, c, count=len(self), width=self._width)
        if self._lists is not None:
            self._lists.nprobe = self.probes
        scores, items = self._index.search(array, c)
        found_items, found_scores = torch.from_numpy(items), torch.from_numpy(scores)
        # faiss fills the end of a short answer with item −1
        if items[:, -1].min(initial=0) < 0:
            missing = found_items < 0
            return found_items.masked_fill(missing, PAD), found_scores.masked_fill(missing, float("-inf"))
        return found_items, found_scores

    def add(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]) -> None:
        """Add items to the index; the centroids do not change.

        Raises:
            ValueError: NaN, another width, or an item that is in the index already or repeated.
        """
        array, numbers = self._check_pair(vectors, items)
        _items.refuse_present(self._positions, numbers)
        self._hold(array, numbers)

    def remove(self, items: Int[Tensor, " N"]) -> None:
        """Remove items. The flat form closes its gaps once per call, so remove many at a time.

        Raises:
            ValueError: an item is not in the index; then none is removed.
        """
        numbers = _items.checked_items(items)
        _items.positions_of(self._positions, numbers)
        self._drop(numbers)

    def replace(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]) -> None:
        """Give items of the index new vectors.

        Raises:
            ValueError: NaN, another width, or an item that is not in the index or repeated; then nothing changes.
        """
        array, numbers = self._check_pair(vectors, items)
        _items.positions_of(self._positions, numbers)
        self._drop(numbers)
        self._hold(array, numbers)

    def tune(
        self,
        queries: Float[Tensor, "B E"],
        exact_items: Int[Tensor, "B C"],
        *,
        target: float = 0.95,
    ) -> RecallReport:
        """Set `probes` to the smallest power of two that reaches the target recall; returns the recall.

        Args:
            queries: (B, E) states that the policy meets, not item vectors.
            exact_items: (B, C) what `Exact` returns for them.
            target: share of the exact items to retrieve.

        Warns:
            LowRecallWarning: the target is not reached even when every list is read.
        """
        if self._lists is None:
            return self.check(queries, exact_items, target=target)
        self.probes = 1
        report = measure_recall(self, queries, exact_items, target=target)
        while report.recall < target and self.probes < self._lists.nlist:
            self.probes = min(2 * self.probes, int(self._lists.nlist))
            report = measure_recall(self, queries, exact_items, target=target)
        return self._keep(report)

    def check(
        self, queries: Float[Tensor, "B E"], exact_items: Int[Tensor, "B C"], *, target: float = 0.95
    ) -> RecallReport:
        """Measure recall without changing the index, store and return it.

        Args:
            queries: (B, E) states that the policy meets, not item vectors.
            exact_items: (B, C) what `Exact` returns for them.
            target: share of the exact items to retrieve.

        Warns:
            LowRecallWarning: below the target; fit again, or tune.
        """
        return self._keep(measure_recall(self, queries, exact_items, target=target))

    def _keep(self, report: RecallReport) -> RecallReport:
        self.recall = report
        if not report.holds:
            warnings.warn(
                f"recall@{report.depth} of the approximate index is {report.recall:.3f} on {report.queries} queries, "
                f"below {report.target}: the policy will not see all of its best items. Fit the index again, read more "
                "lists (probes), or use the exact retriever.",
                LowRecallWarning,
                stacklevel=3,
            )
        return report

    def _fit_lists(self, array: NDArray[np.float32]) -> None:
        config = self.config
        draw = np.random.default_rng(config.seed)
        lists = min(config.lists, max(1, len(array) // 39))
        self._index = faiss.index_factory(self._width, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        self._lists = faiss.extract_index_ivf(self._index)
        self._lists.cp.seed = config.seed
        # unit norm: a list is a direction, and long vectors do not gather in lists of their own
        self._lists.cp.spherical = True
        sample = draw.choice(len(array), min(len(array), max(config.fit_vectors, 39 * lists)), replace=False)
        self._index.train(array[np.sort(sample)])

    def _hold(self, array: NDArray[np.float32], numbers: NDArray[np.int64]) -> None:
        self._index.add_with_ids(array, numbers)
        self._positions.put(numbers, np.zeros_like(numbers))

    def _drop(self, numbers: NDArray[np.int64]) -> None:
        if self._lists is not None and self._lists.direct_map.type == faiss.DirectMap.NoMap:  # type: ignore[attr-defined]
            # a map from item to entry, without which a removal reads every list; most indexes never remove
            self._lists.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
        self._index.remove_ids(numbers)
        self._positions.drop(numbers)

    def _check_pair(
        self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if self._index is None:
            raise ValueError("the index is empty; call fit() first")
        if vectors.shape[1] != self._width:
            raise ValueError(f"vectors have width {vectors.shape[1]}, the index has {self._width}")
        return _items.checked_pair(vectors, items)
