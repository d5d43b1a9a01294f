"""The partitions of a table: the same keys here and in Dagster, and each row in one of them."""

import random
import secrets
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from dagster._core.test_utils import freeze_time
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.orchestration.partitions import partitions_definition
from pg_es_pipeline.sync.catalog import Source, introspect
from pg_es_pipeline.sync.partitions import bounds, keys, predicate
from pg_es_pipeline.tables import HashPartitions, ListPartitions, Table, TimePartitions
from tests.connections import connect

# Clocks that leave out half an hour, the hour after midnight or a whole day, and some that do not.
# Left out are zones in which midnight comes twice (Havana): there Dagster's own schedules fail.
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
]
NEXT = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=32),
    "year": timedelta(days=367),
}


def first_day(by: str, day: date) -> date:
    match by:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "year":
            return day.replace(month=1, day=1)
    return day


def after(by: str, day: date, periods: int) -> date:
    """The first day of the period so many later; of hours, a day later for each."""
    for _ in range(periods):
        day = first_day(by, day + max(NEXT[by], timedelta(days=1)))
    return day


@st.composite
def time_partitions(draw: st.DrawFn) -> TimePartitions:
    by = draw(st.sampled_from(sorted(NEXT)))
    start = first_day(by, draw(st.dates(date(1990, 1, 1), date(2015, 12, 31))))
    length = draw(st.none() | st.integers(1, 6))
    return TimePartitions(
        by=by,
        column="at",
        start=start,
        end=None if length is None else after(by, start, length),
        end_offset=draw(st.integers(0, 3)) if length is None else 0,
        time_zone="UTC" if by == "hour" else draw(st.sampled_from(ZONES)),
    )


@st.composite
def partitions_and_now(draw: st.DrawFn) -> tuple[TimePartitions, datetime]:
    """Partitions, and a moment near the borders of one of their first periods."""
    partitions = draw(time_partitions())
    border = after(partitions.by, partitions.start, draw(st.integers(0, 6)))
    moment = datetime(border.year, border.month, border.day, tzinfo=ZoneInfo(partitions.time_zone))
    distance = draw(
        st.sampled_from([timedelta(0), timedelta.resolution, -timedelta.resolution])
        | st.timedeltas(-NEXT[partitions.by], NEXT[partitions.by])
    )
    return partitions, moment.astimezone(UTC) + distance


def keys_in_dagster(partitions: Any, now: datetime) -> list[str]:
    with freeze_time(now):
        table = Table(table="public.t", partitions=partitions)
        return list(partitions_definition(table).get_partition_keys())


@given(partitions_and_now())
@settings(max_examples=120, deadline=None)
def test_keys_of_time_are_the_same_here_and_in_dagster(
    case: tuple[TimePartitions, datetime],
) -> None:
    partitions, now = case
    present = keys(partitions, now)
    # In the period before the start Dagster shows the first partition already.
    assume(present)
    assert keys_in_dagster(partitions, now) == present


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        (None, ["all"]),
        (HashPartitions(by="hash", buckets=3), ["0", "1", "2"]),
        (ListPartitions(by="list", column="c", values=("us", "eu", "a b")), ["us", "eu", "a b"]),
    ],
)
def test_other_keys_are_the_same_here_and_in_dagster(partitions: Any, expected: list[str]) -> None:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    assert keys(partitions, now) == expected
    assert keys_in_dagster(partitions, now) == expected


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2026, 10, 31, 22, 59, 59, 999999, tzinfo=UTC), "2026-10"),
        (datetime(2026, 10, 31, 23, 0, tzinfo=UTC), "2026-11"),  # midnight in Berlin
        (datetime(2026, 11, 30, 23, 0, tzinfo=UTC), "2026-12"),
    ],
)
@pytest.mark.parametrize("end", [None, date(2030, 1, 1)])
def test_the_current_period_is_the_last(now: datetime, last: str, end: date | None) -> None:
    partitions = TimePartitions(
        by="month", column="at", start=date(2026, 9, 1), end=end, time_zone="Europe/Berlin"
    )
    assert keys(partitions, now)[-1] == last
    assert keys_in_dagster(partitions, now)[-1] == last


def test_the_end_is_not_covered() -> None:
    partitions = TimePartitions(
        by="month", column="at", start=date(2013, 1, 1), end=date(2013, 3, 1)
    )
    assert keys(partitions, datetime(2026, 11, 25, tzinfo=UTC)) == ["2013-01", "2013-02"]


def test_there_are_no_partitions_before_the_start() -> None:
    partitions = TimePartitions(by="day", column="at", start=date(2026, 11, 26))
    assert keys(partitions, datetime(2026, 11, 25, 23, 59, tzinfo=UTC)) == []


