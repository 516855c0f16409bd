"""How much code there is and how it is cut: python tests/golden/count_lines.py [--json] [--source FOLDER].

A line of code is a line that holds part of a token, without docstrings, comments and blank lines. Lengths of files and
functions are all their lines, as an editor shows them.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

SOURCE = Path(__file__).parent.parent.parent / "src" / "slatewise"
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class File:
    """One source file."""

    path: Path
    room: str
    """First folder below the source, or the file itself."""
    length: int
    code: frozenset[int]
    """Numbers of the lines that hold code."""
    tree: ast.Module

    def functions(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, lines, lines of code, parameters without self and cls: of every function and method."""
        for node in ast.walk(self.tree):
            if isinstance(node, Function):
                assert node.end_lineno is not None
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                names = [argument.arg for argument in arguments if argument.arg not in {"self", "cls"}]
                code = sum(node.lineno <= line <= node.end_lineno for line in self.code)
                yield f"{self.path}:{node.name}", node.end_lineno - node.lineno + 1, code, len(names)


def read(source: Path) -> list[File]:
    """Every Python file below a folder."""
    files = []
    for path in sorted(source.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        inside = path.relative_to(source)
        tree = ast.parse(text)
        code = code_lines(text, tree)
        files.append(File(path=inside, room=inside.parts[0], length=len(text.splitlines()), code=code, tree=tree))
    return files


def code_lines(text: str, tree: ast.Module) -> frozenset[int]:
    """Numbers of the lines that hold code, from 1."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        # a text that stands alone: a docstring, also one below a field
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            assert node.end_lineno is not None
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return frozenset(lines)


def config_keys(files: list[File]) -> dict[str, int]:
    """Fields of every class called Config or …Config, those of its bases in the package among them."""
    classes = {(file, node.name): node for file in files for node in file.tree.body if isinstance(node, ast.ClassDef)}
    by_name: dict[str, list[ast.ClassDef]] = {}
    for (_, name), node in classes.items():
        by_name.setdefault(name, []).append(node)

    def fields(node: ast.ClassDef) -> set[str]:
        targets = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        bases = [base.id for base in node.bases if isinstance(base, ast.Name) and len(by_name.get(base.id, ())) == 1]
        return names.union(*(fields(by_name[base][0]) for base in bases))

    return {
        f"{file.path}:{name}": len(fields(node)) for (file, name), node in classes.items() if name.endswith("Config")
    }


def measure(files: list[File]) -> dict[str, Any]:
    """All counts, as JSON can hold them."""
    rooms: dict[str, dict[str, int]] = {}
    for file in files:
        room = rooms.setdefault(file.room, {"files": 0, "code": 0, "lines": 0})
        room["files"] += 1
        room["code"] += len(file.code)
        room["lines"] += file.length
    functions = [function for file in files for function in file.functions()]
    keys = config_keys(files)
    return {
        "code lines": sum(len(file.code) for file in files),
        "code lines in reproduce/": sum(len(file.code) for file in files if file.room == "reproduce"),
        "lines": sum(file.length for file in files),
        "files": len(files),
        "median file": median(file.length for file in files),
        "longest files": _most({str(file.path): file.length for file in files}),
        "files above 400 lines": sum(file.length > 400 for file in files),
        "functions": len(functions),
        "longest functions": _most({name: length for name, length, _, _ in functions}),
        "functions above 60 lines": sum(length > 60 for _, length, _, _ in functions),
        "longest functions in lines of code": _most({name: code for name, _, code, _ in functions}),
        "parameters": sum(count for *_, count in functions),
        "parameters of a function, mean": round(mean(count for *_, count in functions), 3),
        "most parameters": _most({name: count for name, *_, count in functions}),
        "keys of methods": {name: count for name, count in keys.items() if name.startswith("methods/")},
        "most keys": _most(keys),
        "configs above 16 keys": sum(count > 16 for count in keys.values()),
        "rooms": rooms,
    }


def table(counts: dict[str, Any]) -> str:
    """The counts for people."""
    lines = []
    for name, value in counts.items():
        if isinstance(value, dict):
            lines.append(f"{name}:")
            for key, inner in value.items():
                words = (
                    ", ".join(f"{count:,} {unit}" for unit, count in inner.items())
                    if isinstance(inner, dict)
                    else inner
                )
                lines.append(f"  {key:60} {words}")
        else:
            lines.append(f"{name:62} {value:,}")
    return "\n".join(lines)


def _most(counts: dict[str, int], count: int = 8) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: -entry[1])[:count])


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="as JSON, for before.json")
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of the package")
    options = parser.parse_args()
    counts = measure(read(options.source))
    sys.stdout.write((json.dumps(counts, indent=1) if options.json else table(counts)) + "\n")


if __name__ == "__main__":
    main()
