"""What is aimed at, beside what was measured."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import generations, pressure
from benchmarks.records import Record, Results
from benchmarks.report import number


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, and how far it is reached."""

    aim: str
    measured: str
    met: bool


def goals(results: Results) -> Iterator[Goal]:
    """All goals that the benchmark can judge. Raises LookupError where a figure is missing."""
    for table in results.ceiling:
        asset, step = (
            _ratio(results.find(f"{table} · asset · {speed}"))
            for speed in ("speed", "speed of the whole step")
        )
        yield Goal(
            f"{table}: first load through a Dagster asset at 0.9 of the ceiling or more",
            f"{asset:.2f} (the whole step: {step:.2f})",
            asset >= 0.9,
        )
    for table in results.ceiling:
        times = results.find(f"{table} · asset · beside streaming_bulk").value
        yield Goal(
            f"{table}: at least 5 times as fast as `streaming_bulk`", f"{times:.1f} ×", times >= 5
        )
    for table in results.ceiling:
        engine, asset, ceiling = (
            results.find(f"{table} · {method} · client CPU").value
            for method in ("engine", "asset", "ceiling")
        )
        yield Goal(
            f"{table}: the engine's client CPU for a million documents at most 1.2 s",
            f"{engine:.2f} s (in a Dagster run of this size {asset:.2f} s, the ceiling's "
            f"{ceiling:.2f} s)",
            engine <= 1.2,
        )
    for table in results.ceiling:
        above = results.find(f"{table} · asset · memory above idle").value
        yield Goal(
            f"{table}: client memory at most 150 MB above its idle size",
            f"{number(above)} MB",
            above <= 150,
        )
    few, many = growing(results, "engine", "memory above idle")
    yield Goal(
        "the same memory whatever the number of rows (within 10 MB)",
        f"{number(few.value)} and {number(many.value)} MB",
        abs(many.value - few.value) <= 10,
    )
    few, many = growing(results, "engine", "speed")
    yield Goal(
        "the same docs/s as the table grows, ±10 %",
        f"{_ratio(many):.2f} of the small table's",
        0.9 <= _ratio(many) <= 1.1,
    )
    changes = only(results, r"changes · .* rows")
    ceiling = results.find(changes.reference or "").value
    allowed = 2.5 * ceiling + 1
    yield Goal(
        "changes: at most 2.5 times the ceiling's time for so many documents, plus 1 s",
        f"{changes.value:.2f} s of {allowed:.2f} s",
        changes.value <= allowed,
    )
    seconds = only(results, "idle tick .* · time")
    yield Goal(f"{_what(seconds)}: at most 0.5 s", f"{seconds.value:.2f} s", seconds.value <= 0.5)
    queries = only(results, "idle tick .* · queries")
    yield Goal(
        f"{_what(queries)}: at most 1 query a table",
        f"{number(queries.value)}",
        queries.value <= 1,
    )
    wrong = results.find(generations.WRONG)
    searched = results.find("reindex · searches")
    yield Goal(
        f"reindex under {generations.CHANGES} changes/s and {generations.SEARCHES} searches/s: no "
        "search fails or sees a wrong number of documents",
        f"{number(wrong.spread[1])} of {number(searched.value)} a round",
        wrong.spread[1] == 0,
    )
    for way in pressure.WAYS:
        follows, back = (
            results.find(f"slow Elasticsearch, {way} · until {what}").value
            for what in ("short again", "the speed is back")
        )
        yield Goal(
            f"slow Elasticsearch, {way}: a load follows, and is back, within 10 s",
            f"{follows:.1f} s, {back:.1f} s",
            max(follows, back) <= 10,
        )


def growing(results: Results, method: str, figure: str) -> tuple[Record, Record]:
    """Of a table with few rows, and of one with many."""
    name = rf"[\d,]+ rows · {method} · {figure}"
    found = [record for record in results.records if re.fullmatch(name, record.name)]
    few, many = sorted(found, key=lambda record: record.reference is not None)
    return few, many


def only(results: Results, name: str) -> Record:
    """The one record whose name is like that."""
    found = [record for record in results.records if re.fullmatch(name, record.name)]
    if len(found) != 1:
        raise LookupError(f"{len(found)} figures are called like {name!r}")
    return found[0]


def _ratio(record: Record) -> float:
    if record.ratio is None:
        raise LookupError(f"{record.name} has no ratio")
    return record.ratio


def _what(record: Record) -> str:
    return record.name.partition(" · ")[0]
