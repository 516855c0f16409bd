"""Numbers as printed."""

from __future__ import annotations

import math

import pytest

from slatewise.report.numbers import interval_text, number, significant, with_bounds


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0824, 3, "0.082"),
        (0.0, 3, "0.000"),
        (0.0081, 2, "0.01"),
        (4e-5, 3, "0.00004"),
        (4e-9, 3, "4e−9"),
        (-2.5, 1, "−2.5"),
        (12345.6, 3, "12,346"),
        (math.nan, 3, "–"),
        (math.inf, 3, "–"),
    ],
)
def test_number(value: float, digits: int, text: str) -> None:
    assert number(value, digits) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2124, "0.2124"),
        (0.99996, "1.000"),
        (1.0, "1.000"),
        (0.0, "0.000"),
        (0.0031415, "0.003142"),
        (-12.34567, "−12.35"),
        (12345.6, "12,346"),
        (4.321e-9, "4.321e−9"),
        (math.nan, "–"),
    ],
)
def test_four_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_bounds_have_the_decimals_of_their_value_and_more_where_they_would_print_the_same() -> None:
    assert with_bounds(0.0802, 0.0353, 0.125, 3) == ("0.0802", "0.0353", "0.1250")
    assert with_bounds(0.99998, 0.99996, 0.999991, 3) == ("0.99998", "0.99996", "0.99999")
    assert with_bounds(0.5, math.nan, math.nan) == ("0.5000", "–", "–")
    assert with_bounds(0.0, 0.0, 0.26, 3) == ("0.000", "0.000", "0.260")


def test_an_interval_is_a_range_and_a_point_is_none() -> None:
    assert interval_text("0.99996", "0.99999") == "0.99996 … 0.99999"
    assert interval_text("1.000", "1.000") == ""
    assert interval_text("–", "–") == ""
