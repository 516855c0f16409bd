from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import iter_modules

import pytest

import slatewise
from slatewise.reproduce._digest import Code

SOURCE = Path(slatewise.__file__).parent
PAPERS = ("fcpo", "large_actions", "movielens", "slateq", "tpgr", "wolpertinger", "youtube")
VERSIONS = {"numpy": "2.0.0", "torch": "2.8.0"}
Digest = Callable[..., str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return shutil.copytree(SOURCE, tmp_path / "slatewise", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.fixture
def digest(tree: Path) -> Digest:
    """Digest of a paper's cell, by the files of the copy as they are now."""

    def read(paper: str, settings: dict[str, object] | None = None, versions: dict[str, str] = VERSIONS) -> str:
        return Code(f"slatewise.reproduce.{paper}", {"slatewise": [tree]}, versions).closure(settings or {}).digest

    return read


def file_of(tree: Path, definition: str) -> Path:
    """The one file in which a line begins with this text, wherever the tree has it."""
    (file,) = (file for file in tree.rglob("*.py") if f"\n{definition}" in file.read_text(encoding="utf-8"))
    return file


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("paper", "definition", "old", "new"),
    [
        ("youtube", "class RowWiseAdagrad", "float = 1e-10", "float = 1e-9"),
        ("slateq", "def levels(", "np.unique(reward)", "np.unique(-reward)"),
        ("tpgr", "def chain_log_prob(", "chosen - urn", "urn - chosen"),
        ("movielens", "def threshold(", ">= at_least", "> at_least"),
    ],
)
def test_a_formula_of_an_imported_module_counts(
    tree: Path, digest: Digest, paper: str, definition: str, old: str, new: str
) -> None:
    before = digest(paper)
    replace(file_of(tree, definition), old, new)
    assert digest(paper) != before


def test_docstrings_comments_and_the_order_of_imports_do_not_count(tree: Path, digest: Digest) -> None:
    before = digest("youtube")
    for file in tree.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        module = ast.parse(text)
        lines = text.split("\n")
        # every import at the top on a line of its own, the last one first
        imports = [
            node
            for node in module.body
            if isinstance(node, ast.Import | ast.ImportFrom) and "__future__" not in ast.unparse(node)
        ]
        for node in reversed(imports):
            del lines[node.lineno - 1 : node.end_lineno]
        if imports:
            first = imports[0].lineno - 1
            lines[first:first] = [ast.unparse(node) for node in reversed(imports)]
        file.write_text("\n".join(lines) + "\n# a comment\n", encoding="utf-8")
    file = file_of(tree, "class RowWiseAdagrad")
    for docstring in ("Adagrad on the rows", "Update every row"):
        replace(file, f'"""{docstring}', f'"""Another word. {docstring}')
    assert digest("youtube") == before


def test_a_moved_module_counts_no_more_than_before(tree: Path, digest: Digest) -> None:
    before = {paper: digest(paper) for paper in ("youtube", "fcpo")}
    file = file_of(tree, "class RowWiseAdagrad")
    old = ".".join(file.relative_to(tree.parent).with_suffix("").parts)
    (tree / "another").mkdir()
    (tree / "another" / "__init__.py").write_text('"""Moved."""\n', encoding="utf-8")
    file.rename(tree / "another" / "place.py")
    for other in tree.rglob("*.py"):
        text = other.read_text(encoding="utf-8")
        other.write_text(re.sub(rf"\b{re.escape(old)}\b", "slatewise.another.place", text), encoding="utf-8")
    assert {paper: digest(paper) for paper in before} == before


def test_a_method_that_only_the_settings_name_counts(tree: Path, digest: Digest) -> None:
    named = {"method": {"name": "tpgr"}}
    with_method, without = digest("slateq", named), digest("slateq")
    # a method is a file or a folder
    file = next(file for file in (tree / "methods").rglob("*.py") if "tpgr" in (file.stem, file.parent.name))
    file.write_text(file.read_text(encoding="utf-8") + "\nMORE = 1\n", encoding="utf-8")
    assert digest("slateq", named) != with_method
    assert digest("slateq") == without
    # in an assignment of a --set too, as shipped configurations have them
    assert digest("slateq", {"set": ["method.name='tpgr'"]}) == digest("slateq", named)


def test_values_of_shipped_configurations_count(tree: Path, digest: Digest) -> None:
    movielens, youtube = digest("movielens"), digest("youtube")
    file = tree / "configs" / "ml-100k" / "reinforce.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(f"# a comment\n{text}", encoding="utf-8")
    assert digest("movielens") == movielens
    file.write_text(f"{text}\n[more]\nvalue = 1\n", encoding="utf-8")
    assert digest("movielens") != movielens
    assert digest("youtube") == youtube


def test_versions_count(digest: Digest) -> None:
    before = digest("youtube")
    assert digest("youtube", versions=VERSIONS | {"torch": "2.9.0"}) != before
    assert digest("youtube", versions=VERSIONS | {"numpy": "2.1.0"}) != before


def test_another_function_of_the_same_name_counts(tmp_path: Path) -> None:
    # both modules are imported before and after; only which of them `f` comes from changes
    files = {
        "paper.py": "from pack.one import f\nfrom pack import two\n\ndef run(x): return f(x) + two.g(x)\n",
        "one.py": "def f(x): return x\n",
        "two.py": "def f(x): return -x\n\ndef g(x): return x\n",
        "__init__.py": "",
        "room/__init__.py": "from pack.room._part import h\n__all__ = ['h']\n",
        "room/_part.py": "def h(x): return 3 * x\n",
    }
    (tmp_path / "room").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def read(paper: str) -> str:
        (tmp_path / "paper.py").write_text(paper, encoding="utf-8")
        return Code("pack.paper", {"pack": [tmp_path]}, {}).closure({}).digest

    before = read(files["paper.py"])
    assert read(files["paper.py"].replace("pack.one import f", "pack.two import f")) != before
    # inside a function, relative, and through a package that passes the name on: the same function
    inner = "from pack.room import h\n\ndef run(x): return h(x)\n"
    assert read(inner) == read("def run(x):\n    from pack.room._part import h\n    return h(x)\n")
    assert read(inner) == read("from .room import h\n\ndef run(x): return h(x)\n")


@pytest.mark.parametrize(
    ("paper", "definitions"),
    [
        ("fcpo", ["class RowWiseAdagrad", "def constrained_step("]),
        ("large_actions", ["class RowWiseAdagrad", "class Ratings", "def chain_log_prob("]),
        ("movielens", ["class RowWiseAdagrad", "def log_softmax_at(", "def threshold("]),
        ("slateq", ["class RowWiseAdagrad", "def levels(", "def chain_log_prob("]),
        ("tpgr", ["class RowWiseAdagrad", "class Ratings", "def chain_log_prob("]),
        ("wolpertinger", ["class RowWiseAdagrad", "def chain_log_prob(", "def discounted_returns("]),
        ("youtube", ["class RowWiseAdagrad", "def sampled_log_softmax(", "def discounted_returns("]),
    ],
)
def test_what_results_come_from_is_covered(paper: str, definitions: list[str]) -> None:
    start = time.process_time()
    modules = Code(f"slatewise.reproduce.{paper}", {"slatewise": [SOURCE]}, VERSIONS).closure({}).modules
    assert time.process_time() - start < 2, "half a second, on a machine with nothing else to do"
    for definition in definitions:
        name = ".".join(file_of(SOURCE, definition).relative_to(SOURCE.parent).with_suffix("").parts)
        assert name.removesuffix(".__init__") in modules


def test_all_that_importing_a_paper_loads_is_covered() -> None:
    code = """
import importlib, json, sys
papers, loaded = sys.argv[1:], {}
for paper in papers:
    for name in [name for name in sys.modules if name.split(".")[0] == "slatewise"]:
        del sys.modules[name]
    importlib.import_module(f"slatewise.reproduce.{paper}")
    loaded[paper] = [name for name in sys.modules if name.split(".")[0] == "slatewise"]
print(json.dumps(loaded))
"""
    answer = subprocess.run([sys.executable, "-c", code, *PAPERS], capture_output=True, text=True, check=True)
    loaded = json.loads(answer.stdout)
    assert set(PAPERS) == {name for _, name, _ in iter_modules([str(SOURCE / "reproduce")]) if name[0] != "_"}
    for paper in PAPERS:
        modules = Code(f"slatewise.reproduce.{paper}", {"slatewise": [SOURCE]}, VERSIONS).closure({}).modules
        assert set(loaded[paper]) <= modules
        assert len(loaded[paper]) > 20
