"""TOML ↔ tables ↔ frozen Config, where an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tomli_w

from slatewise.errors import input_error
from slatewise.protocols import HasRetiredKeys, Settings

C = TypeVar("C")


def read_toml(path: Path) -> dict[str, object]:
    """Tables of a TOML file.

    Raises:
        InputError: no such file, a file that cannot be read, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise input_error("no such file", file=path, advice="Shipped configurations lie in configs/.") from error
    except OSError as error:
        raise input_error(f"it cannot be read: {error.strerror}", file=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise input_error(f"no TOML: {error}", file=path) from error


def convert(cls: type[C], table: Mapping[str, object], *, where: str, assignments: Sequence[str] = ()) -> C:
    """A frozen Config from a table; a table inside it becomes the Config that its field holds.

    Args:
        cls: dataclass with keyword-only fields, some of which may be such dataclasses, or None.
        table: keys and values as TOML gives them.
        where: name of the table, for messages: "run.toml [method]".
        assignments: `a.b=value` that were put into the tables; a message about one names it in place of the file.

    Raises:
        InputError: unknown key (the nearest known one is named), wrong type, or a value the Config refuses.
    """
    known_keys = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # C is always a dataclass
    nested = nested_configs(cls)
    values = dict(table)
    for key, value in table.items():
        if key not in known_keys:
            place = assignment_of(where, key, assignments) or where
            if isinstance(cls, HasRetiredKeys) and key in cls.retired_keys:
                raise input_error(f'{place} has the key "{key}", which there is no more', advice=cls.retired_keys[key])
            moved, near = _nested_keys(key, nested), difflib.get_close_matches(key, known_keys, n=1)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            if moved:
                paths = " or ".join(f'"{path}"' for path in moved)
                hint = f"write {paths} instead; "
            raise input_error(f'{place} has an unknown key "{key}"; {hint}known keys: {", ".join(known_keys)}')
        if key in nested and isinstance(value, dict):
            values[key] = convert(nested[key], value, where=_inner_table(where, key), assignments=assignments)
    # TOML has times of its own, and a Config holds them as text
    values = {key: value.isoformat() if isinstance(value, date | time) else value for key, value in values.items()}
    try:
        return msgspec.convert(values, cls)
    except ValueError as error:
        # msgspec passes on what a Config refuses as a whole, without a key
        key, message = _in_words(str(error), cls, values)
        place = (assignment_of(where, key.partition("[")[0], assignments) if key else None) or where
        if not key:
            place = with_assignments(where, assignments)
        raise input_error(f"{place}: {message}", advice="Correct the value and start again.") from error


def _in_words(message: str, cls: type[Any], values: Mapping[str, Any]) -> tuple[str, str]:
    """The key that a message of msgspec is about, and the message with the value and what is expected in its place."""
    _, _, path = message.rpartition(" - at `$")
    key = path.strip(".`")
    name = re.split(r"[.\[]", key)[0]
    if name not in values:
        return "", message
    choices = _choices(typing.get_type_hints(cls)[name])
    types_ = re.search(r"Expected `([^`]*)`", message)
    if choices and (types_ is None or types_[1] == "str"):
        listed = ", ".join(map(str, choices[:-1])) + f" or {choices[-1]}"
        expected = f"expected {listed}" if len(choices) > 1 else f"expected {choices[0]}"
    elif types_ is not None:
        words = [_TYPES.get(each.strip(), each.strip()) for each in types_[1].split("|") if each.strip() != "null"]
        expected = f"expected {' or '.join(words)}"
    else:
        expected = message.partition(" - at ")[0]
    return key, f"{key.replace('[...]', '')} is {_quote(values[name], key)}; {expected}"


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}


def _quote(value: Any, key: str) -> str:
    """A value for a message, that of one entry where the key ends with its number."""
    index = re.search(r"\[([0-9]+)\]$", key)
    if index is not None and isinstance(value, list) and int(index[1]) < len(value):
        value = value[int(index[1])]
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def _choices(hint: Any) -> list[Any]:
    """The values that a type allows, of every Literal in it."""
    if typing.get_origin(hint) is typing.Literal:
        return list(typing.get_args(hint))
    return [choice for inner in typing.get_args(hint) for choice in _choices(inner)]


