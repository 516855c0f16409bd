from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slatewise.data.item_columns import ItemColumns, arrow_table
from slatewise.data.item_filter import CACHED, DEEPEST, LONGEST, MOST_COMPARISONS, FilterError, ItemFilters
from slatewise.log import FIRST_ITEM

COLUMNS = {
    "price": pl.Series([1.5, 60.0, None, 50.0]),
    "stars": pl.Series([1, 2, 3, None]),
    "category": pl.Series(["x", "y", None, "it's"]),
    "in_stock": pl.Series([True, False, True, None]),
    "tags": pl.Series([["a", "b"], [], None, ["b"]], dtype=pl.List(pl.String)),
    "since": pl.Series([date(2024, 1, 31), None, date(2025, 1, 1), date(2023, 5, 6)]),
    "seen": pl.Series([datetime(2024, 1, 31, 10), None, None, datetime(2025, 1, 1)]).dt.replace_time_zone("UTC"),
    "releaseYear": pl.Series([1990, 2000, 2010, None]),
    "date": pl.Series(["p", "q", "r", "s"]),
}


def items(**columns: pl.Series) -> ItemColumns:
    return ItemColumns(names=pa.array(list("abcd")), columns=arrow_table(columns))


FILTERS = ItemFilters(items(**COLUMNS))


def names(where: str) -> str:
    matches = FILTERS.matches(where)
    assert matches.dtype == np.bool_
    assert not matches[:FIRST_ITEM].any()
    return "".join(name for name, match in zip("abcd", matches[FIRST_ITEM:].tolist(), strict=True) if match)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("price <= 50 and category = 'x'", "a"),
        ("price <= 50", "ad"),
        ("50 >= price", "ad"),
        ("not price <= 50", "b"),
        ("price is null or price > 50", "bc"),
        ("price is not null", "abd"),
        ("PRICE<=50 AND In_Stock", "a"),
        ("in_stock", "ac"),
        ("not in_stock", "b"),
        ("in_stock = false", "b"),
        ("in_stock in (true)", "ac"),
        ("not (in_stock or price > 50)", ""),
        ("in_stock or price = 50", "acd"),
        ("category in ('x', 'it''s')", "ad"),
        ("category not in ('x')", "bd"),
        ("category <> 'x'", "bd"),
        ("category != 'x'", "bd"),
        ("category == 'x'", "a"),
        ("category like '%t%'", "d"),
        ("category like 'x'", "a"),
        ("category not like 'x%'", "bd"),
        ("category like '_'", "ab"),
        ("category >= 'x'", "ab"),
        ("stars between 1.5 and 3", "bc"),
        ("stars not between 2 and 2", "ac"),
        ("stars = 2.0", "b"),
        ("stars in (1, 2.5, 3e0)", "ac"),
        ("stars > -1", "abc"),
        ("stars <= price", "ab"),
        ("tags contains 'b'", "ad"),
        ("tags not contains 'b'", "b"),
        ("not tags contains 'b' or category = 'x'", "ab"),
        ("tags is null", "c"),
        ("since >= '2024-01-31'", "ac"),
        ("since between date '2024-01-01' and date '2024-12-31'", "a"),
        ("seen > '2024-01-31'", "ad"),
        ("seen >= '2024-01-31T12:00:00+02:00'", "ad"),
        ("seen > '2024-01-31 10:00'", "d"),
        ("release_year >= 2000", "bc"),
        ('"releaseYear" >= 2000', "bc"),
        ("\"date\" = 'q'", "b"),
        ("item_id in ('a', 'd', 'nobody')", "ad"),
        ("true", "abcd"),
        ("price > 0 or true", "abcd"),
        ("price <= 50\n and\tcategory = 'x' ", "a"),
    ],
)
def test_what_matches(where: str, expected: str) -> None:
    assert names(where) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "it is empty"),
        ("prise <= 5", 'the items have no column "prise"; do you mean "price"?'),
        ("price = 'a'", "column \"price\" holds numbers, and is compared to 'a' (expected a number, such as 50)"),
        ("price in (1, 'a')", 'column "price" holds numbers'),
        ("category = 5", 'column "category" holds text, and is compared to 5'),
        ("category = price", 'column "category" holds text, and is compared to column "price", which holds numbers'),
        ("in_stock = 1", "(expected true or false)"),
        ("price and in_stock", 'column "price" holds numbers, and stands alone'),
        ("price = null", "price is null, or is not null"),
        ("tags = 'a'", 'column "tags" holds lists of text'),
        ("category contains 'x'", "category like '%x%'"),
        ("price like '5%'", 'column "price" holds numbers, and is compared to like'),
        ("since > 'soon'", "a date in quotes, such as '2024-01-31'"),
        ("seen > '2024-13-01'", "a time in quotes"),
        ("price <= ", '"the end" at character 9'),
        ("price <= 5 and", "it is not a sentence of and, or, not and parentheses"),
        ("(price <= 5", "it is not a sentence of and, or, not and parentheses"),
        ("price <= 5)", "it is not a sentence of and, or, not and parentheses"),
        ("price <= 5 category = 'x'", "it is not a sentence of and, or, not and parentheses"),
        ("price <= 5; drop", 'character 11: ";" is not part of a filter'),
        ("price + 1 > 5", '"+" is not part of a filter'),
        ("price::text = '5'", '":" is not part of a filter'),
        ("category = 'x", "a quote is not closed"),
        ("lower(category) = 'x'", '"lower(", character 1: a filter has no functions'),
        ("read_csv('/etc/passwd')", "a filter has no functions"),
        ("category = upper('x')", "a filter has no functions"),
        ("category in (select category from items)", 'column "category" holds text, and is compared to select'),
        ("exists (select 1)", '"exists(", character 1: a filter has no functions'),
        ("sum(price) > 1", "a filter has no functions"),
        ("price between 1 or 2", '"or" at character 17 (expected and between the two limits)'),
        ("price is true", "(expected null after is)"),
        ("category in 'x'", "(expected ( after in)"),
        ("category in ('x'", "(expected , or ) in a list of values)"),
        ("category not 'x'", "(expected in, between, like or contains after not)"),
        ("5 price", "(expected a sign such as <= between a value and a column)"),
        ("'x' = 'x'", "the name of a column"),
        ("case when price > 1 then true end", 'no column "case"'),
        ("price <= 5 -- all", '"-" is not part of a filter'),
        ("(" * (DEEPEST + 1) + "in_stock" + ")" * (DEEPEST + 1), f"at most {DEEPEST} parentheses"),
        (" or ".join(["in_stock"] * (MOST_COMPARISONS + 1)), f"at most {MOST_COMPARISONS}"),
        ("category = '" + "x" * LONGEST + "'", f"at most {LONGEST:,}"),
    ],
)
def test_what_is_refused(where: str, message: str) -> None:
    with pytest.raises(FilterError) as error:
        FILTERS.matches(where)
    assert message in str(error.value)


