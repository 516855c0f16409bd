"""The MovieLens ratings that several experiments learn from."""

from __future__ import annotations

from pathlib import Path

from slatewise.data import prepared
from slatewise.errors import input_error

DATA = Path("data/ml-100k")


def fingerprint(folder: Path = DATA) -> str:
    """Fingerprint of the prepared ratings.

    Raises:
        InputError: they are not there; the message says how to fetch them.
    """
    if not prepared.is_prepared(folder):
        raise input_error(
            "MovieLens-100K is not here",
            file=folder,
            advice="Bring it first: slatewise data fetch ml-100k --accept-license",
        )
    return prepared.load(folder).fingerprint
