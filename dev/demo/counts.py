"""What was loaded, and whether both sides have the same number of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table as Grid

from dev.demo import web
from dev.demo.dagster import Load
from pg_es_pipeline.tables import Table


@dataclass(frozen=True)
class Counts:
    """The rows of a table that are not soft-deleted, and the documents of its index."""

    rows: int
    documents: int

    @property
    def agree(self) -> bool:
        return self.rows == self.documents


def count(tables: Sequence[Table], conninfo: str, search_url: str) -> dict[str, Counts]:
    """Asks both sides, Elasticsearch through the search service. By index.

    Raises psycopg.Error, or DemoError when the search service does not answer.
    """
    documents = {
        index["index"]: index["documents"] for index in web.get(f"{search_url}/indices")["indices"]
    }
    with psycopg.connect(conninfo) as connection:
        return {
            table.index: Counts(_rows(connection, table), documents.get(table.index) or 0)
            for table in tables
        }


def show_loads(
    tables: Sequence[Table], loads: Mapping[str, Sequence[Load | None]], console: Console
) -> None:
    """Prints the figures of the last load of each table."""
    grid = Grid()
    for title in ("table", "index"):
        grid.add_column(title, no_wrap=True)
    for title in ("partitions", "rows", "docs/s", "seconds", "MB"):
        grid.add_column(title, justify="right", no_wrap=True)
    for table in tables:
        known = [load for load in loads[table.index] if load]
        rows, seconds = sum(load.rows for load in known), sum(load.seconds for load in known)
        grid.add_row(
            table.table,
            table.index,
            f"{len(loads[table.index])}",
            f"{rows:,}",
            f"{rows / seconds:,.0f}" if seconds else "",
            f"{seconds:.1f}",
            f"{max((load.memory for load in known), default=0)}",
        )
    console.print(grid)


def show_counts(counts: Mapping[str, Counts], console: Console) -> None:
    """Prints where the two sides differ, or that they do not."""
    for index, found in counts.items():
        if not found.agree:
            console.print(
                f"{index} differs: {found.rows:,} rows in PostgreSQL, "
                f"{found.documents:,} documents in Elasticsearch",
                style="bold red",
                soft_wrap=True,
            )
    if all(found.agree for found in counts.values()):
        numbers = ", ".join(f"{index} {found.rows:,}" for index, found in counts.items())
        console.print(f"The same number on both sides: {numbers}", soft_wrap=True)


def _rows(connection: psycopg.Connection, table: Table) -> int:
    query = sql.SQL("SELECT count(*) FROM {} WHERE deleted_at IS NULL").format(
        sql.Identifier(table.schema_name, table.name)
    )
    [(rows,)] = connection.execute(query).fetchall()
    return int(rows)
