"""From a column's PostgreSQL type to its field's mapping and to the SQL that writes its value."""

from dataclasses import replace

from pg_es_pipeline.sync.catalog import Column
from pg_es_pipeline.sync.conversions import (
    DAY,
    FOUR_DIGIT_YEAR,
    LARGEST_DOUBLE,
    SHORT_NUMERIC,
    Conversion,
    Mapping,
    each,
    held_if,
    template,
)
from pg_es_pipeline.sync.ranges import MULTIRANGES, RANGES

KEYWORD_LIMIT = 8191
"""Characters of the longest value that is indexed as a whole: Lucene's limit is 32,766 bytes, and a
character takes up to four. A longer value is returned, but not found by its exact value."""

JSON_LEVELS = 1000
"""Levels of the deepest document that Elasticsearch's parser takes, its own included."""

VECTOR_DIMENSIONS = 4096
"""Of the longest `dense_vector`."""


def keyword() -> Mapping:
    return {"type": "keyword", "ignore_above": KEYWORD_LIMIT}


def text() -> Mapping:
    return {"type": "text", "fields": {"raw": keyword()}}


def flattened() -> Mapping:
    return {"type": "flattened", "depth_limit": JSON_LEVELS, "ignore_above": KEYWORD_LIMIT}


def conversion(column: Column, given: Mapping | None = None) -> Conversion:
    """The conversion of a column; a type without one of its own becomes text in a keyword.

    `given` is the mapping that the tables file gives the column. It replaces the type's own, and
    where it asks for the value in another form, the value has that form.
    """
    one = (given and _for_mapping(column, given)) or _of_type(column)
    found = _of_array(column, one) if column.array else one
    return replace(found, mapping=given) if given else found


def is_written_as_text(column: Column, given: Mapping | None = None) -> bool:
    """Whether all values of a column are texts in the document."""
    one = (given and _for_mapping(column, given)) or _of_type(column)
    return not column.array and (one in (_KEYWORD, _EXACT_MONEY) or column.type in _TEXTS)


def _of_type(column: Column) -> Conversion:
    if column.kind == "c":
        return _COMPOSITE
    if column.type in ("vector", "halfvec"):
        return _vector(column.modifier)
    if column.type == "numeric" and _has_few_digits(column.modifier):
        return _SHORT_NUMERIC
    return _BY_TYPE.get(column.type, _KEYWORD)


def _has_few_digits(modifier: int) -> bool:
    """Whether a numeric is declared so short that NaN is all there is to look out for."""
    precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF  # a negative scale is > 1,023
    return modifier > 0 and precision <= 300 and scale <= 300


def _for_mapping(column: Column, given: Mapping) -> Conversion | None:
    field = given.get("type", "object")
    if field in _TEXTUAL and column.type not in _TEXT_ALREADY:
        return _EXACT_MONEY if column.type == "money" else _KEYWORD
    if field in ("object", "nested") and column.type in _AS_JSON:
        return _AS_JSON[column.type]
    if field == "date_nanos" and column.type in ("date", "timestamp", "timestamptz"):
        return _DATE_NANOS
    return None


def _of_array(column: Column, one: Conversion) -> Conversion:
    if one is _KEYWORD or column.type == "bpchar":
        return Conversion(one.mapping, template("{}::text[]"))
    if column.type in _WRITTEN_RIGHT:
        return one
    if one.mapping["type"] == "dense_vector":  # it takes a single vector
        return each(one, _vector(0).mapping)
    return each(one)


def _vector(dimensions: int) -> Conversion:
    mapping: Mapping = {"type": "float"}
    if 0 < dimensions <= VECTOR_DIMENSIONS:
        mapping = {"type": "dense_vector", "dims": dimensions, "similarity": "l2_norm"}
    # Elasticsearch adds up the squares of a vector's numbers in 32 bits, hence the limit of 1e17.
    # It is told by the text, for taking a long vector apart would cost more than all else.
    return held_if(r"{0}::text !~ 'e\+(1[7-9]|[23])'", "{0}::text::json", mapping)


_AS_IT_IS = template("{}")
_AS_TEXT = template("{}::text")

_KEYWORD = Conversion(keyword(), _AS_TEXT)
_EXACT_MONEY = Conversion(keyword(), template("{}::numeric::text"))
_DATE_NANOS = held_if("{0} >= '1970-01-01' AND {0} < '2262-04-11'", "{0}", {"type": "date_nanos"})
_DATE = Conversion(
    {"type": "date"}, template(DAY), template("isfinite({})"), template(f"({FOUR_DIGIT_YEAR})")
)
_SHORT_NUMERIC = held_if("{0} <> 'NaN'", "{0}", {"type": "double"}, usual="{0} <> 'NaN'")
# NaN is greater than infinity.
_FINITE = "{0} > '-Infinity' AND {0} < 'Infinity'"

