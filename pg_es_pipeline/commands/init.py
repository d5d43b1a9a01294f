"""`pg-es init`: a tables file for a database that has none yet."""

from pathlib import Path
from typing import Annotated

import typer

from pg_es_pipeline.commands.project import console, refusing_clearly
from pg_es_pipeline.settings import PostgresSettings, ProjectSettings, read
from pg_es_pipeline.sync import postgres
from pg_es_pipeline.sync.proposal.proposal import propose_tables, write

Schemas = Annotated[
    list[str] | None,
    typer.Option(
        "--schema",
        metavar="SCHEMA",
        help="Of this schema alone; give it several times for several.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        help="The file to write; that of PG_ES_TABLES, or tables.yaml, if none is named.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file, if it is there.")]


def init(schemas: Schemas = None, output: Output = None, force: Force = False) -> None:
    """Write a tables file for the database, with the reason for each choice beside it.

    Exit status: 0 written, 2 it is there already, or there is nothing to write.
    """
    with refusing_clearly():
        path = output or read(ProjectSettings).pg_es_tables
        settings = read(PostgresSettings)
        with postgres.connect(settings) as server, postgres.speaking("looking at the tables"):
            proposal = propose_tables(server, schemas)
        write(proposal, path, replace=force)
    out = console()
    left_out = len(proposal.unlisted)
    out.print(f"{path}: {len(proposal.listed)} tables, {left_out} left out with the reason")
    out.print("Read its comments, then: pg-es check")
