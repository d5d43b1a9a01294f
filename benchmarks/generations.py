"""A reindex while rows change and people search: what searches see, and what it costs them."""

import threading
import time
from typing import Any

from benchmarks import indices
from benchmarks.child import run
from benchmarks.indices import WrongAnswer
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers
from benchmarks.tables import table as described

CHANGES, SEARCHES = 200, 20
"""A second."""

WRONG = "reindex · searches that failed or saw a wrong number"

LEAST = 5.0
"""Seconds that searches go on before and after, at full scale."""


def measure(servers: Servers, plan: Plan, table: str) -> list[Record]:
    """Reindexes this table in each round. Raises WrongAnswer where a search failed, or a document
    was missing or there twice."""
    indices.delete(servers, table)
    run("engine:load", servers, table=table)
    rounds = []
    for number in range(min(plan.rounds, 3)):
        aside = max(0.5, LEAST * min(1, plan.scale))
        found = run("generations:reindex", servers, table=table, aside=aside)
        rounds.append(found)
        plan.say(
            f"round {number + 1}: reindexed in {found['seconds']:.1f} s beside {found['searches']} "
            f"searches and {found['changes']} changes, loads held for {found['held']:.2f} s"
        )
    indices.delete(servers, table)
    return [
        record(f"reindex · {name}", unit, [one[key] for one in rounds])
        for name, unit, key in (
            ("speed", "docs/s", "speed"),
            ("loads held", "s", "held"),
            ("searches", "searches", "searches"),
            (WRONG.partition(" · ")[2], "searches", "wrong"),
            ("documents that differ afterwards", "documents", "differ"),
        )
    ]


def reindex(servers: Servers, table: str, aside: float) -> dict[str, Any]:
    """One reindex beside changes, loads of them, and searches, which begin so many seconds before
    and end as many after."""
    over = threading.Event()
    writer, searcher = _Writer(servers, table, over), _Searcher(servers, table, over)
    loader = _Loader(servers, table, over)
    with servers.engine() as engine:
        source = engine.source(described(table))
        for thread in (writer, searcher, loader):
            thread.start()
        over.wait(aside)
        began = time.monotonic()
        try:
            done = engine.reindex(source)
            seconds = time.monotonic() - began
            over.wait(aside)
        finally:
            over.set()
            for thread in (writer, searcher, loader):
                thread.join()
        for thread in (writer, loader):
            if thread.failure:
                raise thread.failure
        for one in engine.stale(source)[0]:
            engine.sync(source, one.partition)
        engine.refresh()
        differ = engine.reconcile(source, repair=False).differences
        engine.remove_old_generations([source.table])
    if searcher.wrong or differ:
        raise WrongAnswer(f"{table}: {searcher.wrong[:5]}; {differ} documents differ afterwards")
    return {
        "seconds": seconds,
        "speed": done.rows / seconds,
        "held": done.held_seconds,
        "searches": searcher.count,
        "changes": writer.count,
        "wrong": len(searcher.wrong),
        "differ": differ,
    }


class _Thread(threading.Thread):
    def __init__(self, servers: Servers, table: str, over: threading.Event) -> None:
        super().__init__()
        self._servers, self._table, self._over = servers, table, over
        self.count = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self.work()
        except Exception as failure:
            self.failure = failure

    def work(self) -> None:
        raise NotImplementedError


class _Writer(_Thread):
    """Changes rows, no number of them."""

    def work(self) -> None:
        with self._servers.connect() as connection:
            row = connection.execute(f'SELECT max(id) FROM public."{self._table}"').fetchone()
            assert row is not None
            statement = (
                f'UPDATE public."{self._table}" SET customer = customer + 1, updated_at = now() '
                "WHERE id = %s"
            )
            due = time.monotonic()
            while not self._over.wait(max(0.0, due - time.monotonic())):
                self.count += 1
                connection.execute(statement, [self.count * 7919 % row[0] + 1])
                due += 1 / CHANGES


class _Loader(_Thread):
    """Keeps the live generation in step, as the sensor's runs do."""

    def work(self) -> None:
        with self._servers.engine() as engine:
            source = engine.source(described(self._table))
            while not self._over.wait(1.0):
                engine.sync(source, "all")
                self.count += 1


class _Searcher(_Thread):
    """Counts all documents, again and again."""

    wrong: list[str]

    def work(self) -> None:
        self.wrong = []
        expected: int | None = None
        due = time.monotonic()
        with self._servers.client() as client:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                due += 1 / SEARCHES
                try:
                    answer = client.search(index=self._table, size=10, track_total_hits=True)
                except Exception as error:
                    self.wrong.append(f"failed: {error}")
                    continue
                self.count += 1
                total = answer["hits"]["total"]["value"]
                expected = expected or total
                if total != expected:
                    self.wrong.append(f"{total:,} documents instead of {expected:,}")
