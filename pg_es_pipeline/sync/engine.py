"""The engine's one entrance: what is stale, and bring this partition up to date."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from types import TracebackType
from typing import Self, TypeVar

import psycopg
from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import (
    IndexRefused,
    PipelineError,
    RowsRefused,
    SourceError,
    TableChanged,
)
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings, PostgresSettings
from pg_es_pipeline.sync import elastic, postgres
from pg_es_pipeline.sync.catalog import Source, introspect
from pg_es_pipeline.sync.checkpoints import INDEX, Checkpoint, Checkpoints
from pg_es_pipeline.sync.compare import Level, usual_level
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.fitting import fitting
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.load import Loader
from pg_es_pipeline.sync.means import Means
from pg_es_pipeline.sync.partition_load import OnProgress, PartitionLoad
from pg_es_pipeline.sync.partitions import current_keys, documents_of
from pg_es_pipeline.sync.pressure import Pressure
from pg_es_pipeline.sync.reconcile import Reconciliation, reconcile
from pg_es_pipeline.sync.reindex import (
    Reindex,
    Reindexed,
    alive,
    expired,
    reindexing,
    remove,
)
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.retry import Retry, retry
from pg_es_pipeline.sync.scope import one_partition, whole_table
from pg_es_pipeline.sync.snapshot import Present
from pg_es_pipeline.sync.staleness import Stale
from pg_es_pipeline.sync.survey import Patience, Survey, survey
from pg_es_pipeline.sync.throttle import Flow, RateLimit
from pg_es_pipeline.sync.transform import require_transform
from pg_es_pipeline.tables import Table

Done = TypeVar("Done")

TABLE_CHANGES = 3
"""How often a load begins anew because the table's columns have changed while it was read."""


