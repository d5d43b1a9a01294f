"""The page docs/benchmarks.md, drawn from a file of results.

python -m benchmarks.page build/bench.json > docs/benchmarks.md
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

from benchmarks import changes, generations, loads, search, ticks, way
from benchmarks.compare import TOLERANCE
from benchmarks.goals import goals, growing, only
from benchmarks.helpers_bulk import THREADS
from benchmarks.markdown import bars, circumstances, draw, ratio, reached, spread, table, value
from benchmarks.records import Results
from benchmarks.tables import SHAPES

_TEMPLATE = Path(__file__).with_suffix(".md")


def page(results: Results) -> str:
    """The whole page. Raises LookupError where a figure is missing."""
    parts = (_loads, _growth, _changes, _reconcile, _searches, _others)
    found = itertools.chain(
        circumstances(results, _shortened(results)),
        reached(goals(results)),
        *(part(results) for part in parts),
    )
    return Template(_TEMPLATE.read_text()).substitute(
        results="\n".join(found),
        threads=THREADS,
        share=changes.SHARE,
        clients=search.CLIENTS,
        pace=f"{search.EACH_PER_SECOND:g}",
        writes=generations.CHANGES,
        counts=generations.SEARCHES,
        narrow=f"{way.NARROW_BYTES / 1e6:g}",
        tolerance=f"{TOLERANCE:.0%}".replace("%", " %"),
    )


def _shortened(results: Results) -> str | None:
    if results.scale == 1 and results.rounds >= 3 and results.ceiling.keys() == SHAPES.keys():
        return None
    return f"ROUNDS={results.rounds} SCALE={results.scale:g}"


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
        yield from bars("docs/s", list(loads.METHODS), [one.value for one in speeds])
        rows = []
        for method in loads.METHODS:
            found = [
                results.find(f"{name} · {method} · {figure}")
                for figure in ("speed", "data", "client CPU", "memory above idle", "peak memory")
            ]
            rows.append([method, spread(found[0]), ratio(found[0]), *map(value, found[1:])])
        step = results.find(f"{name} · asset · speed of the whole step")
        rows.insert(
            list(loads.METHODS).index(loads.ASSET) + 1,
            ["asset, the whole step", spread(step), ratio(step), "", "", "", ""],
        )
        head = ("", "docs/s", "of the ceiling", "MB/s", "CPU s/M docs", "MB above idle", "MB peak")
        yield from table(head, rows)
    yield "### Start of the process, and first search\n"
    yield from table(
        ("", "start, s", "first search, ms"),
        (
            [
                f"{name}, {method}",
                spread(results.find(f"{name} · {method} · start of the process")),
                spread(results.find(f"{name} · {method} · first search")),
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
            rows.append([f"{method}, {what}", spread(speed), ratio(speed), spread(memory)])
    yield from table(("narrow", "docs/s", "of the small table's", "MB above idle"), rows)


def _changes(results: Results) -> Iterator[str]:
    yield "## Changes\n"
    found = only(results, r"changes · .* rows")
    reference = results.find(found.reference or "")
    yield from table(
        ("", "s"),
        ([one.name.partition(" · ")[2], spread(one)] for one in (found, reference)),
    )
    yield "## An idle tick\n"
    tick = [only(results, f"idle tick .* · {figure}") for figure in ("time", "queries")]
    yield (
        f"Over {tick[0].name.partition(' · ')[0].removeprefix('idle tick over ')} of "
        f"{ticks.ROWS:,} rows or fewer, all in step: {spread(tick[0])} s, "
        f"{value(tick[1])} queries a table.\n"
    )


def _reconcile(results: Results) -> Iterator[str]:
    yield "## Reconcile\n"
    names = {
        record.name.removesuffix(" · time"): record.name.split(" · ")[1:3]
        for record in results.records
        if record.name.startswith("reconcile · ") and record.name.endswith(" · time")
    }
    yield from table(
        ("", "s", "rows/s", "MB peak"),
        (
            [
                f"{what}, {rows}",
                *(
                    spread(results.find(f"{name} · {figure}"))
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
    yield from bars(
        "ms",
        ["p50 alone", "p50 beside", "p99 alone", "p99 beside"],
        [one.value for one in found],
    )
    found += [
        results.find(f"load of {search.LOADED} {where} · speed")
        for where in ("alone", "beside searches")
    ]
    yield from table(
        ("", "", "", "ratio"),
        ([one.name, spread(one), one.unit, ratio(one)] for one in found),
    )


def _others(results: Results) -> Iterator[str]:
    for title, start in (
        ("A reindex beside changes and searches", "reindex"),
        ("A slow Elasticsearch", "slow Elasticsearch"),
    ):
        yield f"## {title}\n"
        found = [one for one in results.records if one.name.startswith(start)]
        yield from table(
            ("", "", "", "ratio"),
            (
                [one.name.removeprefix(f"{start} · "), spread(one), one.unit, ratio(one)]
                for one in found
            ),
        )


if __name__ == "__main__":
    sys.exit(draw(page))
