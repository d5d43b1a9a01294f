"""What is read of the tables, and what is said of a table that does not fit its entry."""

import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import Column, Source, introspect
from pg_es_pipeline.tables import Table
from tests.connections import connect

Postgres = psycopg.Connection[Any]


@pytest.fixture
def pg(stack: dict[str, str]) -> Iterator[Postgres]:
    """A transaction in a schema of its own, which is never committed."""
    with connect(stack, autocommit=False) as connection:
        schema = f"test_{secrets.token_hex(6)}"
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET LOCAL search_path TO {schema}")
        yield connection
        connection.rollback()


def schema_of(pg: Postgres) -> str:
    row = pg.execute("SELECT current_schema()").fetchone()
    assert row is not None
    return str(row[0])


def look_up(pg: Postgres, name: str = "orders", **entry: Any) -> Source | SourceError:
    [found] = introspect(
        pg, [Table(table=f"{schema_of(pg)}.{name}", index="orders", **entry)]
    ).values()
    return found


def source(pg: Postgres, name: str = "orders", **entry: Any) -> Source:
    found = look_up(pg, name, **entry)
    assert isinstance(found, Source), found
    return found


def problem(pg: Postgres, name: str = "orders", **entry: Any) -> str:
    """What is said of a table that will not do: one line that begins with its name."""
    found = look_up(pg, name, **entry)
    assert isinstance(found, SourceError)
    message = str(found)
    assert message.startswith(f"{schema_of(pg)}.{name}: ")
    assert "\n" not in message
    return message


def orders(pg: Postgres, columns: str = "", key: str = "PRIMARY KEY (id)") -> None:
    pg.execute(
        "CREATE TABLE orders (id bigint, note text, updated_at timestamptz"
        f"{''.join(f', {part}' for part in (columns, key) if part)})"
    )


def names(columns: tuple[Column, ...]) -> list[str]:
    return [column.name for column in columns]


# What is found


def test_a_table_is_described(pg: Postgres) -> None:
    orders(pg, "amount numeric(10, 2) NOT NULL, deleted_at timestamp")
    pg.execute("COMMENT ON TABLE orders IS 'What was sold'; COMMENT ON COLUMN orders.id IS 'Key'")
    pg.execute("INSERT INTO orders SELECT n, '', now(), 1 FROM generate_series(1, 250) n")
    pg.execute("ALTER TABLE orders DROP COLUMN note")
    pg.execute("ANALYZE orders")
    found = source(pg, cursor={"soft_delete": "deleted_at"})
    assert names(found.columns) == ["id", "updated_at", "amount", "deleted_at"]
    assert names(found.key) == ["id"]
    assert found.cursor.name == "updated_at"
    assert found.soft_delete is not None
    assert found.soft_delete.name == "deleted_at"
    assert found.estimate == 250
    assert found.comment == "What was sold"
    by_name = {column.name: column for column in found.columns}
    assert by_name["id"].comment == "Key"
    assert by_name["amount"].declared == "numeric(10,2)"
    assert by_name["amount"].not_null
    assert not by_name["updated_at"].not_null


def test_a_table_that_was_never_analysed_is_estimated_at_nothing(pg: Postgres) -> None:
    orders(pg)
    assert source(pg).estimate == 0


def test_a_composite_key_has_the_order_of_the_primary_key(pg: Postgres) -> None:
    orders(pg, "line int, region text", "PRIMARY KEY (region, id, line)")
    assert names(source(pg).key) == ["region", "id", "line"]


def test_columns_that_an_index_merely_carries_are_not_of_the_key(pg: Postgres) -> None:
    orders(pg, "", "PRIMARY KEY (id) INCLUDE (note)")
    assert names(source(pg).key) == ["id"]


def test_a_configured_key_wins_over_the_primary_key(pg: Postgres) -> None:
    orders(pg)
    assert names(source(pg, key=["note", "id"]).key) == ["note", "id"]


