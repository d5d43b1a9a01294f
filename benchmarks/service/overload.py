"""What the service does when ten times as much is asked as it can do."""

import time

from benchmarks.indices import WrongAnswer
from benchmarks.records import Record, record
from benchmarks.service.plan import Bench
from benchmarks.service.quiet import REFUSALS, Connection, TurnedAway
from benchmarks.service.wrk import Answers, send

TIMES = 10
SECONDS = 120
NORMAL_SECONDS = 10

IN_TIME = 50
"""Milliseconds in which who is turned away is to know it."""

BACK_SECONDS = 10.0
"""In which the service is to answer again. What was under way when the last one left may still
be: until it has ended there is no room."""

_ANSWERS = (200, *REFUSALS)

_PAUSE = 0.1
"""Seconds between two requests of a connection, on average: so many connections make the rate."""


def measure(bench: Bench) -> list[Record]:
    """Searches that come at a rate of their own, however long they take.

    Raises WrongAnswer when the service does not work afterwards as it did before.
    """
    length = min(1.0, bench.length)
    normal = bench.ask_service(NORMAL_SECONDS * min(1.0, length * 10), timed=True)
    processes = bench.service.processes
    flood = send(
        bench.wrk,
        bench.service.address,
        bench.searches.of_service,
        bench.servers.folder,
        connections=max(1, round(normal.per_second * TIMES * _PAUSE)),
        seconds=SECONDS * length,
        pause=_PAUSE,
        timed=True,
    )
    if bench.service.processes != processes:
        raise WrongAnswer("the service has lost a process under overload")
    records = [*_records(normal, flood), _back(bench)]
    for one in records:
        bench.plan.say(f"{one.name}: {one.value:g} {one.unit}")
    return records


def _back(bench: Bench) -> Record:
    """How long after the flood a search is answered. Raises WrongAnswer when it is with an error,
    or turned away for longer than BACK_SECONDS."""
    connection, began = Connection(bench.service.address), time.perf_counter()
    while True:
        try:
            connection.ask(bench.searches.of_service[0])
        except TurnedAway:
            if time.perf_counter() - began > BACK_SECONDS:
                raise
        else:
            took = (time.perf_counter() - began) * 1000
            return record("overload · answers again after", "ms", [took])


def _records(normal: Answers, flood: Answers) -> list[Record]:
    capacity, usual = normal.per_second, normal.percentile(99, 200)
    others = flood.total - flood.count(*_ANSWERS)
    slow = sum(
        count
        for status in REFUSALS
        for taken, count in flood.by_status.get(status, {}).items()
        if taken > IN_TIME
    )
    refused = flood.count(*REFUSALS)
    asked = record("overload · capacity", "requests/s", [capacity])
    before = record("overload · p99 before", "ms", [usual])
    return [
        asked,
        record("overload · asked", "requests/s", [flood.per_second], asked.name, [capacity]),
        record(
            "overload · answered",
            "requests/s",
            [flood.count(200) / flood.seconds],
            asked.name,
            [capacity],
        ),
        before,
        record(
            "overload · p99 of the answered",
            "ms",
            [flood.percentile(99, 200)],
            before.name,
            [usual],
        ),
        record("overload · p50 of the turned away", "ms", [flood.percentile(50, *REFUSALS)]),
        record("overload · p99 of the turned away", "ms", [flood.percentile(99, *REFUSALS)]),
        record("overload · slowest of the turned away", "ms", [flood.percentile(100, *REFUSALS)]),
        record(
            f"overload · turned away after {IN_TIME} ms",
            "%",
            [100 * slow / refused if refused else 0],
        ),
        record("overload · neither answered nor turned away", "requests", [others + flood.broken]),
    ]
