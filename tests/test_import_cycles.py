"""No module imports itself by way of others, not for type checking either: each can be read after what it imports."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """The modules of one cycle, importers first, the first and the last the same; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("slatewise", cache_dir=None, exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    assert cycle(imports) == []


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, set()),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, {"b", "c"}),
    ],
)
def test_a_cycle_is_reported(imports: Mapping[str, set[str]], expected: set[str]) -> None:
    modules = cycle(imports)
    assert modules[:1] == modules[-1:]
    assert set(modules) == expected
