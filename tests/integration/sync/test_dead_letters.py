"""A refused row stops nothing, is kept with its reason, and is tried again."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from pg_es_pipeline.cli import app
from pg_es_pipeline.errors import RowsRefused, ServerAway
from pg_es_pipeline.orchestration.jobs import sync_jobs
from pg_es_pipeline.orchestration.resources import RESOURCES
from pg_es_pipeline.orchestration.upkeep import retry_job
from pg_es_pipeline.sync import partition_load, snapshot
from pg_es_pipeline.sync.dead_letters import INDEX, DeadLetters
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.extract import Batch, Refusal
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.load import Outcome
from pg_es_pipeline.sync.retry import Retry
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders

FAR_AHEAD = 4_000_000_000_000_000
"""A version that the clock reaches in the year 2096."""


@pytest.fixture
def numbers(orders: Orders) -> Orders:
    """The table, whose notes have to be numbers; an UPDATE does not move its cursor."""
    orders.table = orders.table.model_copy(update={"fields": {"note": {"type": "integer"}}})
    orders.pg.execute("ALTER TABLE orders DISABLE TRIGGER touch")
    return orders


@pytest.fixture(autouse=True)
def _no_letters_left(orders: Orders) -> Iterator[None]:
    yield
    for letter in letters(orders).values():
        orders.es.delete(index=INDEX, id=letter["hit"], refresh=True)


def letters(orders: Orders) -> dict[str, dict[str, Any]]:
    """The index's dead letters, by key."""
    found = orders.es.search(
        index=INDEX,
        ignore_unavailable=True,
        query={"term": {"index": orders.table.index}},
        size=1000,
    )
    return {
        hit["_source"]["key"]: {**hit["_source"], "hit": hit["_id"]}
        for hit in found["hits"]["hits"]
    }


def generation_of(orders: Orders) -> Generation:
    with orders.engine() as engine:
        found = Indices(orders.es).find(Document(engine.source(orders.table)))
    assert found is not None
    return found


def note(orders: Orders, key: int, text: str, *, age: str = "0 s") -> None:
    orders.pg.execute(
        "UPDATE orders SET note = %s, updated_at = now() - %s::interval WHERE id = %s",
        [text, age, key],
    )


def retry(orders: Orders) -> Retry:
    with orders.engine() as engine:
        return engine.retry(engine.source(orders.table))


def test_a_refused_row_is_kept_with_its_reason_and_the_others_are_loaded(numbers: Orders) -> None:
    numbers.insert(range(1, 11), note="12")
    note(numbers, 4, "a secret", age="1 hour")
    report = numbers.sync()
    assert (report.rows, report.dead_letters) == (9, 1)
    assert numbers.documents().keys() == numbers.rows().keys() - {"4"}
    assert numbers.stale() == {}
    [letter] = letters(numbers).values()
    assert letter["table"] == "public.orders"
    assert letter["generation"] == f"{numbers.table.index}-000001"
    assert (letter["partition"], letter["key"], letter["attempts"]) == ("all", "4", 1)
    assert "failed to parse field [note]" in letter["reason"]
    assert letter["version"] > 1_700_000_000_000_000
    assert numbers.pg.execute(
        "SELECT abs(extract(epoch FROM now() - %s::timestamptz)) < 60", [letter["failed_at"]]
    ).fetchone() == (True,)


def test_refused_rows_leave_their_block_alone(numbers: Orders) -> None:
    numbers.insert(range(1, 501), note="12")
    numbers.pg.execute("UPDATE orders SET note = 'twelve' WHERE id IN (7, 350)")
    numbers.pg.execute("UPDATE orders SET deleted_at = now() WHERE id % 10 = 5")
    report = numbers.sync()
    assert (report.rows, report.deletes) == (498, 50)
    assert set(letters(numbers)) == {"7", "350"}
    assert numbers.documents().keys() == numbers.rows().keys() - {"7", "350"}


