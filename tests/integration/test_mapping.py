"""What a row becomes: the mapping, the document, its `_id`, and the index that takes it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch
from psycopg import sql

from pg_es_pipeline.errors import IndexRefused, SourceError
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings
from pg_es_pipeline.sync.checkpoints import INDEX as CHECKPOINTS
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.tables import Table
from tests.connections import postgres_settings

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Rows:
    """public.rows in a database of its own, and the index that it goes to."""

    database: Any
    es: Elasticsearch
    pg: psycopg.Connection[Any]
    prefix: str

    @property
    def index(self) -> str:
        return f"{self.prefix}rows"

    def create(self, columns: str, key: str = "id int PRIMARY KEY") -> None:
        columns = ", ".join(filter(None, (columns, key)))
        self.pg.execute(f"CREATE TABLE rows (updated_at timestamptz DEFAULT now(), {columns})")

    def insert(self, *rows: dict[str, Any]) -> None:
        for row in rows:
            self.pg.execute(
                sql.SQL("INSERT INTO rows ({}) VALUES ({})").format(
                    sql.SQL(", ").join(map(sql.Identifier, row)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(row)),
                ),
                list(row.values()),
            )

    def engine(self) -> Engine:
        database = self.database
        return Engine(
            postgres_settings(database),
            ElasticsearchSettings(
                host=database.environment["ES_HOST"], port=database.environment["ES_PORT"]
            ),
            BatchingSettings(),
        )

    def load(self, **entry: Any) -> dict[str, dict[str, Any]]:
        """Loads what is new; returns everything in the index, by `_id`."""
        table = Table(**{"table": "public.rows", "index": self.index, **entry})
        with self.engine() as engine:
            source = engine.source(table)
            for partition in [stale.partition for stale in engine.stale(source)[0]]:
                engine.sync(source, partition)
            engine.refresh()
        return self.documents(table.index)

    def documents(self, index: str) -> dict[str, dict[str, Any]]:
        hits = self.es.search(index=index, size=10_000)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    def found(self, **query: Any) -> list[str]:
        """The `_id`s of the documents that a query finds, sorted."""
        return sorted(
            hit["_id"] for hit in self.es.search(index=self.index, **query)["hits"]["hits"]
        )

    def mapping(self) -> dict[str, Any]:
        [answer] = self.es.indices.get_mapping(index=self.index).values()
        return dict(answer["mappings"]["properties"])


@pytest.fixture
def rows(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Rows]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        yield Rows(database, es, pg, prefix)


# Values

UUID = "123e4567-e89b-12d3-a456-426614174000"


def test_what_json_cannot_hold_becomes_null(rows: Rows) -> None:
    rows.create(
        "r real, f double precision, n numeric, m numeric(10,2), day date, t timestamp,"
        " tz timestamptz"
    )
    rows.pg.execute(
        "INSERT INTO rows (id, r, f, n, m, day, t, tz) VALUES"
        " (1, 'NaN', 'NaN', 'NaN', 'NaN', 'infinity', 'infinity', 'infinity'),"
        " (2, 'Infinity', 'Infinity', 'Infinity', NULL, '-infinity', '-infinity', '-infinity'),"
        " (3, '-Infinity', '-Infinity', '-Infinity', NULL, NULL, NULL, NULL)"
    )
    documents = rows.load(exclude=["updated_at"])
    assert len(documents) == 3
    for id_, document in documents.items():
        assert document.pop("id") == int(id_)
        assert set(document.values()) == {None}


def test_json_of_every_kind_arrives(rows: Rows) -> None:
    values = {
        1: '{"a":\n  {"b": "c"}\n}',
        2: "[1,\n{}]",
        3: "5",
        4: '"a\\nb"',
        5: "null",
        6: "true",
        7: "{}",
        8: '{"": 1, "a.b": {"c d": null}}',
    }
    rows.create("j json, b jsonb")
    rows.insert(*({"id": id_, "j": value, "b": value} for id_, value in values.items()))
    documents = rows.load()
    expected = {
        "1": {"a": {"b": "c"}},
        "2": {"value": [1, {}]},
        "3": {"value": 5},
        "4": {"value": "a\nb"},
        "5": None,
        "6": {"value": True},
        "7": {},
        "8": {"": 1, "a.b": {"c d": None}},
    }
    assert {id_: document["j"] for id_, document in documents.items()} == expected
    assert {id_: document["b"] for id_, document in documents.items()} == expected
    assert rows.found(query={"term": {"j.a.b": "c"}}) == ["1"]
    assert rows.found(query={"term": {"b.value": "5"}}) == ["3"]


def test_long_text_is_returned_and_found_by_word_but_not_as_a_whole(rows: Rows) -> None:
    rows.create("note text, tags text[], data jsonb, code varchar")
    texts = {
        1: "x" * 8191,
        2: "x" * 8192,
        3: "needle " + "long " * 10_000,
        4: "🙂" * 8192,
        5: "\u0801" * 8191,  # three bytes a character: the most that fits
    }
    for id_, text in texts.items():
        data = json.dumps({"k": text}, ensure_ascii=False)
        rows.insert({"id": id_, "note": text, "tags": [text], "data": data, "code": text})
    documents = rows.load()
    assert {int(id_): document["note"] for id_, document in documents.items()} == texts
    assert {int(id_): document["data"]["k"] for id_, document in documents.items()} == texts
    for name in ("note.raw", "tags.raw", "code.raw", "data.k"):
        present = {"exists": {"field": name}}
        assert rows.found(query=present) == ["1", "5"], name
    assert rows.found(query={"match": {"note": "needle"}}) == ["3"]


def test_a_boolean_marks_deleted_rows_where_it_is_true(rows: Rows) -> None:
    rows.create("gone boolean")
    rows.insert({"id": 1, "gone": True}, {"id": 2, "gone": False}, {"id": 3, "gone": None})
    assert set(rows.load(cursor={"soft_delete": "gone"})) == {"2", "3"}


# Names


def test_columns_may_have_any_name(rows: Rows) -> None:
    columns = ["d", "t", "rows", "Mixed Case", "100% \"q\" {b} 's'", "%s", "größe", "\\n", "select"]
    rows.create(", ".join('"{}" text'.format(name.replace('"', '""')) for name in columns))
    rows.insert({"id": 1})
    rows.pg.execute(
        sql.SQL("UPDATE rows SET {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(name))
                for name in columns
            )
        )
    )
    [document] = rows.load(exclude=["updated_at"]).values()
    assert document == {"id": 1, **{name: name for name in columns}}
    assert set(rows.mapping()) == {"id", *columns}


@pytest.mark.parametrize("name", ["größe-日本", "a%20b+c&d=e"])
def test_an_index_may_have_any_name_that_elasticsearch_allows(rows: Rows, name: str) -> None:
    rows.create("")
    rows.insert({"id": 1})
    assert set(rows.load(index=f"{rows.prefix}{name}")) == {"1"}


# Keys

NASTY = [
    "a b",
    " ",
    "a\nb\r\n\tc",
    "quote \" and ' and \\ and \\n",
    '"}}\n{"index":{"_id":"x"}}',
    "\x01\x1f\x7f\u2028\u2029",
    "Grüße 日本語 🙂 e\u0301",
    "{}%s$$",
    "_underscored",
    "x" * 512,
    "ä" * 256,
]
UNFIT = ["", "x" * 513, "ä" * 257, "y" * 2_000]
"""Keys that cannot be an `_id`."""


def sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_texts_arrive_as_they_are_as_values_and_as_keys(rows: Rows) -> None:
    rows.create("id text PRIMARY KEY, note text", key="")
    rows.insert(*({"id": text, "note": text} for text in [*NASTY, *UNFIT]))
    documents = rows.load()
    assert {id_: document["note"] for id_, document in documents.items()} == {
        **{text: text for text in NASTY},
        **{sha256(text): text for text in UNFIT},
    }
    assert all(document["id"] == document["note"] for document in documents.values())


def test_composite_keys_that_would_meet_when_joined_stay_apart(rows: Rows) -> None:
    keys = [
        *(("a_b", "c"), ("a", "b_c"), ("a,b", "c"), ("a", "b,c"), ("", "ab"), ("ab", "")),
        *(('a","b', "c"), ("a", 'b","c'), ('a", "b', "c"), ("a", 'b", "c'), ("a\\", "b")),
        *((" a", "b"), ("a", " b"), ("x" * 500, "y" * 20), ("x" * 501, "y" * 19)),
    ]
    rows.create("a text, b text, PRIMARY KEY (a, b)", key="")
    rows.insert(*({"a": a, "b": b} for a, b in keys))
    documents = rows.load()
    assert sorted((found["a"], found["b"]) for found in documents.values()) == sorted(keys)
    assert '["a_b", "c"]' in documents


@pytest.mark.parametrize(
    ("column_type", "value", "expected"),
    [
        ("bigint", "-9223372036854775808", "-9223372036854775808"),
        ("uuid", UUID.upper(), UUID),
        ("timestamptz", "2024-02-29 10:11:12.5+05:30", "2024-02-29 04:41:12.5+00"),
        ("numeric(12,2)", "10", "10.00"),
        ("bytea", "\\x00FF", "\\x00ff"),
    ],
)
def test_a_key_of_another_type_goes_by_its_text(
    rows: Rows, column_type: str, value: str, expected: str
) -> None:
    """Whatever the role's own settings are."""
    rows.pg.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {rows.database.dbname} SET TimeZone = 'Asia/Tokyo';"
        f"ALTER ROLE CURRENT_USER IN DATABASE {rows.database.dbname} SET DateStyle = 'SQL, DMY';"
        f"ALTER ROLE CURRENT_USER IN DATABASE {rows.database.dbname} SET bytea_output = 'escape'"
    )
    rows.create(f"id {column_type} PRIMARY KEY", key="")
    rows.insert({"id": value})
    assert set(rows.load()) == {expected}


