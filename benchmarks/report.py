"""Tables in the terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table as Grid

from benchmarks.records import Record

WIDTH = 200
"""Characters of a line where there is no terminal that says how many it has."""

Row = tuple[Sequence[str], str | None]
"""The cells, and the colour."""


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
