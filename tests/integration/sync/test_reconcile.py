"""Differences between a table and its index are found and repaired, whoever made them."""

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import DeletesRefused, ServerAway, SourceError
from pg_es_pipeline.sync import compare
from pg_es_pipeline.sync.checkpoints import Checkpoints
from pg_es_pipeline.sync.compare import Level
from pg_es_pipeline.sync.reconcile import Reconciliation, Repair, deletes_allowed
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders

KEYS = {
    "whole number": ("id bigint", "n"),
    "negative and sparse": ("id bigint", "n::bigint * n * n * 7919 - 4000000000"),
    "beyond a double": ("id bigint", "9007199254740993 + n"),
    "the whole range": (
        "id bigint",
        "CASE n WHEN 1 THEN -9223372036854775808 WHEN 2 THEN 9223372036854775807 ELSE n END",
    ),
    "text": ("id text", "'k' || n || E'\\n\\\"ü'"),
    "uuid": ("id uuid", "md5(n::text)::uuid"),
    "numeric": ("id numeric", "n / 7.0"),
    "time": ("id timestamptz", "'2024-01-01'::timestamptz + n * interval '1 us'"),
    "long text": ("id text", "repeat('x', 600) || n"),
}


class Things(Orders):
    """public.things, of which the test says what its key is."""

    def reconcile(self, **arguments: Any) -> Reconciliation:
        with self.engine() as engine:
            return engine.reconcile(engine.source(self.table), **arguments)

    def difference(self) -> set[str]:
        """Documents that are not what the table says, by both sides' whole content."""
        self.es.indices.refresh(index=self.table.index)
        found = {}
        for hit in self.es.search(index=self.table.index, size=10_000)["hits"]["hits"]:
            hit["_source"].pop("_pg_es", None)
            found[hit["_id"]] = hit["_source"]["note"]
        key = "id::text"
        if any("sha256:" in id for id in found):
            key = "'sha256:' || encode(sha256(id::text::bytea), 'hex')"
        rows = dict(self.pg.execute(f"SELECT {key}, note FROM things WHERE NOT gone").fetchall())
        return {id for id in found.keys() | rows.keys() if found.get(id) != rows.get(id)}

    def damage(self, count: int) -> list[str]:
        """Deletes, adds and alters documents behind the pipeline's back; so many of each."""
        hits = self.es.search(index=self.table.index, size=10_000)["hits"]["hits"]
        chosen = random.sample(hits, 2 * count)
        generation = hits[0]["_index"]
        for hit in chosen[:count]:
            self.es.delete(index=generation, id=hit["_id"])
        for hit in chosen[count:]:
            # Its key and bucket are left as they are.
            changed = {**hit["_source"], "note": "damaged"}
            if "_pg_es" in changed:
                changed["_pg_es"] = {**changed["_pg_es"], "hash": 1}
            self.es.index(index=generation, id=hit["_id"], document=changed)
        for number in range(count):
            stray = {**chosen[count + number]["_source"], "note": "stray"}
            self.es.index(index=generation, id=f"-{number}", document=stray)
        return [hit["_id"] for hit in chosen]


@pytest.fixture
def things(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Things]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        table = Table(
            table="public.things",
            index=f"{prefix}things",
            cursor={"column": "updated_at", "soft_delete": "gone"},
            max_deletes="100%",
        )
        yield Things(database, es, table, pg)


def fill(things: Things, key: str, value: str, rows: int = 800) -> None:
    things.pg.execute(
        f"CREATE TABLE things ({key} PRIMARY KEY, note text, gone bool DEFAULT false, "
        "updated_at timestamptz DEFAULT now() - interval '1 hour')"
    )
    things.pg.execute(
        f"INSERT INTO things SELECT {value}, 'note ' || n FROM generate_series(1, %s) n", [rows]
    )
    things.sync()


def empty(things: Things, rows: int = 800) -> None:
    """Deletes the documents, as somebody else might."""
    [generation] = things.es.indices.get_alias(index=things.table.index)
    gone = [{"delete": {"_index": generation, "_id": str(n)}} for n in range(1, rows + 1)]
    things.es.bulk(operations=gone)


