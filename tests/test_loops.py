"""One loop over a log, one room of loops over an environment: nobody else updates a learner or steps an environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "src" / "slatewise"
STEPS_ENVS = ("rollout", "sim", "testing", "gymnasium")
"""The loops; environments that wrap others, and checks of one; the adapter to Gymnasium."""
UPDATES_LEARNERS = ("rollout", "training/fit.py", "testing")
STEPS = {"encoder", "history", "imitation", "item_rows", "optimiser", "region", "tables", "trajectories", "self"}
"""What has a `step` and is no environment."""
UPDATES = {"bars", "digest", "headers"}
"""What has an `update` and is no learner."""


def calls(tree: ast.AST, method: str, allowed: set[str]) -> Iterator[str]:
    """Calls of a method on something that is not known to be harmless; inside a method of that name it is passed on."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name == method:
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            receiver = ast.unparse(node.func.value)
            if receiver.rpartition(".")[2] not in allowed:
                yield f"line {node.lineno}: {receiver}.{method}"
        yield from calls(node, method, allowed)


def calls_outside(places: tuple[str, ...], method: str, allowed: set[str]) -> list[str]:
    hits = []
    for path in sorted(SOURCES.rglob("*.py")):
        name = path.relative_to(SOURCES).as_posix()
        if not name.startswith(places):
            hits += [f"{name}, {call}" for call in calls(ast.parse(path.read_text("utf-8")), method, allowed)]
    return hits


def test_only_rollout_steps_an_environment() -> None:
    assert calls_outside(STEPS_ENVS, "step", STEPS) == []


def test_only_fit_and_rollout_update_a_learner() -> None:
    assert calls_outside(UPDATES_LEARNERS, "update", UPDATES) == []


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("env.step(slates)", ["line 1: env.step"]),
        ("self.world.env.step(slates)", ["line 1: self.world.env.step"]),
        ("carry = policy.encoder.step(carry, step, after)", []),
        ("class A:\n    def step(self, slates):\n        return self.env.step(slates)", []),
        ("class A:\n    def play(self):\n        return self.env.step(slates)", ["line 3: self.env.step"]),
    ],
)
def test_the_rule_finds_what_breaks_it(text: str, hits: list[str]) -> None:
    assert list(calls(ast.parse(text), "step", STEPS)) == hits
