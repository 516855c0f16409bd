"""Matrix products with the fastest kernel that torch ships for the processor.

On CPUs that are not Intel's, torch's float32 products run MKL's AVX2 kernels; oneDNN, which torch ships as well, uses
AVX-512 there and is 2.5 times as fast (measured on a Zen 5 core: 190 against 76 GFLOP/s). torch has no public way to
ask for it, only the operator its compiler uses; where that is missing, torch's plain product is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_SMALL = 1 << 20
"""Number of multiplications below which the setup costs more than the faster kernel saves."""


def _onednn() -> Callable[..., Any] | None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None)


_FAST = _onednn()


def product(
    x: Float[Tensor, "P D"], weight: Float[Tensor, "M D"], offset: Float[Tensor, " M"] | None = None
) -> Float[Tensor, "P M"]:
    """Compute x weightᵀ + offset; outside automatic differentiation only.

    Args:
        x: rows.
        weight: rows of the second factor; stored row by row or column by column.
        offset: added to every row of the result.
    """
    if _FAST is not None and _suits(x, weight) and not torch.is_grad_enabled():
        result: Tensor = _FAST(x, weight, offset, "none", [], "")
        return result
    return x @ weight.t() if offset is None else torch.addmm(offset, x, weight.t())


def _suits(x: Tensor, weight: Tensor) -> bool:
    # a slice of a larger matrix would use oneDNN's reference kernel, a thousand times slower
    dense = x.is_contiguous() and (weight.is_contiguous() or weight.t().is_contiguous())
    return dense and x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() * len(weight) >= _SMALL
