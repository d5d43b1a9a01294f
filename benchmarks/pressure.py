"""A load while Elasticsearch is made slow on purpose: what becomes of it, and how soon it is back.

In one way all that goes to Elasticsearch passes a narrow way, in the other its process gets half of
the processors' time. Each comes and goes in the middle of a load.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import indices
from benchmarks.child import run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers
from benchmarks.tables import table as described
from benchmarks.way import Way
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.throttle import SLOW_SECONDS

UNDISTURBED, DISTURBED, AFTERWARDS = 12.0, 15.0, 20.0
"""Seconds."""

BACK = 0.9
"""Of its speed before: from there on a load counts as being back."""

WINDOW = 2.0
"""Seconds over which a speed is told."""

WAYS = {"a narrow way": "narrow", "half of the processors": "halved"}


def measure(servers: Servers, plan: Plan, table: str) -> list[Record]:
    """How long a load of this table takes to follow, and to be back. Raises WrongAnswer."""
    records = []
    for name, way in WAYS.items():
        found = []
        for number in range(min(plan.rounds, 3)):
            indices.delete(servers, table)
            one = run(f"pressure:{way}", servers, table=table, scale=min(1.0, plan.scale * 2))
            found.append(one)
            plan.say(
                f"round {number + 1}: {name}: {one['before']:,.0f} docs/s, meanwhile "
                f"{one['meanwhile']:,.0f}, back after {one['back']:.1f} s"
            )
        indices.delete(servers, table)
        before = f"slow Elasticsearch, {name} · before"
        records += [
            record(before, "docs/s", [one["before"] for one in found]),
            record(
                f"slow Elasticsearch, {name} · meanwhile",
                "docs/s",
                [one["meanwhile"] for one in found],
                before,
                [one["before"] for one in found],
            ),
            record(
                f"slow Elasticsearch, {name} · until short again",
                "s",
                [one["follows"] for one in found],
            ),
            record(
                f"slow Elasticsearch, {name} · until the speed is back",
                "s",
                [one["back"] for one in found],
            ),
        ]
    return records


def narrow(servers: Servers, table: str, scale: float) -> dict[str, Any]:
    """Behind a way on which little passes for a while."""
    with Way(servers) as way:
        return _load(servers.behind(way.port), table, scale, way.narrowed)


def halved(servers: Servers, table: str, scale: float) -> dict[str, Any]:
    """With Elasticsearch stopped for half of the time."""
    return _load(servers, table, scale, lambda: _half_stopped(servers.elasticsearch_pid))


def _load(servers: Servers, table: str, scale: float, disturbance: Any) -> dict[str, Any]:
    """Loads until it has gone on long enough afterwards, or the table is at its end."""
    samples: list[tuple[float, int, float]] = []
    began = time.monotonic()
    ends = [began + scale * sum((UNDISTURBED, DISTURBED, AFTERWARDS)[: n + 1]) for n in range(3)]

    def note(report: Report) -> None:
        now = time.monotonic()
        samples.append((now, report.rows, report.latest))
        if now > ends[2]:
            raise _Enough

    def disturb() -> None:
        if not over.wait(ends[0] - time.monotonic()):
            with disturbance():
                over.wait(ends[1] - time.monotonic())

    over = threading.Event()
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with servers.engine() as engine:
            engine.sync(engine.source(described(table)), "all", full=True, on_progress=note)
    except _Enough:
        pass
    finally:
        over.set()
        thread.join()
    return _figures(samples, ends)


class _Enough(Exception):
    """All that was wanted has been seen."""


def _figures(samples: list[tuple[float, int, float]], ends: list[float]) -> dict[str, Any]:
    start = samples[0][0]
    before = _speed(samples, (start + ends[0]) / 2, ends[0])
    meanwhile = _speed(samples, (ends[0] + ends[1]) / 2, ends[1])
    slow = [(at - ends[0], seconds) for at, _, seconds in samples if ends[0] < at < ends[1]]
    # Until the last request that took too long; if none came back, all of the time.
    long = [at for at, seconds in slow if seconds > SLOW_SECONDS] if slow else [ends[1] - ends[0]]
    back = next(
        (
            at - ends[1]
            for at, _, _ in samples
            if at >= ends[1] + WINDOW and _speed(samples, at - WINDOW, at) >= BACK * before
        ),
        samples[-1][0] - ends[1],
    )
    return {
        "before": before,
        "meanwhile": meanwhile,
        "follows": max(long, default=0.0),
        "back": max(0.0, back - WINDOW),
    }


def _speed(samples: list[tuple[float, int, float]], since: float, until: float) -> float:
    """Documents a second between two moments."""
    inside = [rows for at, rows, _ in samples if since <= at <= until]
    return (inside[-1] - inside[0]) / (until - since) if len(inside) > 1 else 0.0


@contextmanager
def _half_stopped(pid: int) -> Iterator[None]:
    over = threading.Event()

    def stop_and_go() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.05)
            os.kill(pid, signal.SIGCONT)
            over.wait(0.05)

    thread = threading.Thread(target=stop_and_go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.kill(pid, signal.SIGCONT)