@pytest.mark.parametrize("key", [["a"], ["b", "a"]])
def test_a_row_whose_key_is_null_is_refused(rows: Rows, key: list[str]) -> None:
    rows.create("a int, b int", key="")
    rows.insert({"a": 1, "b": 1}, {"a": None, "b": 1})
    with pytest.raises(SourceError, match=r"public\.rows: a row's key is NULL"):
        rows.load(key=key)


# What is read


def test_excluded_columns_are_never_read(rows: Rows) -> None:
    """A role that may not read them loads the table, and finds nothing to do afterwards."""
    rows.create("note text, secret text")
    rows.insert({"id": 1, "note": "open", "secret": "hidden"})
    name = f"{rows.database.dbname}_reader"
    rows.pg.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'reader';"
        f"GRANT SELECT (id, note, updated_at) ON rows TO {name};"
        f"GRANT pg_read_all_stats TO {name}"
    )
    try:
        reader = dataclasses.replace(
            rows, database=dataclasses.replace(rows.database, user=name, password="reader")
        )
        [document] = reader.load(exclude=["secret"]).values()
        with reader.engine() as engine:
            table = Table(table="public.rows", index=rows.index, exclude=["secret"])
            assert engine.stale(engine.source(table))[0] == []
        assert set(rows.mapping()) == {"id", "note", "updated_at"}
        with pytest.raises(SourceError, match="GRANT SELECT"):
            reader.load()
    finally:
        rows.pg.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    assert set(document) == {"id", "note", "updated_at"}


