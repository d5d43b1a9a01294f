"""What the catalog and the statistics tell of every table, before anything is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import RESERVED, Column, Source, introspect
from pg_es_pipeline.sync.checks import table as checks
from pg_es_pipeline.sync.checks.finding import quoted
from pg_es_pipeline.sync.checks.table import Facts
from pg_es_pipeline.sync.documents import field as of_row
from pg_es_pipeline.sync.documents import relation
from pg_es_pipeline.sync.postgres import Connection, planned_rows
from pg_es_pipeline.sync.proposal.names import index_names
from pg_es_pipeline.tables import Table

# Neither PostgreSQL's own, nor what an extension has made, nor the partitions of a table.
_RELATIONS = """
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.oid::int8,
       ARRAY(SELECT attname::text FROM pg_attribute
             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum),
       (SELECT count(*) FROM pg_partition_tree(c.oid) WHERE isleaf AND relid <> c.oid),
       coalesce(s.n_tup_upd + s.n_tup_del, 0),
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%%'
      AND (%(schemas)s::text[] IS NULL OR n.nspname = ANY (%(schemas)s))
      AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                      AND objid = c.oid AND deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""

_SCHEMAS = """
SELECT nspname::text FROM pg_namespace
WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' ORDER BY 1
"""

# tgtype: 1 each row, 2 before, 4 insert, 16 update. A trigger of single columns (UPDATE OF) lets
# other updates pass. Samples of values are kept of those up to 1 kB.
_COLUMNS = r"""
SELECT a.attname::text, has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       coalesce(bool_or(t.tgtype & 19 = 19), false),
       coalesce(bool_or(t.tgtype & 7 = 7), false)
       OR coalesce(pg_get_expr(d.adbin, d.adrelid)
                   ~* '\m(now|timestamp)\(|\mCURRENT_(DATE|TIMESTAMP)|\mLOCALTIMESTAMP|''now''',
                   false),
       s.avg_width, s.n_distinct::float8, s.blanks, s.letters
FROM pg_attribute a
JOIN pg_type y ON y.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN (pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid)
    ON t.tgrelid = a.attrelid AND t.tgtype & 3 = 3 AND t.tgenabled IN ('O', 'A') AND t.tgattr = ''
       AND (strpos(lower(p.prosrc), lower(a.attname)) > 0
            OR strpos(encode(t.tgargs, 'escape'), a.attname) > 0)
LEFT JOIN LATERAL (
    SELECT avg_width, n_distinct, sampled.*
    FROM pg_stats
    CROSS JOIN LATERAL (
        SELECT bool_or(value ~ '\s') AS blanks, bool_or(value ~ '^[[:alpha:]]+$') AS letters
        FROM unnest(CASE WHEN y.typcategory = 'S'
                    THEN coalesce(most_common_vals::text::text[], '{}')
                         || coalesce(histogram_bounds::text::text[], '{}') END) AS value
    ) sampled
    WHERE schemaname = %(schema)s AND tablename = %(name)s AND attname = a.attname
    ORDER BY inherited DESC LIMIT 1
) s ON true
WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY a.attnum, a.attname, a.attrelid, d.adbin, d.adrelid,
         s.avg_width, s.n_distinct, s.blanks, s.letters
ORDER BY a.attnum
"""

# The columns of unique indexes that are no key, because one of them may be NULL.
_NULLABLE_UNIQUE = """
SELECT (SELECT array_agg(a.attname::text ORDER BY k)
        FROM generate_series(0, i.indnkeyatts - 1) k
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k])
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indnkeyatts, x.relname LIMIT 1
"""

