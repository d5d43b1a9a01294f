"""Nothing committed is missed, and nothing is read again for nothing."""

import psycopg
import pytest

from pg_es_pipeline.sync import partition_load, snapshot
from tests.integration.orders import Orders, notes


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a hundred rows."""
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 100)


@pytest.fixture
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The horizon follows the open transactions alone: a test takes less than the margin."""
    monkeypatch.setattr(snapshot, "MARGIN_SECONDS", 0)


def test_the_first_load_brings_every_row(orders: Orders) -> None:
    orders.insert(range(1, 2501))
    report = orders.sync()
    assert report.rows == 2500
    assert report.full
    assert orders.is_in_step()


def test_a_loaded_table_is_in_step(orders: Orders) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    assert orders.stale() == {}
    assert orders.sync().rows == 0


def test_only_what_changed_is_loaded(orders: Orders) -> None:
    orders.insert(range(1, 1001))
    orders.sync()
    orders.pg.execute("UPDATE orders SET note = 'changed' WHERE id IN (7, 8, 9)")
    orders.insert(range(1001, 1003), age="0 s")
    assert orders.stale() == {"all": 5}
    report = orders.sync()
    assert report.rows == 5
    assert not report.full
    assert orders.is_in_step()


def test_rows_of_the_last_seconds_are_loaded_and_not_loaded_again_for_nothing(
    orders: Orders,
) -> None:
    orders.sync()
    orders.insert(range(1, 11), age="0 s")
    assert orders.sync().rows == 10
    assert orders.stale() == {}


def test_a_soft_delete_removes_the_document(orders: Orders) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    orders.pg.execute("UPDATE orders SET deleted_at = now() WHERE id = 3")
    report = orders.sync()
    assert report.deletes == 1
    assert "3" not in orders.documents()
    assert orders.is_in_step()


def test_an_undeleted_row_comes_back(orders: Orders) -> None:
    orders.insert(range(1, 4))
    orders.pg.execute("UPDATE orders SET deleted_at = now() WHERE id = 3")
    orders.sync()
    orders.pg.execute("UPDATE orders SET deleted_at = NULL, note = 'back' WHERE id = 3")
    orders.sync()
    assert orders.documents()["3"]["note"] == "back"


def test_a_row_that_commits_after_later_ones_is_not_missed(orders: Orders, no_margin: None) -> None:
    """C1 inserts, C2 inserts and commits, a run, C1 commits: C1's row must arrive."""
    orders.insert(range(1, 11))
    orders.sync()
    with orders.connect() as slow:
        slow.execute("INSERT INTO orders (id, note) VALUES (100, 'slow')")
        orders.pg.execute("INSERT INTO orders (id, note) VALUES (101, 'quick')")
        orders.sync()
        assert set(orders.documents()) >= {"101"}
        slow.commit()
    assert orders.stale() != {}
    orders.sync()
    assert orders.documents()["100"]["note"] == "slow"
    assert orders.is_in_step()


def test_a_late_row_below_many_that_were_loaded_is_not_missed(
    orders: Orders, small_chunks: None, no_margin: None
) -> None:
    """The same with small chunks: the reading passes the horizon before its last chunk."""
    orders.insert(range(1, 11))
    orders.sync()
    with orders.connect() as slow:
        slow.execute("INSERT INTO orders (id, note) VALUES (1000, 'slow')")
        for first in range(100, 700, 100):
            orders.insert(range(first, first + 100), age="0 s")
        orders.sync()
        slow.commit()
    orders.sync()
    assert "1000" in orders.documents()
    assert orders.is_in_step()


def test_a_row_that_commits_late_during_the_first_load_is_not_missed(
    orders: Orders, no_margin: None
) -> None:
    orders.insert(range(1, 11))
    with orders.connect() as slow:
        slow.execute("INSERT INTO orders (id, note) VALUES (100, 'slow')")
        orders.sync()
        slow.commit()
    orders.sync()
    assert orders.is_in_step()


def test_a_prepared_transaction_holds_the_horizon(orders: Orders, no_margin: None) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    with orders.connect() as other:
        other.execute("INSERT INTO orders (id, note) VALUES (100, 'prepared')")
        other.execute("PREPARE TRANSACTION 'orders'")
        other.commit()
    for number in range(3):
        orders.insert(range(200 + number, 201 + number), age="0 s")
        orders.sync()
    orders.pg.execute("COMMIT PREPARED 'orders'")
    assert orders.stale() != {}
    orders.sync()
    assert orders.documents()["100"]["note"] == "prepared"


