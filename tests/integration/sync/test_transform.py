"""A function makes other documents of the rows, and all promises hold."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import RowsRefused, SourceError
from pg_es_pipeline.sync import compare, ndjson, rows, transform
from pg_es_pipeline.sync.compare import Level
from pg_es_pipeline.sync.documents import KEY, Document
from pg_es_pipeline.sync.reconcile import Reconciliation
from pg_es_pipeline.sync.retry import Retry
from pg_es_pipeline.tables import Table
from search_service.indices import served
from tests.integration.orders import Orders

HERE = "tests.integration.sync.transforms"

SCHEMA = """
CREATE TABLE things (
    id bigint PRIMARY KEY, note text, person text, price numeric, amount int, hidden bool,
    placed timestamptz, gone bool DEFAULT false,
    updated_at timestamptz DEFAULT now() - interval '1 hour'
);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON things FOR EACH ROW EXECUTE FUNCTION touch();
"""


@dataclass
class Things(Orders):
    """public.things, and the index that a function fills."""

    def use(self, function: str | None, **entry: Any) -> None:
        name = f"{HERE}:{function}" if function and ":" not in function else function
        given = {**self.table.model_dump(exclude_unset=True), "transform": name, **entry}
        self.table = Table(**given)

    def put(self, id: int, note: str = "new", **values: Any) -> None:
        values = {"id": id, "note": note, "price": Decimal("1.50"), "amount": 2, **values}
        names, places = ", ".join(values), ", ".join(["%s"] * len(values))
        self.pg.execute(f"INSERT INTO things ({names}) VALUES ({places})", list(values.values()))

    def change(self, id: int, **values: Any) -> None:
        sets = ", ".join(f"{name} = %s" for name in values)
        self.pg.execute(f"UPDATE things SET {sets} WHERE id = %s", [*values.values(), id])

    def documents(self) -> dict[str, dict[str, Any]]:
        self.es.indices.refresh(index=self.table.index)
        hits = self.es.search(index=self.table.index, size=10_000)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    def mapping(self) -> dict[str, Any]:
        [answer] = self.es.indices.get_mapping(index=self.table.index).values()
        return dict(answer["mappings"]["properties"])

    def letters(self) -> dict[str, str]:
        found = self.es.options(ignore_status=404).search(
            index="pg-es-dead-letters", query={"term": {"index": self.table.index}}
        )
        hits = found.get("hits", {"hits": []})["hits"]
        return {hit["_source"]["key"]: hit["_source"]["reason"] for hit in hits}

    def reconcile(self, **arguments: Any) -> Reconciliation:
        with self.engine() as engine:
            return engine.reconcile(engine.source(self.table), **arguments)

    def retry(self) -> Retry:
        with self.engine() as engine:
            return engine.retry(engine.source(self.table))

    def why_refused(self) -> str:
        with self.engine() as engine, pytest.raises(SourceError) as refused:
            engine.source(self.table)
        return str(refused.value)


@pytest.fixture
def things(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Things]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        pg.execute(SCHEMA)
        cursor = {"column": "updated_at", "soft_delete": "gone"}
        table = Table(table="public.things", index=f"{prefix}things", cursor=cursor)
        made = Things(database, es, table, pg)
        made.use("clean")
        yield made


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file whose functions are those of the module `changing`."""
    monkeypatch.syspath_prepend(tmp_path)
    begin_anew()
    yield tmp_path / "changing.py"
    begin_anew()


def begin_anew() -> None:
    """As in a new process: modules are imported when they are needed."""
    sys.modules.pop("changing", None)
    transform._function.cache_clear()
    transform._prepared.cache_clear()


# What it makes


def test_columns_are_renamed_split_and_derived(things: Things) -> None:
    things.put(1, "Tea", person="Ada Lovelace", price=Decimal("2.50"), amount=3)
    things.put(2, "None", person=None, price=None)
    things.sync()
    documents = things.documents()
    own = [documents[id].pop("_pg_es") for id in ("1", "2")]
    updated = [documents[id].pop("updated_at") for id in ("1", "2")]
    assert documents == {
        "1": {
            "id": 1,
            "title": "Tea",
            "first": "Ada",
            "last": "Lovelace",
            "placed": None,
            "price": 2.5,
            "amount": 3,
            "total": 7.5,
            "gone": False,
        },
        "2": {
            "id": 2,
            "title": "None",
            "first": None,
            "last": None,
            "placed": None,
            "price": None,
            "amount": 2,
            "total": None,
            "gone": False,
        },
    }
    assert [one["key"] for one in own] == ["1", "2"]
    assert all(moment.endswith("+00:00") for moment in updated)


