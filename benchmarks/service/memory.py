"""The service's memory over many requests, and while it exports many documents."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import tables
from benchmarks.child import run
from benchmarks.indices import WrongAnswer
from benchmarks.records import Record, record
from benchmarks.service.asked import INDEX, Asked, wanted
from benchmarks.service.plan import CONNECTIONS, Bench
from benchmarks.service.quiet import Connection
from benchmarks.service.wrk import send

REQUESTS = 1_000_000
EXPORTED = 1_000_000

_PARTS = 10
_LARGE = "exported"
_EVERY = 0.05  # seconds


def over_requests(bench: Bench) -> list[Record]:
    """Memory after each tenth of so many requests of all kinds."""
    requests = round(REQUESTS * bench.length)
    asked = list(_mixture(bench))
    sizes: list[float] = []
    sent = 0
    pace = 100.0
    for part in range(1, _PARTS + 1):
        while sent < requests * part / _PARTS:
            answers = send(
                bench.wrk,
                bench.service.address,
                asked,
                bench.servers.folder,
                connections=CONNECTIONS,
                seconds=(requests * part / _PARTS - sent) / pace,
            )
            if answers.broken:
                raise WrongAnswer(f"{answers.broken} requests of {answers.total} had no answer.")
            sent += answers.total
            pace = answers.per_second
        sizes.append(bench.service.memory)
        bench.plan.say(f"{sent:,} requests, {pace:,.0f}/s: {sizes[-1]:.1f} MB")
    name = f"{requests:,} requests"
    reference = f"{name} · memory after a tenth"
    return [
        record(reference, "MB", sizes[:1]),
        record(f"{name} · memory after all", "MB", sizes[-1:], reference, sizes[:1]),
    ]


def _mixture(bench: Bench) -> Iterator[Asked]:
    """Searches, and among them what else the service does, mistakes too."""
    ask = bench.searches.ask
    for number, plain in enumerate(bench.searches.of_service):
        yield plain
        body = wanted(bench.plan.rng)
        conditions = {key: body[key] for key in ("index", "query_fields")}
        if number % 5 == 0:
            yield ask("POST", "/search", {**body, "facets": {"status": {"type": "terms"}}})
            yield ask("POST", "/search/count", conditions)
            yield ask("GET", f"/indices/{INDEX}/documents/{number + 1}")
            yield ask("GET", f"/search/{INDEX}?filter=city:City*&sort=-placed&number={number}")
            yield ask("POST", "/search", {**body, "fields": [f"unknown{number}"]})
            yield Asked("GET", f"/indices?{number}", "", (("X-API-Key", f"wrong{number}"),))
        if number % 50 == 0:
            yield ask("POST", "/search", {**body, "pagination": "cursor"})


def of_exports(bench: Bench) -> list[Record]:
    """Memory while few documents are exported, and while many are; and how fast that is."""
    few, many = (max(500, round(rows * bench.length)) for rows in (EXPORTED // 10, EXPORTED))
    with bench.servers.connect() as connection:
        tables.make(connection, tables.NARROW, many, _LARGE)
    run("engine:load", bench.servers, table=_LARGE)
    peaks: dict[int, list[float]] = {few: [], many: []}
    speeds: dict[str, list[float]] = {"ndjson": [], "csv": []}
    for number in range(min(bench.plan.rounds, 3)):
        for limit in (few, many):
            for kind in speeds:
                with _peak(lambda: bench.service.memory) as peak:
                    seconds, lines = _export(bench, kind, limit)
                if limit == many:
                    speeds[kind].append(lines / seconds)
                if kind == "ndjson":
                    peaks[limit].append(peak[0])
        bench.plan.say(
            f"round {number + 1}: exports of {few:,} and {many:,} documents: "
            f"{peaks[few][-1]:.1f} and {peaks[many][-1]:.1f} MB at most"
        )
    reference = f"export of {few:,} documents · peak memory"
    return [
        record(reference, "MB", peaks[few]),
        record(
            f"export of {many:,} documents · peak memory",
            "MB",
            peaks[many],
            reference,
            peaks[few],
        ),
        *(record(f"export · {kind}", "docs/s", speeds[kind]) for kind in speeds),
    ]


def _export(bench: Bench, kind: str, limit: int) -> tuple[float, int]:
    """Seconds and documents. What the policy hides is left out, so that there are fewer."""
    body = {"format": kind, "limit": limit}
    asked = bench.searches.ask("POST", f"/search/{_LARGE}/export", body)
    connection = Connection(bench.service.address)
    lines = 0
    began = time.monotonic()
    for part in connection.parts(asked):
        lines += part.count(b"\n")
    return time.monotonic() - began, lines - (kind == "csv")


@contextmanager
def _peak(size: Callable[[], float]) -> Iterator[list[float]]:
    """The largest size meanwhile, once the block has ended."""
    largest = [size()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_EVERY):
            largest[0] = max(largest[0], size())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield largest
    finally:
        over.set()
        watcher.join()
