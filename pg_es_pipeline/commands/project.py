"""What the commands share: the tables that are meant, the engine, and how a refusal is told."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from pg_es_pipeline.errors import PipelineError, TablesError
from pg_es_pipeline.settings import (
    BatchingSettings,
    ElasticsearchSettings,
    PostgresSettings,
    ProjectSettings,
    read,
)
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.tables import Table, read_tables

FINDINGS, REFUSED = 1, 2
"""Exit statuses: something needs action; the command could not do its work."""

TableNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TABLE",
        help="Tables as schema.table, or by their index; all of the tables file if none is named.",
        show_default=False,
    ),
]


def chosen_tables(names: Sequence[str] | None) -> list[Table]:
    """The tables of those names, in the tables file's order. Raises PipelineError."""
    path = read(ProjectSettings).pg_es_tables
    tables = read_tables(path).tables
    if not names:
        return list(tables)
    for name in names:
        if not any(_is_called(table, name) for table in tables):
            known = ", ".join(table.table for table in tables)
            raise TablesError(f"{path}: there is no table or index {name!r}. Its tables: {known}.")
    return [table for table in tables if any(_is_called(table, name) for name in names)]


def _is_called(table: Table, name: str) -> bool:
    return name in (table.index, table.table) or f"public.{name}" == table.table


def open_engine() -> Engine:
    """The engine over the servers that the environment names. Raises SettingsError."""
    return Engine(read(PostgresSettings), read(ElasticsearchSettings), read(BatchingSettings))


@contextmanager
def refusing_clearly() -> Iterator[None]:
    """Tells an error of ours by its message alone, on stderr, and exits with status 2."""
    try:
        yield
    except PipelineError as error:
        error_console().print(f"Error: {error}", style="red")
        raise typer.Exit(REFUSED) from None


def error_console() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def console() -> Console:
    """Standard output: in colour on a terminal, plain text elsewhere."""
    return Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True)
