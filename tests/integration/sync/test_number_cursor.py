"""A cursor that only counts: rows that never change, found by a number that grows."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.sync import partition_load, snapshot
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders, notes


@pytest.fixture
def events(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Orders]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        pg.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, note text)")
        table = Table(table="public.orders", index=f"{prefix}orders", cursor={"column": "id"})
        yield Orders(database, es, table, pg)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over counts as over at once: the tests begin and end transactions themselves."""
    monkeypatch.setattr(snapshot, "MARGIN_SECONDS", 0)


def add(connection: psycopg.Connection[Any], count: int, note: str = "new") -> None:
    connection.execute(
        "INSERT INTO orders (note) SELECT %s FROM generate_series(1, %s)", [note, count]
    )


def is_in_step(events: Orders) -> bool:
    rows = {str(id): note for id, note in events.pg.execute("SELECT id, note FROM orders")}
    return notes(events.documents()) == rows


def test_new_rows_are_loaded_and_old_ones_are_not_read_again(events: Orders) -> None:
    add(events.pg, 1000)
    assert events.sync().rows == 1000
    events.sync()
    add(events.pg, 10)
    assert events.stale() == {"all": 10}
    assert events.sync().rows == 10
    assert is_in_step(events)
    assert events.stale() == {}


def test_a_lower_number_that_commits_late_is_not_missed(events: Orders) -> None:
    add(events.pg, 5)
    events.sync()
    with events.connect() as late:
        add(late, 3, "late")
        add(events.pg, 5)
        for _ in range(3):
            events.sync()
        late.commit()
    assert events.stale() == {"all": 8}
    events.sync()
    assert is_in_step(events)


def test_numbers_that_were_drawn_ahead_are_found_within_the_lookback(events: Orders) -> None:
    cursor = events.table.cursor.model_copy(update={"lookback_ids": 50})
    events.table = events.table.model_copy(update={"cursor": cursor})
    drawn = [events.pg.execute("SELECT nextval('orders_id_seq')").fetchone()[0] for _ in range(50)]
    add(events.pg, 5)
    for _ in range(3):
        events.sync()
    # No transaction was open: only the lookback can tell.
    events.pg.execute("INSERT INTO orders VALUES (%s, 'late')", [drawn[10]])
    assert events.stale() != {}
    events.sync()
    assert is_in_step(events)


def test_a_number_drawn_before_the_transaction_shows_holds_the_watermark(events: Orders) -> None:
    """It has no transaction id yet, which tells why the open transactions count, not their ids."""
    add(events.pg, 5)
    with events.connect() as late:
        late.execute("SELECT nextval('orders_id_seq')")
        add(events.pg, 5)
        for _ in range(3):
            events.sync()
        late.execute("INSERT INTO orders VALUES (currval('orders_id_seq'), 'late')")
        late.commit()
    events.sync()
    assert is_in_step(events)


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_the_ends_of_the_type_are_loaded(events: Orders, kind: str) -> None:
    bits = {"smallint": 15, "integer": 31, "bigint": 63}[kind]
    events.pg.execute(f"ALTER TABLE orders ALTER id TYPE {kind}")
    for number in (-(1 << bits), 0, (1 << bits) - 1):
        events.pg.execute("INSERT INTO orders VALUES (%s, 'end')", [number])
        events.sync()
        events.sync()
    assert is_in_step(events)


def test_an_empty_table_can_be_loaded(events: Orders) -> None:
    assert events.sync().rows == 0
    add(events.pg, 3)
    events.sync()
    assert is_in_step(events)


def test_a_row_behind_the_first_reading_is_found_after_it(
    events: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the limit becomes at the end has to be what it was when the reading began."""
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 10)
    events.table = events.table.model_copy(update={"key": ("note",)})
    events.pg.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    events.pg.execute("CREATE UNIQUE INDEX ON orders (note)")
    for number in range(100):
        add(events.pg, 1, f"n{number:03}")
    behind = iter(["a"])

    def insert(_report: Report) -> None:
        for note in behind:
            add(events.pg, 1, note)

    with events.engine(min_batch_size=5, max_batch_size=5) as engine:
        engine.sync(engine.source(events.table), "all", on_progress=insert)
    assert "a" in events.documents()
