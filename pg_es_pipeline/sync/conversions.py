"""What a conversion of values is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

Mapping = dict[str, Any]
Expression = Callable[[sql.Composable], sql.Composable]
"""From the SQL of a value to the SQL of what becomes of it.

It may not raise, whatever the value: one raising row would end the COPY of a whole chunk.
"""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the values of a type are mapped and written."""

    mapping: Mapping
    write: Expression
    """The value as it goes into the JSON document."""
    holds: Expression | None = None
    """Whether Elasticsearch can hold the value, or all of a list (NULL if there is none); what it
    cannot hold is written as null. None: it holds all values of the type."""
    usual: Expression | None = None
    """Where `write` is seldom needed: whether PostgreSQL's own writing of the value will do."""


def template(text: str) -> Expression:
    """An expression that speaks of the value as `{0}`, or as the only `{}`."""
    return lambda value: sql.SQL(text).format(value)


def held_if(condition: str, write: str, mapping: Mapping, *, usual: str = "") -> Conversion:
    """Writes the values that meet a condition; the others are lost."""
    return Conversion(
        mapping,
        template(f"CASE WHEN {condition} THEN {write} END"),
        template(f"({condition})"),
        template(f"({usual})") if usual else None,
    )


def each(one: Conversion, mapping: Mapping | None = None) -> Conversion:
    """Of an array or a multirange: its elements as one list, whatever the dimensions."""

    def write(value: sql.Composable) -> sql.Composable:
        return sql.SQL(
            "CASE WHEN {0} IS NOT NULL THEN (SELECT coalesce(json_agg(to_json({1})), '[]')"
            " FROM (SELECT unnest({0}) AS v) e) END"
        ).format(value, one.write(_ELEMENT))

    def holds(value: sql.Composable) -> sql.Composable:
        assert one.holds is not None
        return sql.SQL("(SELECT bool_and({1}) FROM (SELECT unnest({0}) AS v) e)").format(
            value, one.holds(_ELEMENT)
        )

    return Conversion(mapping or one.mapping, write, holds if one.holds else None)


_ELEMENT = sql.SQL("e.v")

# Parts of expressions that more than one type needs.

LARGEST_DOUBLE = "1.7976931348623158e308"
"""What is greater by a little more would round to infinity."""

# Elasticsearch's parser takes no number of more than 1,000 characters. Of a double, no place after
# the 400th counts.
SHORT_NUMERIC = "CASE WHEN scale({0}) > 400 THEN round({0}, 400) ELSE {0} END"

# Elasticsearch's default format knows dates with four digits of the year, and milliseconds.
FOUR_DIGIT_YEAR = "{0} >= '0001-01-01' AND {0} < '10000-01-01'"
EPOCH_MILLISECONDS = "to_json(floor(extract(epoch FROM {0}) * 1000))"
DAY = (
    f"CASE WHEN {FOUR_DIGIT_YEAR} THEN to_json({{0}})"
    f" WHEN isfinite({{0}}) THEN {EPOCH_MILLISECONDS} END"
)
