from __future__ import annotations

import pytest

from slatewise.wording import agree, count_of


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (1_000_000, "1,000,000 events")]
)
def test_a_noun_agrees_with_its_count(count: int, expected: str) -> None:
    assert count_of(count, "event") == expected


def test_irregular_forms() -> None:
    assert count_of(1, "trajectory", "trajectories") == "1 trajectory"
    assert count_of(3, "trajectory", "trajectories") == "3 trajectories"
    assert [agree(count, "is", "are") for count in (0, 1, 2)] == ["are", "is", "are"]
