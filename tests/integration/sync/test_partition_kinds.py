"""Partitions that come with the table's rows: ranges of a number, and PostgreSQL's own."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync import snapshot
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders, notes

COLUMNS = "id bigint, region text, note text, updated_at timestamptz DEFAULT now()"


@pytest.fixture
def parts(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Orders]:
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        table = Table(
            table="public.orders", index=f"{prefix}orders", cursor={"column": "updated_at"}
        )
        yield Orders(database, es, table, pg)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is not read twice: nothing is open that could still write below it."""
    monkeypatch.setattr(snapshot, "MARGIN_SECONDS", 0)


def partition(parts: Orders, **partitions: Any) -> None:
    described = {**parts.table.model_dump(exclude_unset=True), "partitions": partitions}
    parts.table = parts.table.model_validate(described)


def add(parts: Orders, first: int, last: int, region: str = "eu") -> None:
    parts.pg.execute(
        "INSERT INTO orders SELECT n, %s, 'new' FROM generate_series(%s::bigint, %s) n",
        [region, first, last],
    )


def load_all(parts: Orders) -> dict[str, int]:
    return {partition: parts.sync(partition).rows for partition in parts.stale()}


def is_in_step(parts: Orders) -> bool:
    rows = {str(id): note for id, note in parts.pg.execute("SELECT id, note FROM orders")}
    return notes(parts.documents()) == rows


def test_ranges_appear_as_the_table_grows(parts: Orders) -> None:
    parts.pg.execute(f"CREATE TABLE orders ({COLUMNS}, PRIMARY KEY (id))")
    partition(parts, by="range", column="id", width=100)
    assert parts.stale() == {}
    add(parts, -120, 130)
    assert load_all(parts) == {"-200": 20, "-100": 100, "0": 100, "100": 31}
    add(parts, 131, 310)
    assert load_all(parts) == {"100": 69, "200": 100, "300": 11}
    assert is_in_step(parts)


def test_too_many_ranges_are_a_mistake_in_the_width(parts: Orders) -> None:
    parts.pg.execute(f"CREATE TABLE orders ({COLUMNS}, PRIMARY KEY (id))")
    partition(parts, by="range", column="id", width=1)
    add(parts, 0, 0)
    add(parts, 100_000, 100_000)
    with pytest.raises(SourceError, match="Choose a larger `width`"):
        parts.stale()


@pytest.mark.parametrize("key", ["1", "007", "-0", "x", "150", ""])
def test_a_key_that_begins_no_range_is_unknown(parts: Orders, key: str) -> None:
    parts.pg.execute(f"CREATE TABLE orders ({COLUMNS}, PRIMARY KEY (id))")
    partition(parts, by="range", column="id", width=100)
    with pytest.raises(SourceError, match="has no partition"):
        parts.sync(key)


NATIVE = {
    "range": (
        "RANGE (id)",
        ["a FOR VALUES FROM (MINVALUE) TO (50)", "b FOR VALUES FROM (50) TO (100)", "rest DEFAULT"],
    ),
    "list": (
        "LIST (region)",
        ["a FOR VALUES IN ('eu', NULL)", "b FOR VALUES IN ('us')", "rest DEFAULT"],
    ),
    "hash": (
        "HASH (id)",
        [f"{name} FOR VALUES WITH (MODULUS 3, REMAINDER {n})" for n, name in enumerate("abc")],
    ),
}


@pytest.mark.parametrize(("by", "parts_of_it"), NATIVE.values(), ids=NATIVE)
def test_every_row_is_in_one_of_postgresqls_own_partitions(
    parts: Orders, by: str, parts_of_it: list[str]
) -> None:
    parts.pg.execute(f"CREATE TABLE orders ({COLUMNS}) PARTITION BY {by}")
    for part in parts_of_it:
        name, _, bounds = part.partition(" ")
        parts.pg.execute(f'CREATE TABLE "orders {name}" PARTITION OF orders {bounds}')
    parts.table = parts.table.model_copy(update={"key": ("id",)})
    partition(parts, by="native")
    add(parts, 1, 60)
    add(parts, 61, 120, "us")
    add(parts, 121, 130, "xx")

    loaded = load_all(parts)

    assert set(loaded) == {f"orders {part.partition(' ')[0]}" for part in parts_of_it}
    assert sum(loaded.values()) == 130
    assert is_in_step(parts)
    assert parts.stale() == {}


def test_partitions_below_partitions_and_new_ones_are_loaded(parts: Orders) -> None:
    parts.pg.execute(
        f"CREATE TABLE orders ({COLUMNS}, PRIMARY KEY (id, region)) PARTITION BY LIST (region)"
    )
    parts.pg.execute(
        "CREATE TABLE eu PARTITION OF orders FOR VALUES IN ('eu') PARTITION BY RANGE (id)"
    )
    parts.pg.execute("CREATE TABLE eu_low PARTITION OF eu FOR VALUES FROM (0) TO (50)")
    parts.pg.execute("CREATE TABLE eu_high PARTITION OF eu FOR VALUES FROM (50) TO (100)")
    parts.table = parts.table.model_copy(update={"key": ("id",)})
    partition(parts, by="native")
    add(parts, 0, 99)
    assert load_all(parts) == {"eu_high": 50, "eu_low": 50}

    parts.pg.execute("CREATE SCHEMA far")
    parts.pg.execute("CREATE TABLE far.us PARTITION OF orders FOR VALUES IN ('us')")
    add(parts, 100, 104, "us")

    assert load_all(parts) == {"far.us": 5}
    assert is_in_step(parts)


def test_a_row_that_moves_to_another_partition_keeps_one_document(parts: Orders) -> None:
    parts.pg.execute(f"CREATE TABLE orders ({COLUMNS}) PARTITION BY LIST (region)")
    for region in ("eu", "us"):
        parts.pg.execute(f"CREATE TABLE {region} PARTITION OF orders FOR VALUES IN ('{region}')")
    parts.table = parts.table.model_copy(update={"key": ("id",)})
    partition(parts, by="native")
    add(parts, 1, 10)
    load_all(parts)
    parts.pg.execute(
        "UPDATE orders SET region = 'us', note = 'moved', updated_at = now() WHERE id < 4"
    )
    load_all(parts)
    assert is_in_step(parts)


def test_a_table_without_partitions_of_its_own_is_refused(parts: Orders) -> None:
    parts.pg.execute(f"CREATE TABLE orders ({COLUMNS}, PRIMARY KEY (id))")
    partition(parts, by="native")
    with pytest.raises(SourceError, match="has no partitions in PostgreSQL"):
        parts.stale()