@given(partitions_and_now())
@settings(max_examples=100, deadline=None)
def test_periods_follow_on_each_other_from_the_start_to_now_or_the_end(
    case: tuple[TimePartitions, datetime],
) -> None:
    partitions, now = case
    periods = [bounds(partitions, key) for key in keys(partitions, now)]
    local = now.astimezone(ZoneInfo(partitions.time_zone)).replace(tzinfo=None)
    if not periods:
        assert local.date() < partitions.start
        return
    assert periods[0][0] == datetime.combine(partitions.start, datetime.min.time())
    assert all(end == start for (_, end), (start, _) in pairwise(periods))
    assert all(start < end for start, end in periods)
    if partitions.end is None or local.date() < partitions.end:
        current = periods[-1 - partitions.end_offset]
        assert current[0] <= local < current[1]
    else:
        assert periods[-1][1].date() == partitions.end


# On PostgreSQL


@pytest.fixture
def pg(stack: dict[str, str]) -> Iterator[psycopg.Connection]:
    """A transaction in a schema of its own, which is never committed."""
    with connect(stack, autocommit=False) as connection:
        schema = f"test_{secrets.token_hex(6)}"
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET LOCAL search_path TO {schema}")
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")  # the role's own zone does not matter
        yield connection
        connection.rollback()


def source_of(pg: psycopg.Connection, partitions: dict[str, Any] | None) -> Source:
    row = pg.execute("SELECT current_schema()").fetchone()
    assert row is not None
    found = introspect(pg, [Table(table=f"{row[0]}.rows", partitions=partitions)])["rows"]
    assert isinstance(found, Source)
    return found


def partitions_by_row(
    pg: psycopg.Connection, source: Source, partition_keys: list[str]
) -> dict[int, list[str]]:
    """The partitions that each row is in."""
    statement = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT number, {} FROM rows AS t WHERE {}").format(
            sql.Literal(key), predicate(source, key)
        )
        for key in partition_keys
    )
    found: dict[int, list[str]] = {
        number: [] for (number,) in pg.execute("SELECT number FROM rows")
    }
    for number, key in pg.execute(statement):
        found[number].append(key)
    return found


def create(pg: psycopg.Connection, columns: str) -> None:
    pg.execute(f"CREATE TABLE rows (number int, updated_at timestamptz, {columns})")


@pytest.mark.parametrize(
    ("column_type", "by", "zone", "form"),
    [
        ("timestamptz", "hour", "UTC", 'YYYY-MM-DD"T"HH24'),
        ("timestamptz", "day", "America/New_York", "YYYY-MM-DD"),
        ("timestamptz", "day", "America/Sao_Paulo", "YYYY-MM-DD"),
        ("timestamptz", "day", "Pacific/Apia", "YYYY-MM-DD"),
        ("timestamptz", "week", "Australia/Lord_Howe", "YYYY-MM-DD"),
        ("timestamptz", "month", "Europe/Berlin", "YYYY-MM"),
        ("timestamptz", "year", "Asia/Kathmandu", "YYYY"),
        ("timestamp(0)", "day", "America/New_York", "YYYY-MM-DD"),
        ("date", "week", "UTC", "YYYY-MM-DD"),
    ],
)
def test_a_row_is_in_the_one_partition_of_its_period(
    pg: psycopg.Connection, column_type: str, by: str, zone: str, form: str
) -> None:
    """PostgreSQL's own calendar says which; rows outside, at no time or at infinity are in none."""
    start = first_day(by, date(2011, 10, 20))
    end = after(by, start, {"hour": 2, "day": 120, "week": 30, "month": 7, "year": 3}[by])
    create(pg, f"at {column_type}, PRIMARY KEY (number)")
    pg.execute("SELECT setseed(%s)", [random.random()])
    pg.execute(
        "INSERT INTO rows SELECT number, now(), %s::timestamptz + random() * (%s::timestamptz - %s)"
        " FROM generate_series(1, 1500) number",
        [start - timedelta(days=1), end + timedelta(days=1), start - timedelta(days=1)],
    )
    pg.execute("INSERT INTO rows VALUES (0, now(), NULL), (-1, now(), 'infinity')")
    pg.execute("INSERT INTO rows VALUES (-2, now(), '-infinity')")
    # The borders themselves, and the moment before each.
    pg.execute(
        "INSERT INTO rows SELECT 10000 + row_number() OVER (), now(), moment FROM ("
        " SELECT border AT TIME ZONE %(zone)s - off AS moment FROM"
        " generate_series(%(start)s::timestamp, %(end)s::timestamp, '1 day') border,"
        " (VALUES (interval '0'), ('1 us'), ('1 s')) offs (off)) moments",
        {"zone": zone, "start": start, "end": end},
    )
    source = source_of(
        pg, {"by": by, "column": "at", "time_zone": zone, "start": start, "end": end}
    )
    present = keys(source.table.partitions, datetime(2026, 11, 25, tzinfo=UTC))
    local = "at AT TIME ZONE %(zone)s" if column_type == "timestamptz" else "at::timestamp"
    expected = {
        number: [key] if key is not None else []
        for number, key in pg.execute(
            f"SELECT number, CASE WHEN isfinite(at) AND {local} >= %(start)s AND {local} < %(end)s"
            f" THEN to_char(date_trunc(%(by)s, {local}), %(form)s) END FROM rows",
            {"zone": zone, "start": start, "end": end, "by": by, "form": form},
        )
    }
    assert partitions_by_row(pg, source, present) == expected
    assert len({key for [key] in filter(None, expected.values())}) > 1