def test_fields_follow_from_columns_and_dtypes(things: Things) -> None:
    things.use("clean", fields={"last": {"type": "keyword"}})
    things.put(1)
    things.sync()
    fields = {name: one.get("type") for name, one in things.mapping().items()}
    assert fields.pop("_pg_es") is None
    assert fields == {
        "id": "long",
        "title": "text",
        "price": "double",
        "amount": "integer",
        "placed": "date",
        "gone": "boolean",
        "updated_at": "date",
        "first": "text",
        "last": "keyword",
        "total": "double",
    }


def test_a_table_without_a_transform_carries_nothing_more(things: Things) -> None:
    things.use(None)
    things.put(1)
    things.sync()
    assert "_pg_es" not in things.documents()["1"]


@pytest.mark.parametrize(
    ("function", "order"),
    [(None, ("id",)), ("clean", ("id", "_pg_es.key")), ("keyless", ("_pg_es.key",))],
)
def test_the_index_can_be_searched_whatever_becomes_of_the_key(
    things: Things, function: str | None, order: tuple[str, ...]
) -> None:
    things.use(function)
    things.put(1)
    things.sync()
    found = served(things.es.indices.get(index="*").body)
    assert found[things.table.index].key == order


# Rows that are left out


def test_a_row_that_is_left_out_later_leaves_the_index_and_may_come_back(things: Things) -> None:
    things.put(1)
    things.put(2, hidden=True)
    things.sync()
    assert set(things.documents()) == {"1"}
    things.change(1, hidden=True)
    things.change(2, hidden=False)
    things.sync()
    assert set(things.documents()) == {"2"}


def test_a_soft_delete_passes_the_function_by(things: Things) -> None:
    things.use("fragile")
    things.put(1)
    things.put(2)
    things.sync()
    things.change(1, gone=True, price=-1)
    report = things.sync()
    assert set(things.documents()) == {"2"}
    assert things.letters() == {}
    assert report.deletes == 1


# Errors


def test_a_row_at_fault_becomes_a_dead_letter_and_the_others_are_loaded(things: Things) -> None:
    things.use("fragile")
    for id in range(1, 301):
        things.put(id, price=-1 if id in (7, 300) else 1)
    report = things.sync()
    assert set(things.documents()) == {str(id) for id in range(1, 301)} - {"7", "300"}
    letters = things.letters()
    assert letters.keys() == {"7", "300"} == report.refused.keys()
    assert letters["7"].startswith(f"the transform {HERE}:fragile failed: ValueError: a price is")
    assert report.rows == 298


def test_a_corrected_row_is_taken_by_another_try(things: Things) -> None:
    things.use("fragile")
    things.put(1, price=-1)
    things.put(2)
    things.sync()
    assert things.retry().remaining[0].attempts == 2
    things.pg.execute("ALTER TABLE things DISABLE TRIGGER touch")
    things.change(1, price=5)
    result = things.retry()
    assert (result.loaded, result.remaining) == (1, [])
    assert set(things.documents()) == {"1", "2"}
    assert things.letters() == {}


def test_another_try_of_a_row_that_is_left_out_now_removes_the_letter(
    things: Things, module: Path
) -> None:
    text = "def pick(frame):\n    assert not (frame['price'] < 0).any()\n    return frame\n"
    module.write_text(text)
    things.use("changing:pick")
    things.put(1, price=-1)
    things.sync()
    module.write_text("def pick(frame):\n    return frame[~(frame['price'] < 0)]\n")
    begin_anew()
    result = things.retry()
    assert (result.deleted, result.remaining) == (1, [])
    assert things.letters() == {}


def test_a_function_that_fails_everywhere_fails_the_load(things: Things) -> None:
    things.use("never", max_dead_letters=5)
    for id in range(20):
        things.put(id)
    with pytest.raises(RowsRefused, match="never failed: LookupError: no"):
        things.sync()
    things.use("identity")
    assert things.sync().rows == 20


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("doubling", "two of its rows are '1', and a row can have one document only"),
        ("renumbered", "its index has 0, which is not in the given one: keep the index"),
        ("sometimes", "it has the column 'more', which an empty frame is not given"),
    ],
)
def test_a_wrong_answer_is_a_dead_letter_with_the_reason(
    things: Things, function: str, reason: str
) -> None:
    things.use(function)
    things.put(1, "twice")
    things.sync()
    assert reason in things.letters()["1"]
    assert things.documents() == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent_package.module:clean", "the module 'absent_package.module' cannot be imported"),
        (f"{HERE}:absent", f"the module '{HERE}' has no 'absent'. Correct the name"),
        (f"{HERE}:NUMBER", "is of type int, and cannot be called"),
        ("nothing", "gave a wrong answer: it is a NoneType, not a DataFrame"),
        ("needing_rows", "failed: IndexError: .* first called with an empty frame"),
        ("untyped", "makes the column 'parts' of dtype object.* Give it a mapping under `fields`"),
        ("reserved", "the column '_id' cannot be the name of a field"),
    ],
)
def test_what_is_wrong_with_the_function_stops_that_one_table(
    things: Things, name: str, message: str
) -> None:
    things.use(name)
    other = things.table.model_copy(update={"transform": None, "index": "other"})
    with things.engine() as engine:
        found = engine.sources([things.table, other])
    assert not isinstance(found["other"], SourceError)
    refused = things.why_refused()
    assert refused.startswith("public.things: transform: ")
    assert re.search(message, refused), refused


