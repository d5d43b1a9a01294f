"""What PostgreSQL's catalog says of the tables: columns, types, key, size."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.tables import HashPartitions, NativePartitions, Table

_COLUMNS = """
WITH RECURSIVE found AS MATERIALIZED (
    SELECT wanted.number, c.oid, c.relkind, c.reltuples, a.attnum, a.attname, a.atttypid,
           a.atttypmod, a.attnotnull
    FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (schema, name, number)
    JOIN pg_namespace n ON n.nspname = wanted.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
         AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
), layers AS (
    -- A domain counts as what it is made of, through as many domains as there are, and an array as
    -- its elements; if those are domains of arrays, they count as a type of their own.
    SELECT DISTINCT atttypid AS outermost, atttypid AS type, NULL::int AS modifier, 0 AS arrays
    FROM found
    UNION ALL
    SELECT layers.outermost, CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END,
           CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE layers.modifier END,
           layers.arrays + (t.typtype <> 'd')::int
    FROM layers JOIN pg_type t ON t.oid = layers.type
    WHERE t.typtype = 'd' OR t.typcategory = 'A' AND layers.arrays = 0
)
SELECT c.number, c.relkind::text, has_table_privilege(c.oid, 'SELECT'),
       greatest(c.reltuples, 0)::bigint,
       obj_description(c.oid, 'pg_class'), c.attname::text,
       -- A type that somebody made may have the name of one of PostgreSQL's own.
       CASE WHEN base.typtype IN ('e', 'c', 'r', 'm')
                 AND base.typnamespace <> 'pg_catalog'::regnamespace
            THEN base.typnamespace::regnamespace::text || '.' ELSE '' END || base.typname,
       base.typtype::text, coalesce(layers.modifier, c.atttypmod), layers.arrays > 0,
       format_type(c.atttypid, c.atttypmod), c.attnotnull,
       col_description(c.oid, c.attnum), array_position(key.columns, c.attnum)
FROM found c
JOIN layers ON layers.outermost = c.atttypid
JOIN pg_type base ON base.oid = layers.type
     AND NOT (base.typtype = 'd' OR base.typcategory = 'A' AND layers.arrays = 0)
