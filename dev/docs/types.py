"""The table of docs/types.md: `python -m dev.docs.types` writes it anew.

A test loads every example here through real servers.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pg_es_pipeline.sync.catalog import Column
from pg_es_pipeline.sync.types import conversion

PAGE = Path(__file__).parents[2] / "docs/types.md"
BEGIN = "<!-- written by python -m dev.docs.types -->\n"
END = "<!-- end of what is written -->\n"

SETUP = """
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION vector;
CREATE TYPE mood AS ENUM ('happy', 'so so');
CREATE TYPE address AS (street text, number int);
CREATE TYPE floatrange AS RANGE (subtype = float8);
"""
"""What the examples need in a database."""


@dataclass(frozen=True, slots=True)
class Example:
    """A type, a value of it, and what becomes of it."""

    type: str
    value: str
    json: Any
    search: Any = None
    """What finds the document in its field; None: it cannot be searched by its value."""
    at: str = ""
    """The part of the field to search in."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    shown: str
    column: Column
    says: str
    examples: tuple[Example, ...]

    @property
    def mapping(self) -> dict[str, Any]:
        return conversion(self.column).mapping


def _row(
    shown: str, type_: str, says: str, *examples: Example, modifier: int = -1, kind: str = "b"
) -> Row:
    column = Column("x", type_, False, shown, False, None, kind, modifier)
    return Row(shown, column, says, examples)


_NO_NUMBER = "`NaN`, infinities"
_NUMBER_RANGE = {"gte": 1, "lt": 5}

