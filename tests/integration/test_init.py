"""`pg-es init` over databases as they are: what it writes is loaded as it stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
import yaml
from elasticsearch import Elasticsearch
from psycopg import sql
from typer.testing import CliRunner, Result

from pg_es_pipeline.cli import app
from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.tables import NativePartitions, Table, TimePartitions, read_tables

# The peculiarities of well-known sample databases, and names that nobody should give.
SCHEMA = """
CREATE TYPE rating AS ENUM ('G', 'PG-13');
CREATE DOMAIN year_made AS integer CHECK (VALUE BETWEEN 1900 AND 2100);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.last_update := now(); RETURN NEW; END $$;

CREATE TABLE film (
    film_id serial PRIMARY KEY, title varchar(255) NOT NULL, description text, year year_made,
    rate numeric(4, 2), rating rating, features text[], words tsvector, price money, cover bytea,
    seen point, notes xml, password text, last_update timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER touch BEFORE UPDATE ON film FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE "Film Actor" (
    "Actor Id" int, "Film Id" int REFERENCES film, PRIMARY KEY ("Actor Id", "Film Id")
);
CREATE TABLE employee (
    id int PRIMARY KEY, boss int REFERENCES employee, deleted_at timestamptz, "Photo.Path" text
);
CREATE TABLE payment (
    id bigint, paid timestamptz NOT NULL, amount numeric(5, 2), updated_at timestamptz NOT NULL,
    PRIMARY KEY (id, paid)
) PARTITION BY RANGE (paid);
CREATE TABLE payment_2024 PARTITION OF payment FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE payment_2025 PARTITION OF payment FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX ON payment (updated_at, id, paid);
CREATE TABLE "Select" ("from" text PRIMARY KEY, "_id" text, "ünï: #'code" text, "a
b" int);
CREATE TABLE logs (line text);
CREATE TABLE codes (code text UNIQUE, name text);
CREATE TABLE city (name text, altitude int);
CREATE TABLE capital (PRIMARY KEY (name)) INHERITS (city);
CREATE TABLE session (token uuid PRIMARY KEY, data jsonb);
CREATE VIEW titles AS SELECT film_id AS id, title FROM film;
CREATE MATERIALIZED VIEW ratings AS SELECT rating, count(*) FROM film GROUP BY rating;

INSERT INTO film (title, description, year, rate, rating, features, words, price, cover, seen)
SELECT 'Film ' || n, repeat('a tale of ' || n || ' ', 30), 1990 + n % 30, 4.99, 'PG-13', '{a,b}',
       to_tsvector('tale ' || n), n::money, '\\x00ff', point(n % 90, n % 90)
FROM generate_series(1, 200) n;
INSERT INTO "Film Actor" SELECT n % 7, n FROM generate_series(1, 100) n;
INSERT INTO employee SELECT n, nullif(n / 2, 0), CASE WHEN n % 5 = 0 THEN now() END, 'p' || n
FROM generate_series(1, 20) n;
INSERT INTO payment SELECT n, '2024-06-01'::timestamptz + n * interval '10 days', 1, now()
FROM generate_series(1, 50) n;
INSERT INTO "Select" VALUES ('a', 'b', 'c', 1), ('a b', NULL, NULL, NULL);
INSERT INTO capital VALUES ('Bern', 540);
ANALYZE;
"""

LISTED = {"film", "Film Actor", "employee", "payment", "Select", "capital"}


@dataclass
class Shop:
    """A database with a schema whose name is the prefix of the test's indices."""

    schema: str
    environment: dict[str, str]
    file: Path
    pg: psycopg.Connection[Any]

    def init(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            app, ["init", *arguments], env=self.environment, catch_exceptions=False
        )

    def tables(self) -> dict[str, Table]:
        return {table.name: table for table in read_tables(self.file).tables}


@pytest.fixture
def shop(database: Any, prefix: str, tmp_path: Path) -> Iterator[Shop]:
    schema, file = prefix.rstrip("-"), tmp_path / "tables.yaml"
    environment = {**database.environment, "PG_ES_TABLES": str(file)}
    with psycopg.connect(database.conninfo, autocommit=True) as pg:
        pg.execute(f"CREATE SCHEMA {schema}")
        pg.execute(f"SET search_path TO {schema}")
        yield Shop(schema, environment, file, pg)


def test_what_is_written_loads_every_row_as_it_stands(
    shop: Shop, es: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.pg.execute(SCHEMA)
    result = shop.init()
    assert result.exit_code == 0, result.output
    assert f"{shop.file}: 6 tables, 6 left out" in result.stdout
    found = shop.tables()
    assert set(found) == LISTED
    assert found["film"].cursor.column == "last_update"
    assert found["film"].exclude == ("password",)
    assert found["film"].fields["description"] == {"type": "text"}
    assert found["employee"].capture == "snapshot"
    assert found["payment"].partitions == NativePartitions(by="native")
    assert found["Select"].exclude == ("_id",)
    assert found["Film Actor"].index == f"{shop.schema}-film_actor"

    checked = CliRunner().invoke(app, ["check"], env=shop.environment, catch_exceptions=False)
    assert "6 tables checked: 0 errors, 0 warnings" in checked.stdout

    for name, value in shop.environment.items():
        monkeypatch.setenv(name, value)
    sync_all = build_defs(executor=dg.in_process_executor).resolve_job_def("sync_all")
    assert sync_all.execute_in_process(raise_on_error=False).success
    for name, table in found.items():
        rows = shop.pg.execute(
            sql.SQL("SELECT count(*) FROM {} {}").format(
                sql.Identifier(shop.schema, name),
                sql.SQL("WHERE deleted_at IS NULL" if table.cursor.soft_delete else ""),
            )
        ).fetchone()
        es.indices.refresh(index=table.index)
        assert rows == (es.count(index=table.index)["count"],), name


def test_what_is_left_out_is_there_as_a_comment_with_its_remedy(shop: Shop) -> None:
    shop.pg.execute(SCHEMA)
    shop.init()
    text = shop.file.read_text()
    for name, told in {
        "logs": "it has neither a primary key nor a unique index",
        "city": "tables inherit from it",
        "session": "its key token looks secret",
        "titles": "a view has no key of its own",
        "ratings": "a materialized view has no key of its own",
    }.items():
        assert f"# {shop.schema}.{name} is left out: {told}" in text
    assert f'ALTER TABLE "{shop.schema}"."codes" ALTER COLUMN "code" SET NOT NULL;' in text
    # A view is loaded once its key is named.
    entry = f"  # - table: {shop.schema}.titles\n  #   index: {shop.schema}-titles\n  #   key: [id]"
    shop.file.write_text(text.replace(entry, entry.replace("# ", "", 3).replace("#   ", "  ")))
    assert shop.tables()["titles"].key == ("id",)


def test_the_same_database_gives_the_same_file(shop: Shop) -> None:
    shop.pg.execute(SCHEMA)
    shop.init()
    first = shop.file.read_text()
    assert shop.init().exit_code == 2
    assert shop.init("--force").exit_code == 0
    assert shop.file.read_text() == first


def test_a_schema_can_be_chosen(shop: Shop, tmp_path: Path) -> None:
    shop.pg.execute(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE public.b (id int PRIMARY KEY)"
    )
    other = tmp_path / "other.yaml"
    assert shop.init("--schema", "public", "--output", str(other)).exit_code == 0
    [entry] = yaml.safe_load(other.read_text())["tables"]
    assert entry["table"] == "public.b"
    refused = shop.init("--schema", "nowhere", "--force")
    assert refused.exit_code == 2
    assert f"no schema 'nowhere' in the database. Its schemas: public, {shop.schema}" in (
        refused.stderr
    )


def test_a_large_table_is_cut_by_what_its_indexes_tell(shop: Shop) -> None:
    """The statistics say that it is large; only the ends of its index are read."""
    shop.pg.execute(
        "CREATE TABLE orders (id uuid PRIMARY KEY, created_at timestamptz NOT NULL, doc text);"
        "CREATE INDEX ON orders (created_at);"
        "INSERT INTO orders SELECT gen_random_uuid(),"
        " '2020-02-10'::timestamptz + n * interval '1 day', '' FROM generate_series(0, 1000) n;"
        "ANALYZE orders;"
        "UPDATE pg_class SET reltuples = 20000000 WHERE oid = 'orders'::regclass"
    )
    shop.init()
    assert shop.tables()["orders"].partitions == TimePartitions(
        by="month", column="created_at", start=date(2020, 2, 1)
    )


def test_what_the_role_may_not_read_is_left_out(shop: Shop) -> None:
    shop.pg.execute(
        "CREATE TABLE a (id int PRIMARY KEY, wage int); CREATE TABLE b (id int PRIMARY KEY)"
    )
    name = f"reader_{shop.schema}"
    shop.pg.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'reader';"
        f"GRANT USAGE ON SCHEMA {shop.schema} TO {name}; GRANT SELECT (id) ON a TO {name}"
    )
    try:
        shop.environment |= {"PG_USER": name, "PG_PASSWORD": "reader"}
        assert shop.init().exit_code == 0
        assert {name: one.exclude for name, one in shop.tables().items()} == {"a": ("wage",)}
        assert f'GRANT SELECT ON "{shop.schema}"."b" TO "{name}";' in shop.file.read_text()
    finally:
        shop.pg.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
