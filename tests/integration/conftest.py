"""Fixtures of the tests that move rows."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders
from tests.integration.project import Project

SCHEMA = """
SET timezone = 'UTC';
CREATE TABLE orders (
    id bigint PRIMARY KEY, note text NOT NULL, placed timestamptz,
    updated_at timestamptz DEFAULT now(), deleted_at timestamptz
);
CREATE INDEX ON orders (updated_at, id);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
"""


@pytest.fixture
def orders(database: Any, es: Elasticsearch, prefix: str) -> Iterator[Orders]:
    """An empty table; `placed` spreads the rows over months, one a day."""
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        pg.execute(SCHEMA)
        table = Table(
            table="public.orders",
            index=f"{prefix}orders",
            cursor={"column": "updated_at", "soft_delete": "deleted_at"},
        )
        yield Orders(database, es, table, pg)


@pytest.fixture
def project(orders: Orders, tmp_path: Path) -> Project:
    """The orders with nothing amiss, and rows in them."""
    orders.pg.execute("ALTER TABLE orders ALTER updated_at SET NOT NULL")
    orders.pg.execute("ALTER TABLE orders ALTER placed SET NOT NULL")
    orders.insert(range(1, 4))
    file = tmp_path / "tables.yaml"
    environment = {**orders.database.environment, "PG_ES_TABLES": str(file)}
    made = Project(orders, environment, file)
    made.tables.append(orders.table.model_dump(include={"table", "index"}))
    made.change(cursor={"column": "updated_at", "soft_delete": "deleted_at"})
    return made


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A port that nothing listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
