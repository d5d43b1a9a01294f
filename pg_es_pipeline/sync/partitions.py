"""The partitions of a table: their keys, and which rows and documents each of them has."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.documents import (
    BUCKET,
    BUCKETS,
    bucket,
    field,
    has_bucket,
    mapping,
    relation,
)
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.tables import (
    HashPartitions,
    ListPartitions,
    NativePartitions,
    Partitions,
    RangePartitions,
    TimePartitions,
)

ALL = "all"
"""The key of the one partition of a table that has no others."""

KEY_FORMATS = {
    "hour": "%Y-%m-%dT%H",
    "day": "%Y-%m-%d",
    "week": "%Y-%m-%d",
    "month": "%Y-%m",
    "year": "%Y",
}

_TIME_TYPES = ("date", "timestamp", "timestamptz")


MAX_RANGES = 100_000
"""Ranges of one table; more are a mistake in `width`."""


def current_keys(connection: Connection, source: Source) -> list[str]:
    """All partition keys of a table as it is now, in order. Raises SourceError."""
    partitions = source.table.partitions
    match partitions:
        case NativePartitions():
            return list(source.leaves)
        case RangePartitions():
            return _ranges(connection, source, partitions)
        case _:
            return keys(partitions, datetime.now(UTC))


def keys(
    partitions: TimePartitions | HashPartitions | ListPartitions | None, now: datetime
) -> list[str]:
    """The keys that follow from the tables file; of time, up to the period that `now` lies in, and
    as many more as its `end_offset` says."""
    match partitions:
        case None:
            return [ALL]
        case HashPartitions():
            return [str(bucket) for bucket in range(partitions.buckets)]
        case ListPartitions():
            return list(partitions.values)
        case TimePartitions():
            local = now.astimezone(ZoneInfo(partitions.time_zone)).replace(tzinfo=None)
            result: list[str] = []
            start, ahead = _midnight(partitions.start), partitions.end_offset
            while not partitions.end or start.date() < partitions.end:
                if start > local:
                    if not result or not ahead:
                        break
                    ahead -= 1
                result.append(start.strftime(KEY_FORMATS[partitions.by]))
                start = _next(partitions.by, start)
            return result


def grows(partitions: Partitions | None) -> bool:
    """Whether the keys follow from the table's rows, and not from the tables file alone."""
    return isinstance(partitions, RangePartitions | NativePartitions)


def predicate(source: Source, key: str) -> sql.Composable:
    """The condition that a row of that partition meets. Raises SourceError for an unknown key."""
    partitions, column = source.table.partitions, source.partition_column
    match partitions:
        case None if key == ALL:
            return sql.SQL("true")
        case HashPartitions() if key in keys(partitions, datetime.now(UTC)):
            low, high = _hash_bounds(partitions, key)
            return sql.SQL("{0} >= {1} AND {0} < {2}").format(
                bucket(source), sql.Literal(low), sql.Literal(high)
            )
        case RangePartitions() if column and _is_multiple(key, partitions.width):
            _require_number(source)
            first = int(key)
            return sql.SQL("{0} >= {1} AND {0} < {2}").format(
                field(column), sql.Literal(first), sql.Literal(first + partitions.width)
            )
        case NativePartitions() if key in source.leaves:
            return sql.SQL(source.leaves[key])
        case ListPartitions() if key in partitions.values and column:
            # No cast: one to varchar(2) would cut the value off.
            return sql.SQL("{} = {}").format(field(column), sql.Literal(key))
        case TimePartitions() if column:
            if column.array or column.type not in _TIME_TYPES:
                raise SourceError(
                    f"{source.table.table}: partitions by {partitions.by} need a date, timestamp "
                    f"or timestamptz, and {column.name} is of type {column.declared}."
                )
            start, end = (
                _literal(bound, column.type, partitions.time_zone)
                for bound in bounds(partitions, key)
            )
            return sql.SQL("{0} >= {1} AND {0} < {2}").format(field(column), start, end)
    raise SourceError(f"{source.table.table}: has no partition {key!r}.")


def any_of(source: Source) -> sql.Composable:
    """The condition that a row of any partition meets, as they are now."""
    kind, column = source.table.partitions, source.partition_column
    match kind:
        case TimePartitions() if column:
            partitions = keys(kind, datetime.now(UTC))
            if not partitions:
                return sql.SQL("false")
            lower, upper = (
                _literal(bounds(kind, key)[end], column.type, kind.time_zone)
                for end, key in ((0, partitions[0]), (1, partitions[-1]))
            )
            return sql.SQL("{0} >= {1} AND {0} < {2}").format(field(column), lower, upper)
        case ListPartitions() if column:
            values = sql.SQL(", ").join(map(sql.Literal, kind.values))
            return sql.SQL("{} IN ({})").format(field(column), values)
        case RangePartitions() if column:
            return sql.SQL("{} IS NOT NULL").format(field(column))
        case _:
            return sql.SQL("true")


