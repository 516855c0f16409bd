"""What a digest of code needs to know of a source file, read off its syntax tree; nothing is imported."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# put together: ".toml" as a string would name every configuration, and every experiment imports this file
_TOML = "." + "toml"
_WORD = re.compile(rf"[\w.-]*{re.escape(_TOML)}\b|\w+")


@dataclass(frozen=True, kw_only=True)
class Import:
    """One name that an import statement binds."""

    local: str
    """"" where only the module is loaded."""
    module: str
    attribute: str
    """Name in the module; "" where the module itself is bound."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file."""

    tree: str
    """Digest of the syntax tree; "" where only docstrings and imports stand."""
    imports: tuple[Import, ...]
    loads: frozenset[str]
    """Names of the package around it and of what may be modules that it imports."""
    uses: Mapping[str, frozenset[str]]
    """Name → the attributes that are taken of it, and "" for the name itself."""
    defines: frozenset[str]
    """Functions and classes, and what is imported."""
    finders: frozenset[str]
    """Functions that import a module whose name they are given."""
    calls: frozenset[tuple[str, str]]
    """Imported functions that are called, each with its first argument where that is a text, else with "*"."""
    words: frozenset[str]
    """Of strings that are no prose."""


def parse(name: str, file: Path) -> Source:
    """Read one file.

    Args:
        name: dotted name of the module.
        file: its source.
    """
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    package = name if file.stem == "__init__" else name.rpartition(".")[0]
    imports: list[Import] = []
    uses: dict[str, set[str]] = {}
    calls: list[tuple[str, str, str]] = []
    words: set[str] = set()
    docstrings: set[int] = set()
    # one walk, for speed; a node comes before those inside it
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=local):
                uses.setdefault(local, set()).add("")
            case ast.Attribute(value=ast.Name(id=local), attr=attribute):
                uses.setdefault(local, set()).add(attribute)
            # messages mention components too; what sets one ("method.name = 'random'") has no space or a "="
            case ast.Constant(value=str(string)) if (" " not in string or "=" in string) and id(node) not in docstrings:
                words |= words_of(string)
            case ast.Call(func=ast.Name(id=local)):
                calls.append((local, "", _first_argument(node)))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=local), attr=function)):
                calls.append((local, function, _first_argument(node)))
            case ast.Import() | ast.ImportFrom():
                imports += _imports(node, package)
            case ast.Expr(value=ast.Constant(value=str()) as docstring):
                docstrings.add(id(docstring))
        if isinstance(node, ast.mod | ast.stmt | ast.ExceptHandler | ast.match_case):
            for block in ("body", "orelse", "finalbody"):
                if statements := vars(node).get(block):
                    setattr(node, block, [statement for statement in statements if not _is_left_out(statement)])
    original = {entry.local: entry.attribute or entry.local for entry in imports}
    return Source(
        tree=sha(ast.dump(tree)) if tree.body else "",
        imports=tuple(imports),
        loads=frozenset({package, *(part for entry in imports for part in _modules(entry))}),
        uses={local: frozenset(attributes) for local, attributes in uses.items()},
        defines=frozenset(
            {entry.local for entry in imports}
            | {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        ),
        finders=frozenset(_finders(tree)) if "import_module" in text or "__import__" in text else frozenset(),
        calls=frozenset((function or original[local], room) for local, function, room in calls if local in original),
        words=frozenset(words),
    )


def words_of(value: object) -> set[str]:
    """Words of all texts in nested tables and lists, keys included; the name of a TOML file is one word."""
    if isinstance(value, str):
        return set(_WORD.findall(value))
    if isinstance(value, Mapping):
        return words_of([*value, *value.values()])
    return {word for inner in value for word in words_of(inner)} if isinstance(value, list | tuple) else set()


def is_toml(word: str) -> bool:
    """Whether a word names a TOML file."""
    return word.endswith(_TOML)


def sha(text: str) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _imports(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.split(".")[0]
            if alias.asname:
                yield Import(local=alias.asname, module=alias.name, attribute="")
            else:  # `import a.b` binds a and loads a.b
                yield Import(local=top, module=top, attribute="")
                yield Import(local="", module=alias.name, attribute="")
        return
    parts = package.split(".")
    above = parts[: len(parts) + 1 - node.level] if node.level else []
    module = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        yield Import(local=alias.asname or alias.name, module=module, attribute=alias.name)


def _modules(entry: Import) -> tuple[str, ...]:
    return (entry.module, f"{entry.module}.{entry.attribute}") if entry.attribute else (entry.module,)


def _is_left_out(statement: ast.stmt) -> bool:
    """Imports, and what no result depends on: docstrings, `__all__`, what only type checkers read."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return True
    return False


def _first_argument(call: ast.Call) -> str:
    match call.args:
        case [ast.Constant(value=str(text)), *_]:
            return text
    return "*"


def _finders(tree: ast.Module) -> Iterator[str]:
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                match node:
                    case ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"):
                        yield function.name
