"""The page docs/benchmarks.md, drawn from a file of results.

python -m benchmarks.page build/bench.json > docs/benchmarks.md
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import Template

from benchmarks import changes, generations, loads, pressure, search, ticks
from benchmarks.compare import TOLERANCE
from benchmarks.goals import goals, growing, only
from benchmarks.helpers_bulk import THREADS
from benchmarks.records import NoResults, Record, Results, read
from benchmarks.report import number
from benchmarks.tables import SHAPES

_TEMPLATE = Path(__file__).with_suffix(".md")


def page(results: Results) -> str:
    """The whole page. Raises LookupError where a figure is missing."""
    parts = (_circumstances, _goals, _loads, _growth, _changes, _reconcile, _searches, _others)
    return Template(_TEMPLATE.read_text()).substitute(
        results="\n".join(line for part in parts for line in part(results)),
        threads=THREADS,
        share=changes.SHARE,
        clients=search.CLIENTS,
        pace=f"{search.EACH_PER_SECOND:g}",
        writes=generations.CHANGES,
        counts=generations.SEARCHES,
        narrow=f"{pressure.NARROW_BYTES / 1e6:g}",
        tolerance=f"{TOLERANCE:.0%}".replace("%", " %"),
    )


def _circumstances(results: Results) -> Iterator[str]:
    yield "## What was measured on\n"
    if results.scale != 1 or results.rounds < 3 or results.ceiling.keys() != SHAPES.keys():
        yield (
            f"**A short run** (`ROUNDS={results.rounds} SCALE={results.scale:g}`): small tables or "
            "few repetitions, so that its figures say little.\n"
        )
    about = results.machine | results.versions
    about |= {"date": results.date, "rounds": results.rounds, "seed": results.seed}
    yield from _table(("", ""), ([name, str(value)] for name, value in about.items()))


def _goals(results: Results) -> Iterator[str]:
    yield "## Goals\n"
    yield from _table(
        ("goal", "measured", ""),
        ([one.aim, one.measured, "met" if one.met else "**missed**"] for one in goals(results)),
    )


def _loads(results: Results) -> Iterator[str]:
    yield "## First loads\n"
    for name in results.ceiling:
        yield f"### {name}: {SHAPES[name].says}\n"
        best = results.ceiling[name]["best"]
        yield (
            f"The ceiling is best reached by requests of {best['documents']:,} documents over "
            f"{best['connections']} connections.\n"
        )
        speeds = [results.find(f"{name} · {method} · speed") for method in loads.METHODS]
        yield from _bars("docs/s", list(loads.METHODS), [one.value for one in speeds])
        rows = []
        for method in loads.METHODS:
            found = [
                results.find(f"{name} · {method} · {figure}")
                for figure in ("speed", "data", "client CPU", "memory above idle", "peak memory")
            ]
            rows.append([method, _spread(found[0]), _ratio(found[0]), *map(_value, found[1:])])
        step = results.find(f"{name} · asset · speed of the whole step")
        rows.insert(
            list(loads.METHODS).index(loads.ASSET) + 1,
            ["asset, the whole step", _spread(step), _ratio(step), "", "", "", ""],
        )
        head = ("", "docs/s", "of the ceiling", "MB/s", "CPU s/M docs", "MB above idle", "MB peak")
        yield from _table(head, rows)
    yield "### Start of the process, and first search\n"
    yield from _table(
        ("", "start, s", "first search, ms"),
        (
            [
                f"{name}, {method}",
                _spread(results.find(f"{name} · {method} · start of the process")),
                _spread(results.find(f"{name} · {method} · first search")),
            ]
            for name in results.ceiling
            for method in loads.METHODS
        ),
    )


def _growth(results: Results) -> Iterator[str]:
    yield "## As the table grows\n"
    rows = []
    for method in (loads.CEILING, loads.ENGINE):
        for speed, memory in zip(
            growing(results, method, "speed"),
            growing(results, method, "memory above idle"),
            strict=True,
        ):
            what = speed.name.partition(" · ")[0]
            rows.append([f"{method}, {what}", _spread(speed), _ratio(speed), _spread(memory)])
    yield from _table(("narrow", "docs/s", "of the small table's", "MB above idle"), rows)


def _changes(results: Results) -> Iterator[str]:
    yield "## Changes\n"
    found = only(results, r"changes · .* rows")
    reference = results.find(found.reference or "")
    yield from _table(
        ("", "s"),
        ([one.name.partition(" · ")[2], _spread(one)] for one in (found, reference)),
    )
    yield "## An idle tick\n"
    tick = [only(results, f"idle tick .* · {figure}") for figure in ("time", "queries")]
    yield (
        f"Over {tick[0].name.partition(' · ')[0].removeprefix('idle tick over ')} of "
        f"{ticks.ROWS:,} rows or fewer, all in step: {_spread(tick[0])} s, "
        f"{_value(tick[1])} queries a table.\n"
    )


def _reconcile(results: Results) -> Iterator[str]:
    yield "## Reconcile\n"
    names = {
        record.name.removesuffix(" · time"): record.name.split(" · ")[1:3]
        for record in results.records
        if record.name.startswith("reconcile · ") and record.name.endswith(" · time")
    }
    yield from _table(
        ("", "s", "rows/s", "MB peak"),
        (
            [
                f"{what}, {rows}",
                *(
                    _spread(results.find(f"{name} · {figure}"))
                    for figure in ("time", "speed", "peak memory")
                ),
            ]
            for name, (rows, what) in names.items()
        ),
    )


def _searches(results: Results) -> Iterator[str]:
    yield "## Search beside a load\n"
    found = [
        results.find(f"searches {where} · {figure}")
        for figure in ("p50", "p99")
        for where in ("alone", "beside a load")
    ]
    yield from _bars(
        "ms",
        ["p50 alone", "p50 beside", "p99 alone", "p99 beside"],
        [one.value for one in found],
    )
    found += [
        results.find(f"load of {search.LOADED} {where} · speed")
        for where in ("alone", "beside searches")
    ]
    yield from _table(
        ("", "", "", "ratio"),
        ([one.name, _spread(one), one.unit, _ratio(one)] for one in found),
    )


def _others(results: Results) -> Iterator[str]:
    for title, start in (
        ("A reindex beside changes and searches", "reindex"),
        ("A slow Elasticsearch", "slow Elasticsearch"),
    ):
        yield f"## {title}\n"
        found = [one for one in results.records if one.name.startswith(start)]
        yield from _table(
            ("", "", "", "ratio"),
            (
                [one.name.removeprefix(f"{start} · "), _spread(one), one.unit, _ratio(one)]
                for one in found
            ),
        )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _bars(title: str, names: Sequence[str], values: Sequence[float]) -> Iterator[str]:
    yield "```mermaid\nxychart-beta"
    quoted = (f'"{name}"' for name in names)
    yield f"    x-axis [{', '.join(quoted)}]"
    yield f'    y-axis "{title}" 0 --> {max(values) * 1.1:.0f}'
    yield f"    bar [{', '.join(f'{value:.5g}' for value in values)}]\n```\n"


def _value(record: Record) -> str:
    return number(record.value)


def _spread(record: Record) -> str:
    return f"{number(record.value)} ({' – '.join(map(number, record.spread))})"


def _ratio(record: Record) -> str:
    return "" if record.ratio is None else f"{record.ratio:.2f}"


def main() -> int:
    try:
        print(page(read(Path(sys.argv[1]))), end="")
    except (NoResults, LookupError) as error:
        print(error if isinstance(error, NoResults) else f"Incomplete: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