def test_the_deepest_and_longest_filters_are_answered() -> None:
    assert names("(" * DEEPEST + "in_stock" + ")" * DEEPEST) == "ac"
    assert names(" or ".join(f"price = {number}" for number in range(MOST_COMPARISONS))) == "bd"
    assert names("not " * 9 + "in_stock") == "b"


@given(st.text(alphabet=st.sampled_from("price category tags ()'\"<>=!,;.-+*/10 and or not in null%_\\"), max_size=40))
def test_any_text_is_a_filter_or_refused(where: str) -> None:
    try:
        FILTERS.matches(where)
    except FilterError:
        return


def test_a_filter_that_nothing_matches_is_refused_where_something_must() -> None:
    assert not FILTERS.matches("price > 100").any()
    with pytest.raises(FilterError, match="no item of 4 matches 'price > 100'"):
        FILTERS.at_least_one("price > 100")
    assert FILTERS.at_least_one("price > 50").sum() == 1


def test_items_without_columns_are_known_by_their_names_alone() -> None:
    filters = ItemFilters(items())
    assert filters.matches("item_id = 'b'").tolist() == [False, False, False, True, False, False]
    with pytest.raises(FilterError, match=r'no column "price".*imported with --items FILE'):
        filters.matches("price < 5")


def test_results_are_kept_for_the_latest_filters_and_cannot_be_changed() -> None:
    filters = ItemFilters(items(**COLUMNS))
    first = filters.matches("price <= 50")
    assert filters.matches("price <= 50") is first
    for number in range(CACHED):
        filters.matches(f"price <= {100 + number}")
    assert filters.matches("price <= 50") is not first
    with pytest.raises(ValueError, match="read-only"):
        first[2] = False


def test_a_column_of_its_own_zone_is_compared_in_utc() -> None:
    seen = pl.Series([datetime(2024, 1, 31, 10, tzinfo=UTC)] * 4)
    filters = ItemFilters(items(seen=seen))
    assert filters.matches("seen = '2024-01-31T11:00:00+01:00'")[FIRST_ITEM:].all()
