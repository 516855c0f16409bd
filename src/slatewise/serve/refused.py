"""Requests that cannot be served, in words; no HTTP."""

from __future__ import annotations

from slatewise.errors import InputError, SlatewiseError


class RefusedError(InputError):
    """A request that cannot be served as it is."""

    def __init__(self, error: str, *, expected: str, advice: str) -> None:
        super().__init__(f"{error}; expected {expected}. {advice}")
        self.error = error
        self.expected = expected
        self.advice = advice


class UnknownEventError(RefusedError):
    """An outcome of a slate that was never served here."""


class AbandonedError(SlatewiseError):
    """A request whose answer nobody waits for any more; nothing was recorded."""
