"""Finds what differs between a table and its index, and writes the rows anew that do.

A repair reads the rows again, by key, and writes what they are then, under the version of that
reading: whatever a load writes meanwhile, the newer reading wins.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from pg_es_pipeline.errors import DeletesRefused
from pg_es_pipeline.sync import rows
from pg_es_pipeline.sync.compare import Comparison, Differences, Level
from pg_es_pipeline.sync.dead_letters import DeadLetters
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.load import Outcome
from pg_es_pipeline.sync.means import Means
from pg_es_pipeline.sync.scope import Scope

DELETES_ALLOWED = 10
"""So many documents may always be deleted, whatever the share."""

ROWS_AT_ONCE = 1_000
SAMPLE = 5
"""Ids that are kept to be shown, of each kind of difference."""


@dataclass(slots=True)
class Reconciliation:
    """What was compared, found and repaired."""

    index: str
    level: Level
    rows: int = 0
    """Rows compared."""
    documents: int = 0
    missing: int = 0
    """Rows without a document."""
    extra: int = 0
    """Documents without a row."""
    changed: int = 0
    """Documents that were not what their row would become."""
    written: int = 0
    deleted: int = 0
    superseded: int = 0
    """Rows for which the index had something newer already."""
    seconds: float = 0.0
    sample: Differences = field(default_factory=Differences)

    @property
    def differences(self) -> int:
        return self.missing + self.extra + self.changed

    def note(self, found: Differences) -> None:
        """Counts some differences."""
        for kind in ("missing", "extra", "changed"):
            ids = getattr(found, kind)
            setattr(self, kind, getattr(self, kind) + len(ids))
            kept = getattr(self.sample, kind)
            kept += ids[: SAMPLE - len(kept)]


class Repair:
    """Writes rows anew by their documents' ids."""

    def __init__(
        self,
        means: Means,
        generation: Generation,
        document: Document,
        *,
        version: int,
        may_delete: int,
        take: Callable[[Outcome], None],
        partition: str | None = None,
    ) -> None:
        self._means = means
        self._generation = generation
        self._document = document
        self._may_delete = may_delete
        self._take = take
        self._where = generation.index + (f", partition {partition}" if partition else "")
        self.version = version
        """The highest version so far."""
        self.written = 0
        self.deleted = 0
        self.superseded = 0
        self._orphans = 0

    def write(self, ids: Sequence[str]) -> None:
        """Raises DeletesRefused when too many documents would go: those that are, stay there."""
        for start in range(0, len(ids), ROWS_AT_ONCE):
            batch, self.version = rows.batch(
                self._means.connection,
                self._document,
                ids[start : start + ROWS_AT_ONCE],
                self.version,
            )
            # A row that the transform leaves out is still there.
            self._orphans += batch.deletes - batch.dropped
            if self._orphans > self._may_delete:
                raise DeletesRefused(
                    f"{self._where}: more than {self._may_delete:,} documents have no "
                    f"row in {self._document.source.table.table} any more; {self.deleted:,} of "
                    "them were deleted. If they are meant to go, allow it once with `pg-es verify "
                    "--repair --max-deletes 100%`, or for the table with `max_deletes`."
                )
            self._means.rate_limit.wait(batch.rows)
            outcome = self._means.loader.submit(self._generation, batch).result()
            self._take(outcome)
            self.superseded += outcome.superseded
            self.deleted += batch.deletes
            self.written += batch.rows - batch.deletes


def deletes_allowed(share: float, documents: int) -> int:
    """How many of so many documents may be deleted; with a share of 1, also those to come."""
    if share >= 1:
        return sys.maxsize
    return max(DELETES_ALLOWED, int(share * documents))


@contextmanager
def comparing(
    means: Means, generation: Generation, document: Document, scope: Scope, level: Level
) -> Iterator[Comparison]:
    """A comparison over a connection of its own: it reads on while a repair looks rows up."""
    # Closed as it is: what else a connection does at its end would wait for the query that is still
    # being read, if what is done with its rows fails.
    with closing(means.connect()) as reading:
        yield Comparison(
            reading, means.connection, means.client, generation, document, scope, level
        )


def reconcile(
    means: Means,
    generation: Generation,
    document: Document,
    scope: Scope,
    level: Level,
    *,
    sample: int = 0,
    repair: bool = True,
    max_deletes: float,
) -> Reconciliation:
    """Compares both sides; repairs the differences, or else makes sure of them.

    With `sample`, so many documents and rows are drawn and compared as a whole. Raises
    DeletesRefused when a larger share of the documents would go than `max_deletes`.
    """
    result = Reconciliation(generation.index, Level.FULL if sample else level)
    started = time.monotonic()
    with comparing(means, generation, document, scope, level) as comparison:
        found = comparison.sample(sample) if sample else comparison.differences()
        if repair:
            _repair(means, generation, document, scope, comparison, found, max_deletes, result)
        else:
            for some in found:
                result.note(comparison.confirm(some))
        result.rows, result.documents = comparison.rows, comparison.documents
    result.seconds = time.monotonic() - started
    return result


def _repair(
    means: Means,
    generation: Generation,
    document: Document,
    scope: Scope,
    comparison: Comparison,
    found: Iterable[Differences],
    max_deletes: float,
    result: Reconciliation,
) -> None:
    dead_letters = DeadLetters(means.client, document.source.table, generation)
    repair = Repair(
        means,
        generation,
        document,
        version=means.checkpoints.highest_version(generation),
        may_delete=deletes_allowed(max_deletes, comparison.count_documents()),
        take=dead_letters.settle,
        partition=scope.partition,
    )
    try:
        for some in found:
            result.note(some)
            repair.write(some.ids)
    finally:
        means.checkpoints.record_version(generation, repair.version)
    result.written, result.deleted = repair.written, repair.deleted
    result.superseded = repair.superseded
