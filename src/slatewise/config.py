"""A component by its file name; TOML → frozen Config, where an unknown key is an error.

``find("methods", "reinforce")`` is the module ``slatewise.methods.reinforce``; ``find("methods", "mypkg.mine")`` is a
stranger's. There is no registry to edit: the folder is the list.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, overload

import msgspec
import tomli_w

from slatewise.errors import InputError, located
from slatewise.protocols import EncoderModule, EnvModule, MethodModule

C = TypeVar("C")
OtherRoom = Literal["ope", "reproduce", "retrieval"]
DEFINES: Mapping[str, tuple[str, ...]] = {
    "methods": tuple(MethodModule.__annotations__),
    "encoders": tuple(EncoderModule.__annotations__),
    "sim": tuple(EnvModule.__annotations__),
    "reproduce": ("cells", "run", "tell"),
}
"""What a third-party module must define to be a component of a room."""
SplitName = Literal["leave_one_out", "first_share", "by_time", "by_user"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """[data]: which log, and how it is split."""

    path: str
    """Folder of a prepared data set (`slatewise data import` makes one)."""
    split: SplitName = "leave_one_out"
    valid_share: float = 0.1
    test_share: float = 0.2
    split_seed: int = 0
    fingerprint: str | None = None
    """If given, the data set must have it; a run writes it down."""


def components(room: str) -> list[str]:
    """Names of the components in a room, by file name; a leading underscore marks a part, not a component."""
    package = importlib.import_module(f"slatewise.{room}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


@overload
def find(room: Literal["methods"], name: str) -> MethodModule: ...
@overload
def find(room: Literal["encoders"], name: str) -> EncoderModule: ...
@overload
def find(room: Literal["sim"], name: str) -> EnvModule: ...
@overload
def find(room: OtherRoom, name: str) -> ModuleType: ...


def find(room: str, name: str) -> Any:
    """The module of a component.

    Args:
        room: methods, encoders, sim, ….
        name: file name in the room, or the dotted path of a third-party module.

    Raises:
        InputError: no such component; the message lists the ones there are.
    """
    if "." not in name:
        known = components(room)
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            raise located(f'{room} has no "{name}"; {hint}there are: {", ".join(known)}')
        return importlib.import_module(f"slatewise.{room}.{name}")
    try:
        module = importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:  # the latter two: ".name", "name..other"
        raise located(
            f'"{name}" cannot be imported: {error}', advice="A dotted path must be importable from where you are."
        ) from error
    missing = [part for part in DEFINES.get(room, ("Config",)) if part not in vars(module)]
    if missing:
        raise located(f'"{name}" is a module without a {missing[0]}, so it is none of the {room}')
    return module


def read_toml(path: Path) -> dict[str, Any]:
    """Tables of a TOML file.

    Raises:
        InputError: no such file, a file that cannot be read, or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise located("no such file", file=path, advice="Shipped configurations lie in configs/.") from error
    except OSError as error:
        raise located(f"it cannot be read: {error.strerror}", file=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise located(f"no TOML: {error}", file=path) from error


def name_of(table: dict[str, Any], room: str, *, where: str, default: str | None = None) -> str:
    """Name of the component that a table describes.

    Args:
        table: as TOML gives it.
        room: methods, encoders.
        where: name of the table, for messages.
        default: stands where there is no name.

    Raises:
        InputError: no name, or a name that is no string.
    """
    name = table.get("name", default)
    if not isinstance(name, str):
        said = "has no name" if name is None else f"name is {name!r}, which is no string"
        raise located(f"{where} {said}", advice=f"One of: {', '.join(components(room))}.")
    return name


def convert(cls: type[C], table: dict[str, Any], *, where: str) -> C:
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
            near = _nested_keys(key, nested) or difflib.get_close_matches(key, known_keys, n=1)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            raise located(f'{where} has an unknown key "{key}"; {hint}known keys: {", ".join(known_keys)}')
        if key in nested and isinstance(value, dict):
            values[key] = convert(nested[key], value, where=_inner_table(where, key))
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as error:
        # what msgspec calls an object is a table to who writes TOML
        message = str(error).replace("object", "table")
        raise located(f"{where}: {message}", advice="Correct the value and start again.") from error
    except ValueError as error:
        raise located(f"{where}: {error}") from error


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


def override(tables: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """Tables with `a.b=value` assignments put in (values are TOML; a bare word is a string).

    Raises:
        InputError: an assignment without "=", or through something that is no table.
    """
    result: dict[str, Any] = _copy(tables)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise located(f'--set {assignment}: expected KEY=VALUE, for example "method.gamma=0.9"')
        table = result
        *parents, last = path.strip().split(".")
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise located(f'--set {assignment}: "{parent}" is a value, not a table')
        try:
            table[last] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            table[last] = text
    return result


def to_table(config: Any) -> dict[str, Any]:
    """A Config as a table that TOML can hold, with a table for each Config inside it.

    Fields that are None are left out: None is their default.
    """
    return _without_none(dataclasses.asdict(config))


def dump_toml(tables: dict[str, Any]) -> str:
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


__all__ = [
    "DEFINES",
    "DataConfig",
    "InputError",
    "SplitName",
    "components",
    "convert",
    "dump_toml",
    "find",
    "name_of",
    "nested_configs",
    "override",
    "read_toml",
    "to_table",
]
