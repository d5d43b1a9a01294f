"""From a column's PostgreSQL type to its field's mapping and to the SQL that writes its value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pg_es_pipeline.sync.catalog import Column

KEYWORD_LIMIT = 8191
"""Characters of the longest value that is indexed as a whole: Lucene's limit is 32,766 bytes, and a
character takes up to four. A longer value is returned, but not found by its exact value."""

Mapping = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversion:
    """How the values of a type are mapped and written."""

    mapping: Mapping
    write: Callable[[sql.Composable], sql.Composable]
    """The SQL expression of the value as it goes into the JSON document."""


def keyword() -> Mapping:
    return {"type": "keyword", "ignore_above": KEYWORD_LIMIT}


def text() -> Mapping:
    return {"type": "text", "fields": {"raw": keyword()}}


def _wrapped(template: str) -> Callable[[sql.Composable], sql.Composable]:
    return lambda value: sql.SQL(template).format(value)


_AS_IT_IS = _wrapped("{}")
_AS_TEXT = _wrapped("{}::text")
_TEXTS = _wrapped("{}::text[]")
# JSON has no NaN and no infinity: such a value is left out of the document.
_FINITE_NUMBER = _wrapped("CASE WHEN {0} NOT IN ('NaN', 'Infinity', '-Infinity') THEN {0} END")
_FINITE_TIME = _wrapped("CASE WHEN isfinite({0}) THEN {0} END")
# `flattened` takes objects alone, so that anything else is put into one.
_OBJECT = _wrapped(
    "CASE WHEN jsonb_typeof({0}::jsonb) = 'object' THEN {0}::jsonb "
    "WHEN jsonb_typeof({0}::jsonb) <> 'null' THEN jsonb_build_object('value', {0}::jsonb) END"
)

_NUMBER = {name: Conversion({"type": name}, _AS_IT_IS) for name in ("short", "integer", "long")}
_FLOAT = {name: Conversion({"type": name}, _FINITE_NUMBER) for name in ("float", "double")}
_DATE = Conversion({"type": "date"}, _FINITE_TIME)
_TEXT = Conversion(text(), _AS_IT_IS)
_KEYWORD = Conversion(keyword(), _AS_TEXT)
_FLATTENED = Conversion({"type": "flattened", "ignore_above": KEYWORD_LIMIT}, _OBJECT)

_BY_TYPE = {
    "int2": _NUMBER["short"],
    "int4": _NUMBER["integer"],
    "int8": _NUMBER["long"],
    "float4": _FLOAT["float"],
    "float8": _FLOAT["double"],
    "numeric": _FLOAT["double"],
    "bool": Conversion({"type": "boolean"}, _AS_IT_IS),
    "date": _DATE,
    "timestamp": _DATE,
    "timestamptz": _DATE,
    "text": _TEXT,
    "varchar": _TEXT,
    # The blanks that fill it up are no part of the value.
    "bpchar": Conversion(text(), _AS_TEXT),
    "citext": _TEXT,
    "json": _FLATTENED,
    "jsonb": _FLATTENED,
    "bytea": Conversion(
        {"type": "binary"}, _wrapped("translate(encode({}, 'base64'), E'\\n', '')")
    ),
    "inet": Conversion({"type": "ip"}, _wrapped("host({})")),
}

# An array takes the mapping of its elements; these are safe to write as PostgreSQL does.
_ARRAYS = {"int2", "int4", "int8", "bool", "text", "varchar"}


def conversion(column: Column) -> Conversion:
    """The conversion of a column; a type without one of its own becomes text in a keyword."""
    known = _BY_TYPE.get(column.type)
    if not column.array:
        return known or _KEYWORD
    if known and column.type in _ARRAYS:
        return known
    return Conversion(known.mapping if known is _BY_TYPE["bpchar"] else keyword(), _TEXTS)
