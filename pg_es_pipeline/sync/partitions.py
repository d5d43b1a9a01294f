"""The partitions of a table: their keys, and which rows each of them has."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.documents import field, key_text
from pg_es_pipeline.tables import HashPartitions, ListPartitions, Partitions, TimePartitions

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


def keys(partitions: Partitions | None, now: datetime) -> list[str]:
    """All partition keys in order; of time, up to the period that `now` lies in."""
    match partitions:
        case None:
            return [ALL]
        case HashPartitions():
            return [str(bucket) for bucket in range(partitions.buckets)]
        case ListPartitions():
            return list(partitions.values)
        case TimePartitions():
            local = now.astimezone(ZoneInfo(partitions.time_zone)).replace(tzinfo=None)
            result, start = [], _midnight(partitions.start)
            while start <= local and (not partitions.end or start.date() < partitions.end):
                result.append(start.strftime(KEY_FORMATS[partitions.by]))
                start = _next(partitions.by, start)
            return result


def predicate(source: Source, key: str) -> sql.Composable:
    """The condition that a row of that partition meets. Raises SourceError for an unknown key."""
    partitions, column = source.table.partitions, source.partition_column
    match partitions:
        case None if key == ALL:
            return sql.SQL("true")
        case HashPartitions() if key in keys(partitions, datetime.now(UTC)):
            # The sign is cut off: the remainder of a negative number is negative.
            return sql.SQL(
                '(hashtextextended({} COLLATE "C", 0) & 9223372036854775807) % {} = {}'
            ).format(key_text(source), sql.Literal(partitions.buckets), sql.Literal(int(key)))
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