def test_a_letter_does_not_hold_the_document(numbers: Orders) -> None:
    numbers.insert(range(1, 2), note="x" * 5000)
    numbers.sync()
    [letter] = letters(numbers).values()
    assert set(letter) - {"hit"} == {
        *("table", "index", "generation", "uuid", "partition", "key"),
        *("reason", "failed_at", "attempts", "version"),
    }
    assert len(letter["reason"]) <= 1000


def test_a_letter_leaves_when_its_row_is_loaded(numbers: Orders) -> None:
    numbers.insert(range(1, 4), note="twelve")
    numbers.sync()
    assert set(letters(numbers)) == {"1", "2", "3"}
    note(numbers, 2, "12")
    numbers.sync()
    assert set(letters(numbers)) == {"1", "3"}
    assert set(numbers.documents()) == {"2"}


def test_a_letter_leaves_when_its_row_is_deleted(numbers: Orders) -> None:
    numbers.insert(range(1, 4), note="twelve")
    numbers.sync()
    numbers.pg.execute("UPDATE orders SET deleted_at = now(), updated_at = now() WHERE id = 2")
    numbers.sync()
    assert set(letters(numbers)) == {"1", "3"}


def test_a_row_that_is_refused_again_is_one_letter_with_one_more_attempt(numbers: Orders) -> None:
    numbers.insert(range(1, 2), note="twelve")
    numbers.sync()
    numbers.sync(full=True)
    [letter] = letters(numbers).values()
    assert letter["attempts"] == 2


def test_a_run_fails_before_there_are_too_many_letters(numbers: Orders) -> None:
    numbers.table = numbers.table.model_copy(update={"max_dead_letters": 3})
    numbers.insert(range(1, 4), note="twelve")
    assert numbers.sync().dead_letters == 3
    numbers.insert(range(11, 13), note="thirteen", age="0 s")
    with pytest.raises(
        RowsRefused,
        match=r"public\.orders, partition all: 2 rows were .*11: .*would be 5.*allows 3",
    ):
        numbers.sync()
    assert set(letters(numbers)) == {"1", "2", "3"}
    assert numbers.stale() == {"all": 2}
    note(numbers, 1, "1")
    note(numbers, 2, "2")
    numbers.pg.execute("DELETE FROM orders WHERE id = 12")
    numbers.sync()
    assert set(letters(numbers)) == {"3", "11"}