_TIMES = ("date", "timestamp", "timestamptz")
_WHOLE_NUMBERS = ("int2", "int4", "int8")


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column, and what is known of its values."""

    column: Column
    readable: bool = True
    set_on_update: bool = False
    """Whether a trigger writes it at every UPDATE."""
    set_on_insert: bool = False
    """Whether a trigger, or a default that is the present time, writes it at every INSERT."""
    width: int | None = None
    """Average bytes of a value; what is stored apart from the row counts as a few."""
    distinct: float | None = None
    """Different values; below 0 their share of the rows, as in `pg_stats.n_distinct`."""
    blanks: bool | None = None
    """Whether any of the values that ANALYZE kept has a blank; None: it kept none."""
    letters: bool | None = None
    """Whether any of them is made of letters alone."""
    lowest: date | int | None = None
    """Of times and whole numbers that are never NULL and indexed, in a table that may be cut."""
    highest: date | int | None = None

    @property
    def name(self) -> str:
        return self.column.name


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table that has a key."""

    table: str
    index: str
    columns: tuple[ColumnFacts, ...]
    key: tuple[Column, ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    """The columns of each index that any query can use."""
    rows: int = 0
    """By the planner."""
    bytes: int = 0
    leaves: int = 0
    """PostgreSQL's own partitions of it."""
    unusable: tuple[str, ...] = ()
    """Columns that no field can be named after."""
    only_grows: bool = False
    """Whether PostgreSQL has counted neither an UPDATE nor a DELETE."""

    def has_index_on(self, column: str) -> bool:
        """Whether an index begins with that column."""
        return any(index[:1] == (column,) for index in self.indexes)


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A table that cannot be loaded as it is."""

    table: str
    index: str
    reason: str
    remedy: str = ""
    key: tuple[str, ...] | None = None
    """Where a key is what is missing: columns that may do; empty, if none is known."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view as the catalog lists it."""

    schema: str
    name: str
    kind: str
    oid: int
    columns: list[str] = field(default_factory=list[str])
    leaves: int = 0
    changed: int = 0
    """Updates and deletes that PostgreSQL has counted."""
    is_inherited_from: bool = False

    @property
    def table(self) -> str:
        return f"{self.schema}.{self.name}"


def relations(connection: Connection, schemas: Sequence[str] | None) -> list[Relation]:
    """The tables and views of these schemas, or of all. Raises SourceError."""
    known = [name for (name,) in connection.execute(_SCHEMAS)]
    for schema in schemas or ():
        if schema not in known:
            raise SourceError(
                f"there is no schema {schema!r} in the database. Its schemas: {', '.join(known)}."
            )
    parameters = {"schemas": list(schemas) if schemas else None}
    return [Relation(*row) for row in connection.execute(_RELATIONS, parameters)]


def read_facts(
    connection: Connection, found: Sequence[Relation], cut_from: float
) -> list[TableFacts | Unlisted]:
    """What is known of each; tables of at least `cut_from` rows may be cut into partitions."""
    indices = index_names([(one.schema, one.name) for one in found])
    tables = {
        one.table: Table(
            table=one.table,
            index=indices[one.schema, one.name],
            capture="snapshot",
            exclude=_unusable(one),
        )
        for one in found
        if "." not in one.schema
    }
    sources = introspect(connection, list(tables.values()))
    return [
        _facts(connection, one, tables.get(one.table), sources, cut_from, indices) for one in found
    ]


def _unusable(relation: Relation) -> tuple[str, ...]:
    return tuple(name for name in relation.columns if not name.strip() or name in RESERVED)


def _facts(
    connection: Connection,
    one: Relation,
    table: Table | None,
    sources: Mapping[str, Source | SourceError],
    cut_from: float,
    indices: Mapping[tuple[str, str], str],
) -> TableFacts | Unlisted:
    index = indices[one.schema, one.name]
    if table is None:
        return Unlisted(
            one.table, index, "the schema's name has a dot in it", "give the schema another name"
        )
    source = sources[index]
    if isinstance(source, SourceError):
        return _unlisted(connection, one, index, source)
    known = checks.facts(connection, source)
    columns = _columns(connection, one, source)
    unreadable = [column.name for column in columns if not column.readable]
    key = [column.name for column in source.key]
    if not known.may_use_schema or set(key) & set(unreadable):
        return Unlisted(
            one.table,
            index,
            f"the role {known.role} may not read it",
            next(checks.privileges(source, known)).remedy,
        )
    everything = sql.SQL("SELECT 1 FROM {}").format(relation(source))
    rows = planned_rows(connection, everything) if known.bytes else 0
    if max(rows, known.bytes / 1000) >= cut_from:
        columns = [_with_bounds(connection, source, known, column) for column in columns]
    return TableFacts(
        table=one.table,
        index=index,
        columns=tuple(columns),
        key=source.key,
        indexes=tuple(tuple(found.columns) for found in known.indexes),
        rows=rows,
        bytes=known.bytes,
        leaves=one.leaves,
        unusable=table.exclude,
        only_grows=rows > 0 and one.changed == 0,
    )


def _unlisted(connection: Connection, one: Relation, index: str, error: SourceError) -> Unlisted:
    if not one.columns or _unusable(one):
        return Unlisted(one.table, index, str(error).removeprefix(f"{one.table}: ").rstrip("."))
    usual = tuple(name for name in one.columns if name == "id")
    if one.kind in _KEYLESS:
        reason = f"{_KEYLESS[one.kind]} has no key of its own"
        return Unlisted(one.table, index, reason, "name columns that identify a row", usual)
    if one.is_inherited_from:
        return Unlisted(
            one.table,
            index,
            "tables inherit from it, and no index is unique over all of their rows",
            "where a key is all the same, name it, and leave out those tables",
            usual,
        )
    name = quoted(one.schema, one.name)
    row = connection.execute(_NULLABLE_UNIQUE, [one.oid]).fetchone()
    if row is not None:
        columns = row[0]
        actions = ", ".join(f"ALTER COLUMN {quoted(column)} SET NOT NULL" for column in columns)
        reason = f"the unique index on ({', '.join(columns)}) is no key, for it lets NULL pass"
        return Unlisted(one.table, index, reason, f"ALTER TABLE {name} {actions};", tuple(columns))
    reason = "it has neither a primary key nor a unique index on columns that are NOT NULL"
    return Unlisted(one.table, index, reason, f"ALTER TABLE {name} ADD PRIMARY KEY (...);", usual)


_KEYLESS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


def _columns(connection: Connection, one: Relation, source: Source) -> list[ColumnFacts]:
    by_name = {column.name: column for column in source.columns}
    parameters = {"oid": one.oid, "schema": one.schema, "name": one.name}
    return [
        ColumnFacts(by_name[name], *known)
        for name, *known in connection.execute(_COLUMNS, parameters)
        if name in by_name
    ]


def _with_bounds(
    connection: Connection, source: Source, known: Facts, facts: ColumnFacts
) -> ColumnFacts:
    """The lowest and the highest value too, where the ends of an index tell."""
    column = facts.column
    times = column.type in _TIMES
    if (
        column.array
        or not (times or column.type in _WHOLE_NUMBERS)
        or not (column.not_null and facts.readable and known.has_index_on(column.name))
    ):
        return facts
    # Neither infinity nor a year before 1 is a date to Python.
    as_date = "CASE WHEN extract(year FROM {0}) BETWEEN 1 AND 9999 THEN {0}::date END"
    shown = sql.SQL(as_date if times else "{0}")
    lowest, highest = (
        shown.format(sql.SQL(end).format(of_row(column))) for end in ("min({})", "max({})")
    )
    row = connection.execute(
        sql.SQL("SELECT {}, {} FROM {}").format(lowest, highest, relation(source))
    ).fetchone()
    assert row is not None
    return replace(facts, lowest=row[0], highest=row[1])
