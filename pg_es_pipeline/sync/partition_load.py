"""Loads one partition: the full pass, then the changes pass.

    PostgreSQL ──COPY──▶ batches ──bulk──▶ Elasticsearch
        ▲                                        │ acknowledged, in order
        └────────────── checkpoint ◀─────────────┘

One thread reads and keeps the books; the loader's threads send. No more batches are in memory than
there are connections, and one.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from pg_es_pipeline.errors import RowsRefused
from pg_es_pipeline.sync.checkpoints import Checkpoint, Checkpoints, FullPass
from pg_es_pipeline.sync.documents import Document, field, relation
from pg_es_pipeline.sync.extract import (
    Batch,
    Order,
    batches,
    changes_order,
    full_order,
    query,
)
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.load import Loader, Outcome
from pg_es_pipeline.sync.partitions import predicate
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.snapshot import as_cursor, horizon, lag_seconds, snapshot
from pg_es_pipeline.sync.staleness import windows
from pg_es_pipeline.sync.throttle import MAX_REQUEST_BYTES, BatchSize, RateLimit

CHUNK_ROWS = 100_000
"""Rows read in one transaction: snapshots stay short, so that vacuum is not held up."""

CHECKPOINT_SECONDS = 5.0
"""A crash repeats about this much of a load."""

OnProgress = Callable[[Report], None]
Acknowledged = Callable[[Batch], None]

_EVERY_ROW = sql.SQL("true")


@dataclass(frozen=True, slots=True)
class Means:
    """What a load works with; the loads of one run share it."""

    connection: Connection
    loader: Loader
    checkpoints: Checkpoints
    batch_size: BatchSize
    rate_limit: RateLimit


class PartitionLoad:
    """One load of one partition: made for a single `run`."""

    def __init__(
        self,
        means: Means,
        document: Document,
        generation: Generation,
        checkpoint: Checkpoint,
        version: int,
        on_progress: OnProgress,
    ) -> None:
        self._means = means
        self._document = document
        self._source = document.source
        self._generation = generation
        self._checkpoint = checkpoint
        self._where = predicate(document.source, checkpoint.partition)
        self._version = version
        self._on_progress = on_progress
        self._under_way: deque[tuple[Future[Outcome], Acknowledged]] = deque()
        self._held = False
        self._saved = time.monotonic()
        self.report = Report(generation.index, checkpoint.partition)

    def run(self) -> Report:
        """Loads what is missing. The checkpoint keeps what was acknowledged before an error."""
        try:
            if self._checkpoint.watermark is None:
                self._full_pass()
            self._changes_pass()
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt: do not try again for minutes
                self._means.loader.stop()
            self._keep_what_arrived()
            raise
        self.report.ended = time.monotonic()
        self.report.watermark = self._checkpoint.watermark
        if self._checkpoint.horizon:
            self.report.lag_seconds = lag_seconds(self._means.connection, self._checkpoint.horizon)
        return self.report

    def _full_pass(self) -> None:
        """Reads every row of the partition, from where an interrupted pass has left off."""
        checkpoint, order = self._checkpoint, full_order(self._source)
        if checkpoint.full_pass is None:
            checkpoint.full_pass = FullPass(self._next_horizon())
        full_pass = checkpoint.full_pass
        self.report.full = True
        self.report.estimate = self._estimate(_EVERY_ROW)

        def acknowledged(batch: Batch) -> None:
            full_pass.after = batch.position

        more = True
        after = full_pass.after
        while more:
            with snapshot(self._means.connection, self._version) as self._version:
                more, last = self._send_chunk(order, after, _EVERY_ROW, acknowledged)
            after = last.position if last else after
        self._wait_for_all()
        checkpoint.watermark, checkpoint.full_pass = [full_pass.horizon], None
        self._save()

    def _changes_pass(self) -> None:
        """Reads the rows at or beyond the watermark.

        Those beyond the horizon are loaded too, but the watermark does not pass the horizon of the
        first chunk that reached beyond its own: what commits late below is read again next time.
        """
        checkpoint, order = self._checkpoint, changes_order(self._source)
        assert checkpoint.watermark is not None
        after, beyond = checkpoint.watermark, False
        if not self.report.full:
            self.report.estimate = self._estimate(order.after(after))
        checkpoint.window = None
        while True:
            limit = self._next_horizon()
            below = sql.SQL("{} < {}::{}").format(
                field(self._source.cursor), sql.Literal(limit), sql.SQL(self._source.cursor.type)
            )
            with snapshot(self._means.connection, self._version) as self._version:
                more, last = self._send_chunk(order, after, below, partial(self._advance, limit))
                if not more and not beyond:
                    [window] = windows(
                        self._means.connection, self._source, {checkpoint.partition: [limit]}
                    ).values()
            if not more:
                break
            if last is not None:
                after = last.position
                beyond = beyond or not last.settled
        self._wait_for_all()
        if not beyond:
            checkpoint.watermark, checkpoint.window = [limit], window
        self._save()

    def _advance(self, limit: str, batch: Batch) -> None:
        if self._held:
            return
        self._held = not batch.settled
        self._checkpoint.watermark = [limit] if self._held else batch.position

    def _next_horizon(self) -> str:
        """The horizon as a value of the cursor column; it is taken before a snapshot."""
        connection, checkpoint = self._means.connection, self._checkpoint
        checkpoint.horizon = horizon(connection, self._source, checkpoint.horizon)
        return as_cursor(connection, self._source, checkpoint.horizon)

    def _send_chunk(
        self,
        order: Order,
        after: Sequence[str] | None,
        settled: sql.Composable,
        acknowledged: Acknowledged,
    ) -> tuple[bool, Batch | None]:
        """Sends the rows behind a position; tells whether there may be more, and the last batch."""
        conditions = [self._where] if after is None else [self._where, order.after(after)]
        limit = self._chunk_rows()
        statement = query(
            self._document,
            version=self._version,
            order=order,
            where=conditions,
            settled=settled,
            limit=limit,
        )
        rows, last = 0, None
        size = self._means.batch_size
        for batch in batches(
            self._means.connection,
            statement,
            self._source.table.table,
            lambda: size.documents,
            MAX_REQUEST_BYTES,
        ):
            self._send(batch, acknowledged)
            rows += len(batch.lines)
            last = batch
        return rows == limit, last

    def _chunk_rows(self) -> int:
        rate = self._means.rate_limit.documents_per_second
        # A slow rate must not keep a snapshot open for minutes.
        return min(CHUNK_ROWS, max(1, rate * 10)) if rate else CHUNK_ROWS

    def _send(self, batch: Batch, acknowledged: Acknowledged) -> None:
        self.report.waited += self._means.rate_limit.wait(len(batch.lines))
        future = self._means.loader.submit(self._generation, batch)
        self._under_way.append((future, acknowledged))
        while len(self._under_way) > self._means.loader.connections or self._under_way[0][0].done():
            self._settle_oldest()
            if not self._under_way:
                break

    def _wait_for_all(self) -> None:
        while self._under_way:
            self._settle_oldest()

    def _settle_oldest(self) -> None:
        """Takes the oldest batch's outcome into the books. Raises RowsRefused."""
        future, acknowledged = self._under_way[0]
        outcome = future.result()
        if outcome.refused:
            raise RowsRefused(_refusals(self._source.table.table, outcome))
        self._under_way.popleft()
        acknowledged(outcome.batch)
        self._means.batch_size.done(outcome.seconds, outcome.retries)
        self.report.add(outcome)
        self.report.batch_size = self._means.batch_size.documents
        self._on_progress(self.report)
        if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
            self._save()

    def _save(self) -> None:
        self._checkpoint.version = max(self._checkpoint.version, self._version)
        self._means.checkpoints.write(self._generation, self._checkpoint)
        self._saved = time.monotonic()

    def _keep_what_arrived(self) -> None:
        """After an error: what arrived in order before it need not be sent again."""
        # The first error is the one to tell.
        with suppress(Exception):
            self._wait_for_all()
        with suppress(Exception):
            if self._checkpoint.full_pass or self._checkpoint.watermark:
                self._save()

    def _estimate(self, condition: sql.Composable) -> int:
        """Rows that the planner expects; 0 where it does not say."""
        row = self._means.connection.execute(
            sql.SQL("EXPLAIN (FORMAT JSON) SELECT 1 FROM {} WHERE ({}) AND ({})").format(
                relation(self._source), self._where, condition
            )
        ).fetchone()
        return int(row[0][0]["Plan"]["Plan Rows"]) if row else 0


def _refusals(table: str, outcome: Outcome) -> str:
    shown = "; ".join(f"{one.id}: {one.reason}" for one in outcome.refused[:5])
    more = len(outcome.refused) - 5
    return (
        f"{table}: Elasticsearch refused {len(outcome.refused)} rows of a batch for good: {shown}"
        f"{f' and {more} more' if more > 0 else ''}. Correct the rows, leave the column out with "
        "`exclude`, or give it another mapping under `fields`. The checkpoint stays before them."
    )