def with_assignments(where: str, assignments: Sequence[str]) -> str:
    """The name of a table, "run.toml [method]", and the assignments to its keys."""
    into = [f"--set {each}" for each in assignments if _path(each).rpartition(".")[0] == _table_path(where)]
    return f"{where} with {', '.join(into)}" if into else where


def assignment_of(where: str, key: str, assignments: Sequence[str]) -> str | None:
    """The last assignment to a key of a table, or to a table around it."""
    path = ".".join(part for part in (_table_path(where), key) if part)
    for assignment in reversed(assignments):
        if f"{path}.".startswith(f"{_path(assignment)}."):
            return f"--set {assignment}"
    return None


def _path(assignment: str) -> str:
    return assignment.partition("=")[0].strip()


def _table_path(where: str) -> str:
    """The path of a table that messages name "run.toml [method.critic]": method.critic."""
    return where[where.rfind("[") + 1 : -1] if where.endswith("]") else ""


def nested_configs(cls: type[Any]) -> dict[str, type[Any]]:
    """Fields that hold a Config (or None, where the table is missing), and which one."""
    configs: dict[str, type[Any]] = {}
    for name, hint in typing.get_type_hints(cls).items():
        choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for choice in choices:
            if isinstance(choice, type) and dataclasses.is_dataclass(choice):
                configs[name] = choice
    return configs


def _nested_keys(key: str, nested: dict[str, type[Any]]) -> list[str]:
    """Where a key stands that is a table too high: `gamma`, or `sample_gamma`, is `sample.gamma`."""
    return [
        f"{name}.{field.name}"
        for name, kind in nested.items()
        for field in dataclasses.fields(kind)
        if key in (field.name, f"{name}_{field.name}")
    ]


def _inner_table(where: str, key: str) -> str:
    """The name of a table inside another: "run.toml [method]" has "run.toml [method.critic]"."""
    return f"{where[:-1]}.{key}]" if where.endswith("]") else f"{where} [{key}]"


def sections(values: Mapping[str, object], *, where: str) -> dict[str, dict[str, object]]:
    """The tables of a file, by name.

    Raises:
        InputError: something that is no table.
    """
    tables: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        if not isinstance(value, dict):
            raise input_error(f"[{name}] is {value!r}, which is no table", file=where)
        tables[name] = dict(value)
    return tables


def override(tables: Mapping[str, object], assignments: Iterable[str]) -> dict[str, object]:
    """Tables with `a.b=value` assignments put in (values are TOML; a bare word is a string).

    Raises:
        InputError: an assignment without "=", or through something that is no table.
    """
    result: dict[str, Any] = _copy(tables)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise input_error(f'--set {assignment}: expected KEY=VALUE, for example "method.gamma=0.9"')
        table = result
        *parents, last = path.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise input_error(f'--set {assignment}: "{parent}" is a value, not a table')
        try:
            table[last] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[last] = text
    return result


def to_table(config: Settings) -> dict[str, object]:
    """A Config as a table that TOML can hold, with a table for each Config inside it.

    Fields that are None are left out: None is their default.
    """
    return _without_none(dataclasses.asdict(config))


def dump_toml(tables: Mapping[str, object], comments: Mapping[str, str] | None = None) -> str:
    """TOML text of tables.

    Args:
        tables: what to write.
        comments: path of a key, such as "method.lr" → what stands in a comment above it.
    """
    lines, table = [], ""
    for line in tomli_w.dumps(tables).splitlines(keepends=True):
        if line.startswith("["):
            table = line.strip()[1:-1] + "."
        comment = (comments or {}).get(table + line.partition(" = ")[0])
        lines += [line] if comment is None else [f"# {comment}\n", line]
    return "".join(lines)


def without_comments(text: str) -> str:
    """Text of `dump_toml` as it is without comments."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