def test_included_columns_are_the_only_ones(rows: Rows) -> None:
    rows.create("note text, other text")
    rows.insert({"id": 1, "note": "a", "other": "b"})
    assert rows.load(include=["id", "note"]) == {"1": {"id": 1, "note": "a"}}


# The index


def test_the_file_may_give_a_column_another_mapping(rows: Rows) -> None:
    rows.create("sku text, note text")
    rows.insert({"id": 1, "sku": "A-1", "note": "a"})
    rows.load(fields={"sku": {"type": "keyword"}})
    assert rows.mapping()["sku"] == {"type": "keyword"}
    assert rows.mapping()["note"] == {
        "type": "text",
        "fields": {"raw": {"type": "keyword", "ignore_above": 8191}},
    }
    assert rows.found(query={"term": {"sku": "A-1"}}) == ["1"]


def test_what_is_not_mapped_is_not_guessed(rows: Rows) -> None:
    rows.create("")
    rows.load()
    [answer] = rows.es.indices.get_mapping(index=rows.index).values()
    assert answer["mappings"]["dynamic"] == "false"


def test_a_new_column_is_added_and_all_rows_get_it(rows: Rows) -> None:
    rows.create("")
    rows.insert({"id": 1}, {"id": 2})
    rows.load()
    rows.pg.execute("ALTER TABLE rows ADD COLUMN size int DEFAULT 7")
    assert {document["size"] for document in rows.load().values()} == {7}
    assert rows.mapping()["size"] == {"type": "integer"}
    assert rows.found(query={"term": {"size": 7}}) == ["1", "2"]


def state_of(rows: Rows) -> Any:
    """Everything that a load could have written."""
    checkpoints = rows.es.search(
        index=CHECKPOINTS, query={"prefix": {"index": rows.prefix}}, seq_no_primary_term=True
    )
    return (
        rows.es.indices.get(index=f"{rows.prefix}*").body,
        rows.es.search(index=f"{rows.prefix}*", version=True)["hits"]["hits"],
        [hit["_source"] for hit in checkpoints["hits"]["hits"]],
    )


def test_an_index_of_another_table_is_refused_and_nothing_is_written(rows: Rows) -> None:
    rows.create("note text")
    rows.insert({"id": 1, "note": "a"})
    rows.load()
    rows.es.indices.refresh(index=CHECKPOINTS)
    before = state_of(rows)
    rows.pg.execute("CREATE VIEW other AS TABLE rows")
    rows.insert({"id": 2})
    with pytest.raises(IndexRefused, match=r"belongs to public\.rows"):
        rows.load(table="public.other", key=["id"])
    rows.es.indices.refresh(index=f"{rows.prefix}*,{CHECKPOINTS}")
    assert state_of(rows) == before


@pytest.mark.parametrize("aliased", [False, True])
def test_an_index_that_is_not_ours_is_left_alone(rows: Rows, aliased: bool) -> None:
    rows.create("")
    rows.insert({"id": 1})
    name = f"{rows.index}-theirs" if aliased else rows.index
    rows.es.indices.create(index=name, aliases={rows.index: {}} if aliased else None)
    rows.es.index(index=name, id="1", document={"theirs": True}, refresh=True)
    said = "belongs to something else" if aliased else "which this pipeline did not make"
    with pytest.raises(IndexRefused, match=f"{rows.index}: .*{said}"):
        rows.load()
    rows.es.indices.refresh(index=f"{rows.prefix}*")
    assert rows.documents(f"{rows.prefix}*") == {"1": {"theirs": True}}
