"""Filters on the columns of items: "in_stock and price <= 50 and category = 'x'".

The words of a filter are checked here, one comparison after the other, against the columns that there are; and, or, not
and parentheses are polars's SQL. Nothing else reaches polars: no function, no query, no file. An unknown value makes a
comparison unknown, as in SQL; an item matches where the whole filter is true.
"""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool

from slatewise.data.item_columns import ItemColumns
from slatewise.data.reading.column_aliases import plain
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM

Kind = Literal["number", "text", "truth", "date", "time", "list"]
LONGEST = 8192
"""Characters of a filter."""
DEEPEST = 32
"""Parentheses inside each other."""
MOST_COMPARISONS = 100
"""Planning takes a time that grows with the square of their number: 30 ms for so many."""
CACHED = 64
"""Filters whose items are kept, one byte an item."""
EXAMPLE = "in_stock and price <= 50 and category in ('x', 'y')"

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")+")|(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|<>|!=|==|=|<|>|\(|\)|,))"""
)
_WORDS = frozenset({"and", "or", "not", "in", "between", "like", "is", "null", "true", "false", "contains", "date"})
_COMPARISONS = frozenset({"<=", ">=", "<>", "!=", "==", "=", "<", ">"})
_CONNECTIVES = frozenset({"and", "or", "not", "(", ")"})
_EXAMPLES: Mapping[Kind, str] = {
    "number": "a number, such as 50",
    "text": "a text in quotes, such as 'x'",
    "truth": "true or false",
    "date": "a date in quotes, such as '2024-01-31'",
    "time": "a time in quotes, such as '2024-01-31 10:00'",
    "list": "contains and a text in quotes, such as contains 'x'",
}


class FilterError(InputError):
    """A filter that cannot be used."""

    def __init__(self, problem: str, *, expected: str = f"a filter such as {EXAMPLE}", advice: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.advice = advice or "Correct the filter."
        super().__init__(f"where: {problem} (expected {expected}). {self.advice}")


class ItemFilters:
    """The items of a catalog that match filters; those of the latest filters are kept."""

    def __init__(self, items: ItemColumns) -> None:
        self._items = items
        self._frame: pl.LazyFrame | None = None
        self._kinds: dict[str, Kind] = {}
        self._matches: OrderedDict[str, Bool[np.ndarray, "rows"]] = OrderedDict()

    def matches(self, where: str) -> Bool[np.ndarray, "rows"]:
        """True for the item numbers that match a filter, False for the reserved ones; not to be written to.

        Raises:
            FilterError: a filter that cannot be read, or does not fit the columns of the items.
        """
        if where in self._matches:
            self._matches.move_to_end(where)
            return self._matches[where]
        frame = self._columns()
        expression = _expression(to_sql(where, self._kinds))
        try:
            values = frame.select(expression.fill_null(value=False).alias("matches")).collect()["matches"]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise FilterError(f"it cannot be applied: {str(error).splitlines()[0]}") from error
        matches = np.zeros(len(self._items.names) + FIRST_ITEM, np.bool_)
        matches[FIRST_ITEM:] = values.to_numpy()
        matches.setflags(write=False)
        self._matches[where] = matches
        if len(self._matches) > CACHED:
            self._matches.popitem(last=False)
        return matches

    def at_least_one(self, where: str) -> Bool[np.ndarray, "rows"]:
        """The same, where at least one item matches.

        Raises:
            FilterError: none does, or see `matches`.
        """
        matches = self.matches(where)
        if not matches.any():
            raise FilterError(
                f"no item of {len(self._items.names):,} matches {where!r}",
                expected="a filter that leaves an item to show",
                advice="Loosen it; an unknown value matches no comparison (`price is null` does).",
            )
        return matches

    def _columns(self) -> pl.LazyFrame:
        """The columns as polars reads them; times in UTC without their zone, like the literals they are compared to."""
        if self._frame is None:
            columns = self._items.columns
            names = pl.Series("item_id", pl.from_arrow(self._items.names), dtype=pl.String)
            frame = pl.DataFrame(
                [names] if columns is None else [names, *pl.DataFrame(columns).drop("item_id", strict=False)]
            )
            times = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
            frame = frame.with_columns(pl.col(times).dt.replace_time_zone(None)) if times else frame
            self._kinds = {name: _kind(values) for name, values in frame.to_dict().items()}
            self._frame = frame.lazy()
        return self._frame


class _Token(NamedTuple):
    kind: str
    """text, name, number, word or sign; end after the last."""
    value: str
    """Words in lower case where they are part of the language."""
    position: int
    """Of its first character, from 1."""


def to_sql(where: str, kinds: Mapping[str, Kind]) -> str:
    """A filter as SQL in which every name is that of a column and every literal has the type of what it is compared to.

    Args:
        where: the filter.
        kinds: of the columns.

    Raises:
        FilterError: a word, a column or a comparison that filters do not have.
    """
    return _Translation(_tokens(where), kinds).sql()


class _Translation:
    """Goes over the tokens of a filter once."""

    def __init__(self, tokens: list[_Token], kinds: Mapping[str, Kind]) -> None:
        self._tokens = tokens
        self._kinds = kinds
        self._next = 0

    def sql(self) -> str:
        parts: list[str] = []
        comparisons = depth = 0
        while self._token.kind != "end":
            if self._token.value in _CONNECTIVES and self._token.kind in ("word", "sign"):
                sign = self._take().value
                depth += (sign == "(") - (sign == ")")
                if depth > DEEPEST:
                    raise FilterError("it is nested too deep", expected=f"at most {DEEPEST} parentheses in each other")
                parts.append(sign)
            else:
                parts.append(self._comparison())
                comparisons += 1
        if comparisons > MOST_COMPARISONS:
            raise FilterError(
                f"it has {comparisons:,} comparisons",
                expected=f"at most {MOST_COMPARISONS}",
                advice="Write `category in ('x', 'y')` for many values of one column.",
            )
        return " ".join(parts)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _comparison(self) -> str:
        """One condition on a column, or true or false."""
        token = self._take()
        if token.kind == "word" and token.value in ("true", "false"):
            return token.value
        if token.kind in ("number", "text"):
            sign = self._take()
            if sign.value not in _COMPARISONS:
                raise _token_error(sign, "a sign such as <= between a value and a column")
            column, kind = self._column(self._take())
            return f"{_literal(token, column, kind)} {sign.value} {_identifier(column)}"
        column, kind = self._column(token)
        if self._token.value in _COMPARISONS and self._token.kind == "sign":
            return f"{_identifier(column)} {self._take().value} {self._operand(column, kind)}"
        if self._is_word("is"):
            negated = "not " if self._is_word("not") else ""
            if not self._is_word("null"):
                raise _token_error(self._token, "null after is")
            return f"{_identifier(column)} is {negated}null"
        return self._condition(column, kind)

    def _condition(self, column: str, kind: Kind) -> str:
        """What a column is, or is not: in a list, between two limits, like a pattern, with an element; or true."""
        name, negated = _identifier(column), "not " if self._is_word("not") else ""
        condition = ""
        if self._is_word("in"):
            condition = f"{name} {negated}in ({', '.join(self._list(column, kind))})"
        elif self._is_word("between"):
            lowest = self._literal(column, kind)
            if not self._is_word("and"):
                raise _token_error(self._token, "and between the two limits")
            condition = f"({name} {negated}between {lowest} and {self._literal(column, kind)})"
        elif self._is_word("like"):
            if kind != "text":
                raise _kind_error(column, kind, "like")
            condition = f"{name} {negated}like {self._literal(column, kind)}"
        elif self._is_word("contains"):
            condition = f"({negated}array_contains({name}, {self._element(column, kind)}))"
        elif negated:
            raise _token_error(self._token, "in, between, like or contains after not")
        elif kind != "truth":
            raise FilterError(
                f'column "{column}" holds {_words(kind)}, and stands alone like a column of true and false',
                expected=f"a comparison with {_EXAMPLES[kind]}",
            )
        return condition or name

    def _is_word(self, word: str) -> bool:
        """Take the next token if it is this word."""
        is_word = self._token.kind == "word" and self._token.value == word
        self._next += is_word
        return is_word

    def _column(self, token: _Token) -> tuple[str, Kind]:
        if token.kind not in ("word", "name") or (token.kind == "word" and token.value in _WORDS):
            raise _token_error(token, 'the name of a column; a name that is a word of the language in quotes, "date"')
        if self._token == _Token("sign", "(", self._token.position):
            raise FilterError(
                f'"{token.value}(", character {token.position}: a filter has no functions',
                expected="comparisons of columns and values, and, or, not, in, between, like, is null, contains",
            )
        name = token.value
        namesakes = [column for column in self._kinds if plain(column) == plain(name)]
        if name not in self._kinds and len(namesakes) == 1:
            name = namesakes[0]
        if name not in self._kinds:
            near = difflib.get_close_matches(name, list(self._kinds), n=1, cutoff=0.5)
            suggestion = f'; do you mean "{near[0]}"?' if near else ""
            only_names = len(self._kinds) == 1
            raise FilterError(
                f'the items have no column "{name}"{suggestion}',
                expected="one of: " + ", ".join(f"{column} ({_words(kind)})" for column, kind in self._kinds.items()),
                advice="The catalog keeps the columns of an item table that is imported with --items FILE."
                if only_names
                else "Name a column of the item table.",
            )
        return name, self._kinds[name]

    def _operand(self, column: str, kind: Kind) -> str:
        """What a column is compared to: a value, or another column of the same kind."""
        token = self._token
        is_column = token.kind == "name" or (token.kind == "word" and token.value not in _WORDS)
        if not is_column:
            return self._literal(column, kind)
        other, other_kind = self._column(self._take())
        if kind != other_kind or kind == "list":
            raise _kind_error(column, kind, f'column "{other}", which holds {_words(other_kind)}')
        return _identifier(other)

    def _list(self, column: str, kind: Kind) -> list[str]:
        opening = self._take()
        if opening.value != "(":
            raise _token_error(opening, "( after in")
        values = [self._literal(column, kind)]
        while self._token.value == "," and self._token.kind == "sign":
            self._take()
            values.append(self._literal(column, kind))
        closing = self._take()
        if closing.value != ")" or closing.kind != "sign":
            raise _token_error(closing, ", or ) in a list of values")
        return values

    def _literal(self, column: str, kind: Kind) -> str:
        # date '2024-01-31' is the same as '2024-01-31': the column says what it is
        self._is_word("date")
        return _literal(self._take(), column, kind)

    def _element(self, column: str, kind: Kind) -> str:
        token = self._take()
        if kind == "text":
            raise FilterError(
                f'column "{column}" holds a text, and contains looks into lists',
                expected=f"like and a pattern: {column} like '%x%'",
            )
        if kind != "list":
            raise _kind_error(column, kind, "contains")
        if token.kind != "text":
            raise _token_error(token, "a text in quotes after contains")
        return _text_literal(token.value)


def _tokens(where: str) -> list[_Token]:
    if len(where) > LONGEST:
        raise FilterError(f"it has {len(where):,} characters", expected=f"at most {LONGEST:,}")
    tokens: list[_Token] = []
    position, length = 0, len(where.rstrip())
    while position < length:
        match = _TOKEN.match(where, position)
        if match is None or match.lastgroup is None:
            start = position + len(where[position:]) - len(where[position:].lstrip())
            problem = "a quote is not closed" if where[start] in "'\"" else f'"{where[start]}" is not part of a filter'
            raise FilterError(f"character {start + 1}: {problem}")
        value, kind = match[match.lastgroup], match.lastgroup
        if kind == "text":
            value = value[1:-1].replace("''", "'")
        elif kind == "name":
            value = value[1:-1].replace('""', '"')
        elif kind == "word" and value.lower() in _WORDS:
            value = value.lower()
        tokens.append(_Token(kind, value, match.start(match.lastgroup) + 1))
        position = match.end()
    if not tokens:
        raise FilterError("it is empty")
    return [*tokens, _Token("end", "the end", length + 1)]


def _expression(sql: str) -> pl.Expr:
    try:
        return pl.sql_expr(sql)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise FilterError(
            f"it is not a sentence of and, or, not and parentheses: {str(error).splitlines()[0][:200]}"
        ) from error


def _literal(token: _Token, column: str, kind: Kind) -> str:
    """A value as SQL of the type of the column that it is compared to."""
    if token.kind == "word" and token.value == "null":
        raise FilterError(
            f'column "{column}" is compared to null, which nothing equals', expected=f"{column} is null, or is not null"
        )
    if token.kind in ("end", "sign"):
        raise _token_error(token, _EXAMPLES[kind])
    if token.kind == "text" and kind in ("date", "time"):
        return _moment(token.value, column, kind)
    is_truth = token.kind == "word" and token.value in ("true", "false")
    if kind != ("truth" if is_truth else token.kind):
        raise _kind_error(column, kind, repr(token.value) if token.kind == "text" else token.value)
    return _text_literal(token.value) if kind == "text" else token.value


def _moment(text: str, column: str, kind: Kind) -> str:
    try:
        if kind == "date":
            return f"cast('{date.fromisoformat(text).isoformat()}' as date)"
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _kind_error(column, kind, repr(text)) from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return f"cast('{moment.isoformat(sep=' ', timespec='microseconds')}' as timestamp)"


def _identifier(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _kind_error(column: str, kind: Kind, compared_to: str) -> FilterError:
    return FilterError(
        f'column "{column}" holds {_words(kind)}, and is compared to {compared_to}', expected=_EXAMPLES[kind]
    )


def _token_error(token: _Token, expected: str) -> FilterError:
    return FilterError(f'"{token.value}" at character {token.position}', expected=expected)


def _words(kind: Kind) -> str:
    words: dict[Kind, str] = {"truth": "true and false", "list": "lists of text", "text": "text"}
    return words.get(kind, f"{kind}s")


def _kind(values: pl.Series) -> Kind:
    kinds: dict[type[object], Kind] = {pl.Boolean: "truth", pl.Date: "date", pl.Datetime: "time", pl.List: "list"}
    return "number" if values.dtype.is_numeric() else kinds.get(type(values.dtype), "text")
