"""What only the rows themselves tell: NULLs, keys that occur twice, rows in no partition."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from psycopg import sql

from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.checks.finding import Finding, quoted
from pg_es_pipeline.sync.checks.table import Facts, unique_index
from pg_es_pipeline.sync.documents import field, relation
from pg_es_pipeline.sync.partitions import any_of, bounds
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.tables import TimePartitions

STATEMENT_TIMEOUT = 60_000
"""Milliseconds that one statement may take, waiting for a lock included."""


def findings(
    connection: Connection, source: Source, partitions: Sequence[str], known: Facts
) -> Iterator[Finding]:
    """Reads the whole table, where something is not ruled out by its constraints."""
    counts = count(connection, source, partitions)
    yield from _key(connection, source, known, (counts or {}).get("key"))
    yield from strays(source, known, counts)


def strays(source: Source, known: Facts, counts: Mapping[str, int] | None) -> Iterator[Finding]:
    """Rows that no partition or no look for changes finds, as `count` has counted them."""
    if counts is None:
        yield _gave_up(source, "the rows with NULLs or outside every partition")
        return
    yield from _cursor(source, known, counts.get("cursor"))
    yield from _partitions(source, counts)


def count(
    connection: Connection, source: Source, partitions: Sequence[str]
) -> dict[str, int] | None:
    """The rows that meet each condition that no constraint rules out, in one reading; None where
    that takes too long."""
    conditions = _conditions(source, partitions)
    if not conditions:
        return {}
    row = bounded(
        connection,
        sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(
                sql.SQL("count(*) FILTER (WHERE {})").format(condition)
                for condition in conditions.values()
            ),
            relation(source),
        ),
    )
    return None if row is None else dict(zip(conditions, row[0], strict=True))


def _conditions(source: Source, partitions: Sequence[str]) -> dict[str, sql.Composable]:
    is_null = sql.SQL("{} IS NULL")
    conditions: dict[str, sql.Composable] = {}
    if nullable := [column for column in source.key if not column.not_null]:
        conditions["key"] = sql.SQL(" OR ").join(is_null.format(field(one)) for one in nullable)
    if source.cursor is not None and not source.cursor.not_null:
        conditions["cursor"] = is_null.format(field(source.cursor))
    column, kind = source.partition_column, source.table.partitions
    if column is None:
        return conditions
    if not column.not_null:
        conditions["no partition"] = is_null.format(field(column))
    outside: sql.Composable = sql.SQL("NOT ({})").format(any_of(source))
    if isinstance(kind, TimePartitions) and partitions and kind.end is None:
        now_ends = bounds(kind, partitions[-1])[1]
        if column.type == "timestamptz":
            now_ends = now_ends.replace(tzinfo=ZoneInfo(kind.time_zone)).astimezone(UTC)
        to_come = sql.SQL("{} >= {}").format(field(column), sql.Literal(now_ends))
        conditions["to come"] = to_come
        outside = sql.SQL("{} AND NOT ({})").format(outside, to_come)
    conditions["outside"] = outside
    return conditions


def _key(
    connection: Connection, source: Source, known: Facts, nulls: int | None
) -> Iterator[Finding]:
    table, names = source.table, [column.name for column in source.key]
    shown = ", ".join(names)
    is_table = known.relkind in ("r", "p")
    if nulls:
        remedy = "Correct the rows, or name other columns under `key`."
        if is_table:
            remedy = "Correct the rows, then:  " + _set_not_null(source, names)
        yield Finding(
            "error",
            table.table,
            f"The key ({shown}) is NULL in {_rows(nulls)}.",
            "Such a row cannot be told from others, and stops the load.",
            remedy,
        )
    elif nulls == 0 and is_table:
        yield Finding(
            "warning",
            table.table,
            f"The key ({shown}) may become NULL.",
            "Such a row cannot be told from others, and would stop the load.",
            _set_not_null(source, [one.name for one in source.key if not one.not_null]),
        )
    if not known.is_unique(set(names)):
        yield from _uniqueness(connection, source, known, names)


def _uniqueness(
    connection: Connection, source: Source, known: Facts, names: list[str]
) -> Iterator[Finding]:
    key = sql.SQL(", ").join(field(column) for column in source.key)
    found = bounded(
        connection,
        sql.SQL(
            "SELECT array_to_string(ARRAY[{texts}], ', '), count(*) FROM {relation} "
            "WHERE num_nulls({key}) = 0 GROUP BY {key} HAVING count(*) > 1 "
            "ORDER BY {key} LIMIT 3"
        ).format(
            texts=sql.SQL(", ").join(
                sql.SQL("{}::text").format(field(column)) for column in source.key
            ),
            key=key,
            relation=relation(source),
        ),
    )
    table, shown = source.table, ", ".join(names)
    if found is None:
        yield _gave_up(source, f"the keys ({shown}) that occur more than once")
    elif found:
        some = "; ".join(f"{value} in {_rows(count)}" for value, count in found)
        yield Finding(
            "error",
            table.table,
            f"The key ({shown}) is not unique: {some}.",
            "Rows with the same key share one document: all but one are missing from the index.",
            "Name columns under `key` that are unique together, or correct the rows.",
        )
    elif known.can_have_indexes and not known.has_children:
        yield Finding(
            "warning",
            table.table,
            f"No unique index keeps the key ({shown}) unique.",
            "Rows with the same key would share one document.",
            unique_index(source, known, names),
        )


def _cursor(source: Source, known: Facts, nulls: int | None) -> Iterator[Finding]:
    if source.cursor is None or nulls is None:
        return
    table, column = source.table, source.cursor.name
    name = quoted(table.schema_name, table.name)
    is_table = known.relkind in ("r", "p")
    if nulls:
        remedy = "Let every row have a value there."
        if is_table and not source.whole_number_cursor:
            remedy = (
                f"UPDATE {name} SET {quoted(column)} = now() WHERE {quoted(column)} IS NULL; "
                + _set_not_null(source, [column])
            )
        yield Finding(
            "warning",
            table.table,
            f"The cursor {column} is NULL in {_rows(nulls)}.",
            "Such a row is loaded when its whole partition is read, and its changes are missed.",
            remedy,
        )
    elif is_table:
        yield Finding(
            "note",
            table.table,
            f"The cursor {column} may become NULL.",
            "The changes of such a row would be missed.",
            _set_not_null(source, [column]),
        )


def _partitions(source: Source, counts: Mapping[str, int]) -> Iterator[Finding]:
    if source.partition_column is None:
        return
    table, column = source.table.table, source.partition_column.name
    if nulls := counts.get("no partition"):
        yield Finding(
            "warning",
            table,
            f"The partition column {column} is NULL in {_rows(nulls)}.",
            "Such a row is in no partition, and is not loaded.",
            f"Give the rows a value, or partition by another column: SELECT * FROM "
            f"{quoted(source.table.schema_name, source.table.name)} "
            f"WHERE {quoted(column)} IS NULL;",
        )
    if outside := counts.get("outside"):
        yield Finding(
            "warning",
            table,
            f"Outside every partition, by {column}: {_rows(outside)}.",
            "They are not loaded.",
            "Widen `partitions` in the tables file: an earlier `start`, a later `end`, or the "
            "missing `values`.",
        )
    if to_come := counts.get("to come"):
        yield Finding(
            "note",
            table,
            f"Beyond the current partition, by {column}: {_rows(to_come)}.",
            "They are loaded once their period has begun.",
        )


def bounded(connection: Connection, query: sql.Composed) -> list[tuple[Any, ...]] | None:
    """The rows of a query; None where it takes too long."""
    try:
        with connection.transaction():
            connection.execute(
                "SELECT set_config('statement_timeout', %s, true)", [str(STATEMENT_TIMEOUT)]
            )
            return connection.execute(query).fetchall()
    except psycopg.errors.QueryCanceled:
        return None


def _gave_up(source: Source, what: str) -> Finding:
    return Finding(
        "note",
        source.table.table,
        f"Not counted, for want of time ({STATEMENT_TIMEOUT / 1000:g} s): {what}.",
        "Whether there are any is not known.",
    )


def _set_not_null(source: Source, columns: Sequence[str]) -> str:
    actions = ", ".join(f"ALTER COLUMN {quoted(column)} SET NOT NULL" for column in columns)
    return f"ALTER TABLE {quoted(source.table.schema_name, source.table.name)} {actions};"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