def test_the_smallest_unique_index_that_tells_all_rows_apart_is_the_key(pg: Postgres) -> None:
    orders(
        pg,
        "a int NOT NULL, b int NOT NULL, c int NOT NULL, d int",
        "UNIQUE (d), UNIQUE (a) DEFERRABLE, UNIQUE (b, c, a), UNIQUE (b, a) INCLUDE (note)",
    )
    pg.execute("CREATE UNIQUE INDEX ON orders (c) WHERE b > 0")
    pg.execute("CREATE UNIQUE INDEX ON orders ((c + 1))")
    assert names(source(pg).key) == ["b", "a"]


def test_a_primary_key_wins_over_a_smaller_unique_index(pg: Postgres) -> None:
    orders(pg, "a int NOT NULL UNIQUE", "PRIMARY KEY (id, a)")
    assert names(source(pg).key) == ["id", "a"]


def test_a_table_that_others_inherit_from_needs_a_configured_key(pg: Postgres) -> None:
    """Its own index does not cover their rows."""
    orders(pg)
    pg.execute("CREATE TABLE special () INHERITS (orders)")
    assert "inherit from it" in problem(pg)
    assert names(source(pg, key=["id"]).key) == ["id"]
    assert names(source(pg, "special", key=["id"]).key) == ["id"]


def test_generated_columns_are_columns(pg: Postgres) -> None:
    orders(pg, "twice bigint GENERATED ALWAYS AS (id * 2) STORED")
    assert "twice" in names(source(pg).columns)


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE VIEW shown AS SELECT * FROM orders",
        "CREATE MATERIALIZED VIEW shown AS SELECT * FROM orders",
    ],
)
def test_a_view_needs_a_configured_key(pg: Postgres, definition: str) -> None:
    orders(pg)
    pg.execute(definition)
    assert names(source(pg, "shown", key=["id"]).key) == ["id"]
    assert "has no primary key" in problem(pg, "shown")


def test_a_partitioned_table_is_one_table(pg: Postgres) -> None:
    pg.execute(
        "CREATE TABLE orders (id bigint, region text, updated_at timestamptz,"
        " PRIMARY KEY (region, id)) PARTITION BY LIST (region);"
        "CREATE TABLE orders_eu PARTITION OF orders FOR VALUES IN ('eu')"
    )
    assert names(source(pg).key) == ["region", "id"]
    assert names(source(pg, "orders_eu").key) == ["region", "id"]


def test_a_domain_counts_as_what_it_is_made_of(pg: Postgres) -> None:
    pg.execute("CREATE DOMAIN code AS varchar(9); CREATE DOMAIN airport AS code CHECK (true)")
    pg.execute("CREATE DOMAIN tags AS int[]")
    orders(pg, "origin airport, tags tags")
    by_name = {column.name: column for column in source(pg).columns}
    assert (by_name["origin"].type, by_name["origin"].array) == ("varchar", False)
    assert (by_name["tags"].type, by_name["tags"].array) == ("int4", True)


def test_an_array_has_the_type_of_its_elements(pg: Postgres) -> None:
    pg.execute("CREATE TYPE size AS ENUM ('small')")
    orders(pg, "days date[], grid int[][], sizes size[], one size")
    found = {column.name: (column.type, column.array) for column in source(pg).columns}
    assert found["days"] == ("date", True)
    assert found["grid"] == ("int4", True)
    assert found["sizes"] == (f"{schema_of(pg)}.size", True)
    assert found["one"] == (f"{schema_of(pg)}.size", False)


@pytest.mark.parametrize("name", ["Mixed Case", "orders.2024", 'say "hi"', "größe", "select", "%s"])
def test_names_may_need_quotes(pg: Postgres, name: str) -> None:
    column = name.replace(".", "-")
    pg.execute(
        sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, updated_at timestamptz, {} text)").format(
            sql.Identifier(name), sql.Identifier(column)
        )
    )
    assert names(source(pg, name).columns) == ["id", "updated_at", column]


