"""Old never overwrites new, a crash loses nothing, and what goes wrong is said."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pg_es_pipeline.errors import CheckpointConflict, IndexRefused, RowsRefused, ServerAway
from pg_es_pipeline.settings import ElasticsearchSettings, PostgresSettings
from pg_es_pipeline.sync import load, partition_load
from pg_es_pipeline.sync import postgres as postgres_connections
from pg_es_pipeline.sync.checkpoints import Checkpoint, Checkpoints
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.extract import Batch
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.snapshot import snapshot
from tests.connections import postgres_settings
from tests.integration.orders import Orders, notes

FAR_AHEAD = 4_000_000_000_000_000
"""A version that the clock reaches in the year 2096."""


def generation_of(orders: Orders) -> Generation:
    with orders.engine() as engine:
        found = Indices(orders.es).find(Document(engine.source(orders.table)))
    assert found is not None
    return found


def reader(orders: Orders) -> postgres_connections.Connection:
    return postgres_connections.connect(postgres_settings(orders.database))


def test_an_older_version_never_overwrites_a_newer_one(orders: Orders) -> None:
    orders.insert(range(1, 4))
    orders.sync()
    orders.es.index(
        index=f"{orders.table.index}-000001",
        id="2",
        document={"id": 2, "note": "newer"},
        version=FAR_AHEAD,
        version_type="external_gte",
    )
    report = orders.sync(full=True)
    assert report.superseded == 1
    assert orders.documents()["2"]["note"] == "newer"


def test_a_clock_that_was_set_back_does_not_hide_changes(orders: Orders) -> None:
    """Documents and checkpoint were written with versions that the clock has yet to reach."""
    orders.insert(range(1, 4))
    orders.sync()
    generation = generation_of(orders)
    orders.es.index(
        index=generation.name,
        id="2",
        document={"id": 2, "note": "old"},
        version=FAR_AHEAD,
        version_type="external_gte",
    )
    checkpoints = Checkpoints(orders.es)
    checkpoint = checkpoints.read(generation, ["all"])["all"]
    checkpoint.version = FAR_AHEAD
    checkpoints.write(generation, checkpoint)
    orders.pg.execute("UPDATE orders SET note = 'changed' WHERE id = 2")
    orders.sync()
    assert orders.documents()["2"]["note"] == "changed"


def test_the_snapshot_is_taken_after_the_lock(orders: Orders) -> None:
    """A reader that waits for its version sees everything committed while it waited."""
    orders.insert(range(1, 4))
    seen: list[int] = []
    with reader(orders) as first, reader(orders) as second, snapshot(first, 0):
        lock = first.execute(
            "SELECT objid, classid FROM pg_locks WHERE locktype = 'advisory' LIMIT 1"
        ).fetchone()
        assert lock is None, "the lock is let go once the snapshot is there"
        orders.pg.execute("SELECT pg_advisory_lock(7026427253)")

        def read() -> None:
            with snapshot(second, 0):
                row = second.execute("SELECT count(*) FROM public.orders").fetchone()
                seen.append(row[0] if row else -1)

        thread = threading.Thread(target=read)
        thread.start()
        while not orders.pg.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND pid = %s",
            [second.info.backend_pid],
        ).fetchone():
            pass
        orders.insert(range(4, 5))
        orders.pg.execute("SELECT pg_advisory_unlock(7026427253)")
        thread.join()
    assert seen == [4]


def test_versions_rise_from_snapshot_to_snapshot(orders: Orders) -> None:
    with reader(orders) as connection:
        versions = []
        for _ in range(20):
            with snapshot(connection, 0) as version:
                versions.append(version)
        with snapshot(connection, FAR_AHEAD) as version:
            assert version == FAR_AHEAD + 1
    assert versions == sorted(set(versions))


def test_a_run_that_lost_touch_cannot_move_the_checkpoint(orders: Orders) -> None:
    orders.insert(range(1, 4))
    orders.sync()
    generation = generation_of(orders)
    checkpoints = Checkpoints(orders.es)
    stale = checkpoints.read(generation, ["all"])["all"]
    orders.insert(range(4, 5), age="0 s")
    orders.sync()
    with pytest.raises(CheckpointConflict, match="another run has moved the checkpoint"):
        checkpoints.write(generation, stale)
    with pytest.raises(CheckpointConflict):
        checkpoints.write(generation, Checkpoint("all", stale.fingerprint))


def test_an_interrupted_first_load_goes_on_where_it_was(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 100)
    orders.insert(range(1, 1001))
    interrupts = [KeyboardInterrupt()]

    def interrupt_once(report: object) -> None:
        while interrupts:
            raise interrupts.pop()

    with orders.engine(max_batch_size=100) as engine:
        source = engine.source(orders.table)
        with pytest.raises(KeyboardInterrupt):
            engine.sync(source, "all", on_progress=interrupt_once)
    done = len(orders.documents())
    assert 0 < done < 1000
    report = orders.sync()
    assert report.full
    assert report.rows <= 1000 - 100
    assert orders.is_in_step()


def test_an_interrupt_that_comes_before_the_first_batch_is_through_keeps_what_arrived(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes with each batch that is told of; none is told of any more."""
    interrupted = threading.Event()
    original = load.Loader._try

    def hold_the_first(self: load.Loader, *arguments: Any) -> object:
        if b'"_id":"1"' in arguments[1].body:
            assert interrupted.wait(60)
        return original(self, *arguments)

    def interrupt(report: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    orders.insert(range(1, 1001))
    monkeypatch.setattr(load.Loader, "_try", hold_the_first)
    with orders.engine(pool_size=2, max_batch_size=100) as engine:
        source = engine.source(orders.table)
        with pytest.raises(KeyboardInterrupt):
            engine.sync(source, "all", on_progress=interrupt)
    assert orders.sync().rows <= 1000 - 200
    assert orders.is_in_step()


def test_an_index_that_was_deleted_is_loaded_afresh(orders: Orders) -> None:
    orders.insert(range(1, 101))
    orders.sync()
    orders.es.indices.delete(index=f"{orders.table.index}-000001")
    assert orders.stale() == {"all": None}
    assert orders.sync().rows == 100
    assert orders.is_in_step()


def test_an_index_deleted_in_mid_load_is_not_made_anew_without_a_mapping(orders: Orders) -> None:
    orders.insert(range(1, 4))
    orders.sync()
    generation = generation_of(orders)
    orders.es.indices.delete(index=generation.name)
    line = b'{"index":{"_id":"1","version":1,"version_type":"external_gte"}}\n{"id":1}\n'
    with orders.engine() as engine:
        future = engine._loader.submit(generation, Batch(line, 1, ["1"], True))
        with pytest.raises(IndexRefused, match="deleted or closed while it was loaded"):
            future.result()
    assert not orders.es.indices.exists(index=f"{generation.name}*", allow_no_indices=False)


def test_a_refused_row_is_named_and_nothing_behind_it_counts_as_loaded(orders: Orders) -> None:
    orders.table = orders.table.model_copy(
        update={"fields": {"note": {"type": "integer"}}, "max_dead_letters": 0}
    )
    orders.insert(range(1, 4), note="12")
    orders.insert(range(4, 5), note="twelve")
    with pytest.raises(RowsRefused, match=r"1 row was refused for good: 4: .*note.*`exclude`"):
        orders.sync()
    assert orders.stale() == {"all": None}
    orders.pg.execute("UPDATE orders SET note = '13' WHERE id = 4")
    orders.sync()
    assert orders.is_in_step()


def test_a_full_disk_is_waited_for(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elasticsearch answers 429 for each document of an index that it has made read-only."""
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    block = "index.blocks.read_only_allow_delete"
    orders.es.indices.put_settings(index=name, settings={block: True})
    waits = load._waits

    def freed(deadline: float) -> Iterator[float]:
        for wait in waits(deadline):
            orders.es.indices.put_settings(index=name, settings={block: None})
            yield wait

    monkeypatch.setattr(load, "_waits", freed)
    orders.insert(range(11, 21), age="0 s")
    assert orders.sync().retries == 1
    assert orders.is_in_step()


def test_what_does_not_recover_in_time_fails_cleanly(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    block = "index.blocks.read_only_allow_delete"
    orders.es.indices.put_settings(index=name, settings={block: True})
    monkeypatch.setattr(load, "RETRY_SECONDS", 0.0)
    orders.insert(range(11, 21), age="0 s")
    with pytest.raises(ServerAway, match="did not take 10 documents"):
        orders.sync()
    orders.es.indices.put_settings(index=name, settings={block: None})
    assert orders.stale() == {"all": 10}
    orders.sync()
    assert orders.is_in_step()


def test_servers_that_are_away_are_named(orders: Orders, free_port: Callable[[], int]) -> None:
    with orders.engine() as engine:
        engine._elasticsearch = ElasticsearchSettings(host="127.0.0.1", port=free_port())
        with pytest.raises(ServerAway, match=r"Elasticsearch cannot be reached.*ES_HOST"):
            engine.sync(engine.source(orders.table), "all")
    with orders.engine() as engine:
        engine._postgres = PostgresSettings(
            host="127.0.0.1", port=free_port(), database="x", user="x"
        )
        with pytest.raises(ServerAway, match=r"PostgreSQL at 127\.0\.0\.1:.*PG_HOST"):
            engine.source(orders.table)


def test_batches_keep_to_their_bounds(orders: Orders) -> None:
    orders.insert(range(1, 1001))
    report = orders.sync(min_batch_size=10, max_batch_size=50)
    assert report.batches == 1000 // 50
    assert orders.is_in_step()


def test_the_first_chunk_is_small_so_that_there_is_something_to_send_soon(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    by_block = partition_load.by_block

    def noted(*arguments: Any, limit: int, **given: Any) -> Any:
        limits.append(limit)
        return by_block(*arguments, limit=limit, **given)

    monkeypatch.setattr(partition_load, "by_block", noted)
    monkeypatch.setattr(partition_load, "FIRST_CHUNK_ROWS", 100)
    monkeypatch.setattr(partition_load, "CHUNK_ROWS", 500)
    orders.insert(range(1, 1001))
    assert orders.sync().rows == 1000
    assert limits[:3] == [100, 500, 500]
    assert orders.is_in_step()


def test_the_checkpoint_waits_for_a_batch_that_takes_long_and_memory_does_not(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of ten batches is held until the others are through."""
    others_are_through = threading.Event()
    original, submit = load.Loader._try, load.Loader.submit
    batches: list[Batch] = []
    passed: list[object] = []
    held: list[int] = []

    def noted(self: load.Loader, generation: Generation, batch: Batch) -> object:
        batches.append(batch)
        return submit(self, generation, batch)

    def hold_the_first(self: load.Loader, *arguments: Any) -> object:
        if b'"_id":"1"' in arguments[1].body:
            assert others_are_through.wait(60)
        return original(self, *arguments)

    def note(report: Report) -> None:
        if report.rows == 900 and not others_are_through.is_set():
            stored = Checkpoints(orders.es).read(generation_of(orders), ["all"])
            passed.extend(one.full_pass and one.full_pass.after for one in stored.values())
            held.extend(len(one.body) for one in batches)
            others_are_through.set()

    monkeypatch.setattr(load.Loader, "submit", noted)
    monkeypatch.setattr(load.Loader, "_try", hold_the_first)
    monkeypatch.setattr(partition_load, "CHECKPOINT_SECONDS", 0.0)
    orders.insert(range(1, 1001))
    with orders.engine(pool_size=2, max_batch_size=100) as engine:
        report = engine.sync(engine.source(orders.table), "all", on_progress=note)
        engine.refresh()
    assert not any(passed)
    assert [size > 0 for size in held] == [True, *[False] * 9]
    assert report.rows == 1000
    assert orders.is_in_step()


def test_no_more_requests_are_under_way_than_the_pool_has_connections(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = 0, 0
    lock = threading.Lock()
    original = load.Loader._try

    def counted(self: load.Loader, *arguments: object) -> object:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        try:
            return original(self, *arguments)  # type: ignore[arg-type]
        finally:
            with lock:
                under_way -= 1

    monkeypatch.setattr(load.Loader, "_try", counted)
    orders.insert(range(1, 3001))
    orders.sync(pool_size=2, max_batch_size=100)
    assert most == 2
    assert notes(orders.documents()) == notes(orders.rows())
