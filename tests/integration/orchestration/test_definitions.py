"""What the definitions know of the tables: asked of PostgreSQL once, and not needed."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)

from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.sync import describe as describing
from pg_es_pipeline.tables import Table

SCHEMA = """
CREATE TABLE customers (id bigint PRIMARY KEY, card_number text UNIQUE);
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer bigint NOT NULL REFERENCES customers,
    code varchar(8) UNIQUE, amount numeric(10, 2) CHECK (amount > 0),
    updated_at timestamptz NOT NULL DEFAULT now(), UNIQUE (customer, updated_at)
);
COMMENT ON TABLE orders IS 'What people bought.';
COMMENT ON COLUMN orders.amount IS 'In euros.';
CREATE TABLE parts (id bigint, updated_at timestamptz NOT NULL, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (100);
"""
TABLES = [
    Table(table="orders"),
    Table(table="customers", exclude=("card_number",)),
    Table.model_validate({"table": "parts", "partitions": {"by": "native"}}),
    Table(table="missing"),
]


@pytest.fixture
def shop(database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(SCHEMA)
    for name, value in database.environment.items():
        monkeypatch.setenv(name, value)
    return database


def metadata(tables: list[Table], *key: str) -> Any:
    return build_defs(tables).resolve_asset_graph().get(dg.AssetKey(key)).metadata


def test_comments_types_and_constraints_are_those_of_the_database(shop: Any) -> None:
    graph = build_defs(TABLES).resolve_asset_graph()
    source = graph.get(dg.AssetKey(["public", "orders"]))
    assert source.group_name == f"{shop.dbname}_tables"
    assert (source.description or "").startswith("What people bought.")
    assert source.metadata["dagster/table_name"] == f"{shop.dbname}.public.orders"
    schema = source.metadata["dagster/column_schema"]
    shown = {
        one.name: (
            one.type,
            one.constraints.nullable,
            one.constraints.unique,
            one.constraints.other,
        )
        for one in schema.columns
    }
    assert shown == {
        "id": ("bigint", False, True, ["primary key"]),
        "customer": ("bigint", False, False, ["REFERENCES public.customers(id)"]),
        "code": ("character varying(8)", True, True, ["unique"]),
        "amount": ("numeric(10,2)", True, False, ["CHECK ((amount > (0)::numeric))"]),
        "updated_at": ("timestamp with time zone", False, False, []),
    }
    assert schema.constraints.other == ["UNIQUE (customer, updated_at)"]
    index = graph.get(dg.AssetKey("orders"))
    fields = {one.name: one for one in index.metadata["dagster/column_schema"].columns}
    assert (fields["id"].type, fields["amount"].description) == ("bigint → long", "In euros.")
    lineage = index.metadata["dagster/column_lineage"].deps_by_column
    assert lineage["amount"] == [dg.TableColumnDep(source.key, "amount")]


def test_what_is_left_out_and_the_password_do_not_appear(shop: Any) -> None:
    graph = build_defs(TABLES).resolve_asset_graph()
    shown = " ".join(str(graph.get(key).metadata) for key in graph.get_all_asset_keys())
    assert "customer" in shown
    assert "card_number" not in shown
    assert shop.password not in shown


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each connection and each statement that describing tables takes."""
    log: list[str] = []
    connect = describing.connect

    def counting(*arguments: Any, **options: Any) -> Any:
        log.append("connect")
        connection = connect(*arguments, **options)
        execute: Callable[..., Any] = connection.execute
        connection.execute = lambda *given: [log.append("execute"), execute(*given)][1]  # type: ignore[assignment]
        return connection

    monkeypatch.setattr(describing, "connect", counting)
    return log


@pytest.mark.usefixtures("shop")
def test_one_connection_and_a_few_queries_do_for_any_number_of_tables(asked: list[str]) -> None:
    many = [Table(table=f"missing_{number}") for number in range(20)]
    natives = [TABLES[2].model_copy(update={"index": f"parts-{number}"}) for number in range(20)]
    build_defs([*TABLES, *many, *natives])
    assert asked == ["connect", *["execute"] * 6]


@pytest.mark.usefixtures("shop")
def test_the_process_of_a_run_does_not_ask(asked: list[str]) -> None:
    reconstruction = DefinitionsLoadContext(DefinitionsLoadType.RECONSTRUCTION)
    with DefinitionsLoadContext.scoped(reconstruction):
        assert build_defs(TABLES).resolve_asset_graph().get_all_asset_keys()
    assert asked == []


@pytest.mark.usefixtures("shop")
def test_the_definitions_load_without_the_database_and_say_so(
    monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PG_PORT", str(free_port()))
    with caplog.at_level(logging.WARNING):
        assert "dagster/column_schema" not in metadata(TABLES, "public", "orders")
    assert "without PostgreSQL's comments and columns: PostgreSQL at" in caplog.text