@pytest.mark.parametrize(("key", "value"), KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("content", [False, True], ids=["keys", "content"])
def test_what_others_have_done_to_the_index_is_found_and_repaired(
    things: Things, key: str, value: str, content: bool
) -> None:
    things.table = things.table.model_copy(update={"content_hash": content})
    fill(things, key, value)
    assert things.reconcile().differences == 0
    things.damage(7)

    found = things.reconcile(repair=False)

    changed = 7 if content else 0
    assert (found.missing, found.extra, found.changed) == (7, 7, changed)
    assert (found.rows, found.documents) == (800, 800)
    assert things.reconcile().differences == 14 + changed
    assert things.reconcile(level=Level.KEYS).differences == 0
    assert len(things.difference()) == 7 - changed


@pytest.mark.parametrize("at_once", [40, 500])
def test_all_is_repaired_however_little_is_looked_at_at_once(
    things: Things, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "KEYS_AT_ONCE", at_once)
    monkeypatch.setattr(compare, "BUCKETS_AT_ONCE", 3)
    # Half of the keys lie close together, far away from the others.
    fill(things, "id bigint", "CASE WHEN n <= 400 THEN n ELSE 1000000000 + n * 1000 END")
    hits = things.es.search(index=things.table.index, size=10_000, source=False)["hits"]["hits"]
    generation = hits[0]["_index"]
    gone = random.sample(hits, 600)
    things.es.bulk(
        operations=[{"delete": {"_index": generation, "_id": hit["_id"]}} for hit in gone]
    )

    assert things.reconcile().missing == 600
    assert things.difference() == set()


def test_many_differences_are_made_sure_of_while_others_are_still_read(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "KEYS_AT_ONCE", 40)
    fill(things, "id bigint", "n")
    empty(things)
    assert things.reconcile(repair=False).missing == 800


def test_a_repair_that_fails_ends_the_comparison_that_is_still_being_read(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "KEYS_AT_ONCE", 40)
    fill(things, "id bigint", "n")
    empty(things)

    def fail(*_: Any) -> None:
        raise ServerAway("gone")

    monkeypatch.setattr(Repair, "write", fail)
    with pytest.raises(ServerAway, match="gone"):
        things.reconcile()


def test_whole_documents_are_compared_when_asked_for(things: Things) -> None:
    fill(things, "id bigint", "n")
    things.damage(3)

    found = things.reconcile(level=Level.FULL)

    assert (found.missing, found.extra, found.changed) == (3, 3, 3)
    assert things.difference() == set()


def test_deleted_rows_and_changed_keys_leave_the_index(things: Things) -> None:
    fill(things, "id bigint", "n")
    things.pg.execute("DELETE FROM things WHERE id <= 20")
    things.pg.execute("UPDATE things SET id = id + 1000000 WHERE id BETWEEN 21 AND 25")
    things.pg.execute("UPDATE things SET gone = true WHERE id BETWEEN 26 AND 30")

    found = things.reconcile()

    assert (found.extra, found.missing, found.deleted, found.written) == (30, 5, 30, 5)
    assert things.difference() == set()


def test_more_deletes_than_allowed_are_refused(things: Things) -> None:
    things.table = things.table.model_copy(update={"max_deletes": 0.1})
    fill(things, "id bigint", "n", rows=1000)
    things.pg.execute("DELETE FROM things WHERE id <= 101")

    with pytest.raises(DeletesRefused, match="more than 100 documents have no row in public"):
        things.reconcile()
    assert len(things.difference()) > 0

    assert things.reconcile(max_deletes=0.2).differences > 0
    assert things.difference() == set()


def test_the_last_few_may_always_go(things: Things) -> None:
    things.table = things.table.model_copy(update={"max_deletes": 0.0})
    fill(things, "id bigint", "n", rows=10)
    things.pg.execute("DELETE FROM things")
    assert things.reconcile().deleted == 10


def test_nothing_is_deleted_when_the_table_cannot_be_read(things: Things) -> None:
    fill(things, "id bigint", "n", rows=100)
    with things.engine() as engine:
        source = engine.source(things.table)
        things.pg.execute("ALTER TABLE things RENAME TO elsewhere")
        with pytest.raises(SourceError):
            engine.reconcile(source)
    assert things.es.count(index=things.table.index)["count"] == 100


def test_a_repair_does_not_overwrite_what_a_load_wrote_meanwhile(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row changes, and is loaded, between the reading and the writing of the repair."""
    fill(things, "id bigint", "n", rows=100)
    things.pg.execute("CREATE INDEX ON things (updated_at)")
    things.pg.execute("DELETE FROM things WHERE id = 5")
    with things.engine() as engine:
        send = engine._loader.submit

        def submit(generation: Any, batch: Any) -> Any:
            things.pg.execute("INSERT INTO things VALUES (5, 'back', false, now())")
            things.sync()
            return send(generation, batch)

        monkeypatch.setattr(engine._loader, "submit", submit)
        found = engine.reconcile(engine.source(things.table))
    assert (found.deleted, found.superseded) == (1, 1)
    assert things.difference() == set()


def test_a_document_without_a_bucket_is_a_stray(things: Things) -> None:
    fill(things, "id text", "n", rows=100)
    [hit] = things.es.search(index=things.table.index, size=1)["hits"]["hits"]
    things.es.index(index=hit["_index"], id="stray", document={"note": "stray"})

    assert things.reconcile().extra == 1
    assert things.difference() == set()


def test_content_is_compared_only_where_it_is_kept(things: Things) -> None:
    fill(things, "id bigint", "n", rows=10)
    with pytest.raises(SourceError, match="content_hash: true"):
        things.reconcile(level=Level.CONTENT)


def test_numbers_too_large_to_be_summed_up_are_compared_one_by_one(things: Things) -> None:
    """A double does not see the difference of one between them."""
    fill(things, "id bigint", "1152921504606846976 + 2 * n", rows=300)
    [hit] = things.es.search(index=things.table.index, size=1)["hits"]["hits"]
    things.es.delete(index=hit["_index"], id=hit["_id"])
    other = hit["_source"]["id"] + 1
    things.es.index(index=hit["_index"], id=str(other), document={**hit["_source"], "id": other})

    found = things.reconcile()

    assert (found.missing, found.extra) == (1, 1)
    assert things.difference() == set()


def test_a_reconcile_leaves_its_versions_to_those_who_come_later(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock is set back after a repair: what is loaded then is newer all the same."""
    fill(things, "id bigint", "n", rows=10)
    things.es.delete(index=f"{things.table.index}-000001", id="3")
    ahead = 4_000_000_000_000_000
    monkeypatch.setattr(Checkpoints, "highest_version", lambda *_: ahead)
    assert things.reconcile().written == 1
    monkeypatch.undo()

    things.pg.execute("UPDATE things SET note = 'later', updated_at = now() WHERE id = 3")
    things.sync()

    assert things.difference() == set()


def test_documents_that_were_just_written_count_for_what_may_be_deleted(things: Things) -> None:
    things.table = things.table.model_copy(update={"max_deletes": 0.5})
    fill(things, "id bigint", "n", rows=0)
    things.es.indices.put_settings(
        index=things.table.index, settings={"index.refresh_interval": "-1"}
    )
    things.pg.execute(
        "INSERT INTO things SELECT n, 'new', false, now() FROM generate_series(1, 100) n"
    )
    with things.engine() as engine:
        engine.sync(engine.source(things.table), "all")
    things.pg.execute("DELETE FROM things WHERE id <= 20")

    assert things.reconcile().deleted == 20


def test_all_may_go_where_that_is_allowed_also_what_is_written_meanwhile() -> None:
    assert deletes_allowed(1.0, 5) > 1_000_000_000
    assert deletes_allowed(0.5, 100) == 50
