"""PostgreSQL's own ranges and multiranges as Elasticsearch's.

A bound that Elasticsearch cannot hold is left out if the range goes on beyond it. A range is lost
if it is empty, or lies beyond what Elasticsearch can hold.
"""

from dataclasses import dataclass

from psycopg import sql

from pg_es_pipeline.sync.conversions import (
    DAY,
    LARGEST_DOUBLE,
    SHORT_NUMERIC,
    Conversion,
    each,
)


def _within(condition: str, bound: str) -> str:
    return f"CASE WHEN {condition} THEN {bound} END"


@dataclass(frozen=True, slots=True)
class _Range:
    """Conditions and expressions; a bound that is absent is NULL, and so are conditions on it."""

    type: str
    field: str
    beyond: str = "false"
    """Whether nothing of the range from `{low}` to `{high}` can be held."""
    low: str = "{low}"
    high: str = "{high}"
    """The bounds that can be held."""
    close: str = "false"
    """Whether `b.low` and `b.high`, both excluded, may leave nothing between them."""
    shown: str = "{}"
    """A bound in the document."""

    def conversion(self) -> Conversion:
        return Conversion({"type": self.field}, self._write, self._holds)

    def _write(self, value: sql.Composable) -> sql.Composable:
        # Elasticsearch moves an excluded bound to the next number or millisecond, and refuses a
        # range whose bounds have passed each other: bounds close together count as included.
        return sql.SQL(
            "CASE WHEN {holds} THEN (SELECT json_strip_nulls(json_build_object("
            "CASE WHEN lower_inc({range}) OR {close} THEN 'gte' ELSE 'gt' END, {low},"
            " CASE WHEN upper_inc({range}) OR {close} THEN 'lte' ELSE 'lt' END, {high}))"
            " FROM (SELECT {bounds} OFFSET 0) b) END"
        ).format(
            holds=self._holds(value),
            range=self._range(value),
            close=sql.SQL(self.close),
            low=sql.SQL(self.shown).format(sql.SQL("b.low")),
            high=sql.SQL(self.shown).format(sql.SQL("b.high")),
            bounds=self._bounded(f"{self.low} AS low, {self.high} AS high", value),
        )

    def _holds(self, value: sql.Composable) -> sql.Composable:
        return sql.SQL("(NOT isempty({}) AND {} IS NOT TRUE)").format(
            self._range(value), self._bounded(f"({self.beyond})", value)
        )

    def _bounded(self, text: str, value: sql.Composable) -> sql.Composable:
        range_ = self._range(value)
        return sql.SQL(text).format(
            low=sql.SQL("lower({})").format(range_), high=sql.SQL("upper({})").format(range_)
        )

    def _range(self, value: sql.Composable) -> sql.Composable:
        return sql.SQL("{}::{}").format(value, sql.SQL(self.type))


_NUMBER = {
    "beyond": f"{{low}} > {LARGEST_DOUBLE} OR {{high}} < -{LARGEST_DOUBLE}",
    "low": _within(f"{{low}} >= -{LARGEST_DOUBLE}", "{low}"),
    "high": _within(f"{{high}} <= {LARGEST_DOUBLE}", "{high}"),
    "close": "b.high - b.low <= (abs(b.high) + abs(b.low)) * 1e-15 + 1e-300",
    "shown": SHORT_NUMERIC,
}
_DAYS = {
    "beyond": "{low} = 'infinity' OR {high} = '-infinity'",
    "low": _within("isfinite({low})", "{low}"),
    "high": _within("isfinite({high})", "{high}"),
    "shown": DAY,
}
_MOMENTS = _DAYS | {
    # Not by subtraction: that overflows.
    "close": "extract(epoch FROM b.high) - extract(epoch FROM b.low) < 0.002",
    # With all its places: Elasticsearch fills up those of an excluded lower bound with nines.
    "shown": DAY.replace("to_json({0})", "to_json(to_char({0}, 'YYYY-MM-DD\"T\"HH24:MI:SS.US'))"),
}

_ALL = (
    # PostgreSQL itself writes ranges of whole numbers and days as [low,high).
    _Range("int4range", "integer_range"),
    _Range("int8range", "long_range"),
    _Range("daterange", "date_range", **_DAYS),
    _Range("numrange", "double_range", **_NUMBER),
    _Range("tsrange", "date_range", **_MOMENTS),
    _Range("tstzrange", "date_range", **_MOMENTS),
)

RANGES = {one.type: one.conversion() for one in _ALL}
MULTIRANGES = {one.type.replace("range", "multirange"): each(one.conversion()) for one in _ALL}
