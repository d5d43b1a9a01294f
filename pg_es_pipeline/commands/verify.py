"""`pg-es verify`: whether tables and indices agree, and repairing what does not."""

from typing import Annotated

import typer
from rich.table import Table as Grid

from pg_es_pipeline.commands.project import (
    FINDINGS,
    REFUSED,
    TableNames,
    chosen_tables,
    console,
    error_console,
    open_engine,
    refusing_clearly,
)
from pg_es_pipeline.errors import PipelineError
from pg_es_pipeline.sync.compare import Level
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.reconcile import Reconciliation
from pg_es_pipeline.tables import Table, share

Sample = Annotated[
    int,
    typer.Option(
        min=0,
        max=10_000,
        metavar="N",
        help="Compare whole documents, but only N of them and N rows, drawn at random.",
        show_default=False,
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Compare all documents as a whole.")]
Partition = Annotated[
    str | None, typer.Option(metavar="KEY", help="Compare one partition of one table.")
]
WithRepair = Annotated[
    bool, typer.Option("--repair", help="Write the rows anew that differ, and delete the rest.")
]
MaxDeletes = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="The share of the documents that a repair may delete, such as 25%; the table's "
        "max_deletes if not given.",
    ),
]


def verify(
    tables: TableNames = None,
    sample: Sample = 0,
    full: Full = False,
    partition: Partition = None,
    repair: WithRepair = False,
    max_deletes: MaxDeletes = None,
) -> None:
    """Compare tables with their indices: by their keys, or by content where it is hashed.

    Exit status: 0 they agree or were repaired, 1 they differ, 2 a comparison was not possible.
    """
    with refusing_clearly():
        chosen = chosen_tables(tables)
        allowed = None if max_deletes is None else _share(max_deletes)
        if sample and full:
            raise typer.BadParameter("choose --sample or --full, not both")
        if partition is not None and len(chosen) != 1:
            raise typer.BadParameter("name the one table that --partition belongs to")
        found: list[Reconciliation] = []
        failed = False
        with open_engine() as engine:
            for table in chosen:
                try:
                    found.append(_compare(engine, table, sample, full, partition, repair, allowed))
                except PipelineError as error:
                    error_console().print(f"Error: {error}", style="red")
                    failed = True
    _print(found, repair=repair)
    if failed:
        raise typer.Exit(REFUSED)
    if any(one.superseded if repair else one.differences for one in found):
        raise typer.Exit(FINDINGS)


def _compare(
    engine: Engine,
    table: Table,
    sample: int,
    full: bool,
    partition: str | None,
    repair: bool,
    max_deletes: float | None,
) -> Reconciliation:
    return engine.reconcile(
        engine.source(table),
        partition=partition,
        level=Level.FULL if full else None,
        sample=sample,
        repair=repair,
        max_deletes=max_deletes,
    )


def _share(text: str) -> float:
    try:
        return share(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--max-deletes") from None


def _print(found: list[Reconciliation], *, repair: bool) -> None:
    out = console()
    grid = Grid(box=None, header_style="bold")
    heads = ["index", "compared", "rows", "documents", "missing", "extra", "changed", "seconds"]
    if repair:
        heads[-1:-1] = ["written", "deleted"]
    for head in heads:
        grid.add_column(head, justify="left" if head in ("index", "compared") else "right")
    for one in found:
        figures = [one.rows, one.documents, one.missing, one.extra, one.changed]
        figures += [one.written, one.deleted] if repair else []
        cells = [f"{figure:,}" for figure in figures]
        grid.add_row(one.index, one.level, *cells, f"{one.seconds:.2f}")
    out.print(grid, soft_wrap=False)
    for one in found:
        for kind in ("missing", "extra", "changed"):
            if ids := getattr(one.sample, kind):
                more = getattr(one, kind) - len(ids)
                out.print(
                    f"{one.index} {kind}: {', '.join(ids)}{f' and {more:,} more' if more else ''}"
                )
        if one.superseded:
            out.print(
                f"{one.index}: {one.superseded:,} documents were written by somebody else, or "
                "meanwhile, under a newer version, and stay as they are"
            )
