"""A component by its file name.

``find("methods", "reinforce")`` is the module ``slatewise.methods.reinforce``; ``find("methods", "mypkg.mine")`` is a
third-party one. There is no registry to edit: the folder is the list.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, overload

from slatewise.errors import input_error
from slatewise.protocols import EncoderModule, EnvModule, MethodModule

OtherRoom = Literal["ope", "reproduce", "retrieval"]
DEFINES: Mapping[str, tuple[str, ...]] = {
    "methods": tuple(MethodModule.__annotations__),
    "encoders": tuple(EncoderModule.__annotations__),
    "sim": tuple(EnvModule.__annotations__),
    "reproduce": ("cells", "run", "tell"),
}
"""What a third-party module must define to be a component of a room."""


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
        names = components(room)
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f'did you mean "{near[0]}"? ' if near else ""
            raise input_error(f'{room} has no "{name}"; {hint}there are: {", ".join(names)}')
        return importlib.import_module(f"slatewise.{room}.{name}")
    try:
        module = importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:  # the latter two: ".name", "name..other"
        raise input_error(
            f'"{name}" cannot be imported: {error}', advice="A dotted path must be importable from where you are."
        ) from error
    missing = [part for part in DEFINES.get(room, ("Config",)) if part not in vars(module)]
    if missing:
        raise input_error(f'"{name}" is a module without a {missing[0]}, so it is none of the {room}')
    return module


def name_of(table: Mapping[str, object], room: str, *, where: str, default: str | None = None) -> str:
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
        raise input_error(f"{where} {said}", advice=f"One of: {', '.join(components(room))}.")
    return name
