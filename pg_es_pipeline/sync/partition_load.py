"""Loads one partition: the full pass, then the changes pass.

    PostgreSQL ──COPY──▶ batches ──bulk──▶ Elasticsearch
        ▲                                        │ acknowledged, in order
        └────────────── checkpoint ◀─────────────┘

One thread reads and keeps the books; the loader's threads send.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from psycopg import sql

from pg_es_pipeline.sync.checkpoints import Checkpoint, FullPass
from pg_es_pipeline.sync.compare import Level
from pg_es_pipeline.sync.dead_letters import DeadLetters
from pg_es_pipeline.sync.documents import Document, field, relation
from pg_es_pipeline.sync.extract import (
    NO_ROOM,
    UNWRITABLE,
    Batch,
    Order,
    Refusal,
    batches,
    by_block,
    by_row,
    changes_order,
    full_order,
    next_row,
    rows_in_blocks,
    unwritable,
)
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.load import Outcome
from pg_es_pipeline.sync.means import Means
from pg_es_pipeline.sync.partitions import predicate
from pg_es_pipeline.sync.postgres import planned_rows
from pg_es_pipeline.sync.reconcile import Repair, comparing, deletes_allowed
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.scope import one_partition
from pg_es_pipeline.sync.sending import Passed, Sending
from pg_es_pipeline.sync.snapshot import (
    Present,
    lag_seconds,
    limit,
    limit_after_full_pass,
    snapshot,
)
from pg_es_pipeline.sync.staleness import activity, windows
from pg_es_pipeline.sync.throttle import MAX_REQUEST_BYTES
from pg_es_pipeline.sync.transforming import transformed

CHUNK_ROWS = 100_000
"""Rows read in one transaction: snapshots stay short, so that vacuum is not held up."""

FIRST_CHUNK_ROWS = 10_000
"""Of the first one: PostgreSQL reads all of a chunk before there is something to send."""

CHECKPOINT_SECONDS = 5.0
"""A crash repeats about this much of a load."""

OnProgress = Callable[[Report], None]

_EVERY_ROW = sql.SQL("true")


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
        self._dead_letters = DeadLetters(means.client, document.source.table, generation)
        self._sending = Sending(means.loader, means.flow, generation, self._take, self._tell)
        self._chunk_rows = FIRST_CHUNK_ROWS
        self._held = False
        self._row_by_row = False
        """Since a chunk failed in blocks, until one is read through."""
        self._saved = time.monotonic()
        self._throttled_before = Counter(means.flow.throttled)
        self.report = Report(generation.index, checkpoint.partition)

    def run(self) -> Report:
        """Loads what is missing. The checkpoint keeps what was acknowledged before an error."""
        try:
            if self._checkpoint.watermark is None:
                self._full_pass()
            if self._source.cursor is None:
                self._compare_pass()
            else:
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
            begin = limit(self._means.connection, self._source, checkpoint)
            mark = checkpoint.marks[-1] if checkpoint.marks else None
            checkpoint.full_pass = FullPass(begin, mark)
        full_pass = checkpoint.full_pass
        self.report.full = True
        self.report.estimate = self._estimate(_EVERY_ROW)

        def passed(batch: Batch) -> None:
            full_pass.after = batch.position

        more = True
        after = full_pass.after
        while more:
            with snapshot(self._means.connection, self._version) as self._version:
                more, last = self._send_chunk(order, after, _EVERY_ROW, passed)
            after = last.position if last else after
        self._sending.wait_for_all()
        limit(self._means.connection, self._source, checkpoint)
        checkpoint.watermark = [limit_after_full_pass(self._source, checkpoint)]
        checkpoint.full_pass = None
        self._save()

    def _changes_pass(self) -> None:
        """Reads the rows at or beyond the watermark.

        Those beyond the horizon are loaded too, but the watermark does not pass the horizon of the
        first chunk that reached beyond its own: what commits late below is read again next time.
        """
        checkpoint, order = self._checkpoint, changes_order(self._source)
        cursor = order.columns[0]
        assert checkpoint.watermark is not None
        after, beyond = checkpoint.watermark, False
        if not self.report.full:
            self.report.estimate = self._estimate(order.after(after))
        checkpoint.window = None
        while True:
            settled = limit(self._means.connection, self._source, checkpoint)
            below = sql.SQL("{} < {}::{}").format(
                field(cursor), sql.Literal(settled), sql.SQL(cursor.type)
            )
            with snapshot(self._means.connection, self._version) as self._version:
                more, last = self._send_chunk(order, after, below, partial(self._advance, settled))
                if not more and not beyond:
                    [window] = windows(
                        self._means.connection, self._source, {checkpoint.partition: [settled]}
                    ).values()
            if not more:
                break
            if last is not None:
                after = last.position
                beyond = beyond or not last.settled
        self._sending.wait_for_all()
        if not beyond:
            checkpoint.watermark, checkpoint.window = [settled], window
        self._save()

    def _compare_pass(self) -> None:
        """Without a cursor: finds what has changed by comparing both sides, and writes that."""
        means, checkpoint = self._means, self._checkpoint
        # What happens from here on is for the next comparison to see.
        moment = Present.of(means.connection).clock
        counted = activity(means.connection, self._source)
        scope = one_partition(self._document, checkpoint.partition)

        def take(outcome: Outcome) -> None:
            self._take(outcome)
            self._tell()

        with comparing(means, self._generation, self._document, scope, Level.CONTENT) as comparison:
            repair = Repair(
                means,
                self._generation,
                self._document,
                version=self._version,
                may_delete=deletes_allowed(
                    self._source.table.max_deletes, comparison.count_documents()
                ),
                take=take,
                partition=checkpoint.partition,
            )
            for found in comparison.differences():
                self.report.estimate += found.count
                repair.write(found.ids)
                self._version = repair.version
        checkpoint.watermark, checkpoint.activity = [moment], counted
        self._save()

    def _advance(self, settled: str, batch: Batch) -> None:
        if self._held:
            return
        self._held = not batch.settled
        self._checkpoint.watermark = [settled] if self._held else batch.position

    def _send_chunk(
        self,
        order: Order,
        after: Sequence[str] | None,
        settled: sql.Composable,
        passed: Passed,
    ) -> tuple[bool, Batch | None]:
        """Sends the rows behind a position; tells whether there may be more, and the last batch."""
        connection, flow = self._means.connection, self._means.flow
        where = [self._where] if after is None else [self._where, order.after(after)]
        limit = self._next_limit()
        in_blocks = not self._row_by_row and rows_in_blocks(
            connection, self._document, order=order, where=where, limit=limit
        )
        statement = partial(by_block, rows=flow.block) if in_blocks else by_row
        limit = in_blocks or limit
        rows, last = 0, None
        try:
            for batch in batches(
                connection,
                statement(
                    self._document,
                    version=self._version,
                    order=order,
                    where=where,
                    settled=settled,
                    limit=limit,
                ),
                self._source.table.table,
                lambda: flow.documents,
                MAX_REQUEST_BYTES,
            ):
                self._send(batch, passed)
                rows += batch.rows
                last = batch
        except (*UNWRITABLE, *NO_ROOM):
            if in_blocks:
                self._row_by_row = True
                return True, last
            found = self._suspect(order, last.position if last else after, settled)
            if found is None:
                raise
            self._send(found, passed)
            return True, found
        self._row_by_row = False
        return rows == limit, last

    def _suspect(
        self, order: Order, after: Sequence[str] | None, settled: sql.Composable
    ) -> Batch | None:
        """The row behind a position by itself, or why PostgreSQL cannot write it; None if there is
        none. Takes a snapshot of its own: the error has ended the chunk's."""
        connection = self._means.connection
        connection.rollback()
        behind = [self._where] if after is None else [self._where, order.after(after)]
        with snapshot(connection, self._version) as self._version:
            row = connection.execute(
                next_row(self._document, order=order, where=behind, settled=settled)
            ).fetchone()
            if row is None:
                return None
            key, *position, is_settled = row
            alone = by_row(
                self._document,
                version=self._version,
                order=order,
                where=[self._where, order.at(position)],
                settled=settled,
                limit=1,
            )
            try:
                [batch] = batches(
                    connection, alone, self._source.table.table, lambda: 1, MAX_REQUEST_BYTES
                )
            except UNWRITABLE as error:
                refusal = Refusal(key, unwritable(error), self._version)
                return Batch(b"", 0, position, is_settled, unwritable=[refusal])
            return batch

    def _next_limit(self) -> int:
        """How many rows the next chunk has."""
        rows, self._chunk_rows = min(self._chunk_rows, CHUNK_ROWS), CHUNK_ROWS
        rate = self._means.rate_limit.documents_per_second
        # A slow rate must not keep a snapshot open for minutes.
        return min(rows, max(1, rate * 10)) if rate else rows

    def _send(self, batch: Batch, passed: Passed) -> None:
        batch = transformed(self._document, batch)
        self.report.waited += self._means.rate_limit.wait(batch.rows)

        def move_on(batch: Batch) -> None:
            passed(batch)
            if time.monotonic() - self._saved > CHECKPOINT_SECONDS:
                self._save()

        self._sending.send(batch, move_on)

    def _tell(self) -> None:
        self._on_progress(self.report)

    def _take(self, outcome: Outcome) -> None:
        """Learns from what became of a batch how much to send, and notes it. Raises RowsRefused."""
        flow = self._means.flow
        flow.done(outcome.began, outcome.seconds, outcome.why_again)
        if signs := self._means.pressure.look():
            flow.look(signs)
        self._dead_letters.settle(outcome, self._checkpoint.partition)
        self.report.add(outcome)
        self.report.batch_size, self.report.connections = flow.documents, flow.connections
        self.report.throttled = flow.throttled - self._throttled_before

    def _save(self) -> None:
        self._checkpoint.version = max(self._checkpoint.version, self._version)
        self._means.checkpoints.write(self._generation, self._checkpoint)
        self._saved = time.monotonic()

    def _keep_what_arrived(self) -> None:
        """After an error: what arrived in order before it need not be sent again."""
        self._sending.keep_what_arrived()
        with suppress(Exception):
            if self._checkpoint.full_pass or self._checkpoint.watermark:
                self._save()

    def _estimate(self, condition: sql.Composable) -> int:
        """Rows that the planner expects."""
        query = sql.SQL("SELECT 1 FROM {} WHERE ({}) AND ({})").format(
            relation(self._source), self._where, condition
        )
        return planned_rows(self._means.connection, query)
