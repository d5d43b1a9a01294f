"""Generations: what is changed in place, what is loaded beside, the switch and the way back."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pg_es_pipeline.errors import IndexRefused, ReindexUnderWay, RowsRefused, ServerAway
from pg_es_pipeline.sync import engine as engine_module
from pg_es_pipeline.sync import partition_load, reindex
from pg_es_pipeline.sync.checkpoints import INDEX as CHECKPOINTS
from pg_es_pipeline.sync.reindex import Reindexed, alive
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders

AS_KEYWORD = {"note": {"type": "keyword"}}


@pytest.fixture
def loaded(orders: Orders) -> Orders:
    """Ten rows, loaded."""
    orders.insert(range(1, 11))
    orders.sync()
    return orders


def change(orders: Orders, **entry: Any) -> None:
    orders.table = orders.table.model_copy(
        update=Table(table="x", **entry).model_dump(include=set(entry), by_alias=False)
    )


def run(orders: Orders, on_progress: Any = lambda report: None) -> Reindexed:
    with orders.engine() as engine:
        return engine.reindex(engine.source(orders.table), on_progress=on_progress)


def roll_back(orders: Orders, *, now: bool = False) -> Reindexed:
    with orders.engine() as engine:
        return engine.roll_back(engine.source(orders.table), now=now)


def differences(orders: Orders) -> list[str]:
    with orders.engine() as engine:
        [found] = engine.survey([engine.source(orders.table)]).values()
        assert not isinstance(found, Exception)
        return list(map(str, found.differences))


def declined(orders: Orders) -> bool:
    with orders.engine() as engine:
        [found] = engine.survey([engine.source(orders.table)]).values()
        assert not isinstance(found, Exception)
        return found.declined


def live(orders: Orders) -> str:
    [name] = orders.es.indices.get(index=orders.table.index)
    return str(name).removeprefix(orders.table.index)


def generations(orders: Orders) -> set[str]:
    found = orders.es.indices.get(index=f"{orders.table.index}-*")
    return {str(name).removeprefix(orders.table.index) for name in found}


def field(orders: Orders, name: str) -> Any:
    [answer] = orders.es.indices.get_mapping(index=orders.table.index).values()
    return answer["mappings"]["properties"].get(name)


# What has changed


def test_a_new_column_is_added_in_place(loaded: Orders) -> None:
    loaded.pg.execute("ALTER TABLE orders ADD colour text DEFAULT 'red'")
    assert differences(loaded) == []
    loaded.sync()
    assert live(loaded) == "-000001"
    assert {one["colour"] for one in loaded.documents().values()} == {"red"}


@pytest.mark.parametrize(
    ("statement", "entry", "said"),
    [
        (
            "ALTER TABLE orders ALTER note TYPE int USING 5",
            {},
            "note: type is text, not integer",
        ),
        ("SELECT", {"fields": AS_KEYWORD}, "note: type is text, not keyword"),
        (
            "SELECT",
            {"fields": {"note": {"type": "text", "analyzer": "simple"}}},
            "note: analyzer is default, not simple",
        ),
        ("SELECT", {"key": ["id", "note"]}, "the key is (id), not (id, note)"),
        (
            'ALTER TABLE orders ADD "a.b" int',
            {},
            "fields with a dot in their name are not allowed",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_loaded_beside(
    loaded: Orders, statement: str, entry: dict[str, Any], said: str
) -> None:
    loaded.pg.execute(statement)
    change(loaded, **entry)
    assert differences(loaded) == [said]
    done = run(loaded)
    assert (done.before[-7:], done.generation[-7:], done.rows) == ("-000001", "-000002", 10)
    assert live(loaded) == "-000002"
    assert differences(loaded) == []
    assert loaded.stale() == {}
    assert len(loaded.documents()) == 10


def test_a_mapping_that_elasticsearch_can_change_needs_no_new_generation(loaded: Orders) -> None:
    change(loaded, fields={"note": {"type": "text", "fields": {"low": {"type": "keyword"}}}})
    assert differences(loaded) == []
    loaded.sync()
    assert field(loaded, "note")["fields"]["low"] == {"type": "keyword"}


def test_until_then_the_live_generation_is_kept_in_step_with_the_mappings_that_it_has(
    loaded: Orders,
) -> None:
    change(loaded, fields=AS_KEYWORD)
    assert loaded.stale() == {}, "the rows in the index are as they ought to be"
    loaded.pg.execute("UPDATE orders SET note = 'changed' WHERE id = 3")
    report = loaded.sync()
    assert (report.full, report.rows) == (False, 1)
    assert [str(one) for one in report.differences] == ["note: type is text, not keyword"]
    assert field(loaded, "note")["type"] == "text"
    assert loaded.is_in_step()


def test_until_then_the_live_generation_keeps_its_key(loaded: Orders) -> None:
    change(loaded, key=["id", "note"])
    loaded.insert(range(11, 12), age="0 s")
    loaded.sync()
    assert "11" in loaded.documents()
    run(loaded)
    assert '["11", "new"]' in loaded.documents()


def test_a_key_whose_column_is_gone_stops_the_live_generation_alone(loaded: Orders) -> None:
    loaded.pg.execute("ALTER TABLE orders RENAME id TO number")
    with pytest.raises(IndexRefused, match=r"column 'id'.*`pg-es reindex"):
        loaded.sync()
    run(loaded)
    assert live(loaded) == "-000002"
    assert loaded.stale() == {}


def test_values_that_the_live_generation_refuses_are_dead_letters_until_the_switch(
    orders: Orders,
) -> None:
    orders.pg.execute("ALTER TABLE orders ADD size int DEFAULT 7")
    orders.insert(range(1, 4))
    orders.sync()
    orders.pg.execute("ALTER TABLE orders ALTER size TYPE text USING 'seven'")
    assert orders.sync(full=True).dead_letters == 3
    assert run(orders).rows == 3
    assert orders.sync(full=True).dead_letters == 0
    assert {one["size"] for one in orders.documents().values()} == {"seven"}


def test_rows_that_the_live_generation_refuses_are_no_change_of_columns(loaded: Orders) -> None:
    loaded.pg.execute("ALTER TABLE orders ADD size int DEFAULT 7")
    loaded.sync()
    loaded.pg.execute("ALTER TABLE orders ALTER size TYPE text USING 'seven'")
    change(loaded, key=["id", "note"], max_dead_letters=0)
    with pytest.raises(RowsRefused, match="refused for good"):
        loaded.sync(full=True)


# A reindex


def test_what_is_written_meanwhile_is_in_both(loaded: Orders) -> None:
    change(loaded, fields=AS_KEYWORD)

    def write(report: Report) -> None:
        if not loaded.pg.execute("SELECT FROM orders WHERE id = 11").rowcount:
            loaded.pg.execute("UPDATE orders SET note = 'changed' WHERE id = 3")
            loaded.pg.execute("UPDATE orders SET deleted_at = now() WHERE id = 4")
            loaded.pg.execute("DELETE FROM orders WHERE id = 5")
            loaded.insert(range(11, 13), age="0 s")

    done = run(loaded, write)
    assert done.compared is not None
    assert loaded.is_in_step()


def test_a_document_that_nobody_loads_any_more_is_not_in_the_new_generation(
    loaded: Orders,
) -> None:
    loaded.pg.execute("DELETE FROM orders WHERE id = 5")
    assert len(loaded.documents()) == 10
    run(loaded)
    assert loaded.is_in_step()


def test_an_interrupted_reindex_is_gone_on_with(
    loaded: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(loaded, fields=AS_KEYWORD)
    monkeypatch.setattr(partition_load, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 3)

    def stop(report: Report) -> None:
        if report.rows > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(loaded, stop)
    assert live(loaded) == "-000001"
    assert generations(loaded) == {"-000001", "-000002"}
    assert loaded.is_in_step()
    done = run(loaded)
    assert done.generation.endswith("-000002")
    assert done.rows < 10
    assert loaded.is_in_step()


def test_what_was_loaded_for_another_mapping_is_removed(loaded: Orders) -> None:
    change(loaded, fields=AS_KEYWORD)
    interrupt(loaded)
    change(loaded, fields={"note": {"type": "text", "analyzer": "simple"}})
    run(loaded)
    assert generations(loaded) == {"-000001", "-000002"}
    assert checkpoints(loaded) == {"-000001", "-000002"}
    assert field(loaded, "note")["analyzer"] == "simple"


def test_it_can_be_abandoned(loaded: Orders) -> None:
    change(loaded, fields=AS_KEYWORD)
    interrupt(loaded)
    with loaded.engine() as engine:
        source = engine.source(loaded.table)
        assert engine.abandon_reindex(source) == f"{loaded.table.index}-000002"
        assert engine.abandon_reindex(source) is None
    assert generations(loaded) == {"-000001"}
    assert checkpoints(loaded) == {"-000001"}


def test_rows_that_the_new_mapping_refuses_keep_the_alias_where_it_is(loaded: Orders) -> None:
    change(loaded, fields={"note": {"type": "integer"}}, max_dead_letters=0)
    with pytest.raises(RowsRefused, match="refused for good"):
        run(loaded)
    assert live(loaded) == "-000001"
    assert loaded.is_in_step()


def test_settings_that_somebody_has_made_are_taken_over(loaded: Orders) -> None:
    made = {"index.refresh_interval": "7s", "index.number_of_replicas": 1}
    loaded.es.indices.put_settings(index=live_name(loaded), settings=made)
    copies = []
    run(loaded, lambda report: copies.append(settings(loaded, "-000002")))
    assert copies[0]["index.number_of_replicas"] == "0"
    new = settings(loaded, "-000002")
    assert new["index.refresh_interval"] == "7s"
    assert new["index.number_of_replicas"] == "1"
    assert new["index.number_of_shards"] == settings(loaded, "-000001")["index.number_of_shards"]


def test_only_one_reindex_of_a_table_runs(loaded: Orders) -> None:
    def second(report: Report) -> None:
        with pytest.raises(ReindexUnderWay, match="another reindex or rollback of it is under way"):
            run(loaded)

    run(loaded, second)
    assert live(loaded) == "-000002"


def test_a_table_that_was_never_loaded_has_nothing_to_reindex(orders: Orders) -> None:
    with pytest.raises(IndexRefused, match="Load the table first"):
        run(orders)


# The switch


def test_the_switch_waits_for_loads_of_the_live_generation(
    loaded: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "LOCK_WAIT", "10ms")
    monkeypatch.setattr(reindex, "SWITCH_SECONDS", 0.1)
    with (
        loaded.engine() as other,
        alive(other.connection, loaded.table.index),
        pytest.raises(ServerAway, match="start the reindex again"),
    ):
        run(loaded)
    assert live(loaded) == "-000001"
    done = run(loaded)
    assert (done.rows, live(loaded)) == (0, "-000002")


def test_a_load_waits_for_the_switch_and_writes_to_the_new_generation(
    loaded: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the alias pointed at when the load was asked for is not what it writes to."""
    loads: list[threading.Thread] = []
    reports: list[Report] = []
    refresh = engine_module.Indices.refresh

    def load_meanwhile(indices: Any, generation: Any) -> None:
        refresh(indices, generation)
        if not loads and generation.name.endswith("-000002"):
            loaded.insert(range(11, 12), age="0 s")
            loads.append(threading.Thread(target=lambda: reports.append(loaded.sync())))
            loads[0].start()
            wait_until_locked(loaded)

    monkeypatch.setattr(engine_module.Indices, "refresh", load_meanwhile)
    run(loaded)
    loads[0].join()
    assert [report.rows for report in reports] == [1]
    assert loaded.is_in_step()
    assert "11" not in documents_of(loaded, "-000001")


