"""The demo's tables: every row of the package, in the shape that a real schema would have."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.demo import data
from pg_es_pipeline.tables import TimePartitions, read_tables

ROWS = {"airlines": 16, "airports": 1458, "planes": 3322, "flights": 336776, "weather": 26115}


def query(connection: psycopg.Connection, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    return connection.execute(statement, values).fetchall()


def test_all_rows_arrive_with_their_types_and_nulls(database):
    assert data.load(database.conninfo) == ROWS

    with psycopg.connect(database.conninfo) as connection:
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")
        assert query(
            connection,
            "SELECT flight_id, dep_time, dep_delay, carrier, flight, tailnum, origin, dest,"
            " time_hour FROM flights WHERE (month, day, carrier, flight) = (1, 1, 'UA', 1545)",
        ) == [(1, 517, 2, "UA", 1545, "N14228", "EWR", "IAH", datetime(2013, 1, 1, 10, tzinfo=UTC))]
        assert query(connection, "SELECT min(time_hour), max(time_hour) FROM flights") == [
            (datetime(2013, 1, 1, 10, tzinfo=UTC), datetime(2014, 1, 1, 4, tzinfo=UTC))
        ]
        assert query(
            connection,
            "SELECT count(*) - count(dep_time), count(*) - count(tailnum), count(deleted_at)"
            " FROM flights",
        ) == [(8255, 2512, 0)]
        assert query(
            connection,
            "SELECT temp, wind_dir, wind_gust FROM weather WHERE origin = 'EWR'"
            " AND time_hour = '2013-01-01T06:00Z'",
        ) == [(39.02, 270, None)]
        assert query(connection, "SELECT count(*) FROM planes WHERE speed IS NULL") == [(3299,)]

        # The planner knows the tables at once, without waiting for autovacuum.
        assert query(
            connection, "SELECT count(DISTINCT tablename) FROM pg_stats WHERE schemaname = 'public'"
        ) == [(5,)]
        assert_tables_yaml_fits(connection)


def assert_tables_yaml_fits(connection: psycopg.Connection) -> None:
    """Every table of the demo has its columns and keys, an index to read changes by, and no row
    outside its partitions."""
    described = read_tables(Path(__file__).parents[2] / "tables.yaml").tables
    assert [table.table for table in described] == [
        f"public.{name}" for name in ("airlines", "airports", "planes", "flights", "weather")
    ]
    for table in described:
        [(key,)] = query(
            connection,
            "SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = (SELECT conindid FROM pg_constraint"
            " WHERE contype = 'p' AND conrelid = %s::regclass)",
            table.table,
        )
        assert table.key in ((), tuple(key))
        definitions = query(
            connection, "SELECT indexdef FROM pg_indexes WHERE tablename = %s", table.name
        )
        cursor = f"({', '.join([table.cursor.column, *key])})"
        assert [True for (text,) in definitions if text.endswith(cursor)]
        if isinstance(table.partitions, TimePartitions):
            assert query(
                connection,
                f"SELECT count(*) FROM {table.table} WHERE {table.partitions.column} < %s"
                f" OR {table.partitions.column} >= %s",
                datetime.combine(table.partitions.start, datetime.min.time(), UTC),
                datetime.combine(table.partitions.end, datetime.min.time(), UTC),
            ) == [(0,)]


def test_an_update_moves_updated_at_and_a_second_load_changes_nothing(database):
    data.load(database.conninfo)
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        [(loaded,)] = query(connection, "SELECT DISTINCT updated_at FROM flights")
        for table, change in {
            "airlines": "name = name || '!'",
            "airports": "alt = alt + 1",
            "planes": "seats = seats + 1",
            "flights": "dep_delay = 0",
            "weather": "temp = 0",
        }.items():
            moved = query(
                connection,
                f"UPDATE {table} SET {change} WHERE ctid = (SELECT min(ctid) FROM {table})"
                " RETURNING updated_at > %s AND updated_at = now()",
                loaded,
            )
            assert moved == [(True,)], table
        connection.execute("DELETE FROM flights WHERE flight_id = 7")
        before = query(connection, "SELECT max(updated_at), count(*) FROM flights")

        assert data.load(database.conninfo) == ROWS | {"flights": 336775}

        assert query(connection, "SELECT max(updated_at), count(*) FROM flights") == before
        for statement, error in {
            "INSERT INTO airlines VALUES ('UA', 'Again')": psycopg.errors.UniqueViolation,
            "UPDATE flights SET carrier = '??' WHERE flight_id = 1": (
                psycopg.errors.ForeignKeyViolation
            ),
        }.items():
            with pytest.raises(error):
                connection.execute(statement)


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE weather (note text)",
        "CREATE VIEW weather AS SELECT 'sunny' AS note",
        "CREATE TABLE weather (note text); COMMENT ON TABLE weather IS 'mine'",
    ],
)
def test_a_table_that_the_demo_did_not_make_is_left_alone(database, theirs):
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(theirs)

        with pytest.raises(data.DemoDataError, match=r"public\.weather, not made by the demo"):
            data.load(database.conninfo)

        assert query(
            connection,
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'v')",
        ) == [("weather",)]


def test_a_part_of_the_demo_is_not_mistaken_for_all_of_it(database):
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE planes (tailnum text)")
        connection.execute(f"COMMENT ON TABLE planes IS $${data.COMMENT}$$")

        with pytest.raises(
            data.DemoDataError, match=r"weather is missing.*DROP TABLE public\.planes CASCADE"
        ):
            data.load(database.conninfo)


def test_a_missing_data_set_leaves_the_database_empty(database, monkeypatch):
    monkeypatch.setattr(data, "find_spec", lambda name: None)

    with pytest.raises(data.DemoDataError, match=r"pip install 'pg-es-pipeline\[demo\]'"):
        data.load(database.conninfo)

    with psycopg.connect(database.conninfo) as connection:
        assert query(connection, "SELECT to_regclass('public.airlines')") == [(None,)]