LEFT JOIN LATERAL (
    -- Columns that the index merely carries (INCLUDE) come behind those of the key.
    SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns
    FROM pg_index i JOIN pg_class named ON named.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
          AND (i.indisprimary OR i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
               AND NOT EXISTS (SELECT FROM pg_attribute part
                               WHERE part.attrelid = c.oid AND NOT part.attnotnull
                                     AND part.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])))
          -- Tables that inherit from this one (those of a partitioned table do not count) have
          -- keys of their own, which may be the same.
          AND NOT (c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid))
    ORDER BY i.indisprimary DESC, i.indnkeyatts, named.relname LIMIT 1
) key ON true
ORDER BY c.number, c.attnum
"""

# At most three tables of the same name in other schemas.
_SIMILAR = """
SELECT wanted.name, found.name
FROM (SELECT DISTINCT unnest(%s::text[])) AS wanted (name)
CROSS JOIN LATERAL (
    SELECT n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE lower(c.relname) = lower(wanted.name) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    ORDER BY 1 LIMIT 3
) AS found (name)
"""

FIELD = "_pg_es"
"""Our own part of a document: what it is compared and put in order by."""

# https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/document-metadata-fields
RESERVED = {
    *("_doc_count", "_feature", "_field_names", "_id", "_ignored", "_ignored_source", "_index"),
    *("_index_mode", "_nested_path", "_primary_term", "_routing", "_seq_no", "_size", "_source"),
    *("_tier", "_tsid", "_type", "_version"),
    FIELD,
}
"""Names that no field can have."""

_TIMES = ("timestamptz", "timestamp")
_WHOLE_NUMBERS = ("int2", "int4", "int8")

# The leaves of partitioned tables, each with the condition that its rows meet.
_LEAVES = """
SELECT wanted.number,
       CASE WHEN leaf.relnamespace = root.relnamespace THEN '' ELSE n.nspname || '.' END
           || leaf.relname,
       coalesce(pg_get_partition_constraintdef(leaf.oid), 'true')
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (schema, name, number)
JOIN pg_namespace r ON r.nspname = wanted.schema
JOIN pg_class root ON root.relnamespace = r.oid AND root.relname = wanted.name
CROSS JOIN LATERAL pg_partition_tree(root.oid) tree
JOIN pg_class leaf ON leaf.oid = tree.relid JOIN pg_namespace n ON n.oid = leaf.relnamespace
WHERE root.relkind = 'p' AND tree.isleaf
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its type; of an array, the type of its elements."""

    name: str
    type: str
    """`pg_type.typname`, of a domain's base type; of an enum, composite or range that somebody made
    with its schema."""
    array: bool
    declared: str
    """The type as a person writes it, for messages and the column schema."""
    not_null: bool
    comment: str | None
    kind: str = "b"
    """`pg_type.typtype` of `type`: `c` is a composite."""
    modifier: int = -1
    """What the type's brackets say, as `pg_attribute.atttypmod`."""


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
    cursor: Column | None
    """None: changes are found by comparing both sides."""
    soft_delete: Column | None
    partition_column: Column | None
    leaves: Mapping[str, str] = field(default_factory=dict[str, str])
    """PostgreSQL's own partitions by name, with their conditions; of `native` partitions alone."""

    @property
    def whole_number_cursor(self) -> bool:
        """Whether the cursor counts, and so has no clock."""
        return self.cursor is not None and self.cursor.type in _WHOLE_NUMBERS

    @property
    def whole_number_key(self) -> bool:
        """Whether the key is a single whole number, so that documents can be put in order by it."""
        return len(self.key) == 1 and not self.key[0].array and self.key[0].type in _WHOLE_NUMBERS

    @property
    def content_hash(self) -> bool:
        """Whether documents carry a hash of their content."""
        return self.table.content_hash or self.cursor is None


class _Row(NamedTuple):
    number: int
    relkind: str
    readable: bool
    estimate: int
    table_comment: str | None
    name: str
    type: str
    kind: str
    modifier: int
    array: bool
    declared: str
    not_null: bool
    comment: str | None
    key_position: int | None


def introspect(connection: Connection, tables: Sequence[Table]) -> dict[str, Source | SourceError]:
    """Looks up all tables in three queries at most. By index: the source, or why the table will not
    do."""
    rows: dict[int, list[_Row]] = {}
    for row in map(_Row._make, connection.execute(_COLUMNS, names(tables))):
        rows.setdefault(row.number, []).append(row)
    similar = _similar(connection, [table for n, table in enumerate(tables, 1) if n not in rows])
    leaves = _leaves(connection, tables)
    result: dict[str, Source | SourceError] = {}
    for number, table in enumerate(tables, start=1):
        try:
            if number not in rows:
                raise SourceError(_missing(table, similar.get(table.name, [])))
            result[table.index] = _source(table, rows[number], leaves.get(table.index, {}))
        except SourceError as error:
            result[table.index] = error
    return result


def names(tables: Sequence[Table]) -> list[list[str]]:
    """Schemas and names, as two parameters for `unnest`."""
    return [[table.schema_name for table in tables], [table.name for table in tables]]