# `json` may hold what `jsonb` refuses, such as \u0000. Between its values it may have line ends,
# which would end the line of the bulk request; within its texts they are escaped.
_ONE_LINE = "translate({}::text, E'\\n\\r', '  ')::json"
_AS_JSON = {
    "json": Conversion({"type": "object"}, template(_ONE_LINE)),
    "jsonb": Conversion({"type": "object"}, _AS_IT_IS),
}
# `flattened` takes objects alone, so that anything else is put into one.
_JSON = Conversion(
    flattened(),
    template(
        "CASE json_typeof({0}) WHEN 'null' THEN NULL WHEN 'object' THEN {1}"
        " ELSE CASE WHEN {0} IS NOT NULL THEN json_build_object('value', {1}) END END".replace(
            "{1}", _ONE_LINE.replace("{}", "{0}")
        )
    ),
)
_JSONB = Conversion(
    flattened(),
    template(
        "CASE jsonb_typeof({0}) WHEN 'null' THEN NULL WHEN 'object' THEN {0}"
        " ELSE CASE WHEN {0} IS NOT NULL THEN jsonb_build_object('value', {0}) END END"
    ),
)
_COMPOSITE = Conversion(flattened(), template(_ONE_LINE.replace("{}", "to_json({})")))

_BY_TYPE = {
    "int2": Conversion({"type": "short"}, _AS_IT_IS),
    "int4": Conversion({"type": "integer"}, _AS_IT_IS),
    "int8": Conversion({"type": "long"}, _AS_IT_IS),
    "oid": Conversion({"type": "long"}, template("{}::int8")),
    "float4": held_if(_FINITE, "{0}", {"type": "float"}, usual=_FINITE),
    "float8": held_if(_FINITE, "{0}", {"type": "double"}, usual=_FINITE),
    "numeric": held_if(
        f"{{0}} BETWEEN -{LARGEST_DOUBLE} AND {LARGEST_DOUBLE}",
        SHORT_NUMERIC,
        {"type": "double"},
        usual="{0} BETWEEN -1e300 AND 1e300 AND scale({0}) <= 400",
    ),
    "money": Conversion({"type": "double"}, template("{}::numeric")),
    "bool": Conversion({"type": "boolean"}, _AS_IT_IS),
    "date": _DATE,
    "timestamp": _DATE,
    "timestamptz": _DATE,
    "text": Conversion(text(), _AS_IT_IS),
    "varchar": Conversion(text(), _AS_IT_IS),
    "citext": Conversion(text(), _AS_IT_IS),
    # The blanks that fill it up are no part of the value.
    "bpchar": Conversion(text(), _AS_TEXT),
    "xml": Conversion(text(), _AS_TEXT),
    "json": _JSON,
    "jsonb": _JSONB,
    "hstore": Conversion(flattened(), template("{}::json")),
    "bytea": Conversion(
        {"type": "binary"}, template("translate(encode({}, 'base64'), E'\\n', '')")
    ),
    "inet": Conversion({"type": "ip"}, template("host({})")),
    # Elasticsearch refuses a netmask behind an IPv4 address in the form of IPv6.
    "cidr": Conversion(
        {"type": "ip_range"},
        template(
            "CASE WHEN {0} <<= '::ffff:0:0/96'"
            " THEN json_build_object('gte', host({0}), 'lte', host(broadcast({0})))"
            " ELSE to_json({0}::text) END"
        ),
    ),
    "point": held_if(
        "({0}::point)[1] BETWEEN -90 AND 90 AND ({0}::point)[0] BETWEEN -180 AND 180",
        "json_build_object('lat', ({0}::point)[1], 'lon', ({0}::point)[0])",
        {"type": "geo_point"},
    ),
    "tsvector": Conversion(keyword(), template("tsvector_to_array({})")),
    **RANGES,
    **MULTIRANGES,
}

_TEXTUAL = {"keyword", "text", "wildcard", "match_only_text", "search_as_you_type"}
"""Mappings of texts."""

_TEXT_ALREADY = {
    *("int2", "int4", "int8", "oid", "bool", "bytea", "tsvector"),
    *("text", "varchar", "bpchar", "citext", "xml"),
}
"""Types whose values such a mapping takes as they are."""

_TEXTS = {"text", "varchar", "bpchar", "citext", "xml", "bytea", "inet"}
"""Types with a conversion of their own whose values are texts."""

_WRITTEN_RIGHT = {"int2", "int4", "int8", "bool", "text", "varchar", "citext"}
"""Types whose arrays PostgreSQL itself writes as they ought to be."""
