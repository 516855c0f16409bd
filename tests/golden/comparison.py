"""Two lists of named values: what differs in value, and what differs in name alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Entry = tuple[str, Any]
"""Name and value."""
LONGEST = 1000
"""Characters of a value that are printed."""


def name_changes(table: Mapping[str, str]) -> Callable[[str], str]:
    """A name of the recorded values in the words of today: every regular expression of the table, in its order."""

    def name(old: str) -> str:
        for pattern, new in table.items():
            old = re.sub(pattern, new, old)
        return old

    return name


def differences(
    recorded: Sequence[Entry], present: Sequence[Entry], rename: Callable[[str], str] = str
) -> tuple[list[str], list[str]]:
    """Differences in value, and those in name alone.

    Values stand beside each other by name; what then is left over on both sides, by its order.

    Args:
        recorded: names and values, every name once.
        present: the same of today.
        rename: a recorded name in today's words.
    """
    old = {rename(name): value for name, value in recorded}
    if len(old) != len(recorded):
        raise ValueError("renamed.json gives two values the same name")
    new = dict(present)
    lines = [_line(name, old[name], new[name]) for name in old if name in new and _text(old[name]) != _text(new[name])]
    missing = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    moved = []
    for old_name, new_name in zip(missing, added, strict=False):
        if _text(old[old_name]) == _text(new[new_name]):
            moved.append(f"{old_name} → {new_name}, the same value")
        else:
            lines.append(_line(f"{old_name} → {new_name}", old[old_name], new[new_name]))
    lines += [f"{name}: was {_text(old[name])[:LONGEST]}, is gone" for name in missing[len(added) :]]
    lines += [f"{name}: is new, {_text(new[name])[:LONGEST]}" for name in added[len(missing) :]]
    return lines, moved


def _line(name: str, old: Any, new: Any) -> str:
    return f"{name}\n    old {_text(old)[:LONGEST]}\n    new {_text(new)[:LONGEST]}"


def _text(value: Any) -> str:
    # the shortest text that reads back as the same bits; unlike ==, it tells 0.0 from −0.0 and equals itself for NaN
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