def _similar(connection: Connection, tables: Sequence[Table]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if tables:
        wanted = [table.name for table in tables]
        for name, similar in connection.execute(_SIMILAR, [wanted]):
            found.setdefault(name, []).append(similar)
    return found


def _missing(table: Table, similar: Sequence[str]) -> str:
    hint = f" There is {' and '.join(similar)}." if similar else ""
    return (
        f"{table.table}: no such table or view in the database, or the role may not use its schema."
        f"{hint} Correct `table` in the tables file, or GRANT USAGE on the schema."
    )


def _leaves(connection: Connection, tables: Sequence[Table]) -> dict[str, dict[str, str]]:
    """By index, of tables with `native` partitions."""
    native = [table for table in tables if isinstance(table.partitions, NativePartitions)]
    found: dict[str, dict[str, str]] = {}
    if native:
        for number, leaf, condition in connection.execute(_LEAVES, names(native)):
            found.setdefault(native[number - 1].index, {})[leaf] = condition
    return found


def _source(table: Table, rows: Sequence[_Row], leaves: Mapping[str, str]) -> Source:
    columns = {
        row.name: Column(
            row.name,
            row.type,
            row.array,
            row.declared,
            row.not_null,
            row.comment,
            row.kind,
            row.modifier,
        )
        for row in rows
    }

    def named(name: str, place: str) -> Column:
        if name not in columns:
            raise SourceError(
                f"{table.table}: {place} names the column {name!r}, which the table does not have. "
                f"Its columns: {', '.join(columns)}."
            )
        return columns[name]

    cursor = named(table.cursor.column, "cursor.column") if _has_cursor(table, columns) else None
    if cursor is not None and (cursor.array or cursor.type not in _TIMES + _WHOLE_NUMBERS):
        raise SourceError(
            f"{table.table}: the cursor column {cursor.name!r} is of type {cursor.declared}. It "
            "has to be a timestamptz or timestamp that every INSERT and UPDATE sets to the current "
            "time, or, of rows that never change, a whole number that only grows: name another "
            "under cursor.column, or set `capture: snapshot`."
        )
    soft_delete = table.cursor.soft_delete
    partitions = table.partitions
    if isinstance(partitions, NativePartitions) and not leaves:
        raise SourceError(
            f"{table.table}: has no partitions in PostgreSQL, which `by: native` takes. Leave "
            "`partitions` out, or choose another kind."
        )
    if cursor is None and isinstance(partitions, NativePartitions):
        raise SourceError(
            f"{table.table}: without a cursor both sides are compared partition by partition, and "
            "documents do not tell which of PostgreSQL's own partitions they belong to. Name a "
            "cursor under cursor.column, or choose other partitions than `native`."
        )
    key = tuple(named(name, "key") for name in table.key or _natural_key(rows))
    if not key:
        raise SourceError(
            f"{table.table}: has no primary key, nor a unique index on columns that are NOT NULL, "
            "or has them for itself but not for the tables that inherit from it, so its rows "
            "cannot be told apart. Name the columns that identify a row under `key` in the tables "
            "file."
        )
    # Fields may also be what a transform makes, which only that knows.
    for place in ("include", "exclude") if table.transform else ("include", "exclude", "fields"):
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
            if partitions is None or isinstance(partitions, HashPartitions | NativePartitions)
            else named(partitions.column, "partitions.column")
        ),
        leaves=leaves,
    )


def _has_cursor(table: Table, columns: Mapping[str, Column]) -> bool:
    """A cursor that is named has to be there; the usual one is used where it is."""
    if table.capture == "auto" and "column" not in table.cursor.model_fields_set:
        usual = columns.get(table.cursor.column)
        return usual is not None and not usual.array and usual.type in _TIMES
    return table.capture != "snapshot"


def _natural_key(rows: Iterable[_Row]) -> list[str]:
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
        if not column.name.strip() or column.name in RESERVED:
            raise SourceError(
                f"{table.table}: the column {column.name!r} cannot be the name of a field: it is "
                "blank, or is one of Elasticsearch's names or of this pipeline's. List it under "
                "`exclude`."
            )
    dotted = [column.name for column in selected if "." in column.name]
    nested = [name for name, given in table.fields.items() if given.get("type") == "nested"]
    if dotted and nested:
        raise SourceError(
            f"{table.table}: the column {dotted[0]!r} has a dot in its name, and {nested[0]!r} is "
            "`nested`: Elasticsearch cannot have both in one index. List one of them under "
            "`exclude`, or give it another mapping."
        )
    return selected
