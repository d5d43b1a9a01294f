"""A table as PostgreSQL's catalog has it: privileges, row-level security, indexes, triggers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pg_es_pipeline.sync.catalog import Column, Source
from pg_es_pipeline.sync.checks.finding import Finding, listed, quoted
from pg_es_pipeline.sync.documents import field, relation
from pg_es_pipeline.sync.extract import changes_order
from pg_es_pipeline.sync.partition_load import CHUNK_ROWS
from pg_es_pipeline.sync.postgres import Connection

LARGE_BYTES = 8 << 20
"""From this size on, a table is not to be read as a whole at every look."""

_FACTS = """
SELECT c.oid::int8, c.relkind::text, current_user::text, has_schema_privilege(n.oid, 'USAGE'),
       ARRAY(SELECT name FROM unnest(%(columns)s::text[]) WITH ORDINALITY AS u (name, number)
             WHERE NOT has_column_privilege(c.oid, name, 'SELECT') ORDER BY number),
       row_security_active(c.oid),
       ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1),
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r'),
       (SELECT a.attname::text FROM pg_partitioned_table p JOIN pg_attribute a
        ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0] WHERE p.partrelid = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""

# Of indexes that any query can use. An expression among the columns shows as ''.
_INDEXES = """
SELECT i.indisunique,
       ARRAY(SELECT coalesce(a.attname::text, '') FROM generate_series(0, i.indnkeyatts - 1) k
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k]
             ORDER BY k)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
WHERE i.indrelid = %s AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'
"""

_BYTES = """
SELECT coalesce((SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree(%(oid)s::oid)),
                pg_relation_size(%(oid)s::oid), 0)::int8
"""

# tgtype: 1 each row, 2 before, 16 update. moddatetime and its like are told the column's name.
_MAINTAINED = """
SELECT EXISTS (
    SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = %(oid)s AND t.tgtype & 19 = 19 AND t.tgenabled IN ('O', 'A')
          AND (strpos(lower(p.prosrc), lower(%(column)s)) > 0
               OR strpos(encode(t.tgargs, 'escape'), %(column)s) > 0))
"""


