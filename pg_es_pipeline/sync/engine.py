"""The engine's one entrance: what is stale, and bring this partition up to date."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from types import TracebackType
from typing import Self

from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings, PostgresSettings
from pg_es_pipeline.sync import elastic, postgres
from pg_es_pipeline.sync.catalog import Source, introspect
from pg_es_pipeline.sync.checkpoints import INDEX, Checkpoint, Checkpoints
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.load import Loader
from pg_es_pipeline.sync.partition_load import Means, OnProgress, PartitionLoad
from pg_es_pipeline.sync.partitions import keys
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.sync.snapshot import horizon
from pg_es_pipeline.sync.staleness import Stale, stale_partitions
from pg_es_pipeline.sync.throttle import BatchSize, RateLimit
from pg_es_pipeline.tables import Table


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
        self._batch_size = BatchSize.of(batching)
        self._unrefreshed: set[Generation] = set()

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
            return introspect(self.connection, tables)

    def source(self, table: Table) -> Source:
        """Raises SourceError when the table will not do."""
        found = self.sources([table])[table.index]
        if isinstance(found, SourceError):
            raise found
        return found

    def stale(self, source: Source) -> tuple[list[Stale], str]:
        """The partitions that need a run, and the moment before which all changes were seen."""
        document = Document(source)
        partitions = keys(source.table.partitions, datetime.now(UTC))
        with postgres.speaking(f"looking for changes of {source.table.table}"):
            moment = horizon(self.connection, source, None)
            generation = self._indices.find(document)
            if generation is None:
                return [Stale(partition, None) for partition in partitions], moment
            checkpoints = self._checkpoints.read(generation, partitions)
            stale = stale_partitions(
                self.connection, source, partitions, checkpoints, document.fingerprint
            )
        return stale, moment

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
        document = Document(source)
        what = f"{source.table.table}, partition {partition}"
        with postgres.speaking(what), elastic.speaking(what):
            self._checkpoints.prepare()
            generation = self._indices.ensure(document)
            checkpoint = self._checkpoints.read(generation, [partition]).get(partition)
            if checkpoint is None:
                checkpoint = Checkpoint(partition, document.fingerprint)
            elif full or checkpoint.fingerprint != document.fingerprint:
                checkpoint.fingerprint = document.fingerprint
                checkpoint.full_pass = checkpoint.watermark = checkpoint.window = None
            means = Means(
                connection=self.connection,
                loader=self._loader,
                checkpoints=self._checkpoints,
                batch_size=self._batch_size,
                rate_limit=RateLimit(self.client, INDEX, self._batching.rate_limit),
            )
            version = max(checkpoint.version, self._checkpoints.highest_version(generation))
            load = PartitionLoad(means, document, generation, checkpoint, version, on_progress)
            report = load.run()
            self._unrefreshed.add(generation)
        return report

    def refresh(self) -> None:
        """Makes everything that was loaded so far searchable."""
        while self._unrefreshed:
            self._indices.refresh(self._unrefreshed.pop())
