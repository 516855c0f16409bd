"""Numbers as a reader wants them."""

from __future__ import annotations

import math

NO_VALUE = "–"
MOST_DECIMALS = 12


def number(value: float, digits: int = 3) -> str:
    """`digits` after the point, one significant digit where that would print as zero, whole thousands in groups; "–"
    for NaN and infinities.
    """
    if not math.isfinite(value):
        return NO_VALUE
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size < 1e-6 and size > 0:
        text = f"{value:.0e}".replace("e-0", "e-")
    elif 0 < size < 0.5 * 10**-digits:
        text = f"{value:.{-math.floor(math.log10(size))}f}"
    else:
        text = f"{value:.{digits}f}"
    return text.replace("-", "−")


def significant(value: float, digits: int = 4) -> str:
    """`digits` significant digits, whole numbers in full with thousands in groups; "–" for NaN and infinities."""
    if not math.isfinite(value):
        return NO_VALUE
    if 0 < abs(value) < 1e-6:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("-", "−")
    return _with_decimals(value, _decimals(value, digits))


def with_bounds(value: float, low: float, high: float, digits: int = 4) -> tuple[str, str, str]:
    """A value and the bounds of its interval, all with as many decimals as the value needs for `digits` significant
    digits, and more where bounds that differ would print the same.

    Args:
        value: the value; NaN prints as "–".
        low: lower bound; NaN where there is no interval.
        high: upper bound.
        digits: significant digits of the value.
    """
    if not (math.isfinite(value) and math.isfinite(low) and math.isfinite(high)):
        return significant(value, digits), NO_VALUE, NO_VALUE
    decimals = _decimals(value or high, digits)
    while low < high and _with_decimals(low, decimals) == _with_decimals(high, decimals) and decimals < MOST_DECIMALS:
        decimals += 1
    return _with_decimals(value, decimals), _with_decimals(low, decimals), _with_decimals(high, decimals)


def interval_text(low: str, high: str) -> str:
    """Bounds as printed → "low … high"; "" where there is no interval, or where it is a point."""
    return "" if NO_VALUE in (low, high) or low == high else f"{low} … {high}"


def _decimals(value: float, digits: int) -> int:
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    decimals = digits - 1 - magnitude
    # 0.99996 has its first digit one place higher once it is rounded
    if value and math.floor(math.log10(abs(round(value, decimals)) or 1)) > magnitude:
        decimals -= 1
    return min(max(decimals, 0), MOST_DECIMALS)


def _with_decimals(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace("-", "−")
