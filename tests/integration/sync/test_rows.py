"""Rows are read by the `_id`s of their documents, whatever their key."""

import json
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pg_es_pipeline.sync import postgres
from pg_es_pipeline.sync.catalog import Source, introspect
from pg_es_pipeline.sync.documents import Document, identifier, relation
from pg_es_pipeline.sync.rows import lines
from pg_es_pipeline.sync.snapshot import snapshot
from pg_es_pipeline.tables import Table
from tests.connections import postgres_settings

KEYS = {
    "bigint": ("1", "-7", "9223372036854775807"),
    "numeric": ("1.0", "2.50", "-0.001"),
    "text": ("plain", 'q"uote\\', "a,b{c}", " ", "é", "sha256:not really", "x" * 600, ""),
    "varchar(3)": ("ab", "abc"),
    "char(4)": ("ab", "abcd"),
    "uuid": ("0189f7a1-0000-7000-8000-000000000001",),
    "date": ("2024-02-29", "infinity"),
    "timestamptz": ("2024-02-29 12:00:00.123456+00",),
    "boolean": ("true", "false"),
    "int[]": ("{1,2}", "{}"),
    "double precision": ("1.5", "NaN"),
}


def read(connection: postgres.Connection, table: Table, ids: list[str]) -> dict[str, Any]:
    """By `_id`: the document; None for a delete."""
    document = Document(source(connection, table))
    found: dict[str, Any] = {}
    with snapshot(connection, 0) as version:
        for line in lines(connection, document, ids, version):
            action, content = line.split(b"\n", 1)
            [(kind, head)] = json.loads(action).items()
            assert head["version"] == version
            assert head["version_type"] == "external_gte"
            assert head["_id"] not in found
            assert (kind == "index") == bool(content)
            found[head["_id"]] = json.loads(content) if content else None
    return found


def source(connection: postgres.Connection, table: Table) -> Source:
    found = introspect(connection, [table])[table.index]
    assert isinstance(found, Source)
    return found


def ids_of(pg: psycopg.Connection[Any], connection: postgres.Connection, table: Table) -> list[str]:
    one = source(connection, table)
    statement = sql.SQL("SELECT {} FROM {}").format(identifier(one), relation(one))
    return [identity for (identity,) in pg.execute(statement)]


@pytest.mark.parametrize("declared", KEYS)
def test_rows_of_a_key_of_one_column_are_read_by_id(database: Any, declared: str) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as pg,
        postgres.connect(postgres_settings(database)) as connection,
    ):
        pg.execute(f"SET timezone = 'UTC'; CREATE TABLE t (k {declared} PRIMARY KEY, note text)")
        for key in KEYS[declared]:
            pg.execute("INSERT INTO t VALUES (%s, %s)", [key, f"of {key}"])
        table = Table(table="public.t", index="t", capture="snapshot")
        ids = ids_of(pg, connection, table)
        found = read(connection, table, [*ids, "nobody's", "sha256:nobody's", "12345"])
    assert {name: found[name]["note"] for name in ids} == {
        name: f"of {key}" for name, key in zip(ids, KEYS[declared], strict=True)
    }
    assert [found.pop(name) for name in ("nobody's", "sha256:nobody's", "12345")] == [None] * 3
    assert set(found) == set(ids)


def test_rows_of_a_key_of_several_columns_are_read_by_id(database: Any) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as pg,
        postgres.connect(postgres_settings(database)) as connection,
    ):
        pg.execute(
            "SET timezone = 'UTC';"
            "CREATE TABLE t (a bigint, b text, c timestamptz, d numeric, PRIMARY KEY (a, b, c, d))"
        )
        for b in ("", 'q"u\\ote', "a,b", "{x}", "y" * 600):
            pg.execute("INSERT INTO t VALUES (9223372036854775807, %s, '2024-01-01', 1.50)", [b])
        table = Table(table="public.t", index="t", capture="snapshot")
        ids = ids_of(pg, connection, table)
        strange = [
            "[1]",
            "x",
            "[1, {}, [], null]",
            '[1, "a", "no time", 1]',
            '[1, "\\u0000", 1, 1]',
        ]
        found = read(connection, table, [*ids, *strange])
    assert [found.pop(name) for name in strange] == [None] * len(strange)
    assert len(ids) == 5
    assert all(found[name]["a"] == 9223372036854775807 for name in ids)


def test_an_equal_key_that_is_written_in_another_way_is_another_document(database: Any) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as pg,
        postgres.connect(postgres_settings(database)) as connection,
    ):
        pg.execute("CREATE TABLE t (k numeric PRIMARY KEY); INSERT INTO t VALUES (1.00)")
        table = Table(table="public.t", index="t", capture="snapshot")
        found = read(connection, table, ["1.0", "1.00", "01.00"])
    assert found["1.00"] is not None
    assert found["1.0"] is found["01.00"] is None


def test_rows_that_are_softly_deleted_or_outside_every_partition_are_deletes(
    database: Any,
) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as pg,
        postgres.connect(postgres_settings(database)) as connection,
    ):
        pg.execute(
            "CREATE TABLE t (k int PRIMARY KEY, region text, gone boolean);"
            "INSERT INTO t VALUES (1, 'eu', NULL), (2, 'eu', true), (3, 'mars', NULL)"
        )
        table = Table(
            table="public.t",
            index="t",
            capture="snapshot",
            cursor={"soft_delete": "gone"},
            partitions={"by": "list", "column": "region", "values": ["eu"]},
        )
        found = read(connection, table, ["1", "2", "3"])
    assert found.pop("1")["region"] == "eu"
    assert found == {"2": None, "3": None}


@pytest.mark.parametrize("key", ["k", "k, b"])
def test_rows_are_found_by_the_index_of_their_key(database: Any, key: str) -> None:
    with (
        psycopg.connect(database.conninfo, autocommit=True) as pg,
        postgres.connect(postgres_settings(database)) as connection,
    ):
        pg.execute(
            f"CREATE TABLE t (k bigint, b text, PRIMARY KEY ({key}));"
            "INSERT INTO t SELECT k, 'b' || k FROM generate_series(1, 100000) AS k; ANALYZE t"
        )
        table = Table(table="public.t", index="t", capture="snapshot")
        ids = ids_of(pg, connection, table)[::1000]
        with snapshot(connection, 0) as version:
            scans_before = scans(connection)
            found = list(lines(connection, Document(source(connection, table)), ids, version))
            assert all(line.startswith(b'{"index"') for line in found)
            assert scans(connection) == scans_before
    assert len(found) == len(ids)


def scans(connection: postgres.Connection) -> int:
    """How often this transaction has read the table from end to end."""
    row = connection.execute("SELECT pg_stat_get_xact_numscans('public.t'::regclass)").fetchone()
    assert row is not None
    return int(row[0])
