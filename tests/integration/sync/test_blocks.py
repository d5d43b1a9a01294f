"""Rows that PostgreSQL puts together are the rows that it writes one by one."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync import extract, postgres
from pg_es_pipeline.sync.catalog import introspect
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.extract import (
    Batch,
    Order,
    batches,
    by_block,
    by_row,
    changes_order,
    full_order,
    rows_in_blocks,
)
from pg_es_pipeline.sync.throttle import BLOCK_ROWS, MAX_REQUEST_BYTES, Flow
from pg_es_pipeline.tables import Table
from tests.connections import postgres_settings
from tests.integration.orders import Orders
from tests.integration.sync.hostile import HOSTILE, SETUP

EVERY_ROW = sql.SQL("true")


class Reading:
    """A connection that reads public.rows, and another that writes it."""

    def __init__(self, connection: postgres.Connection, pg: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.pg = pg
        self.entry: dict[str, Any] = {}

    @property
    def document(self) -> Document:
        table = Table(table="public.rows", index="rows", **self.entry)
        source = introspect(self.connection, [table])["rows"]
        assert not isinstance(source, SourceError), source
        return Document(source)

    def batches(
        self,
        rows: int | None = None,
        *,
        order: Order | None = None,
        settled: sql.Composable = EVERY_ROW,
        documents: int = 1000,
        limit: int = 100_000,
        after: list[str] | None = None,
        max_bytes: int = MAX_REQUEST_BYTES,
    ) -> list[Batch]:
        """In blocks of so many rows, or row by row."""
        order = order or full_order(self.document.source)
        where = [EVERY_ROW] if after is None else [order.after(after)]
        more: dict[str, Any] = {
            "version": 1,
            "order": order,
            "where": where,
            "settled": settled,
            "limit": limit,
        }
        statement = (
            by_row(self.document, **more)
            if rows is None
            else by_block(self.document, **more, rows=rows)
        )
        return list(batches(self.connection, statement, "rows", lambda: documents, max_bytes))


@pytest.fixture
def reading(database: Any) -> Iterator[Reading]:
    with (
        postgres.connect(postgres_settings(database)) as connection,
        psycopg.connect(database.conninfo, autocommit=True) as pg,
    ):
        yield Reading(connection, pg)


def whole(found: list[Batch]) -> tuple[bytes, int, int, int, list[str]]:
    """What the batches bring, however it is cut."""
    return (
        b"".join(batch.body for batch in found),
        sum(batch.rows for batch in found),
        sum(batch.deletes for batch in found),
        sum(batch.lost for batch in found),
        found[-1].position,
    )


def test_values_of_every_type_are_the_same(reading: Reading) -> None:
    reading.pg.execute(SETUP)
    columns = {f"c{number}": type_ for number, type_ in enumerate(HOSTILE)}
    reading.pg.execute(
        sql.SQL("CREATE TABLE rows (id int PRIMARY KEY, updated_at timestamptz, {})").format(
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))
                for name, type_ in columns.items()
            )
        )
    )
    for number in range(max(map(len, HOSTILE.values()))):
        values = {"id": str(number)} | {
            name: list(HOSTILE[type_])[number]
            for name, type_ in columns.items()
            if number < len(HOSTILE[type_])
        }
        reading.pg.execute(
            sql.SQL("INSERT INTO rows ({}) VALUES ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(map(sql.Literal, values.values())),
            )
        )
    one_by_one, in_blocks = whole(reading.batches()), whole(reading.batches(5))
    assert in_blocks == one_by_one
    assert one_by_one[3] > 0, "values are lost among them"


ORDERS: dict[str, dict[str, Any]] = {
    "whole number": {"key": ["n"]},
    "text": {"key": ["name"]},
    "compared as text": {"key": ["address"]},
    "enum, compared as text": {"key": ["mood", "n"]},
    "array, compared as text": {"key": ["list"]},
    "several columns": {"key": ["part", "name", "n"]},
    "a partition's column first": {
        "key": ["n"],
        "partitions": {"by": "day", "column": "day", "start": "2024-01-01"},
    },
    "content hash": {"key": ["name"], "content_hash": True},
    "columns left out": {"key": ["n"], "include": ["n"]},
}


@pytest.mark.parametrize("entry", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("of", [full_order, changes_order])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_every_order_is_the_same(
    reading: Reading, entry: dict[str, Any], of: Any, rows: int
) -> None:
    reading.pg.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');"
        "CREATE TABLE rows (n int, name text, part varchar(9), address inet, mood mood, list int[],"
        " day date, updated_at timestamptz, gone boolean, number int);"
        "INSERT INTO rows SELECT n, chr(96 + n % 26 + 1) || n || E'\\n\"', n % 3,"
        " '10.0.0.0'::inet + n, (enum_range(NULL::mood))[n % 3 + 1], ARRAY[n, n],"
        " '2024-01-01'::date + n % 5, '2024-01-01'::timestamptz + n % 11 * interval '1 s',"
        " n % 6 = 0, n"
        " FROM generate_series(1, 250) n"
    )
    reading.entry = {**entry, "cursor": {"column": "updated_at", "soft_delete": "gone"}}
    order = of(reading.document.source)
    one_by_one = whole(reading.batches(order=order))
    assert one_by_one[1:3] == (250, 250 // 6)
    assert whole(reading.batches(rows, order=order, documents=110)) == one_by_one
    # Chunk by chunk, each from where the last has ended.
    after, bodies = None, b""
    while found := reading.batches(rows, order=order, limit=60, after=after):
        bodies += whole(found)[0]
        after = found[-1].position
    assert bodies == one_by_one[0]


@pytest.fixture
def numbers(reading: Reading) -> Reading:
    """A thousand rows, numbered."""
    reading.pg.execute(
        "CREATE TABLE rows (id int PRIMARY KEY, note text, updated_at timestamptz DEFAULT now());"
        "INSERT INTO rows SELECT n, 'new' FROM generate_series(1, 1000) n; ANALYZE rows"
    )
    return reading


@pytest.mark.parametrize("documents", [1, 3, 10, 50, 105, 999, 1000, 5000])
def test_a_batch_has_no_more_documents_than_it_may(numbers: Reading, documents: int) -> None:
    rows = Flow(documents, documents, 1).block
    sizes = [batch.rows for batch in numbers.batches(rows, documents=documents)]
    assert sum(sizes) == 1000
    assert max(sizes) <= documents
    assert min(sizes[:-1], default=documents) >= documents - rows
    assert rows <= max(1, documents // 10)


def test_a_block_is_of_many_rows(numbers: Reading) -> None:
    statement = by_block(
        numbers.document,
        version=1,
        order=full_order(numbers.document.source),
        where=[EVERY_ROW],
        settled=EVERY_ROW,
        limit=1000,
        rows=BLOCK_ROWS,
    )
    with numbers.connection.cursor() as cursor, cursor.copy(statement) as copy:
        blocks = [block.rows for block in extract._blocks(copy, "rows")]
    assert sum(blocks) == 1000
    assert max(blocks) == BLOCK_ROWS
    assert len(blocks) <= 10 + 2, "a border between bytes may cut one in two"


def test_a_batch_with_a_row_beyond_the_horizon_is_not_settled(numbers: Reading) -> None:
    for horizon, settled in ((151, [True, False, False]), (150, [True, False, False])):
        below = sql.SQL("t.id < {}").format(sql.Literal(horizon))
        found = numbers.batches(25, settled=below, documents=100, limit=300)
        assert [batch.settled for batch in found] == settled
    below = sql.SQL("t.id < 101")
    assert [
        one.settled for one in numbers.batches(25, settled=below, documents=100, limit=200)
    ] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("value", "least"),
    [
        ("(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)", 3),
        ("repeat('x', 100000)", 3),
        ("repeat('x', 2000000)", 1),
        ("to_json(repeat('x', 1000000))", 1),
    ],
    ids=["100 KB", "100 KB, squeezed", "2 MB, squeezed", "JSON, squeezed"],
)
def test_large_rows_make_small_batches(reading: Reading, value: str, least: int) -> None:
    kind = "jsonb" if "json" in value else "text"
    reading.pg.execute(
        f"CREATE TABLE rows (id int PRIMARY KEY, note {kind}, updated_at timestamptz);"
        "INSERT INTO rows SELECT n, '1' FROM generate_series(1, 150) n;"
        f"INSERT INTO rows SELECT n, {value} FROM generate_series(151, 200) n"
    )
    found = reading.batches(100)
    assert sum(batch.rows for batch in found) == 200
    assert max(len(batch.body) for batch in found) <= MAX_REQUEST_BYTES
    assert max(batch.rows for batch in found if len(batch.body) > 50_000) >= least
    assert whole(found) == whole(reading.batches())


def test_a_null_in_a_key_is_refused(reading: Reading) -> None:
    reading.pg.execute(
        "CREATE TABLE rows (a int, b int, updated_at timestamptz);"
        "INSERT INTO rows SELECT n, nullif(n, 77) FROM generate_series(1, 100) n"
    )
    reading.entry = {"key": ["a", "b"]}
    with pytest.raises(SourceError, match="a row's key is NULL"):
        reading.batches(10)


def test_rows_that_do_not_fit_into_memory_are_read_in_blocks_only_along_an_index(
    numbers: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(order: Order, limit: int = 300) -> int:
        return rows_in_blocks(
            numbers.connection, numbers.document, order=order, where=[EVERY_ROW], limit=limit
        )

    numbers.pg.execute("UPDATE rows SET note = repeat(md5(id::text), 30)")
    numbers.pg.execute("VACUUM ANALYZE rows")
    by_key, by_cursor = (of(numbers.document.source) for of in (full_order, changes_order))
    assert at_once(by_key) == at_once(by_cursor) == 300
    assert at_once(by_cursor, limit=100_000) == 100_000, "there are no more than 1,000"
    monkeypatch.setattr(extract, "_SORTED_BYTES", 100_000)
    assert 50 < at_once(by_key) < 200
    assert at_once(by_cursor) == 0
    numbers.pg.execute("CREATE INDEX ON rows (updated_at, id)")
    assert 50 < at_once(by_cursor) < 200


# Through the engine


def test_without_room_for_a_temporary_file_rows_are_read_one_by_one(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_SPEED", "SELECT set_config('work_mem', '64kB', false)")
    orders.pg.execute(f"ALTER DATABASE {orders.database.dbname} SET temp_file_limit = 0")
    orders.insert(range(1, 5001))
    assert orders.sync().rows == 5000
    assert orders.is_in_step()


def test_memory_is_never_less_than_the_database_gives(orders: Orders) -> None:
    name = orders.database.dbname
    for given, taken in (("1MB", "32MB"), ("100MB", "100MB")):
        orders.pg.execute(f"ALTER DATABASE {name} SET work_mem = '{given}'")
        with postgres.connect(postgres_settings(orders.database)) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == (taken,)
