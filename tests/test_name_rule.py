"""The rule for names: the same for a request, a record and a column."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis.strategies import characters, lists, one_of, sampled_from, text

from slatewise.data.reading.checks import canonical, check_rows
from slatewise.names import LONGEST_NAME, are_names, name_fault


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "is empty or blank; expected a name"),
        (" \u00a0 ", "is empty or blank; expected a name"),
        ("a\nb", "has a control character (U+000A); expected a name on one line"),
        ("a\tb", "has a control character (U+0009); expected a name on one line"),
        ("a\0b", "has a control character (U+0000); expected a name on one line"),
        ("a\x7f", "has a control character (U+007F); expected a name on one line"),
        ("a\x85", "has a control character (U+0085); expected a name on one line"),
        ("a\u2028b", "has a control character (U+2028); expected a name on one line"),
        ("a\ud800", "has half of a surrogate pair; expected valid Unicode"),
        ("x" * 1025, "has 1,025 bytes of UTF-8; expected at most 1,024"),
        ("é" * 513, "has 1,026 bytes of UTF-8; expected at most 1,024"),
    ],
)
def test_a_name_that_cannot_be_used(name: str, fault: str) -> None:
    assert name_fault(name) == fault
    assert not are_names(["a", name, "b"])


@pytest.mark.parametrize(
    "name", ["a", "0", " a", "a b", "é" * 512, "x" * 1024, "\u200d👩\u200d🚀", "a\u00a0b", '"', "日本"]
)
def test_a_name_that_can_be_used(name: str) -> None:
    assert name_fault(name) is None
    assert are_names([name])
    assert are_names([])


names = one_of(
    text(max_size=5),
    text(sampled_from(" \n\t\u00a0\u2028\x1c\u200baé"), max_size=4),
    sampled_from(["é" * 512, "é" * 513]),
)


@given(names=lists(one_of(names, text(characters(categories=["Cs", "L"]), max_size=2)), max_size=4))
def test_many_names_are_as_good_as_each(names: list[str]) -> None:
    assert are_names(names) == all(name_fault(name) is None for name in names)


@given(name=names)
@example(name="x" * (LONGEST_NAME + 1))
def test_a_column_follows_the_same_rule(name: str) -> None:
    frame = canonical(pl.DataFrame({"user_id": ["a"], "item_id": [name], "timestamp": [1], "reward": [1.0]}))
    assert any(len(fault.rows) for fault in check_rows(frame)) == (name_fault(name) is not None)
