"""No row and no state of a server stops a load for longer than it has to."""

import gzip
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pg_es_pipeline.errors import IndexRefused, ServerAway, SettingsError
from pg_es_pipeline.sync import load, postgres
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.extract import Batch
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.report import Report
from tests.integration.orders import Orders
from tests.integration.sync.proxy import Answer, Choose, proxy


@contextmanager
def behind_proxy(orders: Orders, choose: Choose) -> Iterator[None]:
    """While it lasts, the engine speaks to Elasticsearch through a proxy."""
    variables = orders.database.environment
    port = variables["ES_PORT"]
    with proxy(int(port), choose) as own:
        variables["ES_PORT"] = str(own)
        try:
            yield
        finally:
            variables["ES_PORT"] = port


def bulk_only(answer: Callable[[bytes], Answer | None]) -> Choose:
    """Chooses answers of the loader's requests; all others are forwarded."""
    return lambda path, body: answer(body) if ".WRITE/_bulk" in path else None


def letters(orders: Orders) -> dict[str, str]:
    """The reasons of the index's dead letters, by key."""
    found = orders.es.search(
        index="pg-es-dead-letters",
        ignore_unavailable=True,
        query={"term": {"index": orders.table.index}},
        size=1000,
    )
    return {hit["_source"]["key"]: hit["_source"]["reason"] for hit in found["hits"]["hits"]}


def generation_of(orders: Orders) -> Generation:
    with orders.engine() as engine:
        found = Indices(orders.es).find(Document(engine.source(orders.table)))
    assert found is not None
    return found


def line(key: str, document: bytes) -> bytes:
    head = {"index": {"_id": key, "version": 1, "version_type": "external_gte"}}
    return json.dumps(head, separators=(",", ":")).encode() + b"\n" + document + b"\n"


def send(orders: Orders, lines: list[bytes]) -> load.Outcome:
    with orders.engine() as engine:
        batch = Batch(b"".join(lines), len(lines), [], settled=True)
        return engine._loader.submit(generation_of(orders), batch).result()


def enlarge(orders: Orders, size: int) -> None:
    """Makes row 7 large, as if it had always been."""
    orders.pg.execute("ALTER TABLE orders DISABLE TRIGGER touch")
    orders.pg.execute("UPDATE orders SET note = repeat('x', %s) WHERE id = 7", [size])


# Too large


def test_a_request_that_is_too_large_for_a_proxy_is_cut_in_two(orders: Orders) -> None:
    orders.insert(range(1, 2001))
    refused = []

    def limited(body: bytes) -> Answer | None:
        if len(body) <= 100_000:
            return None
        refused.append(len(body))
        return 413, b"<html>Request Entity Too Large</html>"

    with behind_proxy(orders, bulk_only(limited)):
        report = orders.sync(max_batch_size=1000, pool_size=1)
    assert report.dead_letters == 0
    assert orders.is_in_step()
    assert len(refused) == 1 + 2, "the second batch is small from the start"


def test_a_row_that_is_too_large_for_a_proxy_becomes_a_dead_letter(orders: Orders) -> None:
    orders.insert(range(1, 101))
    enlarge(orders, 200000)
    too_large = bulk_only(lambda body: (413, b"") if len(body) > 100_000 else None)
    with behind_proxy(orders, too_large):
        report = orders.sync()
    assert (report.rows, report.dead_letters) == (99, 1)
    [(key, reason)] = letters(orders).items()
    assert key == "7"
    assert "413" in reason
    assert len(orders.documents()) == 99


def test_a_row_that_is_larger_than_elasticsearch_takes_is_not_sent(orders: Orders) -> None:
    orders.insert(range(1, 11))
    enlarge(orders, 120000000)
    largest = []

    def watched(body: bytes) -> None:
        largest.append(len(body))

    with behind_proxy(orders, bulk_only(watched)):
        report = orders.sync()
    assert (report.rows, report.dead_letters) == (9, 1)
    assert "http.max_content_length" in letters(orders)["7"]
    assert max(largest) < 120_000_000


