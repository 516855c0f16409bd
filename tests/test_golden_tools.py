"""The tools in tests/golden: what they call a difference, and what they count."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tests.golden.commands import numbers
from tests.golden.comparison import differences, name_changes
from tests.golden.count_lines import code_lines, measure, read
from tests.golden.methods import or_failure, weights
from tests.golden.recording import named_once, split_failures

RECORDED = [("loss", 0.1), ("return", [1.0, None]), ("clicks", 3)]


def test_equal_values_are_no_difference_in_any_order() -> None:
    assert differences(RECORDED, RECORDED[::-1]) == ([], [])


def test_one_bit_is_a_difference_and_so_is_the_sign_of_zero() -> None:
    lines, moved = differences([("a", 0.1), ("b", 0.0)], [("a", 0.1 + 2**-56), ("b", -0.0)])
    assert lines == ["a\n    old 0.1\n    new 0.10000000000000002", "b\n    old 0.0\n    new -0.0"]
    assert moved == []


def test_another_name_for_the_same_value_is_only_told() -> None:
    lines, moved = differences(RECORDED, [("loss", 0.1), ("mean return", [1.0, None]), ("clicks", 3)])
    assert lines == []
    assert moved == ["return → mean return, the same value"]


def test_renamed_values_stand_beside_each_other() -> None:
    rename = name_changes({"^ret": "mean ret", "s$": ""})
    assert differences(RECORDED, [("los", 0.1), ("mean return", [1.0, None]), ("click", 4)], rename) == (
        ["click\n    old 3\n    new 4"],
        [],
    )


def test_what_is_gone_is_a_difference_and_what_is_new_is_told() -> None:
    assert differences(RECORDED, RECORDED[:2]) == (["clicks: was 3, is gone"], [])
    assert differences(RECORDED[:2], RECORDED) == ([], ["clicks: is new, 3"])
    assert differences([("unmet", None)], [("loss", None)]) == ([], [])
    assert differences([("loss", 1.0)], [("loss", None)]) == (["loss: was 1.0, is gone"], [])


def test_names_of_one_side_alone_are_paired_within_their_case() -> None:
    recorded = [("a | gain", 1), ("b | gain", 2), ("b | loss", 5), ("old case | loss", 3)]
    present = [("a | benefit", 1), ("a | extra", 5), ("b | benefit", 4), ("b | loss", 5), ("new case | loss", 3)]
    lines, notes = differences(recorded, present)
    assert lines == ["b | gain → b | benefit\n    old 2\n    new 4"]
    assert notes == [
        "a | gain → a | benefit, the same value",
        "old case | loss → new case | loss, the same value",
        "a | extra: is new, 5",
    ]


def test_names_that_repeat_are_numbered() -> None:
    assert list(named_once([("a", 1), ("b", (2,)), ("a", 3)])) == [("a", 1), ("b", [2]), ("a #2", 3)]


def test_numbers_are_kept_by_path_and_words_are_left_out() -> None:
    answer = {
        "run": "runs/x",
        "seconds": 1.5,
        "users": 3,
        "figures": [{"name": "ndcg@5", "value": 0.5, "low": None}, {"name": "hit@5", "value": 1.0}],
        "interval": [0.1, 0.2],
        "off_policy": None,
    }
    assert numbers(answer, without=("seconds",)) == {
        "users": 3,
        "figures [0] ndcg@5 value": 0.5,
        "figures [0] ndcg@5 low": None,
        "figures [1] hit@5 value": 1.0,
        "interval": [0.1, 0.2],
        "off_policy": None,
    }


def test_digests_of_weights_read_neither_names_nor_order(tmp_path: Path) -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    digests = []
    variants: list[dict[str, np.ndarray[Any, Any]]] = [
        {"a": table, "b": np.array([1], np.int64)},
        {"x": np.array([1], np.int64), "y": table[::-1].T.copy()},
        {"a": table, "b": np.array([2], np.int64)},
        {"a": np.nextafter(table, np.float32(9)), "b": np.array([1], np.int64)},
    ]
    for number, tensors in enumerate(variants):
        save_file(tensors, tmp_path / f"{number}.safetensors")
        digests.append(weights(tmp_path / f"{number}.safetensors"))
    assert digests[0] == digests[1]
    assert digests[0]["all float32 values"] == digests[2]["all float32 values"]
    assert digests[0] != digests[2]
    assert digests[0]["all float32 values"] != digests[3]["all float32 values"]


SOURCE = '''"""A module
of two lines."""

import math  # why


def area(radius: float, *, unit: float = 1.0) -> float:
    """Of a circle."""
    # a comment
    text = """not
    a docstring"""
    return (
        len(text)
        * radius

    )


class Config:
    width: int = 1
    """D."""
    depth: int = 2
'''


def test_lines_of_code_leave_out_docstrings_comments_and_blanks() -> None:
    assert code_lines(SOURCE, ast.parse(SOURCE)) == {4, 7, 10, 11, 12, 13, 14, 16, 19, 20, 22}


def test_counts_of_a_package(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "circle.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "types.py").write_text("class Point:\n    def move(self, by: int) -> None: ...\n", encoding="utf-8")
    counts = measure(read(tmp_path))
    assert counts["code lines"] == 13
    assert counts["median file"] == 12
    assert counts["longest functions"] == {"methods/circle.py:area": 10, "types.py:move": 1}
    assert counts["parameters"] == 3
    assert counts["keys of methods"] == {"methods/circle.py:Config": 2}
    assert counts["rooms"] == {
        "methods": {"files": 1, "code": 11, "lines": 22},
        "types.py": {"files": 1, "code": 2, "lines": 2},
    }


def test_a_case_that_fails_is_told_alone() -> None:
    def entries() -> Iterator[tuple[str, Any]]:
        yield "tpgr, wide | loss", 0.5
        raise RuntimeError("unknown key")

    failure = list(or_failure("tpgr, wide", entries()))
    assert failure == [("tpgr, wide | failed", "unknown key")]
    assert split_failures([("random | loss", 1), *failure]) == ({"tpgr, wide": "unknown key"}, [("random | loss", 1)])
