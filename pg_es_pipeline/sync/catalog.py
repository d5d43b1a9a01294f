"""What PostgreSQL's catalog says of the tables: columns, types, key, size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.tables import HashPartitions, Table

_COLUMNS = """
SELECT wanted.number, c.relkind::text, has_table_privilege(c.oid, 'SELECT'),
       greatest(c.reltuples, 0)::bigint,
       obj_description(c.oid, 'pg_class'), a.attname::text,
       coalesce(element.typname, base.typname)::text,
       element.oid IS NOT NULL, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       col_description(c.oid, a.attnum), array_position(key.columns, a.attnum)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (schema, name, number)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
     AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL (
    -- A domain counts as what it is made of, through as many domains as there are.
    WITH RECURSIVE layers AS (
        SELECT t.* FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.* FROM layers JOIN pg_type t ON t.oid = layers.typbasetype
        WHERE layers.typtype = 'd'
    )
    SELECT * FROM layers WHERE typtype <> 'd'
) base
LEFT JOIN pg_type element ON base.typcategory = 'A' AND element.oid = base.typelem
LEFT JOIN LATERAL (
    -- Columns that the index merely carries (INCLUDE) come behind those of the key.
    SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns
    FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
) key ON true
ORDER BY wanted.number, a.attnum
"""

_MISSING = """
SELECT n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE lower(c.relname) = lower(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1 LIMIT 3
"""

# https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/document-metadata-fields
_RESERVED = {
    *("_doc_count", "_feature", "_field_names", "_id", "_ignored", "_ignored_source", "_index"),
    *("_index_mode", "_nested_path", "_primary_term", "_routing", "_seq_no", "_size", "_source"),
    *("_tier", "_tsid", "_type", "_version"),
}

CURSOR_TYPES = ("timestamptz", "timestamp")


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its type; of an array, the type of its elements."""

    name: str
    type: str
    """`pg_type.typname`, of a domain's base type."""
    array: bool
    declared: str
    """The type as a person writes it, for messages and the column schema."""
    not_null: bool
    comment: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it stands in PostgreSQL, held against its entry in the tables file."""

    table: Table
    row_versions: bool
    """Whether the role may read `xmin`: it takes SELECT on the whole table, and rows of its own."""
    estimate: int
    comment: str | None
    columns: tuple[Column, ...]
    """Those that become fields of the document."""
    key: tuple[Column, ...]
    cursor: Column
    soft_delete: Column | None
    partition_column: Column | None


class _Row(NamedTuple):
    number: int
    relkind: str
    readable: bool
    estimate: int
    table_comment: str | None
    name: str
    type: str
    array: bool
    declared: str
    not_null: bool
    comment: str | None
    key_position: int | None


def introspect(connection: Connection, tables: Sequence[Table]) -> dict[str, Source | SourceError]:
    """Looks up all tables in one query. By index: the source, or why the table will not do."""
    rows: dict[int, list[_Row]] = {}
    names = [[table.schema_name for table in tables], [table.name for table in tables]]
    for row in map(_Row._make, connection.execute(_COLUMNS, names)):
        rows.setdefault(row.number, []).append(row)
    result: dict[str, Source | SourceError] = {}
    for number, table in enumerate(tables, start=1):
        try:
            if number not in rows:
                raise SourceError(_missing(connection, table))
            result[table.index] = _source(table, rows[number])
        except SourceError as error:
            result[table.index] = error
    return result


def _missing(connection: Connection, table: Table) -> str:
    similar = [name for (name,) in connection.execute(_MISSING, [table.name])]
    hint = f" There is {' and '.join(similar)}." if similar else ""
    return (
        f"{table.table}: no such table or view in the database, or the role may not use its schema."
        f"{hint} Correct `table` in the tables file, or GRANT USAGE on the schema."
    )


def _source(table: Table, rows: Sequence[_Row]) -> Source:
    columns = {
        row.name: Column(row.name, row.type, row.array, row.declared, row.not_null, row.comment)
        for row in rows
    }

    def named(name: str, place: str) -> Column:
        if name not in columns:
            raise SourceError(
                f"{table.table}: {place} names the column {name!r}, which the table does not have. "
                f"Its columns: {', '.join(columns)}."
            )
        return columns[name]

    cursor = named(table.cursor.column, "cursor.column")
    if cursor.array or cursor.type not in CURSOR_TYPES:
        raise SourceError(
            f"{table.table}: the cursor column {cursor.name!r} is of type {cursor.declared}. It "
            "has to be a timestamptz or timestamp that every INSERT and UPDATE sets to the current "
            "time: name another under cursor.column."
        )
    soft_delete = table.cursor.soft_delete
    partitions = table.partitions
    key = tuple(named(name, "key") for name in table.key or _primary_key(rows))
    if not key:
        raise SourceError(
            f"{table.table}: has no primary key, so its rows cannot be told apart. "
            "Name the columns that identify a row under `key` in the tables file."
        )
    for place in ("include", "exclude", "fields"):
        for name in getattr(table, place):
            named(name, place)
    return Source(
        table=table,
        row_versions=rows[0].readable and rows[0].relkind in ("r", "p", "m"),
        estimate=rows[0].estimate,
        comment=rows[0].table_comment,
        columns=_selected(table, columns, key),
        key=key,
        cursor=cursor,
        soft_delete=named(soft_delete, "cursor.soft_delete") if soft_delete else None,
        partition_column=(
            None
            if partitions is None or isinstance(partitions, HashPartitions)
            else named(partitions.column, "partitions.column")
        ),
    )


def _primary_key(rows: Iterable[_Row]) -> list[str]:
    in_key = [row for row in rows if row.key_position is not None]
    return [row.name for row in sorted(in_key, key=lambda row: row.key_position or 0)]


def _selected(
    table: Table, columns: Mapping[str, Column], key: tuple[Column, ...]
) -> tuple[Column, ...]:
    for column in key:
        if column.name in table.exclude or (table.include and column.name not in table.include):
            raise SourceError(
                f"{table.table}: the key column {column.name!r} is left out of the document, which "
                "needs it. Take it out of `exclude`, or add it to `include`."
            )
    selected = tuple(
        column
        for name, column in columns.items()
        if name not in table.exclude and (not table.include or name in table.include)
    )
    for column in selected:
        if "." in column.name or not column.name.strip() or column.name in _RESERVED:
            raise SourceError(
                f"{table.table}: the column {column.name!r} cannot be the name of a field: there a "
                "dot means an object, and _id and its like mean Elasticsearch's own. List it under "
                "`exclude`."
            )
    return selected