def test_a_letter_is_written_before_the_checkpoint_passes_its_row(
    numbers: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the letter cannot be written, the row counts as not loaded."""
    monkeypatch.setattr(snapshot, "MARGIN_SECONDS", 0)
    numbers.insert(range(1, 2), note="twelve")
    numbers.sync()
    numbers.insert(range(2, 3), note="thirteen", age="0 s")
    numbers.es.indices.put_settings(index=INDEX, settings={"index.blocks.write": True})
    try:
        with pytest.raises(ServerAway, match=r"did not take a dead letter.*checkpoint stays"):
            numbers.sync()
    finally:
        numbers.es.indices.put_settings(index=INDEX, settings={"index.blocks.write": None})
    assert numbers.stale() == {"all": 1}
    numbers.sync()
    assert set(letters(numbers)) == {"1", "2"}


def test_a_run_that_lost_touch_cannot_bring_a_letter_back(numbers: Orders) -> None:
    numbers.insert(range(1, 2), note="twelve")
    numbers.sync()
    old = letters(numbers)["1"]["version"]
    late = DeadLetters(numbers.es, numbers.table, generation_of(numbers))
    assert set(late.letters) == {"1"}
    note(numbers, 1, "12")
    numbers.sync()
    refused = Refusal("1", "was refused once", old)
    late.settle(Outcome(Batch(b"", 0, [], settled=True), refused=[refused]), "all")
    assert letters(numbers) == {}


def test_a_letter_of_a_row_that_another_load_has_written_meanwhile_is_dropped(
    numbers: Orders,
) -> None:
    """It was written after the other load had looked for letters."""
    numbers.sync()
    slow = DeadLetters(numbers.es, numbers.table, generation_of(numbers))
    refused = [Refusal("1", "too slow", 10), Refusal("2", "newer", 30)]
    slow.settle(Outcome(Batch(b"", 0, [], settled=True), refused=refused), "all")
    write_past_the_load(numbers, ["1", "2"], version=20)
    assert set(letters(numbers)) == {"1", "2"}
    assert set(DeadLetters(numbers.es, numbers.table, generation_of(numbers)).letters) == {"2"}
    assert set(letters(numbers)) == {"2"}


def test_a_row_that_is_refused_when_a_later_reading_was_written_already_is_superseded(
    numbers: Orders,
) -> None:
    """Batches end in any order."""
    numbers.sync()
    write_past_the_load(numbers, ["1", "2"], version=20)
    refused = [Refusal("1", "too slow", 10), Refusal("2", "newer", 30)]
    outcome = Outcome(Batch(b"", 0, [], settled=True), refused=refused)
    DeadLetters(numbers.es, numbers.table, generation_of(numbers)).settle(outcome, "all")
    assert set(letters(numbers)) == {"2"}
    assert [one.id for one in outcome.refused] == ["2"]
    assert outcome.superseded == 1


def write_past_the_load(numbers: Orders, keys: list[str], version: int) -> None:
    for key in keys:
        numbers.es.index(
            index=numbers.table.index,
            id=key,
            document={},
            version=version,
            version_type="external_gte",
        )


def test_rows_are_tried_again(numbers: Orders) -> None:
    """Row 1 was corrected, without its cursor; row 2 is no more; row 3 is as it was."""
    numbers.insert(range(1, 4), note="twelve")
    numbers.sync()
    numbers.pg.execute("UPDATE orders SET note = '12' WHERE id = 1")
    numbers.pg.execute("DELETE FROM orders WHERE id = 2")
    found = retry(numbers)
    assert (found.tried, found.loaded, found.deleted) == (3, 1, 1)
    assert [(letter.key, letter.attempts) for letter in found.remaining] == [("3", 2)]
    assert set(letters(numbers)) == {"3"}
    assert letters(numbers)["3"]["partition"] == "all"
    assert set(numbers.documents()) == {"1"}
    assert numbers.stale() == {}


def test_a_retry_is_newer_than_the_refused_reading(numbers: Orders) -> None:
    numbers.insert(range(1, 2), note="twelve")
    numbers.sync()
    letters_of = DeadLetters(numbers.es, numbers.table, generation_of(numbers))
    ahead = Refusal("1", "by a clock that was ahead", FAR_AHEAD)
    letters_of.settle(Outcome(Batch(b"", 0, [], settled=True), refused=[ahead]), "all")
    numbers.pg.execute("UPDATE orders SET note = '12' WHERE id = 1")
    assert retry(numbers).loaded == 1
    assert letters(numbers) == {}
    note(numbers, 1, "13")
    numbers.sync()
    assert numbers.documents()["1"]["note"] == "13"


def test_letters_of_an_index_that_was_deleted_go_with_the_next_retry(numbers: Orders) -> None:
    numbers.insert(range(1, 2), note="twelve")
    numbers.sync()
    numbers.es.indices.delete(index=f"{numbers.table.index}-000001")
    numbers.pg.execute("UPDATE orders SET note = '12' WHERE id = 1")
    numbers.sync()
    assert set(letters(numbers)) == {"1"}
    assert retry(numbers).tried == 0
    assert letters(numbers) == {}


def test_a_retry_without_an_index_or_letters_does_nothing(orders: Orders) -> None:
    assert retry(orders) == Retry(orders.table.index)
    orders.sync()
    assert retry(orders) == Retry(orders.table.index)


# Rows that PostgreSQL cannot write

SHARES = """
CREATE VIEW shares AS
SELECT id, 1000 / (id % 50 - 7) AS share, updated_at, updated_at AS placed FROM orders
"""


def shares(orders: Orders, **more: Any) -> None:
    """The table is a view that fails at every fiftieth row."""
    orders.pg.execute("ALTER TABLE orders DISABLE TRIGGER touch")
    orders.pg.execute(SHARES)
    orders.table = Table(table="public.shares", index=orders.table.index, key=["id"], **more)


@pytest.mark.parametrize(
    "more",
    [{}, {"partitions": {"by": "day", "column": "placed", "start": "2024-01-01"}}],
    ids=["in the order of the key", "in the order of a partition's column"],
)
def test_a_row_that_postgresql_cannot_write_stops_nothing(
    orders: Orders, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 70)
    orders.insert(range(1, 201))
    shares(orders, **more)
    orders.pg.execute("UPDATE orders SET updated_at = '2024-01-01 12:00:00Z'")
    partition = "2024-01-01" if more else "all"
    report = orders.sync(partition, max_batch_size=30, min_batch_size=1)
    assert set(letters(orders)) == {"7", "57", "107", "157"}
    assert {letter["reason"] for letter in letters(orders).values()} == {
        "PostgreSQL cannot write the row: division by zero"
    }
    assert (report.rows, report.dead_letters) == (196, 4)
    assert report.batches < 20, "what was read before the row is sent as it was read"
    assert len(orders.documents()) == 196


def test_rows_are_read_in_blocks_again_behind_one_that_postgresql_cannot_write(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(name: str) -> Any:
        original = getattr(partition_load, name)

        def statement(*arguments: Any, **more: Any) -> Any:
            read.append(name)
            return original(*arguments, **more)

        return statement

    for name in ("by_block", "by_row"):
        monkeypatch.setattr(partition_load, name, noted(name))
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 20)
    orders.insert(range(1, 50))
    shares(orders)
    orders.sync()
    assert set(letters(orders)) == {"7"}
    alone = "by_row"
    assert read[:5] == ["by_block", "by_row", alone, "by_row", "by_block"]


def test_changed_rows_that_postgresql_cannot_write_stop_nothing(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MARGIN_SECONDS", 0)
    orders.insert(range(1, 6))
    shares(orders)
    orders.sync()
    orders.insert(range(6, 9), age="0 s")
    orders.sync()
    assert set(letters(orders)) == {"7"}
    assert set(orders.documents()) == {*"1234568"}
    assert orders.stale() == {}


def test_an_error_before_the_first_row_is_not_blamed_on_that_row(orders: Orders) -> None:
    """What a view sums up is read as a whole before its first row comes."""
    orders.insert(range(1, 20_001))
    # So PostgreSQL knows that there are few sums, and makes them all at once.
    orders.pg.execute("CREATE STATISTICS few ON (id % 50) FROM orders; ANALYZE orders")
    orders.pg.execute(
        "CREATE VIEW sums AS SELECT id % 50 AS id, sum(1000 / (id - 57)) AS sum, updated_at "
        "FROM orders GROUP BY id % 50, updated_at"
    )
    orders.table = Table(table="public.sums", index=orders.table.index, key=["id"])
    orders.sync()
    assert set(letters(orders)) == {"7"}
    assert len(orders.documents()) == 49


def test_a_retry_goes_on_past_a_row_that_postgresql_still_cannot_write(orders: Orders) -> None:
    orders.insert(range(1, 201))
    shares(orders)
    orders.sync()
    orders.pg.execute("DELETE FROM orders WHERE id = 57")
    orders.pg.execute(SHARES.replace("CREATE", "CREATE OR REPLACE").replace("id % 50", "id % 150"))
    found = retry(orders)
    assert (found.tried, found.loaded, found.deleted) == (4, 1, 1)
    assert {letter.key for letter in found.remaining} == {"7", "157"}
    assert "division by zero" in found.remaining[0].reason


def test_text_that_is_no_utf_8_becomes_a_dead_letter(orders: Orders) -> None:
    name = f"{orders.database.dbname}_ascii"
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    orders.pg.execute(sql.SQL(create).format(sql.Identifier(name)))
    try:
        with psycopg.connect(
            make_conninfo(orders.database.conninfo, dbname=name), autocommit=True
        ) as pg:
            pg.execute("SET client_encoding = 'SQL_ASCII'")
            pg.execute(
                "CREATE TABLE orders (id int PRIMARY KEY, note text, updated_at timestamptz);"
                r"INSERT INTO orders SELECT id, CASE id WHEN 7 THEN E'caf\xe9' ELSE 'tea' END,"
                "now() - interval '1 h' FROM generate_series(1, 20) id"
            )
        object.__setattr__(orders.database, "dbname", name)
        orders.table = Table(table="public.orders", index=orders.table.index)
        orders.sync()
        assert set(letters(orders)) == {"7"}
        assert len(orders.documents()) == 19
    finally:
        orders.pg.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


# Other ways to the index


def test_a_table_without_a_cursor_is_loaded_past_a_refused_row(numbers: Orders) -> None:
    numbers.table = numbers.table.model_copy(update={"capture": "snapshot"})
    numbers.insert(range(1, 4), note="12")
    note(numbers, 2, "twelve")
    numbers.sync()
    note(numbers, 3, "13")
    numbers.sync()
    assert set(letters(numbers)) == {"2"}
    assert {key: one["note"] for key, one in numbers.documents().items()} == {"1": "12", "3": "13"}


def test_a_reconcile_goes_on_past_a_refused_row(numbers: Orders) -> None:
    numbers.insert(range(1, 4), note="12")
    numbers.sync()
    numbers.insert(range(11, 14), note="12", age="1 day")
    note(numbers, 12, "twelve", age="1 day")
    with numbers.engine() as engine:
        engine.reconcile(engine.source(numbers.table))
    assert set(letters(numbers)) == {"12"}
    assert set(numbers.documents()) == {"1", "2", "3", "11", "13"}


# Commands and jobs


def test_the_command_says_what_remains_and_exits_with_1(
    numbers: Orders, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    numbers.insert(range(1, 3), note="twelve")
    numbers.sync()
    for name, value in numbers.database.environment.items():
        monkeypatch.setenv(name, value)
    table = numbers.table.model_dump(mode="json", include={"table", "index", "fields"})
    (tmp_path / "tables.yaml").write_text(json.dumps({"tables": [table]}))
    monkeypatch.setenv("PG_ES_TABLES", str(tmp_path / "tables.yaml"))
    numbers.pg.execute("UPDATE orders SET note = '12' WHERE id = 1")
    some = CliRunner().invoke(app, ["retry", "public.orders"])
    assert some.exit_code == 1
    assert f"{numbers.table.index} 2 (attempt 2): " in some.output
    numbers.pg.execute("UPDATE orders SET note = '12' WHERE id = 2")
    none = CliRunner().invoke(app, ["retry"])
    assert none.exit_code == 0, none.output
    assert none.output.split()[-5:] == [numbers.table.index, "1", "1", "0", "0"]


def test_the_jobs_say_how_many_and_try_again(
    numbers: Orders, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in numbers.database.environment.items():
        monkeypatch.setenv(name, value)
    numbers.insert(range(1, 3), note="twelve")
    tables = [numbers.table]
    definitions = dg.Definitions(jobs=[*sync_jobs(tables), retry_job(tables)], resources=RESOURCES)
    with dg.DagsterInstance.ephemeral() as instance:
        loaded = definitions.resolve_job_def("sync_all").execute_in_process(instance=instance)
        [event] = [one for one in loaded.all_events if one.is_step_materialization]
        metadata = event.step_materialization_data.materialization.metadata
        assert metadata["dead_letters"].value == 2
        assert "2 rows were refused for good: 1: " in capfd.readouterr().err
        numbers.pg.execute("UPDATE orders SET note = '12'")
        definitions.resolve_job_def("retry_dead_letters").execute_in_process(instance=instance)
    assert "2 dead letters tried again, 2 loaded" in capfd.readouterr().err
    assert letters(numbers) == {}
