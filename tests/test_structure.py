"""The limits of the structure: lines of a file and of a function, keys of a Config, typed values between rooms.

Each limit has a list of what is over it today. Nothing may be added to a list.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src" / "slatewise"

FILE_LINES = 400
MEDIAN_FILE_LINES = 130
FUNCTION_LINES = 60
"""With its docstring, without decorators."""
CONFIG_KEYS = 16

FOREIGN_SIGNATURES = {"state_dict", "load_state_dict", "reset", "step"}
"""Methods that PyTorch and Gymnasium define."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    name: str
    lines: int
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.removeprefix("slatewise").lstrip(".").partition(".")[0]


def read_modules() -> list[Module]:
    modules = []
    for file in sorted(SOURCES.rglob("*.py")):
        parts = file.relative_to(SOURCES.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        source = file.read_text("utf-8")
        modules.append(Module(name, len(source.splitlines()), ast.parse(source)))
    return modules


MODULES = read_modules()


def function_lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def config_keys(config: ast.ClassDef) -> int:
    fields = [statement for statement in config.body if isinstance(statement, ast.AnnAssign)]
    return sum("ClassVar" not in ast.unparse(field.annotation) for field in fields)


def is_untyped(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [argument.annotation for argument in arguments] + [function.returns]
    texts = [ast.unparse(annotation) for annotation in annotations if annotation is not None]
    return any("dict[str, Any]" in text or "Mapping[str, Any]" in text for text in texts)


def imports_across_rooms(modules: list[Module]) -> Iterator[tuple[str, str]]:
    """Module and name of whatever one room takes from a module of another."""
    names = {module.name: module for module in modules}
    for module in modules:
        aliases = {}
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module in names:
                for alias in node.names:
                    if f"{node.module}.{alias.name}" in names:
                        aliases[alias.asname or alias.name] = names[f"{node.module}.{alias.name}"]
                    elif names[node.module].room != module.room:
                        yield node.module, alias.name
        for node in ast.walk(module.tree):
            match node:
                case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in aliases:
                    if aliases[name].room != module.room:
                        yield aliases[name].name, attribute


def untyped_signatures(modules: list[Module]) -> set[str]:
    """Functions and public methods that other rooms use and that take or return a dictionary of anything."""
    definitions: dict[tuple[str, str], ast.stmt] = {}
    origins: dict[tuple[str, str], tuple[str, str]] = {}
    for module in modules:
        for statement in module.tree.body:
            if isinstance(statement, Function | ast.ClassDef):
                definitions[module.name, statement.name] = statement
            elif isinstance(statement, ast.ImportFrom) and statement.module is not None:
                for alias in statement.names:
                    origins[module.name, alias.asname or alias.name] = statement.module, alias.name
    hits = set()
    for imported in set(imports_across_rooms(modules)):
        origin = imported
        while origin not in definitions and origin in origins:
            origin = origins[origin]
        path = ".".join(origin)
        match definitions.get(origin):
            case ast.FunctionDef() | ast.AsyncFunctionDef() as function if is_untyped(function):
                hits.add(path)
            case ast.ClassDef(body=body):
                methods = [method for method in body if isinstance(method, Function) and is_untyped(method)]
                hits |= {
                    f"{path}.{method.name}"
                    for method in methods
                    if not method.name.startswith("_") and method.name not in FOREIGN_SIGNATURES
                }
    return hits


def over(limit: int, counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count > limit}


def test_no_file_is_long() -> None:
    assert over(FILE_LINES, {module.name: module.lines for module in MODULES}) == {}


def test_the_median_file_is_short() -> None:
    assert statistics.median(module.lines for module in MODULES) <= MEDIAN_FILE_LINES


def test_no_function_is_long() -> None:
    counts = {
        f"{module.name}.{node.name}": function_lines(node)
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, Function)
    }
    assert over(FUNCTION_LINES, counts) == {}


def test_no_config_has_many_keys() -> None:
    counts = {
        f"{module.name}.{node.name}": config_keys(node)
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config")
    }
    assert over(CONFIG_KEYS, counts) == {}


def test_no_dictionary_of_anything_crosses_rooms() -> None:
    assert untyped_signatures(MODULES) == set()


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("slatewise.b", "from slatewise.a import f", {"slatewise.a.f"}),
        ("slatewise.b.c", "from slatewise import a\na.f(1)", {"slatewise.a.f"}),
        ("slatewise.b", "from slatewise.a import A", {"slatewise.a.A.g"}),
        ("slatewise.b", "from slatewise.a.again import g", {"slatewise.a.f"}),
        ("slatewise.b", "from slatewise.a import typed", set()),
        ("slatewise.a.c", "from slatewise.a import f, A", set()),
    ],
)
def test_an_untyped_signature_is_reported_where_another_room_uses_it(
    name: str, source: str, expected: set[str]
) -> None:
    package = Module("slatewise", 0, ast.parse(""))
    used = Module(
        "slatewise.a",
        0,
        ast.parse(
            "def f(x: dict[str, Any] | None) -> int: ...\n"
            "def typed(x: dict[str, int]) -> int: ...\n"
            "class A:\n"
            "    def g(self) -> list[Mapping[str, Any]]: ...\n"
            "    def state_dict(self) -> dict[str, Any]: ...\n"
            "    def _h(self) -> dict[str, Any]: ...\n"
        ),
    )
    again = Module("slatewise.a.again", 0, ast.parse("from slatewise.a import f as g"))
    assert untyped_signatures([package, used, again, Module(name, 0, ast.parse(source))]) == expected


def test_lines_are_counted_with_docstrings_and_keys_without_constants() -> None:
    function, config = ast.parse(
        'def f(\n    x: int,\n) -> int:\n    """One.\n\n    Two.\n    """\n    return x\n'
        "class Config:\n    a: int = 1\n    b: ClassVar[int] = 2\n    def c(self) -> None: ...\n"
    ).body
    assert isinstance(function, ast.FunctionDef)
    assert isinstance(config, ast.ClassDef)
    assert function_lines(function) == 8
    assert config_keys(config) == 1