@dataclass(frozen=True, slots=True)
class Index:
    """An index of the table that any query can use."""

    unique: bool
    columns: list[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog says of a table."""

    indexes: list[Index]
    bytes: int
    oid: int
    relkind: str
    role: str
    may_use_schema: bool
    unreadable: list[str]
    """The columns that the pipeline reads and the role may not."""
    row_security: bool
    policies: list[str]
    has_children: bool
    """By inheritance: rows that the table's own indexes do not have."""
    partition_key: str | None
    """The first column of PostgreSQL's own partitioning."""

    @property
    def readable(self) -> bool:
        return self.may_use_schema and not self.unreadable

    @property
    def can_have_indexes(self) -> bool:
        return self.relkind in ("r", "p", "m")

    @property
    def large(self) -> bool:
        return self.bytes >= LARGE_BYTES

    def has_index_on(self, *columns: str) -> bool:
        """Whether an index begins with these columns, in this order."""
        return any(index.columns[: len(columns)] == list(columns) for index in self.indexes)

    def is_unique(self, columns: set[str]) -> bool:
        """Whether a unique index sees to it that no two rows have the same values in these."""
        return not self.has_children and any(
            index.unique and columns.issuperset(index.columns) for index in self.indexes
        )


def facts(connection: Connection, source: Source) -> Facts:
    """Asks the catalog; reads no row."""
    row = connection.execute(
        _FACTS,
        {
            "schema": source.table.schema_name,
            "name": source.table.name,
            "columns": [column.name for column in _read_columns(source)],
        },
    ).fetchone()
    assert row is not None
    indexes = [Index(*index) for index in connection.execute(_INDEXES, [row[0]])]
    size = connection.execute(_BYTES, {"oid": row[0]}).fetchone()
    assert size is not None
    return Facts(indexes, size[0], *row)


def _read_columns(source: Source) -> list[Column]:
    named = (*source.columns, *source.key, source.cursor, source.soft_delete)
    return list(dict.fromkeys(c for c in (*named, source.partition_column) if c is not None))


def privileges(source: Source, known: Facts) -> Iterator[Finding]:
    """What keeps the role from reading the table, or hides rows from it."""
    table = source.table
    name, role = quoted(table.schema_name, table.name), quoted(known.role)
    left_out = bool(table.include or table.exclude)
    if not known.may_use_schema:
        yield Finding(
            "error",
            table.table,
            f"The role {known.role} may not use the schema {table.schema_name}.",
            "The table cannot be loaded.",
            f"GRANT USAGE ON SCHEMA {quoted(table.schema_name)} TO {role};",
        )
    if known.unreadable:
        # A grant on the whole table would show the columns that are left out.
        every = not left_out and len(known.unreadable) == len(_read_columns(source))
        some = "" if every else f" ({listed(known.unreadable)})"
        yield Finding(
            "error",
            table.table,
            f"The role {known.role} may not read "
            f"{'the table' if every else 'the columns ' + ', '.join(known.unreadable)}.",
            "The table cannot be loaded.",
            f"GRANT SELECT{some} ON {name} TO {role};",
        )
    elif known.relkind in ("r", "p", "m") and not source.row_versions:
        yield Finding(
            "note",
            table.table,
            f"The role {known.role} may read single columns alone, and so not the versions of the "
            "rows.",
            "A row that changes without moving its cursor is not noticed, not even near the "
            "watermark.",
            f"GRANT SELECT ON {name} TO {role};"
            + "  -- shows it the columns that are left out, too" * left_out,
        )
    if known.row_security:
        policies = ", ".join(known.policies) or "none, which hides every row"
        yield Finding(
            "warning",
            table.table,
            f"Row-level security applies to the role {known.role} (policies: {policies}).",
            "Rows that no policy shows are missing from the index, and nothing says so.",
            f"CREATE POLICY pg_es_pipeline ON {name} FOR SELECT TO {role} USING (true);"
            f"  -- or ALTER ROLE {role} BYPASSRLS;",
        )


def cursor(connection: Connection, source: Source, known: Facts) -> Iterator[Finding]:
    """Whether changes can be found by the cursor, and found quickly."""
    column = source.cursor
    if column is None:
        return
    table = source.table
    if column.type == "timestamp":
        yield Finding(
            "note",
            table.table,
            f"The cursor {column.name} is a timestamp without time zone.",
            "It is read in the time zone of the role's sessions: where writers use another, or "
            "clocks change for summer time, changes can be missed.",
            f"ALTER TABLE {quoted(table.schema_name, table.name)} ALTER COLUMN "
            f"{quoted(column.name)} TYPE timestamptz;",
        )
    yield from _cursor_index(connection, source, column, known)
    if source.whole_number_cursor or known.relkind not in ("r", "p"):
        return
    [maintained] = connection.execute(
        _MAINTAINED, {"oid": known.oid, "column": column.name}
    ).fetchone() or [False]
    if not maintained:
        yield Finding(
            "note",
            table.table,
            f"No trigger on UPDATE sets the cursor {column.name}.",
            "An UPDATE that does not set it is not found: whoever writes the table has to.",
            _trigger(source, column),
        )


def _cursor_index(
    connection: Connection, source: Source, column: Column, known: Facts
) -> Iterator[Finding]:
    table = source.table
    order = changes_order(source)
    wanted = [column.name]
    # A column that is compared as text has no index that would serve.
    if order.expressions() == [field(one) for one in order.columns]:
        wanted = list(dict.fromkeys(one.name for one in order.columns))
    if known.can_have_indexes and not known.has_index_on(column.name):
        yield Finding(
            "warning" if known.large else "note",
            table.table,
            f"No index begins with the cursor {column.name}.",
            "Every look for changes reads the whole table.",
            _create_index(source, known, wanted),
        )
        return
    if known.can_have_indexes and not known.has_index_on(*wanted):
        yield Finding(
            "note",
            table.table,
            f"No index goes by {', '.join(wanted)}, the order that changes are read in.",
            "Rows that share a cursor value are sorted at every read.",
            _create_index(source, known, wanted),
        )
    if known.readable and (scanned := _scanned_by_changes(connection, source)):
        yield Finding(
            "warning",
            table.table,
            f"PostgreSQL's planner reads all of {', '.join(scanned)} to find the newest changes.",
            "Every look for changes takes as long as reading the whole table.",
            f"ANALYZE {quoted(table.schema_name, table.name)};  -- and see whether "
            "enable_indexscan is on, and random_page_cost fits the disks",
        )


def _scanned_by_changes(connection: Connection, source: Source) -> list[str]:
    """The large relations that the planner would read as a whole to find the newest changes."""
    assert source.cursor is not None
    newest: sql.Composable = sql.SQL("clock_timestamp()")
    if source.whole_number_cursor:
        newest = sql.SQL("(SELECT max({}) FROM {})").format(field(source.cursor), relation(source))
    row = connection.execute(sql.SQL("SELECT {}::text").format(newest)).fetchone()
    if row is None or row[0] is None:
        return []
    order = changes_order(source)
    plan = connection.execute(
        sql.SQL("EXPLAIN (FORMAT JSON) SELECT 1 FROM {} WHERE {} ORDER BY {} LIMIT {}").format(
            relation(source),
            order.after([row[0]]),
            sql.SQL(", ").join(order.expressions()),
            sql.Literal(CHUNK_ROWS),
        )
    ).fetchone()
    assert plan is not None
    # Without VERBOSE a plan does not say the schema. Reading a page costs 1 at the least.
    return sorted(
        {
            str(node["Relation Name"])
            for node in _nodes(plan[0][0]["Plan"])
            if node["Node Type"] == "Seq Scan" and node["Total Cost"] >= LARGE_BYTES / 8192
        }
    )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def partition_column(source: Source, known: Facts) -> Iterator[Finding]:
    """Whether a single partition can be read without reading the others."""
    column = source.partition_column
    if (
        column is not None
        and known.can_have_indexes
        and known.large
        and known.partition_key != column.name
        and not known.has_index_on(column.name)
    ):
        yield Finding(
            "warning",
            source.table.table,
            f"No index begins with the partition column {column.name}.",
            "The first load of each partition reads the whole table.",
            _create_index(
                source, known, [column.name, *(k.name for k in source.key if k != column)]
            ),
        )


def _create_index(source: Source, known: Facts, columns: Sequence[str]) -> str:
    # A partitioned table's indexes cannot be made concurrently.
    concurrently = "" if known.relkind == "p" else " CONCURRENTLY"
    name = quoted(source.table.schema_name, source.table.name)
    return f"CREATE INDEX{concurrently} ON {name} ({listed(list(columns))});"


def _trigger(source: Source, column: Column) -> str:
    schema, name = source.table.schema_name, source.table.name
    function = quoted(schema, f"touch_{name}")
    return (
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN NEW.{quoted(column.name)} := clock_timestamp(); RETURN NEW; END $$; "
        f"CREATE TRIGGER {quoted('touch')} BEFORE INSERT OR UPDATE ON {quoted(schema, name)} "
        f"FOR EACH ROW EXECUTE FUNCTION {function}();"
    )


def unique_index(source: Source, known: Facts, columns: Sequence[str]) -> str:
    """The statement that makes the key unique."""
    return _create_index(source, known, columns).replace("CREATE INDEX", "CREATE UNIQUE INDEX", 1)