def test_a_module_that_fails_is_told_with_its_reason(things: Things, module: Path) -> None:
    module.write_text("def clean(frame:\n")
    things.use("changing:clean")
    assert "'changing' cannot be imported (SyntaxError" in things.why_refused()


def test_fields_may_name_what_the_function_makes_and_nothing_else(things: Things) -> None:
    things.use("untyped", fields={"parts": {"type": "long"}})
    things.put(1)
    things.sync()
    assert things.documents()["1"]["parts"] == [1]
    things.use("untyped", fields={"part": {"type": "long"}})
    assert "fields names 'part', which is neither a column of the table" in things.why_refused()
    things.use(None, fields={"parts": {"type": "long"}})
    assert "fields names the column 'parts'" in things.why_refused()


# A function that changes


def test_a_changed_function_reads_every_row_again(things: Things, module: Path) -> None:
    module.write_text("def clean(frame):\n    return frame.assign(level='low')\n")
    things.use("changing:clean")
    things.put(1)
    things.sync()
    assert things.stale() == {}
    module.write_text("def clean(frame):\n    return frame.assign(level='high')\n")
    begin_anew()
    assert things.stale() == {"all": None}
    things.sync()
    assert things.documents()["1"]["level"] == "high"
    assert things.stale() == {}


def test_a_process_does_not_go_on_with_a_function_whose_file_has_changed(
    things: Things, module: Path
) -> None:
    module.write_text("def clean(frame):\n    return frame.assign(level='low')\n")
    things.use("changing:clean")
    things.put(1)
    things.sync()
    module.write_text("def clean(frame):\n    return frame.assign(level='high')\n")
    assert "the file of changing has changed since this process imported" in things.why_refused()


def test_a_field_of_another_type_asks_for_a_new_generation(things: Things, module: Path) -> None:
    module.write_text("def clean(frame):\n    return frame.assign(level=frame['amount'])\n")
    things.use("changing:clean")
    things.put(1)
    things.sync()
    module.write_text("def clean(frame):\n    return frame.assign(level='high')\n")
    begin_anew()
    things.pg.execute("UPDATE things SET note = 'later'")
    report = things.sync()
    assert [one.field for one in report.differences] == ["level"]
    with things.engine() as engine:
        engine.reindex(engine.source(things.table))
    assert things.documents()["1"]["level"] == "high"
    assert things.mapping()["level"]["type"] == "text"


def test_a_transform_comes_to_an_index_that_is_there(things: Things) -> None:
    things.use(None)
    things.put(1, "Tea")
    things.put(2, hidden=True)
    things.sync()
    things.use("clean")
    things.sync()
    assert served(things.es.indices.get(index="*").body)[things.table.index].key[-1] == KEY
    assert {id: one["title"] for id, one in things.documents().items()} == {"1": "Tea"}
    assert things.reconcile(level=Level.FULL).differences == 0
    things.use(None)
    things.sync()
    assert {id: one["note"] for id, one in things.documents().items()} == {"1": "Tea", "2": "new"}
    assert things.reconcile(level=Level.FULL).differences == 0


# Comparing


@pytest.mark.parametrize("level", [None, Level.KEYS, Level.CONTENT, Level.FULL])
def test_rows_that_are_left_out_are_no_difference(things: Things, level: Level | None) -> None:
    things.use("clean", content_hash=level is not Level.KEYS)
    for id in range(300):
        things.put(id, hidden=id % 3 == 0)
    things.sync()
    found = things.reconcile(level=level, repair=False)
    assert (found.rows, found.documents, found.differences) == (300, 200, 0)
    found = things.reconcile(level=level)
    assert (found.differences, found.written, found.deleted) == (0, 0, 0)


