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
    """Differences in value; and what is only called otherwise or is new, which changes no value.

    Values stand beside each other by name; what then is left over on both sides, by its order: within a case (the words
    before the last bar), and over all cases whose names the other side does not have. A null counts as no value.

    Args:
        recorded: names and values, every name once.
        present: the same of today.
        rename: a recorded name in today's words.
    """
    old = {rename(name): value for name, value in recorded if value is not None}
    if len(old) != sum(value is not None for _, value in recorded):
        raise ValueError("renamed.json gives two values the same name")
    new = {name: value for name, value in present if value is not None}
    lines = [_line(name, old[name], new[name]) for name in old if name in new and _text(old[name]) != _text(new[name])]
    pairs, missing, added = _pairs(list(old), list(new))
    notes = []
    for old_name, new_name in pairs:
        if _text(old[old_name]) == _text(new[new_name]):
            notes.append(f"{old_name} → {new_name}, the same value")
        else:
            lines.append(_line(f"{old_name} → {new_name}", old[old_name], new[new_name]))
    lines += [f"{name}: was {_text(old[name])[:LONGEST]}, is gone" for name in missing]
    notes += [f"{name}: is new, {_text(new[name])[:LONGEST]}" for name in added]
    return lines, notes


def _pairs(old: list[str], new: list[str]) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Names of one side alone that stand beside each other by their order; and what is left over on either side."""
    old_cases, new_cases = set(map(_case, old)), set(map(_case, new))

    def group(name: str) -> str | None:
        # None: of a case that is called otherwise on the other side
        case = _case(name)
        return case if case in old_cases & new_cases else None

    missing, added = sorted(set(old) - set(new), key=old.index), sorted(set(new) - set(old), key=new.index)
    pairs: list[tuple[str, str]] = []
    for case in dict.fromkeys(map(group, missing)):
        both = ([name for name in names if group(name) == case] for names in (missing, added))
        pairs += zip(*both, strict=False)
    old_names, new_names = {name for name, _ in pairs}, {name for _, name in pairs}
    missing = [name for name in missing if name not in old_names]
    return pairs, missing, [name for name in added if name not in new_names]


def _case(name: str) -> str:
    return name.rpartition(" | ")[0]


def _line(name: str, old: Any, new: Any) -> str:
    return f"{name}\n    old {_text(old)[:LONGEST]}\n    new {_text(new)[:LONGEST]}"


def _text(value: Any) -> str:
    # the shortest text that reads back as the same bits; unlike ==, it tells 0.0 from −0.0 and equals itself for NaN
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
