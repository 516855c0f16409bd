"""TOML ↔ tables ↔ frozen Config, where an unknown key is an error."""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tomli_w

from slatewise.errors import input_error
from slatewise.protocols import HasRetiredKeys, Settings

C = TypeVar("C")


def read_toml(path: Path) -> dict[str, Any]:
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


def convert(cls: type[C], table: Mapping[str, Any], *, where: str) -> C:
    """A frozen Config from a table; a table inside it becomes the Config that its field holds.

    Args:
        cls: dataclass with keyword-only fields, some of which may be such dataclasses, or None.
        table: keys and values as TOML gives them.
        where: name of the table, for messages: "run.toml [method]".

    Raises:
        InputError: unknown key (the nearest known one is named), wrong type, or a value the Config refuses.
    """
    known_keys = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]  # C is always a dataclass
    nested = nested_configs(cls)
    values = dict(table)
    for key, value in table.items():
        if key not in known_keys:
            if isinstance(cls, HasRetiredKeys) and key in cls.retired_keys:
                raise input_error(f'{where} has the key "{key}", which there is no more', advice=cls.retired_keys[key])
            near = _nested_keys(key, nested) or difflib.get_close_matches(key, known_keys, n=1)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            raise input_error(f'{where} has an unknown key "{key}"; {hint}known keys: {", ".join(known_keys)}')
        if key in nested and isinstance(value, dict):
            values[key] = convert(nested[key], value, where=_inner_table(where, key))
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        # msgspec says object of what is a table in TOML
        message = re.sub(r"\bobject\b", "table", str(error))
        raise input_error(f"{where}: {message}", advice="Correct the value and start again.") from error
    except ValueError as error:
        raise input_error(f"{where}: {error}") from error


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
    """Where a key stands that is a table too high."""
    return [
        f"{name}.{key}" for name, kind in nested.items() if key in {field.name for field in dataclasses.fields(kind)}
    ]


def _inner_table(where: str, key: str) -> str:
    """The name of a table inside another: "run.toml [method]" has "run.toml [method.critic]"."""
    return f"{where[:-1]}.{key}]" if where.endswith("]") else f"{where} [{key}]"


def override(tables: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
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


def to_table(config: Settings) -> dict[str, Any]:
    """A Config as a table that TOML can hold, with a table for each Config inside it.

    Fields that are None are left out: None is their default.
    """
    return _without_none(dataclasses.asdict(config))


def dump_toml(tables: Mapping[str, Any]) -> str:
    """TOML text of tables."""
    return tomli_w.dumps(tables)


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
