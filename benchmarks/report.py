"""Tables in the terminal."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from benchmarks.records import Record, Results, write

WIDTH = 200
"""Characters of a line where there is no terminal that says how many it has."""

Row = tuple[Sequence[str], str | None]
"""The cells, and the colour."""


def clock() -> Callable[[str], None]:
    """Says how far a benchmark is, behind the minutes and seconds since now."""
    console, began = Console(stderr=True, highlight=False), time.monotonic()

    def say(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began), 60)
        console.print(f"{minutes:3}:{seconds:02}  {text}", soft_wrap=True)

    return say


def finish(results: Results, file: Path) -> None:
    """Writes the results to a file, and shows them."""
    write(results, file)
    show(results.records, f"Medians of {results.rounds} rounds, seed {results.seed}")
    Console(stderr=True, highlight=False).print(f"Written to {file}", soft_wrap=True)


def show(records: Sequence[Record], title: str) -> None:
    rows: Iterable[Row] = (
        (
            [
                one.name,
                number(one.value),
                one.unit,
                " – ".join(map(number, one.spread)),
                "" if one.ratio is None else f"{one.ratio:.2f}",
                one.reference or "",
            ],
            None,
        )
        for one in records
    )
    draw(title, ("what", "median >", "unit", "spread >", "ratio >", "to"), rows)


def draw(title: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Prints a table; a column whose title ends in ` >` is aligned to the right."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    grid = Grid(title=title)
    for column in columns:
        name = column.removesuffix(" >")
        grid.add_column(name, justify="left" if name == column else "right", no_wrap=True)
    for cells, colour in rows:
        grid.add_row(*cells, style=colour)
    console.print(grid)


def number(value: float) -> str:
    """Three digits or more: 31,416, 314, 31.4, 3.14, 0.031."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"