@pytest.mark.parametrize("column_type", ["text", "bigint", "timestamptz[]", "time"])
def test_periods_need_a_date_or_time(pg: psycopg.Connection, column_type: str) -> None:
    create(pg, f"at {column_type}, PRIMARY KEY (number)")
    source = source_of(pg, {"by": "day", "column": "at", "start": "2013-01-01"})
    with pytest.raises(SourceError, match=r"\.rows: partitions by day need a date"):
        predicate(source, "2013-01-01")


@pytest.mark.parametrize(
    ("column_type", "value"),
    [
        ("text", "'key ' || n"),
        ("bigint", "(n - 2000) * 1000003::bigint"),
        ("uuid", "md5(n::text)::uuid"),
    ],
)
def test_hashing_puts_each_row_in_one_of_buckets_of_similar_size(
    pg: psycopg.Connection, column_type: str, value: str
) -> None:
    create(pg, f"k {column_type} PRIMARY KEY")
    pg.execute(f"INSERT INTO rows SELECT n, NULL, {value} FROM generate_series(1, 4000) n")
    assert_buckets_are_even(pg)


def test_hashing_takes_the_whole_of_a_composite_key(pg: psycopg.Connection) -> None:
    create(pg, "k text, PRIMARY KEY (k, number)")
    pg.execute("INSERT INTO rows SELECT n, NULL, 'same' FROM generate_series(1, 4000) n")
    assert_buckets_are_even(pg)


def assert_buckets_are_even(pg: psycopg.Connection) -> None:
    source = source_of(pg, {"by": "hash", "buckets": 8})
    found = partitions_by_row(pg, source, [str(bucket) for bucket in range(8)])
    assert {len(partitions) for partitions in found.values()} == {1}
    sizes = Counter(partitions[0] for partitions in found.values())
    assert all(350 <= sizes[str(bucket)] <= 650 for bucket in range(8)), sizes


@pytest.mark.parametrize(
    ("column_type", "values", "rows"),
    [
        ("text", ["eu", "it's", ""], ["eu", "it's", "", "us", "EU", None]),
        ("int", ["1", "2"], [1, 2, 3, None]),
        ("boolean", ["true", "false"], [True, False, None]),
        ("date", ["2024-01-01"], [date(2024, 1, 1), date(2024, 1, 2)]),
        ("size", ["small", "large"], ["small", "large"]),
        ("varchar(2)", ["eu", "europe"], ["eu", "us"]),
    ],
)
def test_a_row_is_in_the_partition_of_its_listed_value(
    pg: psycopg.Connection, column_type: str, values: list[str], rows: list[Any]
) -> None:
    pg.execute("CREATE TYPE size AS ENUM ('small', 'large')")
    create(pg, f"c {column_type}, PRIMARY KEY (number)")
    for number, row in enumerate(rows):
        pg.execute("INSERT INTO rows VALUES (%s, NULL, %s)", [number, row])
    source = source_of(pg, {"by": "list", "column": "c", "values": values})
    shown = [str(row).lower() if isinstance(row, bool) else str(row) for row in rows]
    assert partitions_by_row(pg, source, values) == {
        number: [value] if value in values else [] for number, value in enumerate(shown)
    }


@pytest.mark.parametrize(
    ("partitions", "key"),
    [
        (None, "0"),
        ({"by": "hash", "buckets": 4}, "4"),
        ({"by": "hash", "buckets": 4}, "-1"),
        ({"by": "hash", "buckets": 4}, "01"),
        ({"by": "hash", "buckets": 4}, "all"),
        ({"by": "list", "column": "c", "values": ["eu"]}, "us"),
        ({"by": "month", "column": "at", "start": "2013-01-01"}, "2013-13"),
        ({"by": "month", "column": "at", "start": "2013-01-01"}, "2013-01-01"),
        ({"by": "month", "column": "at", "start": "2013-01-01"}, "2013-1"),
        ({"by": "month", "column": "at", "start": "2013-01-01"}, "2012-12"),
        ({"by": "month", "column": "at", "start": "2013-01-01", "end": "2013-03-01"}, "2013-03"),
        ({"by": "week", "column": "at", "start": "2013-01-07"}, "2013-01-15"),
    ],
)
def test_a_key_that_is_no_partitions_is_refused(
    pg: psycopg.Connection, partitions: Any, key: str
) -> None:
    create(pg, "at timestamptz, c text, PRIMARY KEY (number)")
    source = source_of(pg, partitions)
    with pytest.raises(SourceError, match=key):
        predicate(source, key)