@pytest.mark.parametrize("at_once", [7, 1000])
@pytest.mark.parametrize("level", [Level.KEYS, Level.CONTENT, Level.FULL])
def test_what_differs_is_found_among_rows_that_are_left_out(
    things: Things, level: Level, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "KEYS_AT_ONCE", at_once)
    monkeypatch.setattr(compare, "DOCUMENTS_AT_ONCE", at_once)
    things.use("clean", content_hash=True)
    for id in range(300):
        things.put(id, hidden=id % 3 == 0)
    things.sync()
    right = things.documents()
    [generation] = things.es.indices.get_alias(index=things.table.index)
    things.es.delete(index=generation, id="1")
    things.es.index(index=generation, id="2", document={**right["2"], "title": "wrong"})
    things.es.index(index=generation, id="3", document=right["4"])  # left out
    things.es.index(index=generation, id="x", document=right["4"])
    own = {"bucket": right["5"]["_pg_es"]["bucket"], "hash": 1, "key": "5"}
    things.es.index(index=generation, id="5", document={**right["5"], "_pg_es": own})

    found = things.reconcile(level=level, repair=False)

    changed = {Level.KEYS: 0, Level.CONTENT: 1, Level.FULL: 2}[level]
    # A document of a row that is left out is seen as such by what it ought to be alone.
    assert (found.missing, found.changed) == (1, changed)
    things.reconcile(level=Level.FULL)
    assert things.documents() == right
    assert things.reconcile(level=level, repair=False).differences == 0


def test_a_sample_is_compared_as_the_function_makes_it(things: Things) -> None:
    for id in range(60):
        things.put(id, hidden=id % 3 == 0)
    things.sync()
    assert things.reconcile(sample=100, repair=False).differences == 0
    right = things.documents()["4"]
    [generation] = things.es.indices.get_alias(index=things.table.index)
    things.es.index(index=generation, id="4", document={**right, "title": "wrong"})
    assert things.reconcile(sample=100).sample.changed == ["4"]
    assert things.documents()["4"] == right


def test_a_row_at_fault_goes_on_being_missing_until_it_is_corrected(things: Things) -> None:
    things.use("fragile")
    things.put(1, price=-1)
    things.put(2)
    things.sync()
    assert things.reconcile().sample.missing == ["1"]
    assert things.letters().keys() == {"1"}


# Without a cursor


def test_a_snapshot_writes_what_has_changed_and_nothing_more(things: Things) -> None:
    things.use(
        "clean", capture="snapshot", cursor={"soft_delete": "gone"}, snapshot={"every": "0s"}
    )
    for id in range(100):
        things.put(id, hidden=id % 2 == 0)
    assert things.sync().rows == 100
    assert len(things.documents()) == 50
    assert things.sync().rows == 0
    things.change(1, hidden=True)
    things.change(2, hidden=False)
    things.change(3, note="other")
    things.change(5, gone=True)
    things.pg.execute("DELETE FROM things WHERE id = 7")
    assert things.sync().rows == 5
    documents = things.documents()
    assert documents.keys() == {str(id) for id in range(9, 100, 2)} | {"2", "3"}
    assert documents["3"]["title"] == "other"
    assert things.sync().rows == 0


def test_leaving_many_rows_out_is_no_loss_of_rows(things: Things) -> None:
    things.use(
        "clean",
        capture="snapshot",
        cursor={"soft_delete": "gone"},
        snapshot={"every": "0s"},
        max_deletes="0%",
    )
    for id in range(100):
        things.put(id)
    things.sync()
    things.pg.execute("UPDATE things SET hidden = true WHERE id < 90")
    things.sync()
    assert len(things.documents()) == 10


def test_rows_that_are_left_out_are_counted_beside_those_that_postgresql_cannot_write(
    things: Things,
) -> None:
    things.pg.execute("CREATE VIEW shown AS SELECT *, 1 / (id - 5) AS broken FROM things")
    things.use("clean", table="public.shown", key=["id"])
    for id in (1, 2, 5, 6):
        things.put(id, hidden=id != 1)
    with things.engine() as engine:
        document = Document(engine.source(things.table))
        batch, _version = rows.batch(engine.connection, document, ["1", "2", "5", "6", "7"], 0)
    assert [one.id for one in batch.unwritable] == ["5"]
    lines = list(ndjson.rows(batch.body))
    assert (len(lines), batch.rows, batch.deletes, batch.dropped) == (4, 4, 3, 2)
    assert sum(line.startswith(b'{"delete"') for line in lines) == 3


def test_partitions_of_a_snapshot_are_told_by_the_key_alone(things: Things) -> None:
    snapshot = {"capture": "snapshot", "cursor": {"soft_delete": "gone"}}
    things.use("keyless", **snapshot, partitions={"by": "hash", "buckets": 2})
    for id in range(50):
        things.put(id, f"note {id}")
    for partition in ("0", "1"):
        things.sync(partition)
    assert len(things.documents()) == 50
    things.pg.execute("DELETE FROM things WHERE id < 5")
    for partition in ("0", "1"):
        things.sync(partition)
    assert len(things.documents()) == 45
    months = {"by": "month", "column": "placed", "start": "2024-01-01"}
    things.use("identity", **snapshot, partitions=months, index=f"{things.table.index}-months")
    with pytest.raises(SourceError, match="a transform may change it"):
        things.sync("2024-01")
