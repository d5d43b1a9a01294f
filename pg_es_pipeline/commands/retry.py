"""`pg-es retry`: another try of the rows that were refused."""

import typer
from rich.table import Table as Grid

from pg_es_pipeline.commands.project import (
    FINDINGS,
    TableNames,
    chosen_tables,
    console,
    open_engine,
    refusing_clearly,
)
from pg_es_pipeline.sync.retry import Retry

SHOWN = 20
"""Dead letters that are listed for an index."""


def retry(tables: TableNames = None) -> None:
    """Try the dead letters again: read the rows by their keys, and write them as they are now.

    Exit status: 0 none is left, 1 some are, 2 a server or setting is missing.
    """
    with refusing_clearly():
        chosen = chosen_tables(tables)
        with open_engine() as engine:
            found = [engine.retry(engine.source(table)) for table in chosen]
    _print(found)
    if any(one.remaining for one in found):
        raise typer.Exit(FINDINGS)


def _print(found: list[Retry]) -> None:
    out = console()
    grid = Grid("index", "tried", "loaded", "deleted", "remaining", box=None, header_style="bold")
    for one in found:
        grid.add_row(one.index, *map(str, (one.tried, one.loaded, one.deleted, len(one.remaining))))
    out.print(grid)
    for one in found:
        for letter in one.remaining[:SHOWN]:
            out.print(f"{one.index} {letter.key} (attempt {letter.attempts}): {letter.reason}")
        if len(one.remaining) > SHOWN:
            out.print(f"{one.index}: and {len(one.remaining) - SHOWN:,} more")
