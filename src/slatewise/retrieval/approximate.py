"""Maximum inner product by faiss: nearly the exact answer, at 10⁶ items about a hundred times as fast.

Up to `flat_below` items every vector is compared, in bfloat16. Above, items lie in lists around centroids (of unit
norm, so that a list is a direction and long vectors do not flee into lists of their own) and only the lists nearest to
the query are read, in 8 bits a number. Items come and go without a new fit; a hash map from item to list entry makes
removing one cost a microsecond.
"""

from __future__ import annotations

import warnings
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
from slatewise.retrieval.recall import LowRecallWarning, RecallReport, measure_recall


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the approximate index."""

    flat_below: int = 200_000
    """Up to this many items at the time of the fit, every vector is compared."""
    lists: int = 4096
    """Centroids; fewer where there are less than 39 items for each."""
    probes: int = 32
    """Lists read for a query; `tune` sets it by the recall it reaches."""
    fit_vectors: int = 160_000
    """Vectors that the centroids are fitted to, drawn at random."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("lists", "probes", "fit_vectors"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


class Approximate:
    """A faiss index; `recall` holds what was last measured."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.probes = self.config.probes
        self.recall: RecallReport | None = None
        self._held = _items.Held()
        self._index: Any = None
        self._lists: Any = None
        self._width = 0

    def __len__(self) -> int:
        return self._held.count

    @property
    def flat(self) -> bool:
        """True where every vector is compared."""
        return self._lists is None

    def fit(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"] | None = None) -> Approximate:
        """Forget all, fit the centroids, hold these.

        Args:
            vectors: one an item; not kept in full precision.
            items: their numbers; None = 0 … N − 1.

        Raises:
            ValueError: NaN, a repeated or negative number, other lengths.
        """
        array, numbers = _items.checked_pair(vectors, items)
        self._width = array.shape[1]
        self._held, self._lists, self.recall = _items.Held(), None, None
        if len(array) <= self.config.flat_below:
            # numbers of the flat form do not depend on the data: nothing to fit
            self._index = faiss.index_factory(self._width, "IDMap,SQbf16", faiss.METRIC_INNER_PRODUCT)
        else:
            self._fit_lists(array)
        self._hold(array, numbers)
        return self

    def search(self, query: Float[Tensor, "B E"], c: int) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]:
        """About the c items of the largest inner product, best first, and nearly that product.

        Where the lists that were read hold fewer than c items, the rest is item 0 with score −inf.

        Raises:
            ValueError: nothing fitted, another width, NaN, or c outside 1 … number of items.
        """
        array = _items.checked_search(query, c, count=len(self), width=self._width)
        if self._lists is not None:
            self._lists.nprobe = self.probes
        scores, items = self._index.search(array, c)
        found_items, found_scores = torch.from_numpy(items), torch.from_numpy(scores)
        if items[:, -1].min(initial=0) < 0:
            missing = found_items < 0
            return found_items.masked_fill(missing, PAD), found_scores.masked_fill(missing, float("-inf"))
        return found_items, found_scores

    def add(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]) -> None:
        """Hold these as well; the centroids stay as they are.

        Raises:
            ValueError: NaN, another width, an item that is held already or comes twice.
        """
        array, numbers = self._fitting(vectors, items)
        _items.refuse_held(self._held, numbers)
        self._hold(array, numbers)

    def remove(self, items: Int[Tensor, " N"]) -> None:
        """Hold these no more. The flat form closes the gaps once a call, so remove many at a time.

        Raises:
            ValueError: one of them is not held; then none is removed.
        """
        numbers = _items.checked_items(items)
        _items.refuse_unheld(self._held, numbers)
        self._drop(numbers)

    def replace(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]) -> None:
        """Give held items new vectors.

        Raises:
            ValueError: NaN, another width, an item that is not held or comes twice; then nothing is changed.
        """
        array, numbers = self._fitting(vectors, items)
        _items.refuse_unheld(self._held, numbers)
        self._drop(numbers)
        self._hold(array, numbers)

    def tune(
        self,
        queries: Float[Tensor, "B E"],
        exact_items: Int[Tensor, "B C"],
        *,
        target: float = 0.95,
    ) -> RecallReport:
        """Read as few lists (a power of two) as reach the target on these queries; measure, keep and return recall.

        Args:
            queries: states that the policy meets, not item vectors.
            exact_items: what `Exact` finds for them.
            target: share of the exact items that must be found.

        Warns:
            LowRecallWarning: the target is out of reach even with every list.
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
        """Measure recall as the index stands, keep and return it.

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
        self._lists.cp.spherical = True
        sample = draw.choice(len(array), min(len(array), max(config.fit_vectors, 39 * lists)), replace=False)
        self._index.train(array[np.sort(sample)])
        self._lists.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]

    def _hold(self, array: NDArray[np.float32], numbers: NDArray[np.int64]) -> None:
        self._index.add_with_ids(array, numbers)
        self._held.put(numbers, np.zeros_like(numbers))

    def _drop(self, numbers: NDArray[np.int64]) -> None:
        self._index.remove_ids(numbers)
        self._held.drop(numbers)

    def _fitting(
        self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if self._index is None:
            raise ValueError("the index is empty; call fit() first")
        if vectors.shape[1] != self._width:
            raise ValueError(f"vectors have width {vectors.shape[1]}, the index has {self._width}")
        return _items.checked_pair(vectors, items)
