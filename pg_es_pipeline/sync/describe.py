"""What people are told of tables: comments, columns, constraints; a look that takes not long."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from pg_es_pipeline.settings import PostgresSettings
from pg_es_pipeline.sync.catalog import Source, introspect, names
from pg_es_pipeline.sync.postgres import connect, speaking, statement_timeout
from pg_es_pipeline.tables import Table

PATIENCE = 2
"""Seconds that connecting may take, per address; the shortest that libpq knows."""

STATEMENT_TIMEOUT = "5s"

_CONSTRAINTS = """
SELECT wanted.number, c.contype::text, pg_get_constraintdef(c.oid),
       ARRAY(SELECT a.attname::text
             FROM unnest(c.conkey) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
             ORDER BY k.position)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (schema, name, number)
JOIN pg_namespace n ON n.nspname = wanted.schema
JOIN pg_class t ON t.relnamespace = n.oid AND t.relname = wanted.name
JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype IN ('c', 'f', 'p', 'u')
ORDER BY 1, c.contype = 'p' DESC, c.conname
"""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint of a table."""

    kind: str
    """`pg_constraint.contype`: `p` primary key, `u` unique, `f` foreign key, `c` check."""
    definition: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Description:
    """A table as it is shown; of its columns those that are loaded, and constraints on them."""

    source: Source
    constraints: list[Constraint] = field(default_factory=list)


def describe(settings: PostgresSettings, tables: Sequence[Table]) -> dict[str, Description]:
    """Asks PostgreSQL over one connection, in a few queries whatever the number of tables.

    By index; without tables that will not do as they are. Raises ServerAway and SourceError.
    """
    with (
        speaking("the tables' descriptions"),
        closing(connect(settings, patience=PATIENCE)) as connection,
        statement_timeout(connection, STATEMENT_TIMEOUT),
    ):
        found = {
            index: Description(source)
            for index, source in introspect(connection, tables).items()
            if isinstance(source, Source)
        }
        for number, kind, definition, columns in connection.execute(_CONSTRAINTS, names(tables)):
            described = found.get(tables[number - 1].index)
            loaded = {column.name for column in described.source.columns} if described else set()
            # A definition tells the names of its columns.
            if described and loaded.issuperset(columns):
                described.constraints.append(Constraint(kind, definition, tuple(columns)))
    return found
