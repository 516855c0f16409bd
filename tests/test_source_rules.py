"""What no source file may do, read off the syntax.

It runs nothing that was loaded, draws from no random state that all share, and asks no object for attributes: what a
component may offer is a protocol.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "slatewise").rglob("*.py"))
RUNS_WHAT_IT_READS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {
    "torch.load": "reads pickles; use safetensors",
    "torch.save": "writes pickles; use safetensors",
    "torch.hub.load": "runs code from elsewhere",
    "pd.read_pickle": "reads pickles",
    "yaml.load": "may run code; use TOML",
    "os.system": "runs a line of text",
    "torch.manual_seed": "sets a random state that all share; pass a Generator",
    "torch.seed": "sets a random state that all share; pass a Generator",
    "np.random.seed": "sets a random state that all share; pass a Generator",
    "random.seed": "sets a random state that all share; pass a Generator",
}
DIFFER_BY_PLATFORM = {"os", "torch"}
"""Modules that may lack a function."""
SHARED_DRAWS = {
    "np.random": {"rand", "randn", "randint", "random", "choice", "permutation", "shuffle", "normal", "uniform"},
}


def breaches(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {n.name}" for n in names if n.name.split(".")[0] in RUNS_WHAT_IT_READS)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in RUNS_WHAT_IT_READS:
                yield f"imports {module}"
            case ast.Call(func=ast.Name(id=name)) if name in RUNS_TEXT:
                yield f"calls {name}"
            case ast.Call(func=ast.Name(id=name), args=[owner, *others]) if name in {"hasattr", "getattr"}:
                asks = name == "hasattr" or len(others) == 2  # a default says that it may be missing
                if asks and ast.unparse(owner).split(".")[0] not in DIFFER_BY_PLATFORM:
                    yield f"asks {ast.unparse(owner)} for an attribute: make it a protocol and use isinstance"
            case ast.Call(func=ast.Attribute() as func, keywords=keywords):
                called = ast.unparse(func)
                if called in FORBIDDEN_CALLS:
                    yield f"calls {called}: {FORBIDDEN_CALLS[called]}"
                room, _, name = called.rpartition(".")
                if name in SHARED_DRAWS.get(room, ()):
                    yield f"calls {called}: draws from a random state that all share"
                for keyword in keywords:
                    value = getattr(keyword.value, "value", None)
                    if (keyword.arg in {"allow_pickle", "shell"}) and value is not False:
                        yield f"calls {called} with {keyword.arg}={ast.unparse(keyword.value)}"
                if called in {"np.load", "np.save"} and "allow_pickle" not in {k.arg for k in keywords}:
                    yield f"calls {called} without allow_pickle=False"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "slatewise")))
def test_a_source_file_keeps_the_rules(path: Path) -> None:
    assert list(breaches(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "exec(text)",
        "torch.load(path)",
        "torch.save(x, path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, x, allow_pickle=flag)",
        "subprocess.run(line, shell=True)",
        "torch.manual_seed(0)",
        "np.random.seed(0)",
        "np.random.rand(3)",
        "hasattr(env, 'quality')",
        "getattr(env, name, None)",
    ],
)
def test_the_rules_find_what_breaks_them(line: str) -> None:
    assert len(list(breaches(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    ["policy.eval()", "np.load(path, allow_pickle=False)", "np.random.default_rng(0)", "Generator().manual_seed(0)"],
)
def test_the_rules_leave_alone_what_keeps_them(line: str) -> None:
    assert list(breaches(ast.parse(line))) == []


@pytest.mark.parametrize("line", ["hasattr(os, 'getloadavg')", "getattr(torch.cpu, name, None)", "getattr(self, name)"])
def test_what_differs_by_platform_and_the_fields_of_a_dataclass_may_be_asked_for(line: str) -> None:
    assert list(breaches(ast.parse(line))) == []