ROWS = (
    _row("`smallint`", "int2", "a number", Example("smallint", "-32768", -32768, -32768)),
    _row("`integer`", "int4", "a number", Example("integer", "2147483647", 2**31 - 1, 2**31 - 1)),
    _row(
        "`bigint`, `oid`",
        "int8",
        "a number",
        Example("bigint", "-9223372036854775808", -(2**63), -(2**63)),
        Example("oid", "4294967295", 2**32 - 1, 2**32 - 1),
    ),
    _row("`real`", "float4", f"a number; {_NO_NUMBER}: lost", Example("real", "1.25", 1.25, 1.25)),
    _row(
        "`double precision`",
        "float8",
        f"a number; {_NO_NUMBER}: lost",
        Example("double precision", "0.1", 0.1, 0.1),
        Example("float8", "NaN", None),
    ),
    _row(
        "`numeric`",
        "numeric",
        "a number with all its digits up to 400 decimal places, searched as a double; "
        f"{_NO_NUMBER} and what is beyond 1.797e308: lost",
        Example("numeric(10,2)", "19.90", 19.9, 19.9),
        Example("numeric", "Infinity", None),
    ),
    _row(
        "`money`",
        "money",
        "a number, of two decimal places whatever `lc_monetary` says",
        Example("money", "12.34", 12.34, 12.34),
    ),
    _row("`boolean`", "bool", "true or false", Example("boolean", "true", True, True)),
    _row(
        "`date`, `timestamp`, `timestamptz`",
        "timestamptz",
        "ISO 8601 to the microsecond, searched to the millisecond; years before 1 and after 9999 "
        "as milliseconds since 1970; `infinity`, `-infinity`: lost",
        Example(
            "timestamptz",
            "2024-02-29 10:11:12.123456+05:30",
            "2024-02-29T04:41:12.123456+00:00",
            "2024-02-29T04:41:12.123Z",
        ),
        Example("timestamp", "2024-02-29 10:11:12", "2024-02-29T10:11:12", "2024-02-29T10:11:12Z"),
        Example("date", "2024-02-29", "2024-02-29", "2024-02-29"),
        Example("date", "0044-03-15 BC", -63517824000000, "-0043-03-15"),
        Example("date", "20000-01-01", 568971820800000, 568971820800000),
        Example("timestamp", "infinity", None),
    ),
    _row(
        "`time`, `timetz`",
        "time",
        "its text",
        Example("time", "10:11:12", "10:11:12", "10:11:12"),
        Example("timetz", "10:11:12+02", "10:11:12+02", "10:11:12+02"),
    ),
    _row(
        "`interval`",
        "interval",
        "its text in ISO 8601",
        Example("interval", "1 day 2 hours", "P1DT2H", "P1DT2H"),
    ),
    _row(
        "`text`, `varchar`, `citext`, `xml`",
        "text",
        "the text",
        Example("text", "Grüße, 'Welt'", "Grüße, 'Welt'", "Grüße, 'Welt'"),
        Example("varchar(20)", "a b", "a b", "a b"),
        Example("citext", "Ab", "Ab", "Ab"),
    ),
    _row(
        "`char(n)`",
        "bpchar",
        "the text without the blanks that fill it up",
        Example("char(5)", "ab", "ab", "ab"),
    ),
    _row(
        "`json`, `jsonb`",
        "jsonb",
        'an object as it is; an array or a scalar as `{"value": …}`; JSON\'s `null` is null',
        Example("jsonb", '{"a": {"b": "c d"}}', {"a": {"b": "c d"}}, "c d", ".a.b"),
        Example("json", "[1, 2]", {"value": [1, 2]}, "2", ".value"),
    ),
    _row(
        "`hstore`",
        "hstore",
        "an object of texts",
        Example("hstore", "a=>1, b=>NULL", {"a": "1", "b": None}, "1", ".a"),
    ),
    _row(
        "a composite type",
        "address",
        "an object",
        Example(
            "address", "(Main Street,5)", {"street": "Main Street", "number": 5}, "5", ".number"
        ),
        kind="c",
    ),
    _row(
        "`uuid`",
        "uuid",
        "its text",
        Example(
            "uuid",
            "123E4567-E89B-12D3-A456-426614174000",
            "123e4567-e89b-12d3-a456-426614174000",
            "123e4567-e89b-12d3-a456-426614174000",
        ),
    ),
    _row("an enum", "mood", "its text", Example("mood", "so so", "so so", "so so"), kind="e"),
    _row("`bytea`", "bytea", "base64; it cannot be searched", Example("bytea", "\\x00ff", "AP8=")),
    _row(
        "`bit`, `varbit`",
        "bit",
        "its text",
        Example("bit(3)", "101", "101", "101"),
        Example("varbit", "0110", "0110", "0110"),
    ),
    _row(
        "`inet`",
        "inet",
        "the address without its netmask",
        Example("inet", "10.1.2.3/8", "10.1.2.3", "10.0.0.0/8"),
    ),
    _row(
        "`cidr`",
        "cidr",
        "the network, found by each address in it",
        Example("cidr", "10.0.0.0/8", "10.0.0.0/8", "10.1.2.3"),
        Example(
            "cidr",
            "::ffff:1.2.3.0/120",
            {"gte": "::ffff:1.2.3.0", "lte": "::ffff:1.2.3.255"},
            "1.2.3.4",
        ),
    ),
    _row(
        "`macaddr`, `macaddr8`",
        "macaddr",
        "its text",
        Example("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    ),
    _row(
        "`int4range`",
        "int4range",
        "its bounds; an empty range: lost",
        Example("int4range", "[1,4]", _NUMBER_RANGE, 4),
        Example("int4range", "empty", None),
    ),
    _row(
        "`int8range`",
        "int8range",
        "its bounds; an empty range: lost",
        Example("int8range", "[1,5)", _NUMBER_RANGE, 4),
    ),
    _row(
        "`numrange`",
        "numrange",
        "its bounds; an empty one, or one beyond 1.797e308: lost",
        Example("numrange", "(1.5,)", {"gt": 1.5}, 1.6),
    ),
    _row(
        "`daterange`, `tsrange`, `tstzrange`",
        "tstzrange",
        "its bounds, infinite ones left out; an empty one, or one at infinity alone: lost",
        Example(
            "daterange",
            "[2024-01-01,2024-02-01)",
            {"gte": "2024-01-01", "lt": "2024-02-01"},
            "2024-01-31",
        ),
        Example(
            "tsrange",
            "(2024-01-01 10:00,infinity)",
            {"gt": "2024-01-01T10:00:00.000000"},
            "2024-01-01T10:00:00.500Z",
        ),
        Example(
            "tstzrange",
            "[2024-01-01 10:00+02,]",
            {"gte": "2024-01-01T08:00:00.000000"},
            "2024-01-01T08:00:00Z",
        ),
    ),
    _row(
        "a multirange of these",
        "int4multirange",
        "a list of ranges, in the mapping of the range",
        Example("int4multirange", "{[1,5),[7,9)}", [_NUMBER_RANGE, {"gte": 7, "lt": 9}], 8),
    ),
    _row(
        "another range",
        "floatrange",
        "its text",
        Example("floatrange", "[1,2)", "[1,2)", "[1,2)"),
        kind="r",
    ),
    _row(
        "`point`",
        "point",
        "x as the longitude, y as the latitude; what is not on the globe: lost",
        Example("point", "(13.4,52.5)", {"lat": 52.5, "lon": 13.4}, {"lat": 52.5, "lon": 13.4}),
        Example("point", "(181,0)", None),
    ),
    _row(
        "other geometric types",
        "box",
        "its text",
        Example("box", "(1,1),(0,0)", "(1,1),(0,0)", "(1,1),(0,0)"),
        Example("circle", "<(0,0),1>", "<(0,0),1>", "<(0,0),1>"),
    ),
    _row(
        "`tsvector`",
        "tsvector",
        "a list of its lexemes",
        Example("tsvector", "fat:2 cat:3", ["cat", "fat"], "fat"),
    ),
    _row(
        "`ltree`",
        "ltree",
        "its text",
        Example("ltree", "Top.Science", "Top.Science", "Top.Science"),
    ),
    _row(
        "`vector(n)`, `halfvec(n)`",
        "vector",
        "a list of n numbers; with one of 1e17 or more: lost",
        Example("vector(3)", "[1,0.5,0]", [1, 0.5, 0], [1, 0.5, 0]),
        Example("halfvec(3)", "[1,0.5,0]", [1, 0.5, 0], [1, 0.5, 0]),
        modifier=3,
    ),
    _row(
        "`vector` without n, or of more than 4,096",
        "vector",
        "a list of numbers",
        Example("vector", "[1,0.5]", [1, 0.5], 0.5),
    ),
    _row(
        "any other type",
        "pg_lsn",
        "its text",
        Example("pg_lsn", "16/B374D848", "16/B374D848", "16/B374D848"),
        Example("sparsevec(5)", "{1:1,3:2}/5", "{1:1,3:2}/5", "{1:1,3:2}/5"),
    ),
)


def table() -> str:
    """The table in Markdown."""
    lines = [
        "| PostgreSQL | Elasticsearch | the value in the document | such as |",
        "|---|---|---|---|",
    ]
    for row in ROWS:
        example = row.examples[0]
        shown = json.dumps(example.json, ensure_ascii=False)
        lines.append(
            f"| {row.shown} | {_field(row.mapping)} | {row.says} | `{example.value}` → `{shown}` |"
        )
    return "\n".join(lines) + "\n"


def page(present: str) -> str:
    """The page with its table written anew."""
    before, _, rest = present.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def _field(mapping: dict[str, Any]) -> str:
    if "fields" in mapping:
        return "`text` with the sub-field `raw`, a `keyword`"
    if mapping["type"] == "dense_vector":
        return "`dense_vector` of n, compared by `l2_norm`"
    return f"`{mapping['type']}`"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
