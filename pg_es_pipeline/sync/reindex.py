"""Loads a new generation beside the live one, and lets the alias point at it.

    made ─▶ every partition loaded ─▶ compared, repaired ─▶ loads held: caught up ─▶ switched

Searches are served by the live generation until the last step, and loads keep it in step. What was
loaded stays when a reindex is interrupted: the next one goes on with it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import psycopg

from pg_es_pipeline.errors import IndexRefused, ReindexUnderWay, ServerAway
from pg_es_pipeline.sync import postgres
from pg_es_pipeline.sync.checkpoints import Checkpoints
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.fitting import fitting
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.partitions import current_keys
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.reconcile import Reconciliation
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.snapshot import Present
from pg_es_pipeline.sync.staleness import Stale
from pg_es_pipeline.sync.survey import stale_in
from pg_es_pipeline.tables import Snapshot, Table

LOCK_WAIT = "2s"
"""How long a switch stands in line for the loads under way, and holds up those behind it."""

SWITCH_SECONDS = 600.0
"""How long a switch tries, in all, before it gives up."""

# Of the advisory locks; any numbers will do, as long as they stay. The other half is of the index.
_LOADS, _REINDEXES = 702_642_725, 702_642_726


@dataclass(slots=True)
class Reindexed:
    """What became of a reindex, or of a rollback."""

    index: str
    before: str
    """The generation that was live."""
    generation: str
    """The one that is live now."""
    reports: list[Report] = field(default_factory=list)
    """Of the partitions, without the rows that were caught up at the end."""
    compared: Reconciliation | None = None
    held_seconds: float = 0.0
    """For how long other loads of the table had to wait."""

    @property
    def rows(self) -> int:
        return sum(report.rows for report in self.reports)


Load = Callable[[Generation, str], Report]
"""Brings a partition of a generation up to date."""

Compare = Callable[[Generation], Reconciliation]
"""Compares a generation with the table, and writes what differs."""


class Reindex:
    """One table's reindex, or rollback."""

    def __init__(
        self,
        connection: Connection,
        indices: Indices,
        checkpoints: Checkpoints,
        document: Document,
        load: Load,
        compare: Compare,
    ) -> None:
        self._connection = connection
        self._indices = indices
        self._checkpoints = checkpoints
        self._document = document
        self._source = document.source
        self._load = load
        self._compare = compare

    def run(self) -> Reindexed:
        """Raises PipelineError; what was loaded then is gone on with by the next run."""
        live = self._live()
        new = self._next(live)
        result = Reindexed(live.index, live.name, new.name)
        for partition in current_keys(self._connection, self._source):
            result.reports.append(self._load(new, partition))
        self._indices.finish(new, live)
        # What has changed meanwhile may be much; what is left for the end is little.
        self._catch_up(new)
        result.compared = self._compare(new)
        self._catch_up(new)
        with self._loads_held(result):
            self._catch_up(new)
            self._indices.refresh(new)
            self._indices.switch(live, new)
        return result

    def roll_back(self, *, now: bool) -> Reindexed:
        """Lets the alias point at the generation before; `now`: without catching up first."""
        live = self._live()
        old = next(iter(self._indices.old(live.index)), None)
        if old is None:
            raise IndexRefused(
                f"{live.index}: there is no generation before {live.name} any more. They are kept "
                "for `keep_generations`, as the tables file says."
            )
        result = Reindexed(live.index, live.name, old.name)
        if not now:
            self._catch_up(old)
        with self._loads_held(result):
            if not now:
                self._catch_up(old)
            self._indices.refresh(old)
            self._indices.switch(live, old, declined=self._document.layout)
        return result

    def abandon(self) -> str | None:
        """Removes the generation that is being loaded; returns its name, None if there is none."""
        unfinished = self._indices.next(self._source.table.index)
        if unfinished is None:
            return None
        remove(self._indices, self._checkpoints, unfinished)
        return unfinished.name

    def _live(self) -> Generation:
        live = self._indices.find(self._document)
        if live is None:
            raise IndexRefused(
                f"{self._source.table.index}: there is no index yet. Load the table first."
            )
        return live

    def _next(self, live: Generation) -> Generation:
        """The generation that an interrupted reindex has left, if it is the wanted one."""
        left = self._indices.next(live.index)
        if left is not None and not left.differences(self._document):
            self._indices.extend(left, self._document)
            return left
        if left is not None:
            remove(self._indices, self._checkpoints, left)
        return self._indices.make_next(self._document, live)

    def _catch_up(self, generation: Generation) -> None:
        for one in self._stale(generation):
            self._load(generation, one.partition)

    def _stale(self, generation: Generation) -> Sequence[Stale]:
        partitions = current_keys(self._connection, self._source)
        source = fitting(self._source, generation)
        # The live one may have been compared a moment ago.
        at_once = source.table.model_copy(update={"snapshot": Snapshot(every=timedelta(0))})
        return stale_in(
            self._connection,
            Document(replace(source, table=at_once)),
            partitions,
            self._checkpoints.read(generation, partitions),
            Present.of(self._connection),
        )

    @contextmanager
    def _loads_held(self, result: Reindexed) -> Iterator[None]:
        """While no load writes to the live generation."""
        index = self._source.table.index
        deadline = time.monotonic() + SWITCH_SECONDS
        while not _try_lock(self._connection, index):
            if time.monotonic() > deadline:
                raise ServerAway(
                    f"{index}: loads of the live generation have not left a gap of a moment for "
                    f"{SWITCH_SECONDS:.0f} s, which the switch to {result.generation} needs. It is "
                    "loaded, and kept: start the reindex again when they are over."
                )
        started = time.monotonic()
        with _released(self._connection, "pg_advisory_unlock", [_LOADS, index]):
            yield
        result.held_seconds = time.monotonic() - started


