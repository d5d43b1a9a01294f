"""Parts of the pages that are drawn from files of results."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.goals import Goal
from benchmarks.records import NoResults, Record, Results, read
from benchmarks.report import number


def circumstances(results: Results, short: str | None) -> Iterator[str]:
    """What was measured on; `short` is how, if it was for a shorter time than the usual one."""
    yield "## What was measured on\n"
    if short:
        yield (
            f"**A short run** (`{short}`): few data or repetitions, so that its figures say "
            "little.\n"
        )
    about = results.machine | results.versions
    about |= {"date": results.date, "rounds": results.rounds, "seed": results.seed}
    yield from table(("", ""), ([name, str(one)] for name, one in about.items()))


def reached(goals: Iterable[Goal]) -> Iterator[str]:
    """The goals, and whether they are met."""
    yield "## Goals\n"
    yield from table(
        ("goal", "measured", ""),
        ([one.aim, one.measured, "met" if one.met else "**missed**"] for one in goals),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def bars(title: str, names: Sequence[str], values: Sequence[float]) -> Iterator[str]:
    """A chart."""
    yield "```mermaid\nxychart-beta"
    quoted = (f'"{name}"' for name in names)
    yield f"    x-axis [{', '.join(quoted)}]"
    yield f'    y-axis "{title}" 0 --> {max(values) * 1.1:.0f}'
    yield f"    bar [{', '.join(f'{one:.5g}' for one in values)}]\n```\n"


def value(record: Record) -> str:
    return number(record.value)


def spread(record: Record) -> str:
    return f"{number(record.value)} ({' – '.join(map(number, record.spread))})"


def ratio(record: Record) -> str:
    return "" if record.ratio is None else f"{record.ratio:.2f}"


def draw(page: Callable[[Results], str]) -> int:
    """Prints the page of the file that the command line names."""
    try:
        print(page(read(Path(sys.argv[1]))), end="")
    except (NoResults, LookupError) as error:
        print(error if isinstance(error, NoResults) else f"Incomplete: {error}", file=sys.stderr)
        return 2
    return 0
