"""`pg-es status`: how far each index is behind its table."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table as Grid

from pg_es_pipeline.commands.project import (
    FINDINGS,
    TableNames,
    chosen_tables,
    console,
    open_engine,
    refusing_clearly,
)
from pg_es_pipeline.sync.status import PartitionStatus, TableStatus
from pg_es_pipeline.sync.status import status as look

_PARTITIONS = (
    *("index", "partition", "state", "watermark", "lag", "documents", "dead letters", "checkpoint"),
)
_INDICES = (
    *("index", "table", "rows (estimate)", "documents", "MB", "dead letters", "in step at"),
)
_NUMBERS = {"lag", "documents", "dead letters", "rows (estimate)", "MB"}

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; its names stay the same.")
]


def status(tables: TableNames = None, as_json: AsJson = False) -> None:
    """Show for each partition how far the index is behind its table, and totals for each index.

    Exit status: 0, 1 where a table could not be looked at, 2 a server or setting is missing.
    """
    with refusing_clearly():
        chosen = chosen_tables(tables)
        with open_engine() as engine:
            found = look(engine, chosen)
    if as_json:
        typer.echo(json.dumps({"tables": [asdict(one) for one in found]}, indent=2))
    else:
        out = console()
        _print(out, _PARTITIONS, _partition_lines(found))
        out.print()
        _print(out, _INDICES, map(_index_line, found))
        for one in found:
            for difference in one.differences:
                out.print(f"\n{one.index}: does not fit into {one.generation}: {difference}")
            if one.next_generation:
                out.print(f"\n{one.index}: {one.next_generation} is being loaded beside it")
            if one.error:
                out.print(f"\n{one.error}", style="red")
    if any(one.error for one in found):
        raise typer.Exit(FINDINGS)


def _partition_lines(found: Iterable[TableStatus]) -> Iterator[Sequence[str]]:
    for one in found:
        for partition in one.partitions:
            yield (
                one.index,
                partition.partition,
                _state(partition),
                " ".join(partition.watermark or ()),
                _lag(partition.lag_seconds),
                _number(partition.documents),
                str(partition.dead_letters),
                _moment(partition.updated_at),
            )


def _index_line(one: TableStatus) -> Sequence[str]:
    return (
        one.index,
        one.table,
        _number(one.rows_estimate),
        _number(one.documents),
        "" if one.size_bytes is None else f"{one.size_bytes / 1e6:,.1f}",
        str(one.dead_letters),
        _moment(one.in_step_at),
    )


def _state(partition: PartitionStatus) -> str:
    words = {"interrupted": "full pass interrupted"}.get(partition.state)
    words = words or partition.state.replace("_", " ")
    rows = partition.rows_waiting
    return f"{words} ({rows:,} row{'s' * (rows != 1)})" if rows else words


def _number(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _lag(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.1f} s"


def _moment(moment: str | None) -> str:
    return "" if moment is None else datetime.fromisoformat(moment).strftime("%Y-%m-%d %H:%M:%S")


def _print(out: Console, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere a line each, with tabs between its values."""
    if not out.is_terminal:
        for line in (heads, *lines):
            typer.echo("\t".join(line))
        return
    grid = Grid(box=None, header_style="bold")
    for head in heads:
        grid.add_column(head, justify="right" if head in _NUMBERS else "left", overflow="fold")
    for line in lines:
        grid.add_row(*line)
    out.print(grid, soft_wrap=False)