@contextmanager
def alive(connection: Connection, index: str) -> Iterator[None]:
    """While the alias stays where it is: what a load of the live generation is done in."""
    lock = [_LOADS, index]
    connection.execute("SELECT pg_advisory_lock_shared(%s, hashtext(%s))", lock)
    with _released(connection, "pg_advisory_unlock_shared", lock):
        yield


@contextmanager
def reindexing(connection: Connection, index: str) -> Iterator[None]:
    """While nobody else reindexes the table, or rolls it back. Raises ReindexUnderWay."""
    lock = [_REINDEXES, index]
    row = connection.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", lock).fetchone()
    if row is None or not row[0]:
        raise ReindexUnderWay(
            f"{index}: another reindex or rollback of it is under way. Wait until it is over."
        )
    with _released(connection, "pg_advisory_unlock", lock):
        yield


@contextmanager
def _released(connection: Connection, unlock: str, lock: Sequence[object]) -> Iterator[None]:
    """Gives a lock back in the end; one of a connection that broke is gone with it."""
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SELECT {unlock}(%s, hashtext(%s))", lock)


def remove(indices: Indices, checkpoints: Checkpoints, generation: Generation) -> None:
    """Removes a generation that is not live, and its checkpoints."""
    indices.remove(generation)
    checkpoints.forget(generation)


def expired(generation: Generation, table: Table) -> bool:
    """Whether a generation that was live before has been kept long enough."""
    retired_at = generation.about.get("retired_at")
    if not isinstance(retired_at, str):
        return False
    return datetime.now(UTC) - datetime.fromisoformat(retired_at) >= table.keep_generations


def _try_lock(connection: Connection, index: str) -> bool:
    """Stands in line for a moment: loads that come later wait behind it."""
    with postgres.lock_timeout(connection, LOCK_WAIT):
        try:
            connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", [_LOADS, index])
        except psycopg.errors.LockNotAvailable:
            return False
    return True