def test_where_the_limit_may_not_be_asked_the_usual_one_is_taken(orders: Orders) -> None:
    def forbidden(path: str, body: bytes) -> Answer | None:
        return (403, b'{"error":{"type":"security_exception"}}') if "/_nodes" in path else None

    with behind_proxy(orders, forbidden), orders.engine() as engine:
        assert engine._loader._limit == load.USUAL_REQUEST_LIMIT
    with orders.engine() as engine:
        assert 10_000_000 < engine._loader._limit <= load.USUAL_REQUEST_LIMIT


def test_a_huge_row_that_the_server_never_has_room_for_becomes_a_dead_letter(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "RETRY_SECONDS", 0.5)
    orders.insert(range(1, 11))
    enlarge(orders, 6000000)
    breaker = (
        b'{"error":{"type":"circuit_breaking_exception","reason":"Data too large"},"status":429}'
    )
    with behind_proxy(
        orders, bulk_only(lambda body: (429, breaker) if len(body) > 6_000_000 else None)
    ):
        report = orders.sync()
    assert report.rows == 9
    assert "Data too large" in letters(orders)["7"]


# A line that spoils the request


@pytest.mark.parametrize(
    "bad",
    [
        line("bad", b'{"note":"a raw\nnewline"}'),
        line("bad", b"{}").replace(b"bad", b"\xff"),
        line("b" * 513, b"{}"),
    ],
    ids=["newline", "no UTF-8", "long id"],
)
def test_a_line_that_spoils_the_whole_request_is_found(orders: Orders, bad: bytes) -> None:
    orders.sync()
    good = [line(str(number), b'{"id":%d}' % number) for number in range(100)]
    outcome = send(orders, [*good[:63], bad, *good[63:]])
    assert len(outcome.refused) == 1
    assert not outcome.refused[0].id.isdigit()
    assert len(orders.documents()) == 100


# What may pass