def test_included_and_excluded_columns_choose_the_fields(pg: Postgres) -> None:
    orders(pg, "secret text, gone boolean")
    assert names(source(pg, include=["note", "id"]).columns) == ["id", "note"]
    found = source(pg, exclude=["secret", "updated_at", "gone"], cursor={"soft_delete": "gone"})
    assert names(found.columns) == ["id", "note"]
    assert found.cursor.name == "updated_at"
    assert found.soft_delete is not None


@pytest.mark.parametrize("column_type", ["timestamptz", "timestamp", "timestamptz(0)", "moment"])
def test_a_cursor_is_a_moment(pg: Postgres, column_type: str) -> None:
    pg.execute("CREATE DOMAIN moment AS timestamptz")
    orders(pg, f"changed {column_type}")
    assert source(pg, cursor={"column": "changed"}).cursor.name == "changed"


def test_one_table_that_will_not_do_does_not_hide_the_others(pg: Postgres) -> None:
    orders(pg)
    schema = schema_of(pg)
    tables = [
        Table(table=f"{schema}.nothing", index="a"),
        Table(table=f"{schema}.orders", index="b"),
        Table(table=f"{schema}.orders", index="c", key=["nothing"]),
    ]
    found = introspect(pg, tables)
    assert {index: type(value) for index, value in found.items()} == {
        "a": SourceError,
        "b": Source,
        "c": SourceError,
    }


# What is said


def test_a_table_without_a_key_is_told_to_name_one(pg: Postgres) -> None:
    orders(pg, key="UNIQUE (id)")
    assert "has no primary key" in problem(pg)
    assert "`key`" in problem(pg)


@pytest.mark.parametrize(
    ("place", "entry"),
    [
        ("cursor.column", {"cursor": {"column": "nothing"}}),
        ("cursor.soft_delete", {"cursor": {"soft_delete": "nothing"}}),
        ("key", {"key": ["id", "nothing"]}),
        ("include", {"include": ["id", "nothing"]}),
        ("exclude", {"exclude": ["nothing"]}),
        ("fields", {"fields": {"nothing": {"type": "keyword"}}}),
        (
            "partitions.column",
            {"partitions": {"by": "day", "column": "nothing", "start": "2024-01-01"}},
        ),
        (
            "partitions.column",
            {"partitions": {"by": "list", "column": "nothing", "values": ["a"]}},
        ),
    ],
)
def test_an_unknown_column_is_named_with_its_place_and_the_known_ones(
    pg: Postgres, place: str, entry: dict[str, Any]
) -> None:
    orders(pg)
    message = problem(pg, **entry)
    assert f"{place} names the column 'nothing', which the table does not have" in message
    assert "id, note, updated_at" in message


def test_a_dot_in_a_name_does_not_go_with_a_nested_field(pg: Postgres) -> None:
    orders(pg, '"a.b" text, items jsonb')
    message = problem(pg, fields={"items": {"type": "nested"}})
    assert "'a.b' has a dot in its name, and 'items' is `nested`" in message
    assert "a.b" in names(source(pg).columns)


def test_a_type_that_borrows_a_name_is_not_taken_for_the_original(pg: Postgres) -> None:
    schema = schema_of(pg)
    pg.execute(f"CREATE TYPE {schema}.date AS ENUM ('x'); CREATE DOMAIN {schema}.days AS date[]")
    orders(pg, f"day {schema}.date, real_day pg_catalog.date, days {schema}.days[]")
    found = {column.name: (column.type, column.array) for column in source(pg).columns}
    assert found["day"] == (f"{schema}.date", False)
    assert found["real_day"] == ("date", False)
    assert found["days"] == ("_date", True)


def test_names_of_columns_are_exact(pg: Postgres) -> None:
    orders(pg)
    assert "names the column 'Note'" in problem(pg, exclude=["Note"])


