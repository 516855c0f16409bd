"""Counts in sentences: "1 user", "2 users"."""

from __future__ import annotations


def count_of(count: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun in the singular or plural: "1 event", "2,000 events".

    Args:
        count: how many.
        noun: in the singular.
        plural: default the noun with an s.
    """
    return f"{count:,} {agree(count, noun, plural or noun + 's')}"


def agree(count: int, singular: str, plural: str) -> str:
    """The form of a word that agrees with a count.

    Args:
        count: how many.
        singular: for one, such as "is".
        plural: for any other number, such as "are".
    """
    return singular if count == 1 else plural