class Engine:
    """Moves rows. Opens its connections when they are first needed; use it as a context manager.

    One engine belongs to one thread.
    """

    def __init__(
        self,
        postgres_settings: PostgresSettings,
        elasticsearch_settings: ElasticsearchSettings,
        batching: BatchingSettings,
    ) -> None:
        self._postgres = postgres_settings
        self._elasticsearch = elasticsearch_settings
        self._batching = batching
        self._connection: postgres.Connection | None = None
        self._flow = Flow.of(batching)
        self._unrefreshed: set[Generation] = set()
        self._versions: dict[Generation, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if "_loader" in self.__dict__:
            self._loader.close()
        if "client" in self.__dict__:
            self.client.close()
        if self._connection is not None:
            self._connection.close()

    @cached_property
    def client(self) -> Elasticsearch:
        return elastic.connect(self._elasticsearch, self._batching.pool_size + 1)

    @cached_property
    def _loader(self) -> Loader:
        return Loader(self.client, self._elasticsearch, self._batching)

    @cached_property
    def _pressure(self) -> Pressure:
        return Pressure(self.client)

    @cached_property
    def _checkpoints(self) -> Checkpoints:
        return Checkpoints(self.client)

    @cached_property
    def _indices(self) -> Indices:
        return Indices(self.client)

    @property
    def connection(self) -> postgres.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = postgres.connect(self._postgres)
        return self._connection

    def sources(self, tables: Sequence[Table]) -> Mapping[str, Source | SourceError]:
        """What PostgreSQL says of the tables, by index; or why a table will not do."""
        with postgres.speaking("reading the catalog"):
            found = introspect(self.connection, tables)
        return {index: _with_its_transform(source) for index, source in found.items()}

    def source(self, table: Table) -> Source:
        """Raises SourceError when the table will not do."""
        found = self.sources([table])[table.index]
        if isinstance(found, SourceError):
            raise found
        return found

    def survey(
        self, sources: Sequence[Source], patience: Patience | None = None
    ) -> Mapping[str, Survey | PipelineError]:
        """What is to be done for each of the tables, by index; or why one cannot be looked at.

        With `patience`, the first ones alone where there is no time for more, and TookTooLong for
        one that takes too much of it. Raises PipelineError where a server cannot be asked.
        """
        return survey(lambda: self.connection, self._indices, self._checkpoints, sources, patience)

    def stale(self, source: Source) -> tuple[Sequence[Stale], str]:
        """The partitions that need a run, and the moment before which all changes were seen."""
        [found] = self.survey([source]).values()
        if isinstance(found, PipelineError):
            raise found
        return found.stale, found.moment

    def partitions(self, source: Source) -> list[str]:
        """All partition keys of a table as it is now, in order."""
        with postgres.speaking(f"looking up the partitions of {source.table.table}"):
            return current_keys(self.connection, source)

    def record_in_step(self, moments: dict[str, str]) -> None:
        """Notes for each index the moment before which every committed change is in it."""
        self._checkpoints.record_in_step(moments)

    def sync(
        self,
        source: Source,
        partition: str,
        *,
        full: bool = False,
        on_progress: OnProgress = lambda report: None,
    ) -> Report:
        """Loads what changed in a partition; with `full`, or the first time, all of it.

        Raises PipelineError. What was acknowledged before an error is not loaded again.
        """
        return self._anew(source, lambda now: self._sync(now, partition, full, on_progress))

    def _sync(self, source: Source, partition: str, full: bool, on_progress: OnProgress) -> Report:
        what = f"{source.table.table}, partition {partition}"
        with (
            postgres.speaking(what),
            elastic.speaking(what),
            alive(self.connection, source.table.index),
        ):
            self._checkpoints.prepare()
            generation = self._indices.ensure(Document(source))
            self._indices.extend(generation, Document(fitting(source, generation)))
            report = self._load(generation, source, partition, full, on_progress)
            report.differences = generation.differences(Document(source))
            self._unrefreshed.add(generation)
        return report

    def _load(
        self,
        generation: Generation,
        source: Source,
        partition: str,
        full: bool,
        on_progress: OnProgress,
    ) -> Report:
        """Brings a partition of a generation up to date. Raises TableChanged."""
        document = Document(fitting(source, generation))
        checkpoint = self._checkpoints.read(generation, [partition]).get(partition)
        if checkpoint is None:
            checkpoint = Checkpoint(partition, document.fingerprint)
        present = Present.of(self.connection)
        if not present.continues(checkpoint):
            full = checkpoint.unsure = True
            checkpoint.horizon, checkpoint.marks = None, []
        if full or checkpoint.fingerprint != document.fingerprint:
            checkpoint.fingerprint = document.fingerprint
            checkpoint.full_pass = checkpoint.watermark = checkpoint.window = None
        checkpoint.origin = present.origin or checkpoint.origin
        version = max(checkpoint.version, self._highest_version(generation))
        load = PartitionLoad(self._means(), document, generation, checkpoint, version, on_progress)
        try:
            report = load.run()
        except (psycopg.ProgrammingError, RowsRefused) as error:
            if self._has_changed(source):
                raise TableChanged(
                    f"{source.table.table}: its columns have changed while it was read "
                    f"({postgres.first_line(error)})."
                ) from None
            raise
        self._versions[generation] = max(version, checkpoint.version)
        if checkpoint.unsure:
            self._remove_orphans(document, generation, partition)
            checkpoint.unsure = False
            self._checkpoints.write(generation, checkpoint)
        return report

    def _highest_version(self, generation: Generation) -> int:
        """That this engine has seen: what others write meanwhile is dated by the same clock."""
        if generation not in self._versions:
            self._versions[generation] = self._checkpoints.highest_version(generation)
        return self._versions[generation]

    def _anew(self, source: Source, work: Callable[[Source], Done]) -> Done:
        """Begins the work anew, with the table as it is then, if its columns change meanwhile."""
        for _ in range(TABLE_CHANGES):
            try:
                return work(source)
            except TableChanged:
                source = self.source(source.table)
        return work(source)

    def _has_changed(self, source: Source) -> bool:
        """Whether the table has other columns than it had, or other types."""
        found = introspect(self.connection, [source.table])[source.table.index]
        if isinstance(found, SourceError):
            raise found
        return found.columns != source.columns or found.key != source.key

    def reindex(
        self, source: Source, *, on_progress: OnProgress = lambda report: None
    ) -> Reindexed:
        """Loads a new generation beside the live one, and switches the alias to it.

        An interrupted one is gone on with. Raises PipelineError.
        """

        def run(now: Source) -> Reindexed:
            with self._reindexing(now, on_progress) as process:
                return process.run()

        return self._anew(source, run)

    def roll_back(self, source: Source, *, now: bool = False) -> Reindexed:
        """Switches the alias to the generation before, after it has caught up.

        `now`: at once; the next runs bring it up to date. Raises PipelineError.
        """
        with self._reindexing(source, lambda report: None) as process:
            return process.roll_back(now=now)

    def abandon_reindex(self, source: Source) -> str | None:
        """Removes what an interrupted reindex has loaded; returns the generation's name."""
        with self._reindexing(source, lambda report: None) as process:
            return process.abandon()

    @contextmanager
    def _reindexing(self, source: Source, on_progress: OnProgress) -> Iterator[Reindex]:
        def load(generation: Generation, partition: str) -> Report:
            return self._load(generation, source, partition, False, on_progress)

        def compare(generation: Generation) -> Reconciliation:
            document = Document(fitting(source, generation))
            means, scope, level = self._means(), whole_table(document), usual_level(source)
            share = source.table.max_deletes
            return reconcile(means, generation, document, scope, level, max_deletes=share)

        what = f"reindexing {source.table.index}"
        with postgres.speaking(what), elastic.speaking(what):
            self._checkpoints.prepare()
            with reindexing(self.connection, source.table.index):
                yield Reindex(
                    self.connection,
                    self._indices,
                    self._checkpoints,
                    Document(source),
                    load,
                    compare,
                )

    def next_generation(self, index: str) -> str | None:
        """The name of the generation that is being loaded beside the live one, or waits to be."""
        found = self._indices.next(index)
        return found.name if found else None

    def remove_old_generations(self, tables: Sequence[Table]) -> list[str]:
        """Removes the generations of these tables' indices that were kept for long enough.

        Returns their names. Raises PipelineError.
        """
        by_index = {table.index: table for table in tables}
        gone = [
            one
            for one in self._indices.old()
            if one.index in by_index and expired(one, by_index[one.index])
        ]
        for generation in gone:
            remove(self._indices, self._checkpoints, generation)
        return [one.name for one in gone]

    def reconcile(
        self,
        source: Source,
        *,
        partition: str | None = None,
        level: Level | None = None,
        sample: int = 0,
        repair: bool = True,
        max_deletes: float | None = None,
    ) -> Reconciliation:
        """Compares a table, or a partition of it, with its index, and repairs what differs.

        What is compared is the content where documents carry a hash of it, else the keys, if not
        `level` says otherwise; with `sample`, so many whole documents and rows drawn at random.
        `max_deletes`, a share, is the table's own if not given. Raises DeletesRefused when more
        would go.
        """
        what = f"comparing {source.table.table} with {source.table.index}"
        with postgres.speaking(what), elastic.speaking(what):
            self._checkpoints.prepare()
            generation = self._indices.find(Document(source))
            if generation is None:
                raise IndexRefused(
                    f"{source.table.index}: there is no index yet. Load the table first."
                )
            document = Document(fitting(source, generation))
            if partition is None:
                scope = whole_table(document)
            else:
                scope = one_partition(document, partition)
            result = reconcile(
                self._means(),
                generation,
                document,
                scope,
                level or usual_level(source),
                sample=sample,
                repair=repair,
                max_deletes=source.table.max_deletes if max_deletes is None else max_deletes,
            )
            self._indices.refresh(generation)
        return result

    def _remove_orphans(self, document: Document, generation: Generation, partition: str) -> None:
        """Deletes the documents whose rows a database that was set back has no more."""
        if documents_of(document.source, partition) is None:
            scope = whole_table(document)
        else:
            scope = one_partition(document, partition)
        share = document.source.table.max_deletes
        reconcile(self._means(), generation, document, scope, Level.KEYS, max_deletes=share)

    def retry(self, source: Source) -> Retry:
        """Tries the index's dead letters again. Raises PipelineError."""
        what = f"trying the dead letters of {source.table.index} again"
        with postgres.speaking(what), elastic.speaking(what):
            self._checkpoints.prepare()
            generation = self._indices.find(Document(source))
            if generation is None:
                return Retry(source.table.index)
            document = Document(fitting(source, generation))
            self._indices.extend(generation, document)
            result = retry(self._means(), document, generation)
            self._indices.refresh(generation)
        return result

    def _means(self) -> Means:
        return Means(
            connection=self.connection,
            connect=partial(postgres.connect, self._postgres),
            client=self.client,
            loader=self._loader,
            checkpoints=self._checkpoints,
            flow=self._flow,
            pressure=self._pressure,
            rate_limit=RateLimit(self.client, INDEX, self._batching.rate_limit),
        )

    def refresh(self) -> None:
        """Makes everything that was loaded so far searchable. Another thread may load meanwhile."""
        taken = set[Generation]()
        while self._unrefreshed:
            taken.add(self._unrefreshed.pop())
        if taken:
            self._indices.refresh(*taken)


def _with_its_transform(source: Source | SourceError) -> Source | SourceError:
    """The source, or why its transform cannot be used."""
    if not isinstance(source, SourceError):
        try:
            require_transform(source)
        except SourceError as error:
            return error
    return source
