"""What every check needs: a failure that says what was expected, and a guard on the global random state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ContractError(AssertionError):
    """A component does not keep what its protocol promises; the message says what was expected and what came."""


def expect(holds: bool, message: str) -> None:
    """Raise ContractError with the message unless it holds."""
    if not holds:
        raise ContractError(message)


def expect_close(actual: Tensor, expected: Tensor, message: str, *, tolerance: float = 1e-5) -> None:
    """The same shape, and the same numbers up to absolute and relative tolerance; 0 asks for the same bits."""
    expect(
        actual.shape == expected.shape,
        f"{message}: the shape is {tuple(actual.shape)}; expected {tuple(expected.shape)}",
    )
    if tolerance == 0:
        same = actual == expected
    else:
        same = torch.isclose(actual.double(), expected.double(), rtol=tolerance, atol=tolerance)
    if not bool(same.all()):
        at = tuple((~same).nonzero()[0].tolist())
        raise ContractError(
            f"{message}: {int((~same).sum())} of {same.numel()} numbers differ; the first one, at {at}, is "
            f"{actual[at].item()!r}; expected {expected[at].item()!r}"
        )


def expect_same_bits(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor], message: str) -> None:
    """Two flat tables of tensors hold the same names and the same bits."""
    missing, surplus = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
    expect(not missing and not surplus, f"{message}: names missing: {missing}; names too many: {surplus}")
    for name, value in expected.items():
        other = actual[name]
        expect(
            other.dtype == value.dtype and other.shape == value.shape,
            f'{message}: "{name}" is {other.dtype} {tuple(other.shape)}; expected {value.dtype} {tuple(value.shape)}',
        )
        expect(bool(torch.equal(_bits(other), _bits(value))), f'{message}: "{name}" holds other numbers')


@contextmanager
def no_global_randomness(name: str) -> Iterator[None]:
    """Inside, nothing may be drawn from the global generators of torch and numpy."""
    states = _global_states()
    yield
    drawn = [source for source, state in _global_states().items() if not _equal(state, states[source])]
    expect(not drawn, f"{name} draws from the global random state of {', '.join(drawn)}; pass a generator along")


def _bits(value: Tensor) -> Tensor:
    # so that NaN equals itself, and −0 is not 0
    return value.contiguous().reshape(-1).view(torch.uint8)


def _global_states() -> dict[str, Any]:
    # run-time type checkers draw from Python's own generator, so that one cannot be guarded
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state()}  # noqa: NPY002  # looked at, not drawn from


def _equal(left_state: Any, right_state: Any) -> bool:
    if isinstance(left_state, Tensor):
        return bool(torch.equal(left_state, right_state))
    if isinstance(left_state, tuple):
        return all(_equal(left, right) for left, right in zip(left_state, right_state, strict=True))
    return bool(np.array_equal(left_state, right_state))