PASSING: dict[str, Answer] = {
    "429": (429, b'{"error":{"type":"es_rejected_execution_exception","reason":"full"}}'),
    "503 of a proxy": (503, b"<html>Service Unavailable</html>"),
    "cluster block": (
        403,
        b'{"error":{"type":"cluster_block_exception","reason":"blocked by: [FORBIDDEN/12/...]"}}',
    ),
    "cut": "cut",
    "cut after it was written": "late cut",
    "half an answer": "half",
    "no JSON": (200, b"<html>Welcome</html>"),
    "too few items": (200, b'{"errors":true,"items":[]}'),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_sent_again(
    orders: Orders, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_waits", lambda deadline: iter([0.01] * 20))
    orders.insert(range(1, 101))
    faults = [PASSING[fault]] * 3
    with behind_proxy(orders, bulk_only(lambda body: faults.pop() if faults else None)):
        report = orders.sync(pool_size=1)
    assert report.retries == 3
    assert report.dead_letters == 0
    assert orders.is_in_step()


def test_only_the_refused_items_of_a_request_are_sent_again(orders: Orders) -> None:
    orders.insert(range(1, 11))
    sent = []

    def one_is_full(body: bytes) -> Answer | None:
        sent.append(body.count(b"\n") // 2)
        if len(sent) > 1:
            return None
        full = {"type": "es_rejected_execution_exception", "reason": "full"}
        items = [{"index": {"status": 201}} for _ in range(9)]
        items.insert(4, {"index": {"status": 429, "error": full}})
        return 200, json.dumps({"errors": True, "items": items}).encode()

    with behind_proxy(orders, bulk_only(one_is_full)):
        orders.sync(pool_size=1)
    assert sent == [10, 1]
    assert list(orders.documents()) == ["5"]


def test_requests_are_compressed_where_that_is_wanted(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.table = orders.table.model_copy(update={"fields": {"note": {"type": "integer"}}})
    orders.insert(range(1, 2001), note="12")
    orders.pg.execute("UPDATE orders SET note = 'no number' WHERE id = 7")
    sent: list[bytes] = []
    monkeypatch.setitem(orders.database.environment, "ES_COMPRESS", "true")
    with behind_proxy(orders, bulk_only(sent.append)):
        report = orders.sync()
    assert (report.rows, report.dead_letters) == (1999, 1)
    assert list(letters(orders)) == ["7"]
    unpacked = b"".join(map(gzip.decompress, sent))
    assert all(f'{{"_id":"{key}",'.encode() in unpacked for key in range(1, 2001))
    assert len(unpacked) > 5 * sum(map(len, sent))


def test_waits_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (
        [wait for wait, _ in zip(load._waits(float("inf")), range(20), strict=False)]
        for _ in range(2)
    )
    assert first != second
    assert first[0] <= 0.5
    assert 15 <= first[-1] <= 30


@pytest.mark.parametrize("block", ["write", "read_only_allow_delete"])
def test_a_blocked_index_that_stays_blocked_fails_cleanly(
    orders: Orders, block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    monkeypatch.setattr(load, "RETRY_SECONDS", 0.0)
    setting = f"index.blocks.{block}"
    name = f"{orders.table.index}-000001"
    orders.insert(range(11, 21), age="0 s")
    orders.es.indices.put_settings(index=name, settings={setting: True})
    with pytest.raises(
        ServerAway, match=r"did not take 10 .*(Free disk space|Take the block away)"
    ):
        orders.sync()
    orders.es.indices.put_settings(index=name, settings={setting: None})
    assert letters(orders) == {}
    orders.sync()
    assert orders.is_in_step()


# What cannot pass, and is not about a row


def test_missing_privileges_are_no_faults_of_the_rows(orders: Orders) -> None:
    orders.insert(range(1, 11))
    reason = {"type": "security_exception", "reason": "action [indices:data/write/bulk] is denied"}
    denied = json.dumps(
        {"errors": True, "items": [{"index": {"status": 403, "error": reason}}] * 10}
    ).encode()
    with (
        behind_proxy(orders, bulk_only(lambda body: (200, denied))),
        pytest.raises(SettingsError, match=r"is denied.*privileges"),
    ):
        orders.sync()
    assert letters(orders) == {}
    assert orders.stale() == {"all": None}


def test_a_closed_index_is_named(orders: Orders) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    orders.es.indices.close(index=f"{orders.table.index}-000001")
    orders.insert(range(11, 21), age="0 s")
    with pytest.raises(IndexRefused, match=r"closed.*_open"):
        orders.sync()
    orders.es.indices.open(index=f"{orders.table.index}-000001")
    orders.es.cluster.health(index=orders.table.index, wait_for_status="yellow")
    orders.sync()
    assert orders.is_in_step()


def test_a_write_alias_that_was_removed_comes_back(orders: Orders) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    orders.es.indices.delete_alias(index=name, name=f"{name}.WRITE")
    orders.insert(range(11, 21), age="0 s")
    orders.sync()
    assert orders.is_in_step()
    [aliases] = orders.es.indices.get_alias(index=name).values()
    assert aliases["aliases"][f"{name}.WRITE"]["is_hidden"]


def test_a_write_alias_that_goes_in_mid_load_is_named_and_comes_back(orders: Orders) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    orders.es.indices.delete_alias(index=name, name=f"{name}.WRITE")
    with pytest.raises(IndexRefused, match=rf"alias {name}\.WRITE was changed.*Run again"):
        send(orders, [line("1", b"{}")])
    orders.sync()
    assert orders.is_in_step()


def test_deletes_alone_do_not_make_an_index_that_was_deleted(orders: Orders) -> None:
    """Elasticsearch makes one for them, whatever `require_alias` says, where the name allows it."""
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    head = {"_id": "1", "version": 4_000_000_000_000_000, "version_type": "external_gte"}
    line = json.dumps({"delete": head}).encode() + b"\n"
    generation = generation_of(orders)
    orders.es.indices.delete(index=name)
    with orders.engine() as engine, pytest.raises(IndexRefused, match="was deleted"):
        engine._loader.submit(generation, Batch(line, 1, [], settled=True)).result()
    assert not orders.es.indices.get(index=f"{orders.table.index}*", expand_wildcards="all")
    orders.sync(full=True)
    assert orders.is_in_step()


def test_an_alias_that_was_removed_is_asked_for(orders: Orders) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    orders.es.indices.delete_alias(index=name, name=orders.table.index)
    with pytest.raises(IndexRefused, match=rf"index {name} without the alias.*Add the alias"):
        orders.sync()


def test_an_index_that_somebody_made_anew_keeps_its_mapping_until_a_reindex(
    orders: Orders,
) -> None:
    orders.insert(range(1, 11))
    orders.sync()
    name = f"{orders.table.index}-000001"
    [made] = orders.es.indices.get_mapping(index=name).values()
    mappings = made["mappings"]
    mappings["properties"]["note"] = {"type": "integer"}
    orders.es.indices.delete(index=name)
    orders.es.indices.create(index=name, mappings=mappings, aliases={orders.table.index: {}})
    report = orders.sync()
    assert [str(one) for one in report.differences] == ["note: type is integer, not text"]
    assert report.dead_letters == 10, "no note is a number"


def test_a_server_that_is_away_in_mid_load_is_waited_for(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_waits", lambda deadline: iter([0.01] * 100))
    orders.insert(range(1, 1001))
    sent = 0

    def away(body: bytes) -> Answer | None:
        nonlocal sent
        sent += 1
        return "cut" if 3 < sent < 30 else None

    with behind_proxy(orders, bulk_only(away)):
        orders.sync(pool_size=2, max_batch_size=100)
    assert orders.is_in_step()


def test_a_request_that_takes_long_keeps_no_connection_idle(orders: Orders) -> None:
    orders.insert(range(1, 61))
    arrivals, others_are_through = itertools.count(1), threading.Event()
    waited_in_vain = False

    def hold_the_first(_body: bytes) -> None:
        nonlocal waited_in_vain
        number = next(arrivals)
        if number == 1:
            waited_in_vain = not others_are_through.wait(60)
        elif number == 6:
            others_are_through.set()

    with behind_proxy(orders, bulk_only(hold_the_first)):
        orders.sync(min_batch_size=10, max_batch_size=10, pool_size=3)
    assert not waited_in_vain
    assert orders.is_in_step()


# PostgreSQL


def test_settings_that_are_meant_for_people_do_not_end_a_load(orders: Orders) -> None:
    name = orders.database.dbname
    for setting in (
        "statement_timeout = '1s'",
        "lock_timeout = '1s'",
        "idle_in_transaction_session_timeout = '1s'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "transaction_timeout = '1s'",
    ):
        orders.pg.execute(f"ALTER DATABASE {name} SET {setting}")
    orders.insert(range(1, 101))
    with orders.engine() as engine:
        engine.sync(engine.source(orders.table), "all")
        shown = {
            setting: engine.connection.execute(f"SHOW {setting}").fetchone()
            for setting in postgres._BOUNDS
        }
    assert orders.is_in_step()
    assert shown["statement_timeout"] == ("6h",)
    assert shown["lock_timeout"] == ("1min",)
    assert shown["idle_in_transaction_session_timeout"] == ("10min",)
    assert shown["transaction_timeout"] == ("0",)
    assert shown["default_transaction_isolation"] == ("read committed",)


def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(
    orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres._BOUNDS, "lock_timeout", "100ms")
    orders.insert(range(1, 11))
    orders.pg.execute("SELECT pg_advisory_lock(7026427253)")
    with orders.engine() as engine:
        source = engine.source(orders.table)
        with pytest.raises(ServerAway, match="lock timeout"):
            engine.sync(source, "all")
        orders.pg.execute("SELECT pg_advisory_unlock(7026427253)")
        engine.sync(source, "all")
    assert orders.is_in_step()


def test_a_session_that_is_ended_in_mid_chunk_fails_cleanly_and_is_opened_again(
    orders: Orders,
) -> None:
    orders.insert(range(1, 10_001), note="x" * 3000)
    with orders.engine(max_batch_size=500) as engine:
        source = engine.source(orders.table)
        ended = []

        def end_session(report: Report) -> None:
            if not ended:
                ended.append(report.rows)
                orders.pg.execute(
                    "SELECT pg_terminate_backend(%s, 10000)", [engine.connection.info.backend_pid]
                )

        with pytest.raises(ServerAway, match="PostgreSQL failed"):
            engine.sync(source, "all", on_progress=end_session)
        report = engine.sync(source, "all")
        engine.refresh()
    assert 0 < report.rows < 10_000
    assert orders.is_in_step()
