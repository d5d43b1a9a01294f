"""A table without a cursor: its changes are found by comparing both sides."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import DeletesRefused, SourceError
from pg_es_pipeline.sync import partition_load, staleness
from pg_es_pipeline.sync.compare import Comparison
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders, notes

DAYS = {"by": "month", "column": "placed", "start": "2024-01-01", "end": "2024-07-01"}


@pytest.fixture
def plain(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Orders]:
    """A table that tells nothing of when its rows have changed."""
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        pg.execute("CREATE TABLE orders (id bigint PRIMARY KEY, note text, placed timestamptz)")
        table = Table(table="public.orders", index=f"{prefix}orders", snapshot={"every": "0s"})
        yield Orders(database, es, table, pg)


def fill(plain: Orders, rows: int) -> None:
    plain.pg.execute(
        "INSERT INTO orders SELECT n, 'new', '2024-01-01'::timestamptz + n * interval '1 hour' "
        "FROM generate_series(1, %s) n",
        [rows],
    )
    # Else it would be told of later, and make the table stale whatever else happens.
    plain.pg.execute("SELECT pg_stat_force_next_flush()")


def by_month(plain: Orders, **changes: Any) -> None:
    described = {**plain.table.model_dump(exclude_unset=True), "partitions": DAYS, **changes}
    plain.table = plain.table.model_validate(described)


def documents(plain: Orders) -> dict[str, str]:
    return notes(plain.documents())


def rows(plain: Orders) -> dict[str, str]:
    return {str(id): note for id, note in plain.pg.execute("SELECT id, note FROM orders")}


def test_changes_are_found_and_only_they_are_written(plain: Orders) -> None:
    fill(plain, 3000)
    assert plain.sync().rows == 3000
    plain.pg.execute("UPDATE orders SET note = 'changed' WHERE id IN (5, 700, 2999)")
    plain.pg.execute("DELETE FROM orders WHERE id IN (6, 1500)")
    plain.pg.execute("INSERT INTO orders VALUES (5000, 'late', NULL)")
    plain.pg.execute("UPDATE orders SET id = 9000 WHERE id = 10")

    report = plain.sync()

    assert (report.rows, report.deletes) == (8, 3)
    assert documents(plain) == rows(plain)
    assert plain.sync().rows == 0


def test_a_table_that_nobody_has_written_to_is_in_step(plain: Orders) -> None:
    fill(plain, 10)
    assert plain.stale() == {"all": None}
    plain.sync()
    assert plain.stale() == {}


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO orders VALUES (100, 'new', NULL)",
        "UPDATE orders SET note = 'changed' WHERE id = 1",
        "DELETE FROM orders WHERE id = 1",
        "TRUNCATE orders",
    ],
    ids=["insert", "update", "delete", "truncate"],
)
def test_what_is_written_makes_it_stale(plain: Orders, change: str) -> None:
    fill(plain, 10)
    plain.sync()
    plain.pg.execute(change)
    # Its session tells of it when it has nothing else to do, at the latest when it ends.
    plain.pg.execute("SELECT pg_stat_force_next_flush()")

    assert plain.stale() == {"all": None}
    plain.sync()
    assert documents(plain) == rows(plain)


def test_it_is_not_compared_more_often_than_it_says(plain: Orders) -> None:
    plain.table = plain.table.model_copy(
        update={"snapshot": plain.table.snapshot.model_copy(update={"every": staleness.SURE_AFTER})}
    )
    fill(plain, 10)
    plain.sync()
    plain.pg.execute("DELETE FROM orders")
    plain.pg.execute("SELECT pg_stat_force_next_flush()")
    assert plain.stale() == {}


def test_it_is_compared_now_and_then_whatever_postgresql_has_counted(
    plain: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(plain, 10)
    plain.sync()
    monkeypatch.setattr(staleness, "SURE_AFTER", plain.table.snapshot.every)
    assert plain.stale() == {"all": None}


def test_what_postgresql_does_not_count_is_compared_every_time(plain: Orders) -> None:
    fill(plain, 10)
    plain.pg.execute("CREATE VIEW seen AS SELECT * FROM orders WHERE id <> 3")
    plain.table = plain.table.model_copy(update={"table": "public.seen", "key": ("id",)})
    plain.sync()
    assert plain.stale() == {"all": None}
    assert set(documents(plain)) == set(rows(plain)) - {"3"}


def test_rows_move_between_partitions(plain: Orders) -> None:
    by_month(plain)
    fill(plain, 3000)
    for partition in plain.stale():
        plain.sync(partition)
    assert plain.stale() == {}
    plain.pg.execute("UPDATE orders SET placed = placed + interval '1 month', note = 'moved'")
    plain.pg.execute("SELECT pg_stat_force_next_flush()")

    for partition in plain.stale():
        plain.sync(partition)

    assert documents(plain) == rows(plain)


def test_softly_deleted_rows_have_no_document(plain: Orders) -> None:
    plain.pg.execute("ALTER TABLE orders ADD gone boolean")
    cursor = plain.table.cursor.model_copy(update={"soft_delete": "gone"})
    plain.table = plain.table.model_copy(update={"capture": "snapshot", "cursor": cursor})
    fill(plain, 20)
    plain.pg.execute("UPDATE orders SET gone = true WHERE id <= 3")
    plain.sync()
    assert len(documents(plain)) == 17
    plain.pg.execute("UPDATE orders SET gone = id > 18")
    plain.sync()
    assert set(documents(plain)) == {str(id) for id in range(1, 19)}


def test_a_table_that_was_emptied_by_mistake_does_not_empty_the_index(plain: Orders) -> None:
    fill(plain, 200)
    plain.sync()
    plain.pg.execute("TRUNCATE orders")
    with pytest.raises(DeletesRefused, match=r"partition all: more than.*max_deletes"):
        plain.sync()
    assert len(documents(plain)) == 200


def test_partitions_that_documents_do_not_show_are_refused(plain: Orders) -> None:
    by_month(plain, exclude=["placed"])
    fill(plain, 20)
    with pytest.raises(SourceError, match="which documents belong to the partition 2024-01"):
        plain.sync("2024-01")


def change_during(plain: Orders, name: str, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Has the table changed once when the comparison has read the rows."""
    read = getattr(Comparison, name)
    changes = iter([change])

    def then_change(self: Comparison, *arguments: Any) -> Any:
        found = read(self, *arguments)
        for statement in changes:
            plain.pg.execute(statement)
            plain.pg.execute("SELECT pg_stat_force_next_flush()")
        return found

    monkeypatch.setattr(Comparison, name, then_change)


