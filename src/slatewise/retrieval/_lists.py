"""An inverted file of faiss as plain arrays, and back.

faiss reads its own files in C++ without checking what they say; these arrays are checked before it sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TYPES = {
    "centroids": (torch.float32, 2),
    "ranges": (torch.float32, 1),
    "codes": (torch.uint8, 2),
    "ids": (torch.int64, 1),
    "offsets": (torch.int64, 1),
}
"""Type and number of axes of every array."""


def read_lists(index: Any) -> dict[str, Tensor]:
    """The arrays of an index with 8 bits per number.

    Returns:
        centroids (L, E); ranges (2E): smallest value and width of each number; codes (N, E) and ids (N,), list by list;
        offsets (L + 1,): where each list begins.
    """
    lists = index.invlists
    sizes = np.array([lists.list_size(number) for number in range(index.nlist)], np.int64)
    codes = np.empty((int(sizes.sum()), index.code_size), np.uint8)
    ids = np.empty(len(codes), np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    for number in np.flatnonzero(sizes).tolist():
        place = slice(offsets[number], offsets[number + 1])
        size = int(sizes[number])
        codes[place] = faiss.rev_swig_ptr(lists.get_codes(number), size * index.code_size).reshape(size, -1)
        ids[place] = faiss.rev_swig_ptr(lists.get_ids(number), size)
    arrays = {
        "centroids": index.quantizer.reconstruct_n(0, index.nlist),
        "ranges": faiss.vector_to_array(faiss.downcast_index(index).sq.trained),  # type: ignore[attr-defined]
        "codes": codes,
        "ids": ids,
        "offsets": offsets,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def build_lists(arrays: Mapping[str, Tensor]) -> Any:
    """The index that `read_lists` read.

    Raises:
        ValueError: an array that is missing, of another type or shape, not finite, or out of range.
    """
    _check(arrays)
    centroids, codes, ids, offsets = (arrays[name].numpy() for name in ("centroids", "codes", "ids", "offsets"))
    num_lists, width = centroids.shape
    quantizer = faiss.IndexFlatIP(width)
    quantizer.add(np.ascontiguousarray(centroids))
    index = faiss.IndexIVFScalarQuantizer(
        quantizer, width, num_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.own_fields = True
    quantizer.this.disown()  # type: ignore[attr-defined]
    faiss.copy_array_to_vector(arrays["ranges"].numpy(), index.sq.trained)
    index.is_trained = True
    lists: Any = index.invlists
    for number in range(num_lists):
        place = slice(int(offsets[number]), int(offsets[number + 1]))
        if place.start < place.stop:
            held: tuple[NDArray[Any], NDArray[Any]] = (
                np.ascontiguousarray(ids[place]),
                np.ascontiguousarray(codes[place]),
            )
            lists.add_entries(number, len(held[0]), *(faiss.swig_ptr(array) for array in held))
    index.ntotal = len(ids)
    return index


def _check(arrays: Mapping[str, Tensor]) -> None:
    for name, (dtype, axes) in TYPES.items():
        array = arrays.get(name)
        if array is None or array.dtype != dtype or array.ndim != axes:
            stored = "is missing" if array is None else f"has the type {array.dtype} and {array.ndim} axes"
            raise ValueError(f"{name} {stored}; expected {dtype} with {axes}")
        if dtype == torch.float32 and not bool(torch.isfinite(array).all()):
            raise ValueError(f"{name} holds NaN or infinity")
    (num_lists, width), count = arrays["centroids"].shape, len(arrays["ids"])
    offsets, ids = arrays["offsets"], arrays["ids"]
    shapes = {
        "ranges": (2 * width,),
        "codes": (count, width),
        "offsets": (num_lists + 1,),
    }
    for name, shape in shapes.items():
        if tuple(arrays[name].shape) != shape:
            raise ValueError(f"{name} has the shape {tuple(arrays[name].shape)}; expected {shape}")
    if not num_lists or not width:
        raise ValueError("there are no centroids")
    if int(offsets[0]) != 0 or int(offsets[-1]) != count or bool((offsets.diff() < 0).any()):
        raise ValueError(f"offsets do not lead from 0 to {count} without a step back")
    if count and (int(ids.min()) < 0 or len(torch.unique(ids)) < count):
        raise ValueError("ids hold a negative number, or one twice")
