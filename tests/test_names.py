"""Names that say nothing are refused: variables called `found` or `some`, functions called `judged` or `taught`.

`python tests/test_names.py [folder or file …]` prints every such name as `file:line kind name`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("src",)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILLERS = words(
    """
    found some few own here still gone told who kept one mine its wanted asked towards begun made taken known seen
    given alike more now after before way ways
    """
)
IRREGULAR_PARTICIPLES = words(
    """
    been begun bent born bought broken brought built caught chosen dealt done drawn driven eaten fallen fed felt
    forgotten fought found frozen given gone got grown had heard held hidden kept known laid lain led left lent lit
    lost made meant met paid proven risen said seen sent shaken shown shut sold sought spent spoken spun stolen stood
    stricken struck stuck sunk swept sworn swung taken taught thought thrown told torn understood unseen woken won
    worn woven written
    """
)
ENDS_IN_ED_YET_NO_PARTICIPLE = words("bed bleed breed embed exceed feed need proceed red seed shed speed succeed")


def is_participle(name: str) -> bool:
    word = name.strip("_")
    if word in ENDS_IN_ED_YET_NO_PARTICIPLE:
        return False
    return word in IRREGULAR_PARTICIPLES or re.fullmatch(r"[a-z]+ed", word) is not None


def is_filler(name: str) -> bool:
    return name.strip("_") in FILLERS


def is_predicate_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """An adjective names what is true of a value: `policy.simulated`, of type bool."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    returned = ast.unparse(function.returns) if function.returns else ""
    return bool(decorators & {"property", "cached_property"}) and returned == "bool"


def bound_names(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The kind and the names that a node of a syntax tree binds, functions aside."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield "variable", name
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
            yield "attribute", name
        case ast.arg(arg=name):
            yield "argument", name
        case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
            yield "variable", name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield "variable", name


def bad_names(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, kind and name of every filler and of every function named by a bare participle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            participle = is_participle(node.name) and not is_predicate_property(node)
            if participle or is_filler(node.name):
                yield node.lineno, "function", node.name
        for kind, name in bound_names(node):
            if is_filler(name):
                yield getattr(node, "lineno", 0), kind, name


def bad_names_below(places: Iterable[Path]) -> dict[str, list[tuple[int, str, str]]]:
    """The bad names of each file, under its path from the root, files without any left out."""
    files = sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py")))
    names = {str(file.relative_to(ROOT)): sorted(bad_names(ast.parse(file.read_text("utf-8")))) for file in files}
    return {file: hits for file, hits in names.items() if hits}


def test_no_name_is_a_filler_and_no_function_a_bare_participle() -> None:
    names = bad_names_below(ROOT / folder for folder in FOLDERS)
    lines = [f"{file}:{line} {kind} {name}" for file, hits in names.items() for line, kind, name in hits]
    assert lines == [], "say what these names hold or do"


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        ("found = 1", "variable", "found"),
        ("for some in items: pass", "variable", "some"),
        ("with open(path) as here: pass", "variable", "here"),
        ("import json as known", "variable", "known"),
        ("left, *more = items", "variable", "more"),
        ("if (own := items): pass", "variable", "own"),
        ("[one for one in items]", "variable", "one"),
        ("def fit(*, told: int) -> None: ...", "argument", "told"),
        ("lambda who: 1", "argument", "who"),
        ("self._kept = 1", "attribute", "_kept"),
        ("class A:\n    wanted: int", "variable", "wanted"),
        ("try: f()\nexcept E as given: pass", "variable", "given"),
        ("match x:\n    case [1, *gone]: pass", "variable", "gone"),
        ("def judged() -> bool: ...", "function", "judged"),
        ("def _taught() -> int: ...", "function", "_taught"),
        ("async def shown() -> int: ...", "function", "shown"),
        ("def now() -> int: ...", "function", "now"),
        ("class A:\n    @property\n    def served(self) -> int: ...", "function", "served"),
    ],
)
def test_a_bad_name_is_reported(code: str, kind: str, name: str) -> None:
    assert [(k, n) for _, k, n in bad_names(ast.parse(code))] == [(kind, name)]


@pytest.mark.parametrize(
    "code",
    [
        "seen_items = known_users = 1",
        "print(found)",
        "value.kept = 1",
        "def embed(seed: int, speed: float) -> None: ...",
        "def read() -> None: ...",
        "def cut() -> None: ...",
        "def split() -> None: ...",
        "def logged_propensity() -> float: ...",
        "def one_hot() -> None: ...",
        "class A:\n    @property\n    def simulated(self) -> bool: ...",
        "class A:\n    @cached_property\n    def _closed(self) -> bool: ...",
    ],
)
def test_a_good_name_is_left_alone(code: str) -> None:
    assert list(bad_names(ast.parse(code))) == []


if __name__ == "__main__":
    places = [Path(argument).resolve() for argument in sys.argv[1:]] or [ROOT / folder for folder in FOLDERS]
    for file, hits in bad_names_below(places).items():
        for line, kind, name in hits:
            print(f"{file}:{line} {kind} {name}")