def test_what_is_written_during_a_comparison_is_for_the_next_one(
    plain: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(plain, 20)
    plain.sync()
    change_during(plain, "_row_sums", monkeypatch, "UPDATE orders SET note = 'late' WHERE id = 7")
    plain.sync()
    assert plain.stale() == {"all": None}
    plain.sync()
    assert documents(plain) == rows(plain)


def test_a_row_behind_the_first_reading_is_found_by_the_comparison_after_it(
    plain: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 10)
    fill(plain, 100)
    added = iter([0])

    def add(_report: Report) -> None:
        for id in added:
            plain.pg.execute("INSERT INTO orders VALUES (%s, 'behind')", [id])

    with plain.engine(min_batch_size=5, max_batch_size=5) as engine:
        engine.sync(engine.source(plain.table), "all", on_progress=add)
    assert documents(plain) == rows(plain)


def test_documents_of_a_range_that_the_table_no_longer_reaches_are_removed(plain: Orders) -> None:
    described = plain.table.model_dump(exclude_unset=True)
    ranges = {"by": "range", "column": "id", "width": 100}
    plain.table = plain.table.model_validate(
        {**described, "partitions": ranges, "max_deletes": "100%"}
    )
    fill(plain, 1000)
    for partition in plain.stale():
        plain.sync(partition)
    plain.es.indices.refresh(index="pg-es-checkpoints")
    plain.pg.execute("DELETE FROM orders WHERE id < 350 OR id > 640")
    plain.pg.execute("SELECT pg_stat_force_next_flush()")
    for partition in plain.stale():
        plain.sync(partition)
    assert documents(plain) == rows(plain)
