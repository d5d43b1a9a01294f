"""What every type becomes, and that no value of any type stops a table."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from elasticsearch import Elasticsearch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from dev.docs import types as page
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.tables import Table
from tests.connections import postgres_settings
from tests.integration.sync.hostile import HOSTILE, LOST, SETUP, Partly


@dataclass
class Rows:
    """public.rows in a database of its own, and the index that it goes to."""

    database: Any
    es: Elasticsearch
    pg: psycopg.Connection[Any]
    index: str

    def create(self, columns: dict[str, str], key: str = "id int PRIMARY KEY") -> None:
        parts = [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_))
            for name, type_ in columns.items()
        ]
        # Old enough not to be read twice.
        old = "updated_at timestamptz DEFAULT now() - interval '1 hour'"
        self.pg.execute(
            sql.SQL("CREATE TABLE rows ({}, {})").format(
                sql.SQL(old), sql.SQL(", ").join([*parts, sql.SQL(key)])
            )
        )

    def insert(self, **values: Any) -> None:
        self.pg.execute(
            sql.SQL("INSERT INTO rows ({}) VALUES ({})").format(
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join([sql.Placeholder()] * len(values)),
            ),
            list(values.values()),
        )

    def load(self, **entry: Any) -> Report:
        table = Table(**{"table": "public.rows", "index": self.index, **entry})
        with Engine(
            postgres_settings(self.database),
            ElasticsearchSettings(
                host=self.database.environment["ES_HOST"], port=self.database.environment["ES_PORT"]
            ),
            BatchingSettings(),
        ) as engine:
            report = engine.sync(engine.source(table), "all", full=True)
            engine.refresh()
        return report

    def documents(self) -> dict[str, dict[str, Any]]:
        hits = self.es.search(index=self.index, size=10_000)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    def found(self, **search: Any) -> set[str]:
        hits = self.es.search(index=self.index, size=1000, **search)["hits"]["hits"]
        return {hit["_id"] for hit in hits}

    def mapping(self) -> dict[str, Any]:
        [answer] = self.es.indices.get_mapping(index=self.index).values()
        return dict(answer["mappings"])


@pytest.fixture
def rows(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Rows]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        yield Rows(database, es, pg, f"{prefix}rows")


# The page


def test_the_page_is_as_the_code_says() -> None:
    present = page.PAGE.read_text(encoding="utf-8")
    assert present == page.page(present), "run python -m dev.docs.types"


def finds(example: page.Example, name: str, mapping: dict[str, Any]) -> dict[str, Any]:
    """The search that has to find an example."""
    match mapping["type"]:
        case "geo_point":
            return {"query": {"geo_distance": {"distance": "1m", name: example.search}}}
        case "dense_vector":
            return {"query": {"knn": {"field": name, "query_vector": example.search, "k": 1}}}
        case "text":
            return {"query": {"term": {f"{name}.raw": {"value": example.search}}}}
        case _:
            return {"query": {"term": {f"{name}{example.at}": {"value": example.search}}}}


def test_every_row_of_the_page_is_true(rows: Rows) -> None:
    rows.pg.execute(page.SETUP)
    examples = {
        f"c{number}": (row, example)
        for number, (row, example) in enumerate(
            (row, example) for row in page.ROWS for example in row.examples
        )
    }
    rows.create({name: example.type for name, (_, example) in examples.items()})
    rows.insert(id=1, **{name: example.value for name, (_, example) in examples.items()})
    rows.insert(id=2)
    report = rows.load()
    documents, mappings = rows.documents(), rows.mapping()["properties"]

    for name, (row, example) in examples.items():
        said = f"{example.type} {example.value}"
        assert documents["1"][name] == example.json, said
        assert documents["2"][name] is None, said
        kind = {"date": "date_range"} if "range" in example.type else {}
        assert mappings[name]["type"] == kind.get(row.mapping["type"], row.mapping["type"]), said
        if example.search is not None:
            assert rows.found(**finds(example, name, mappings[name])) == {"1"}, said
    lost = [example for _, example in examples.values() if example.json is None]
    assert report.lost == len(lost)
    assert rows.load().differences == (), "the index that was made is not the one that is wanted"


# Hostile values


def test_no_value_of_any_type_is_refused_or_stops_the_table(rows: Rows) -> None:
    rows.pg.execute(SETUP)
    columns = {f"c{number}": type_ for number, type_ in enumerate(HOSTILE)}
    rows.create(columns)
    for number in range(max(map(len, HOSTILE.values()))):
        values = {
            name: list(HOSTILE[type_])[number]
            for name, type_ in columns.items()
            if number < len(HOSTILE[type_])
        }
        rows.insert(id=number, **values)
    report = rows.load()
    documents = rows.documents()
    assert report.rows == len(documents) == max(map(len, HOSTILE.values()))
    for name, type_ in columns.items():
        for number, (value, expected) in enumerate(HOSTILE[type_].items()):
            written = documents[str(number)][name]
            assert written == (None if expected is LOST else expected), f"{type_} {value[:100]}"
    values = [value for cases in HOSTILE.values() for value in cases.values()]
    assert report.lost == sum(value is LOST or isinstance(value, Partly) for value in values)


def test_years_of_any_number_are_in_order_and_found(rows: Rows) -> None:
    days = [
        "4713-01-01 BC",
        "0044-03-15 BC",
        "0001-01-01",
        "2024-01-01",
        "9999-12-31",
        "20000-01-01",
    ]
    rows.create({"day": "date"})
    for number, day in enumerate(days):
        rows.insert(id=number, day=day)
    rows.load()
    hits = rows.es.search(index=rows.index, sort=["day"], size=10)["hits"]["hits"]
    assert [hit["_id"] for hit in hits] == ["0", "1", "2", "3", "4", "5"]
    assert rows.found(query={"range": {"day": {"lt": "0001-01-01"}}}) == {"0", "1"}
    assert rows.found(query={"range": {"day": {"gt": "9999-12-31"}}}) == {"5"}


def test_a_range_is_found_by_what_is_in_it_and_by_nothing_else(rows: Rows) -> None:
    rows.create({"span": "tsrange", "numbers": "numrange"})
    rows.insert(id=1, span="(2024-01-01 10:00:00,2024-01-01 11:00:00)", numbers="(1,2)")
    rows.load()
    inside = {"span": "2024-01-01T10:00:00.500", "numbers": 1.0000001}
    outside = {"span": ["2024-01-01T10:00:00.000", "2024-01-01T11:00:00.000"], "numbers": [1, 2]}
    for name, value in inside.items():
        assert rows.found(query={"term": {name: value}}) == {"1"}
    for name, values in outside.items():
        for value in values:
            assert rows.found(query={"term": {name: value}}) == set()


# Given mappings


def test_a_given_mapping_decides_the_form_of_the_value(rows: Rows) -> None:
    keyword = {"type": "keyword"}
    cases: dict[str, tuple[str, str, dict[str, Any], Any]] = {
        "exact": ("numeric", "1.10000000000000000000000000000000000001", keyword, ...),
        "nan": ("numeric", "NaN", keyword, "NaN"),
        "list": ("numeric[]", "{1.50,NaN}", keyword, ["1.50", "NaN"]),
        "money": ("money", "12.30", keyword, "12.30"),
        "float": ("float8", "Infinity", keyword, "Infinity"),
        "day": ("date", "infinity", keyword, "infinity"),
        "early": ("timestamptz", "0044-03-15 BC", {"type": "text"}, "0044-03-15 00:00:00+00 BC"),
        "nanos": (
            "timestamp",
            "2024-01-01 00:00:00.123456",
            {"type": "date_nanos"},
            "2024-01-01T00:00:00.123456",
        ),
        "late": ("timestamp", "2263-01-01", {"type": "date_nanos"}, None),
        "items": (
            "jsonb",
            '[{"a": 1}, {"a": 2}]',
            {"type": "nested", "properties": {"a": {"type": "long"}}},
            [{"a": 1}, {"a": 2}],
        ),
        "thing": ("json", '{"a":\n1}', {"properties": {"a": {"type": "long"}}}, {"a": 1}),
        "raw": ("json", '{"a": \n1}', keyword, '{"a": \n1}'),
        "pair": ("pair", "(1,,,,)", keyword, "(1,,,,)"),
        "tags": ("hstore", "a=>1", keyword, '"a"=>"1"'),
        "slot": ("int4range", "[1,5)", keyword, "[1,5)"),
        "net": ("inet", "10.0.0.1/8", keyword, "10.0.0.1/8"),
        "count": ("int", "5", keyword, 5),
        "short": ("numeric", "1.5", {"type": "float"}, 1.5),
    }
    rows.pg.execute(SETUP)
    rows.create({name: case[0] for name, case in cases.items()})
    rows.insert(id=1, **{name: case[1] for name, case in cases.items()})
    report = rows.load(fields={name: case[2] for name, case in cases.items()})
    document = rows.documents()["1"]
    for name, (_, value, _, expected) in cases.items():
        assert document[name] == (value if expected is ... else expected), name
    assert report.lost == 1
    assert rows.found(query={"term": {"exact": cases["exact"][1]}}) == {"1"}
    nested = {"nested": {"path": "items", "query": {"term": {"items.a": 2}}}}
    assert rows.found(query=nested) == {"1"}


# Names


def test_a_dot_in_a_name_makes_no_object(rows: Rows) -> None:
    names = ["a", "a.b", "a.b.c", ".a", "a..b", "a.", "."]
    rows.create(dict.fromkeys(names, "text") | {"j.k": "jsonb"})
    rows.insert(id=1, **{name: f"in {name}" for name in names}, **{"j.k": '{"x": {"y": "z"}}'})
    rows.load()
    assert rows.documents()["1"]["a.b"] == "in a.b"
    assert set(names) < set(rows.mapping()["properties"])
    for name in names:
        assert rows.found(query={"term": {f"{name}.raw": f"in {name}"}}) == {"1"}, name
    assert rows.found(query={"term": {"j.k.x.y": "z"}}) == {"1"}


def test_a_column_with_a_dot_that_comes_later_waits_for_a_new_generation(rows: Rows) -> None:
    rows.create({"note": "text"})
    rows.insert(id=1, note="before")
    rows.load()
    rows.pg.execute("""ALTER TABLE rows ADD COLUMN "a.b" text DEFAULT 'late'""")
    rows.pg.execute("UPDATE rows SET note = 'after', updated_at = now()")
    rows.load()
    assert rows.found(query={"term": {"note.raw": "after"}}) == {"1"}
    assert rows.found(query={"exists": {"field": "a.b"}}) == set()


def test_columns_that_come_later_may_pass_the_usual_number_of_fields(rows: Rows) -> None:
    rows.create({f"c{number}": "text" for number in range(490)})
    rows.insert(id=1)
    rows.load()
    for number in range(490, 520):
        rows.pg.execute(f"ALTER TABLE rows ADD COLUMN c{number} text DEFAULT 'late'")
    rows.load()
    assert rows.found(query={"term": {"c519.raw": "late"}}) == {"1"}


def test_views_parents_and_generated_columns_are_loaded(rows: Rows) -> None:
    rows.create({"a": "int", "stored": "int GENERATED ALWAYS AS (a * 2) STORED"})
    rows.insert(id=1, a=5)
    rows.pg.execute(
        "CREATE TABLE special () INHERITS (rows); INSERT INTO special (id, a) VALUES (2, 6);"
        "CREATE VIEW shown AS SELECT *, a * 3 AS thrice FROM rows;"
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM shown"
    )
    for table in ("shown", "kept"):
        index = f"{rows.index}-{table}"
        rows.load(table=f"public.{table}", index=index, key=["id"])
        shown = dataclasses.replace(rows, index=index)
        assert {
            one["id"]: (one["stored"], one["thrice"]) for one in shown.documents().values()
        } == {
            1: (10, 15),
            2: (12, 18),
        }
    rows.load(key=["id"])
    assert set(rows.documents()) == {"1", "2"}


def test_virtual_columns_are_loaded(rows: Rows) -> None:
    if rows.pg.info.server_version < 180000:
        pytest.skip("virtual columns came with PostgreSQL 18")
    rows.create({"a": "int", "virtual": "int GENERATED ALWAYS AS (a * 2) VIRTUAL"})
    rows.insert(id=1, a=5)
    rows.load()
    assert rows.documents()["1"]["virtual"] == 10


def test_six_hundred_columns_fit(rows: Rows) -> None:
    rows.create({f"c{number}": "text" for number in range(600)})
    rows.insert(id=1, c599="last")
    rows.load()
    assert rows.found(query={"term": {"c599.raw": "last"}}) == {"1"}


# What may not matter


def test_settings_of_the_role_and_the_encoding_of_the_database_change_no_document(
    rows: Rows,
) -> None:
    rows.pg.execute(page.SETUP)
    columns = {
        "a": "timestamptz",
        "b": "interval",
        "c": "bytea",
        "d": "float8",
        "e": "money",
        "f": "text",
        "g": "tstzrange",
        "h": "timestamptz[]",
        "i": "address",
    }
    values = ["2024-02-29 10:00+02", "1 day 2 hours", "\\x00ff", "0.30000000000000004", "12.34"]
    values += ["Grüße", "[2024-01-01 00:00+00,)", "{2024-01-01 00:00+00}", "(Straße,5)"]
    rows.create(columns)
    rows.insert(id=1, **dict(zip(columns, values, strict=True)))
    rows.load(exclude=["updated_at"])
    before = rows.documents()
    role, name = rows.database.user, rows.database.dbname
    for setting, value in {
        "DateStyle": "SQL, DMY",
        "TimeZone": "Asia/Tokyo",
        "IntervalStyle": "postgres_verbose",
        "bytea_output": "escape",
        "extra_float_digits": "-10",
        "lc_monetary": "C.UTF-8",
    }.items():
        rows.pg.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}").format(
                *map(sql.Identifier, (role, name, setting)), sql.Literal(value)
            )
        )
    rows.load(exclude=["updated_at"])
    assert rows.documents() == before


@pytest.fixture
def latin(rows: Rows) -> Iterator[Rows]:
    """The same in a database whose encoding is LATIN1."""
    name = f"{rows.database.dbname}_latin"
    rows.pg.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'")
    database = dataclasses.replace(rows.database, dbname=name)
    try:
        with psycopg.connect(database.conninfo, autocommit=True) as pg:
            yield Rows(database, rows.es, pg, rows.index)
    finally:
        rows.pg.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_database_in_latin1_gives_the_same_documents(latin: Rows) -> None:
    latin.create({"größe": "text", "j": "json", "b": "jsonb"})
    latin.insert(id=1, größe="ä ö\u00a0", j='{"ü": "\\u65e5"}', b='{"ü": "ß"}')
    latin.load(include=["id", "größe", "j", "b"])
    expected = {"id": 1, "größe": "ä ö\u00a0", "j": {"ü": "日"}, "b": {"ü": "ß"}}
    assert latin.documents() == {"1": expected}


# Properties

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
ROW = st.fixed_dictionaries(
    {
        "number": st.none() | st.integers(-(2**63), 2**63 - 1),
        "exact": st.none()
        | st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])
        | st.decimals(allow_nan=False, allow_infinity=False, places=5),
        "note": st.none() | TEXTS,
        "seen": st.none() | st.datetimes(),
        "list": st.none() | st.lists(st.none() | TEXTS, max_size=4),
        "floats": st.none() | st.lists(st.none() | st.floats(), max_size=4),
        "data": st.none() | JSON,
    }
)


def expected_of(row: dict[str, Any]) -> dict[str, Any]:
    """What Python makes of the values."""
    exact, data = row["exact"], row["data"]
    return {
        **row,
        "exact": float(exact) if exact is not None and exact.is_finite() else None,
        "seen": row["seen"] and row["seen"].isoformat(),
        "floats": row["floats"]
        and [one if one is None or abs(one) < float("inf") else None for one in row["floats"]],
        "data": data if data is None or isinstance(data, dict) else {"value": data},
    }


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """With times as Python writes them: PostgreSQL leaves out the zeros at the end."""
    seen = document["seen"]
    if seen and "." in seen:
        document["seen"] = f"{seen.partition('.')[0]}.{seen.partition('.')[2]:0<6}"
    return document


QUICK = settings(
    max_examples=6,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@QUICK
@given(data=st.lists(ROW, min_size=20, max_size=20))
def test_any_values_arrive_as_python_understands_them(
    rows: Rows, data: list[dict[str, Any]]
) -> None:
    rows.pg.execute("DROP TABLE IF EXISTS rows")
    rows.create(
        {
            "number": "bigint",
            "exact": "numeric",
            "note": "text",
            "seen": "timestamp",
            "list": "text[]",
            "floats": "float8[]",
            "data": "jsonb",
        }
    )
    for number, row in enumerate(data):
        rows.insert(
            id=number,
            **{**row, "data": None if row["data"] is None else json.dumps(row["data"])},
        )
    rows.load(exclude=["updated_at"])
    documents = {int(key): shown(value) for key, value in rows.documents().items()}
    assert documents == {
        number: {"id": number, **expected_of(row)} for number, row in enumerate(data)
    }


KEYS = st.sampled_from(["", "a", "b", ",", '"', '","', "\\", "[", "sha256:", " "])
PARTS = st.lists(KEYS, max_size=6).map("".join) | TEXTS


@QUICK
@given(keys=st.sets(st.tuples(PARTS, PARTS), min_size=60, max_size=60))
def test_no_two_keys_share_an_id(rows: Rows, keys: set[tuple[str, str]]) -> None:
    rows.pg.execute("DROP TABLE IF EXISTS rows")
    rows.es.options(ignore_status=404).indices.delete(index=f"{rows.index}-000001")
    rows.create({"a": "text", "b": "text"}, key="PRIMARY KEY (a, b)")
    for a, b in keys:
        rows.insert(a=a, b=b)
    rows.load()
    documents = rows.documents().values()
    assert sorted((found["a"], found["b"]) for found in documents) == sorted(keys)


def test_a_key_that_looks_like_the_hash_of_another_has_an_id_of_its_own(rows: Rows) -> None:
    rows.create({}, key="id text PRIMARY KEY")
    long = "x" * 600
    rows.insert(id=long)
    rows.load()
    [hashed] = rows.documents()
    rows.insert(id=hashed)
    rows.load()
    assert {found["id"] for found in rows.documents().values()} == {long, hashed}


def test_a_list_as_a_key_may_be_long(rows: Rows) -> None:
    rows.create({}, key="id int[] PRIMARY KEY")
    rows.insert(id=list(range(400)))
    rows.load()
    assert [found["id"] for found in rows.documents().values()] == [list(range(400))]


def test_numbers_keep_their_digits(rows: Rows) -> None:
    rows.create({"n": "numeric"})
    digits = "1234567890123456789012345678901234567890.0123456789"
    rows.insert(id=1, n=Decimal(digits))
    rows.load()
    environment = rows.database.environment
    server = f"http://{environment['ES_HOST']}:{environment['ES_PORT']}"
    with urlopen(f"{server}/{rows.index}/_source/1") as answer:  # noqa: S310
        assert json.load(answer, parse_float=Decimal)["n"] == Decimal(digits)