def test_a_role_that_cannot_see_other_sessions_reads_the_lookback_again(
    orders: Orders, no_margin: None
) -> None:
    orders.insert(range(1, 11))
    name = f"reader_{orders.database.dbname}"
    orders.pg.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'reader'")
    orders.pg.execute(f"GRANT SELECT ON orders TO {name}")
    try:
        blind = Orders(
            type(orders.database)(
                **{
                    **vars(orders.database),
                    "user": name,
                    "password": "reader",
                }
            ),
            orders.es,
            orders.table,
            orders.pg,
        )
        blind.sync()
        with orders.connect() as slow:
            slow.execute("INSERT INTO orders (id, note) VALUES (100, 'slow')")
            orders.pg.execute("INSERT INTO orders (id, note) VALUES (101, 'quick')")
            blind.sync()
            slow.commit()
        blind.sync()
        assert orders.is_in_step()
        assert blind.stale() == {}
    finally:
        orders.pg.execute(f"DROP OWNED BY {name}")
        orders.pg.execute(f"DROP ROLE {name}")


def test_a_change_that_leaves_the_cursor_alone_is_seen_within_the_window(orders: Orders) -> None:
    """Two transactions of the same microsecond give a row the same cursor twice."""
    orders.insert(range(1, 11), age="0 s")
    orders.sync()
    with orders.connect() as same:
        same.execute("ALTER TABLE orders DISABLE TRIGGER touch")
        same.execute("UPDATE orders SET note = 'again' WHERE id = 5")
        same.commit()
    assert orders.stale() != {}
    orders.sync()
    assert orders.documents()["5"]["note"] == "again"


def test_ties_in_the_cursor_are_split_by_key(orders: Orders, small_chunks: None) -> None:
    orders.sync()
    orders.insert(range(1, 1001), age="0 s")
    assert orders.sync().batches == 10
    assert orders.is_in_step()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_a_cursor_without_time_zone_is_read_in_the_roles_own(orders: Orders, zone: str) -> None:
    orders.pg.execute(f"ALTER DATABASE {orders.database.dbname} SET timezone = '{zone}'")
    orders.pg.execute("ALTER TABLE orders ALTER updated_at TYPE timestamp")
    with psycopg.connect(orders.database.conninfo, autocommit=True) as writer:
        writer.execute("INSERT INTO orders (id, note) VALUES (1, 'one')")
        orders.sync()
        writer.execute("INSERT INTO orders (id, note) VALUES (2, 'two')")
        with orders.connect() as slow:
            slow.execute("INSERT INTO orders (id, note) VALUES (3, 'slow')")
            writer.execute("INSERT INTO orders (id, note) VALUES (4, 'quick')")
            orders.sync()
            slow.commit()
        orders.sync()
        assert orders.is_in_step()
        assert orders.stale() == {}


def test_rows_move_between_partitions(orders: Orders) -> None:
    monthly = {"by": "month", "column": "placed", "start": "2024-01-01", "end": "2024-07-01"}
    orders.table = orders.table.model_validate(
        {**orders.table.model_dump(exclude_defaults=True), "partitions": monthly}
    )
    orders.insert(range(1, 101))
    assert set(orders.stale()) == {f"2024-0{month}" for month in range(1, 7)}
    for partition in orders.stale():
        orders.sync(partition)
    assert orders.is_in_step()
    orders.pg.execute("UPDATE orders SET placed = '2024-03-05', note = 'moved' WHERE id = 1")
    assert orders.stale() == {"2024-03": 1}
    assert orders.sync("2024-03").rows == 1
    assert notes(orders.documents())["1"] == "moved"
    assert orders.is_in_step()


def test_a_full_load_reads_everything_again(orders: Orders) -> None:
    orders.insert(range(1, 101))
    orders.sync()
    orders.es.delete(index=f"{orders.table.index}-000001", id="7")
    assert not orders.is_in_step()
    assert orders.sync(full=True).rows == 100
    assert orders.is_in_step()