def documents_of(source: Source, key: str) -> dict[str, Any] | None:
    """The query for a partition's documents; None where the documents do not tell."""
    partitions, column = source.table.partitions, source.partition_column
    match partitions:
        case None:
            return {"match_all": {}}
        case HashPartitions() if has_bucket(source):
            low, high = _hash_bounds(partitions, key)
            return {"range": {BUCKET: {"gte": low, "lte": high - 1}}}
        case _ if source.table.transform:  # it may have changed the column
            return None
        case TimePartitions() if column in source.columns and column:
            if mapping(source, column).get("type") != "date":
                return None
            start, end = (
                bound.replace(tzinfo=ZoneInfo(partitions.time_zone)).isoformat()
                for bound in bounds(partitions, key)
            )
            if column.type != "timestamptz":
                start, end = start[:19], end[:19]
            return {"range": {column.name: {"gte": start, "lt": end}}}
        case RangePartitions() if column in source.columns and column:
            if mapping(source, column).get("type") not in ("short", "integer", "long"):
                return None
            return {
                "range": {column.name: {"gte": int(key), "lte": int(key) + partitions.width - 1}}
            }
        case ListPartitions() if column in source.columns and column:
            match mapping(source, column):
                case {"type": "text", "fields": {"raw": {"type": "keyword"}}}:
                    return {"term": {f"{column.name}.raw": key}}
                case {"type": "keyword" | "short" | "integer" | "long" | "boolean"}:
                    return {"term": {column.name: key}}
    return None


def _ranges(connection: Connection, source: Source, partitions: RangePartitions) -> list[str]:
    _require_number(source)
    column = source.partition_column
    assert column is not None
    row = connection.execute(
        sql.SQL("SELECT floor(min({0}))::text, floor(max({0}))::text FROM {1}").format(
            field(column), relation(source)
        )
    ).fetchone()
    if row is None or row[0] is None:
        return []
    width = partitions.width
    first, last = (int(value) // width * width for value in row)
    if (last - first) // width >= MAX_RANGES:
        raise SourceError(
            f"{source.table.table}: {column.name} goes from {row[0]} to {row[1]}, which makes more "
            f"than {MAX_RANGES:,} ranges of {width:,}. Choose a larger `width`."
        )
    return [str(start) for start in range(first, last + 1, width)]


def _require_number(source: Source) -> None:
    column = source.partition_column
    if column and (column.array or column.type not in ("int2", "int4", "int8", "numeric")):
        raise SourceError(
            f"{source.table.table}: partitions by range need a whole number or numeric, and "
            f"{column.name} is of type {column.declared}."
        )


def _is_multiple(key: str, width: int) -> bool:
    try:
        number = int(key)
    except ValueError:
        return False
    return str(number) == key and number % width == 0


def _hash_bounds(partitions: HashPartitions, key: str) -> tuple[int, int]:
    """The hash's values of a partition: the first, and the first behind the last."""
    first, end = (-(-number * BUCKETS // partitions.buckets) for number in (int(key), int(key) + 1))
    return first, end


def bounds(partitions: TimePartitions, key: str) -> tuple[datetime, datetime]:
    """The first moment of a period and the first one after it, as wall-clock time in its zone.

    Raises SourceError for a key that is none of these partitions'.
    """
    first, form = _midnight(partitions.start), KEY_FORMATS[partitions.by]
    try:
        start = datetime.strptime(key, form)  # noqa: DTZ007
    except ValueError:
        start = first - timedelta(1)
    whole_weeks = partitions.by != "week" or (start - first).days % 7 == 0
    before_end = partitions.end is None or start < _midnight(partitions.end)
    if start < first or not before_end or not whole_weeks or start.strftime(form) != key:
        end = f" and end before {partitions.end}" if partitions.end else ""
        raise SourceError(
            f"no {partitions.by} {key!r}: these partitions begin with {first.strftime(form)}{end}."
        )
    return start, _next(partitions.by, start)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min)


def _next(by: str, start: datetime) -> datetime:
    match by:
        case "hour":
            return start + timedelta(hours=1)
        case "day":
            return start + timedelta(days=1)
        case "week":
            return start + timedelta(weeks=1)
        case "month":
            return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        case _:
            return start.replace(year=start.year + 1)


def _literal(bound: datetime, type_name: str, time_zone: str) -> sql.Composable:
    if type_name == "timestamptz":
        bound = bound.replace(tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
    return sql.SQL("{}::{}").format(sql.Literal(bound.isoformat()), sql.SQL(type_name))