@pytest.mark.parametrize("back", [False, True], ids=["reindex", "rollback"])
def test_what_the_live_generation_was_given_last_is_in_the_other_at_the_switch(
    loaded: Orders, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    run(loaded)
    try_lock = reindex._try_lock

    def load_first(*arguments: Any) -> bool:
        loaded.insert(range(11, 12), age="0 s")
        loaded.sync()
        return try_lock(*arguments)

    monkeypatch.setattr(reindex, "_try_lock", load_first)
    roll_back(loaded) if back else run(loaded)
    assert "11" in loaded.documents()


def test_columns_that_change_in_mid_load_begin_it_anew(loaded: Orders) -> None:
    loaded.pg.execute("ALTER TABLE orders ADD a int DEFAULT 1, ADD b int DEFAULT 2")
    loaded.sync()
    statements = iter(
        [
            "ALTER TABLE orders DROP a",
            "ALTER TABLE orders RENAME b TO c",
            "ALTER TABLE orders ADD d int DEFAULT 4",
            "ALTER TABLE orders ALTER c TYPE text USING 'two'",
        ]
    )

    def alter(report: Report) -> None:
        if statement := next(statements, None):
            behind_the_chunk(loaded, statement)

    with chunks_of(3), loaded.engine() as engine:
        engine.sync(engine.source(loaded.table), "all", full=True, on_progress=alter)
    while loaded.stale():
        loaded.sync()
    run(loaded)  # the index has taken `c` for a number
    names = {"id", "note", "placed", "updated_at", "deleted_at", "c", "d"}
    assert all(set(one) == names for one in loaded.documents().values())
    assert next(statements, None) is None
    assert differences(loaded) == []
    assert loaded.is_in_step()


def test_a_column_that_changes_in_mid_reindex_begins_it_anew(loaded: Orders) -> None:
    change(loaded, fields=AS_KEYWORD)
    altered = False

    def alter(report: Report) -> None:
        nonlocal altered
        if not altered:
            altered = True
            behind_the_chunk(loaded, "ALTER TABLE orders RENAME placed TO ordered")

    with chunks_of(3):
        run(loaded, alter)
    assert loaded.stale() == {}
    assert all("ordered" in one for one in loaded.documents().values())


# The way back


def test_a_rollback_catches_up_first(loaded: Orders) -> None:
    change(loaded, fields=AS_KEYWORD)
    run(loaded)
    loaded.insert(range(11, 12), age="0 s")
    loaded.sync()
    done = roll_back(loaded)
    assert (done.before[-7:], done.generation[-7:]) == ("-000002", "-000001")
    assert live(loaded) == "-000001"
    assert loaded.is_in_step()
    assert declined(loaded)


def test_a_rollback_to_the_same_mappings_is_not_declined(loaded: Orders) -> None:
    before = loaded.table
    change(loaded, fields=AS_KEYWORD)
    run(loaded)
    roll_back(loaded)
    change(loaded, fields={"note": {"type": "text", "analyzer": "simple"}})
    assert not declined(loaded), "another change is another try"
    loaded.table = before
    assert differences(loaded) == []


def test_a_rollback_can_be_immediate(loaded: Orders) -> None:
    run(loaded)
    loaded.insert(range(11, 12), age="0 s")
    loaded.sync()
    roll_back(loaded, now=True)
    assert "11" not in loaded.documents()
    assert loaded.stale() == {"all": 1}
    loaded.sync()
    assert loaded.is_in_step()


def test_after_a_rollback_the_generation_can_be_gone_back_to(loaded: Orders) -> None:
    run(loaded)
    roll_back(loaded)
    assert roll_back(loaded).generation.endswith("-000002")
    assert live(loaded) == "-000002"


def test_without_an_old_generation_there_is_no_way_back(loaded: Orders) -> None:
    with pytest.raises(IndexRefused, match="no generation before"):
        roll_back(loaded)


def test_old_generations_are_removed_once_they_were_kept_for_long_enough(loaded: Orders) -> None:
    run(loaded)
    run(loaded)
    interrupt(loaded)
    assert generations(loaded) == {"-000001", "-000002", "-000003", "-000004"}
    with loaded.engine() as engine:
        assert engine.remove_old_generations([loaded.table]) == []
        at_once = loaded.table.model_copy(update={"keep_generations": timedelta(0)})
        assert engine.remove_old_generations([Table(table="public.other")]) == []
        removed = engine.remove_old_generations([at_once])
    assert {name[-7:] for name in removed} == {"-000001", "-000002"}
    assert generations(loaded) == {"-000003", "-000004"}
    assert checkpoints(loaded) == generations(loaded)
    assert loaded.is_in_step()


def test_a_live_generation_that_was_deleted_is_made_anew_beside_the_old_one(
    loaded: Orders,
) -> None:
    run(loaded)
    loaded.es.indices.delete(index=live_name(loaded))
    loaded.sync()
    assert live(loaded) == "-000002"
    assert loaded.is_in_step()
    assert roll_back(loaded).generation.endswith("-000001")
    assert loaded.is_in_step()


# Searches


@pytest.mark.slow
def test_searches_see_every_document_once_while_rows_change(orders: Orders) -> None:
    orders.insert(range(1, 2001))
    orders.sync()
    change(orders, fields=AS_KEYWORD)
    over = threading.Event()
    failures: list[str] = []
    searches = 0

    def write() -> None:
        with orders.connect() as connection:
            connection.autocommit = True
            number = 0
            while not over.wait(0.005):
                number += 1
                connection.execute(
                    "UPDATE orders SET note = %s WHERE id = %s",
                    [f"changed {number}", number % 2000 + 1],
                )
                connection.execute(
                    "INSERT INTO orders (id, note) VALUES (%s, 'new')", [10_000 + number]
                )

    def search() -> None:
        nonlocal searches
        seen: set[str] = set()
        while not over.wait(0.05):
            try:
                found = orders.es.search(
                    index=orders.table.index,
                    size=10_000,
                    source=False,
                    query={"match_all": {}},
                    track_total_hits=True,
                )["hits"]["hits"]
            except Exception as error:
                failures.append(f"failed: {error}")
                continue
            searches += 1
            ids = [hit["_id"] for hit in found]
            if len(set(ids)) < len(ids):
                failures.append("a document is there twice")
            if missing := seen - set(ids):
                failures.append(f"gone: {sorted(missing)[:5]}")
            seen |= set(ids)

    def keep_in_step() -> None:
        while not over.wait(0.2):
            orders.sync()

    threads = [threading.Thread(target=one) for one in (write, search, keep_in_step)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            run(orders)
            wait_for_more(lambda: searches)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    while orders.stale():
        orders.sync()
    assert orders.is_in_step()


# What the tests above have in common


def interrupt(orders: Orders) -> None:
    """A reindex that ends with a new generation half loaded."""

    def stop(report: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(orders, stop)


def live_name(orders: Orders) -> str:
    return orders.table.index + live(orders)


def settings(orders: Orders, generation: str) -> dict[str, Any]:
    name = orders.table.index + generation
    answer = orders.es.indices.get_settings(index=name, flat_settings=True)
    return dict(answer[name]["settings"])


def documents_of(orders: Orders, generation: str) -> set[str]:
    name = orders.table.index + generation
    orders.es.indices.refresh(index=name)
    return {hit["_id"] for hit in orders.es.search(index=name, size=1000)["hits"]["hits"]}


def checkpoints(orders: Orders) -> set[str]:
    """The generations that have some."""
    orders.es.indices.refresh(index=CHECKPOINTS)
    found = orders.es.search(
        index=CHECKPOINTS,
        query={
            "bool": {
                "filter": [
                    {"term": {"kind": "checkpoint"}},
                    {"term": {"index": orders.table.index}},
                ]
            }
        },
    )["hits"]["hits"]
    return {hit["_source"]["generation"].removeprefix(orders.table.index) for hit in found}


@contextmanager
def chunks_of(rows: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition_load, "CHUNK_ROWS", rows)
        yield


def behind_the_chunk(orders: Orders, statement: str) -> None:
    """Runs the statement as soon as the chunk that is being read, if any is, lets it."""

    def execute() -> None:
        with psycopg.connect(orders.database.conninfo, autocommit=True) as connection:
            connection.execute(statement)

    thread = threading.Thread(target=execute)
    thread.start()
    with psycopg.connect(orders.database.conninfo, autocommit=True) as connection:
        while thread.is_alive() and not connection.execute(_WAITING).rowcount:
            time.sleep(0.001)


_WAITING = "SELECT FROM pg_locks WHERE NOT granted"


def wait_until_locked(orders: Orders) -> None:
    """Until a load stands in line for a lock."""
    with psycopg.connect(orders.database.conninfo, autocommit=True) as connection:
        deadline = time.monotonic() + 30
        while not connection.execute(_WAITING).rowcount:
            assert time.monotonic() < deadline, "no load waits"


def wait_for_more(count: Any, more: int = 3) -> None:
    wanted, deadline = count() + more, time.monotonic() + 30
    while count() < wanted:
        assert time.monotonic() < deadline, "no search comes back"
        time.sleep(0.01)