def test_a_dropped_column_is_unknown(pg: Postgres) -> None:
    orders(pg)
    pg.execute("ALTER TABLE orders DROP COLUMN note")
    assert "names the column 'note'" in problem(pg, exclude=["note"])


def test_a_table_without_the_usual_cursor_is_told_where_to_name_one(pg: Postgres) -> None:
    pg.execute("CREATE TABLE orders (id int PRIMARY KEY, modified timestamptz)")
    message = problem(pg, capture="cursor")
    assert "cursor.column names the column 'updated_at', which the table does not have" in message
    assert "modified" in message


@pytest.mark.parametrize(
    ("columns", "described", "cursor"),
    [
        ("updated_at timestamptz", {}, "updated_at"),
        ("updated_at timestamp", {}, "updated_at"),
        ("updated_at text", {}, None),
        ("modified timestamptz", {}, None),
        ("modified timestamptz", {"cursor": {"column": "modified"}}, "modified"),
        ("updated_at timestamptz", {"capture": "snapshot"}, None),
        ("gone boolean", {"cursor": {"soft_delete": "gone"}}, None),
    ],
)
def test_the_cursor_is_the_one_that_is_named_or_the_usual_one(
    pg: Postgres, columns: str, described: dict[str, Any], cursor: str | None
) -> None:
    pg.execute(f"CREATE TABLE orders (id int PRIMARY KEY, {columns})")
    found = source(pg, **described).cursor
    assert (found.name if found else None) == cursor


@pytest.mark.parametrize(
    "column_type", ["date", "numeric", "text", "bigint[]", "timestamptz[]", "time"]
)
def test_a_cursor_of_another_type_is_refused(pg: Postgres, column_type: str) -> None:
    orders(pg, f"changed {column_type}")
    message = problem(pg, cursor={"column": "changed"})
    declared = {"time": "time without time zone", "timestamptz[]": "timestamp with time zone[]"}
    assert f"'changed' is of type {declared.get(column_type, column_type)}" in message
    assert "cursor.column" in message


def test_a_missing_table_is_answered_with_its_namesakes(pg: Postgres) -> None:
    orders(pg)
    other = f"other_{secrets.token_hex(6)}"
    pg.execute(f"ALTER TABLE orders RENAME TO unheard_of; CREATE SCHEMA {other}")
    pg.execute(f"CREATE TABLE {other}.orders_of_2024 (id int)")
    assert f"There is {other}.orders_of_2024." in problem(pg, "orders_of_2024")
    assert f"There is {schema_of(pg)}.unheard_of." in problem(pg, "Unheard_Of")
    assert "There is" not in problem(pg, f"no_{secrets.token_hex(6)}")


@pytest.mark.parametrize(
    "definition", ["CREATE SEQUENCE things", "CREATE TYPE things AS (a int)", None]
)
def test_what_is_no_table_is_missing(pg: Postgres, definition: str | None) -> None:
    if definition:
        pg.execute(definition)
    assert "no such table or view" in problem(pg, "things")


@pytest.mark.parametrize("entry", [{"exclude": ["id"]}, {"include": ["note"]}])
def test_the_key_stays_in_the_document(pg: Postgres, entry: dict[str, Any]) -> None:
    orders(pg)
    assert "the key column 'id' is left out of the document" in problem(pg, **entry)


@pytest.mark.parametrize("name", [" ", "_id", "_source", "_routing", "_pg_es"])
def test_a_column_that_cannot_be_a_field_is_named_and_can_be_excluded(
    pg: Postgres, name: str
) -> None:
    orders(pg, f'"{name}" text')
    message = problem(pg)
    assert f"the column {name!r} cannot be the name of a field" in message
    assert "`exclude`" in message
    assert names(source(pg, exclude=[name]).columns) == ["id", "note", "updated_at"]


def test_postgresqls_own_partitions_need_a_cursor(pg: Postgres) -> None:
    pg.execute("CREATE TABLE orders (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    pg.execute("CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (10)")
    assert "Name a cursor" in problem(pg, partitions={"by": "native"})
