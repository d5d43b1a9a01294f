"""`pg-es reindex` and `pg-es rollback`: another generation behind the alias."""

import time
from collections.abc import Callable
from typing import Annotated

import typer

from pg_es_pipeline.commands.project import chosen_tables, console, open_engine, refusing_clearly
from pg_es_pipeline.sync.reindex import Reindexed
from pg_es_pipeline.sync.report import Report

PROGRESS_SECONDS = 5.0
"""How often it is told how far a load is."""

TableName = Annotated[
    str, typer.Argument(metavar="TABLE", help="A table as schema.table, or by its index.")
]
Abandon = Annotated[
    bool,
    typer.Option("--abandon", help="Remove what an interrupted reindex has loaded, and stop."),
]
Now = Annotated[
    bool, typer.Option("--now", help="Do not catch up first; the next runs bring it up to date.")
]


def reindex(table: TableName, abandon: Abandon = False) -> None:
    """Load a table into a new generation beside the live one, compare, and switch the alias.

    An interrupted one is gone on with. Exit status: 0 done, 2 it was not possible.
    """
    with refusing_clearly():
        [chosen] = chosen_tables([table])
        with open_engine() as engine:
            source = engine.source(chosen)
            if abandon:
                name = engine.abandon_reindex(source)
                said = f"{name} is removed" if name else "there is no unfinished generation"
                console().print(f"{chosen.index}: {said}")
                return
            done = engine.reindex(source, on_progress=_teller())
            removed = engine.remove_old_generations([chosen])
    _tell(done)
    for name in removed:
        console().print(f"{name} is removed, it was kept for long enough")


def rollback(table: TableName, now: Now = False) -> None:
    """Let the alias point at the generation before, once it has caught up.

    Exit status: 0 done, 2 it was not possible.
    """
    with refusing_clearly():
        [chosen] = chosen_tables([table])
        with open_engine() as engine:
            done = engine.roll_back(engine.source(chosen), now=now)
    _tell(done)


def _tell(done: Reindexed) -> None:
    out = console()
    if done.compared is not None:
        out.print(
            f"{done.index}: {done.rows:,} rows loaded into {done.generation}; of "
            f"{done.compared.rows:,} compared, {done.compared.differences:,} differed and were "
            "repaired"
        )
    out.print(
        f"{done.index} points at {done.generation} now, no longer at {done.before}; loads were "
        f"held for {done.held_seconds:.1f} s"
    )


def _teller() -> Callable[[Report], None]:
    told = time.monotonic()

    def tell(report: Report) -> None:
        nonlocal told
        if time.monotonic() - told < PROGRESS_SECONDS:
            return
        told = time.monotonic()
        console().print(
            f"{report.index} {report.partition}: {report.rows:,} of about {report.estimate:,} "
            f"rows, {report.docs_per_second:,.0f} docs/s"
        )

    return tell
