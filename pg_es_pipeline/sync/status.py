"""How far each index is behind its table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from psycopg import sql

from pg_es_pipeline.errors import PipelineError, ServerAway
from pg_es_pipeline.sync import elastic, postgres
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.checkpoints import Checkpoint, Checkpoints
from pg_es_pipeline.sync.checks.index import dead_letters
from pg_es_pipeline.sync.documents import relation
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.fitting import fitting
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.partitions import documents_of
from pg_es_pipeline.sync.snapshot import Present
from pg_es_pipeline.sync.staleness import Stale
from pg_es_pipeline.tables import Table

State = Literal[
    "in_step", "changes_waiting", "full_pass_waiting", "loading", "interrupted", "never_loaded"
]

LOADING = timedelta(minutes=1)
"""A full pass whose checkpoint is older than this has been interrupted: a load writes its own every
few seconds, save where Elasticsearch makes it wait."""

FILTERS = 500
"""Partitions that are counted in one request."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition. The names are those of `pg-es status --json`."""

    partition: str
    state: State
    rows_waiting: int | None
    """Rows that the next run looks at; None where it reads the whole partition."""
    watermark: list[str] | None
    lag_seconds: float | None
    """How far the moment before which every committed change is in the index lies behind."""
    documents: int | None
    """None where the documents do not tell their partition."""
    dead_letters: int
    updated_at: str | None
    """Of the checkpoint."""


@dataclass(slots=True)
class TableStatus:
    """One table and its index. The names are those of `pg-es status --json`."""

    index: str
    table: str
    generation: str | None = None
    """The physical index behind the alias."""
    next_generation: str | None = None
    """The one that a reindex is loading beside it, or was interrupted at."""
    differences: list[str] = field(default_factory=list)
    """Why the table's rows ask for a new generation, if they do."""
    error: str | None = None
    """Why the rest could not be found out."""
    rows_estimate: int | None = None
    """The planner's, soft-deleted rows included."""
    documents: int | None = None
    size_bytes: int | None = None
    """Of the primary shards."""
    dead_letters: int = 0
    in_step_at: str | None = None
    """The moment before which every change was in the index when the whole of it was in step last,
    as the sensor has noted it."""
    partitions: list[PartitionStatus] = field(default_factory=list)


def status(engine: Engine, tables: Sequence[Table]) -> list[TableStatus]:
    """The state of each table. Raises PipelineError where a server is away; what is wrong with a
    single table stands in its `error`."""
    indices = [table.index for table in tables]
    sources = engine.sources(tables)
    with elastic.speaking("counting dead letters"):
        letters = dead_letters(engine.client, indices)
    in_step_at = Checkpoints(engine.client).in_step_at(indices)
    result = []
    for table in tables:
        mine = letters.get(table.index, {})
        one = TableStatus(
            table.index,
            table.table,
            dead_letters=sum(mine.values()),
            in_step_at=in_step_at.get(table.index),
        )
        try:
            source = sources[table.index]
            if isinstance(source, PipelineError):
                raise source
            what = f"looking at {table.table}"
            with postgres.speaking(what), elastic.speaking(what):
                _fill(one, engine, source, mine)
        except ServerAway:
            raise
        except PipelineError as error:
            one.error = str(error)
        result.append(one)
    return result


def _fill(one: TableStatus, engine: Engine, source: Source, dead: Mapping[str, int]) -> None:
    every_row = sql.SQL("SELECT 1 FROM {}").format(relation(source))
    one.rows_estimate = postgres.planned_rows(engine.connection, every_row)
    [found] = engine.survey([source]).values()
    if isinstance(found, PipelineError):
        raise found
    generation, partitions, checkpoints = found.generation, found.partitions, found.checkpoints
    counts: dict[str, int] = {}
    if generation is not None:
        stats = engine.client.indices.stats(index=generation.name, metric=["docs", "store"])
        one.generation = generation.name
        one.next_generation = engine.next_generation(one.index)
        one.differences = list(map(str, found.differences))
        one.size_bytes = int(stats["_all"]["primaries"]["store"]["size_in_bytes"])
        one.documents = int(engine.client.count(index=generation.name)["count"])
        counts = _documents(engine, fitting(source, generation), generation, partitions)
    waiting = {one.partition: one for one in found.stale}
    clock = datetime.fromisoformat(Present.of(engine.connection).clock)
    for partition in partitions:
        checkpoint = checkpoints.get(partition)
        state = _state(checkpoint, waiting.get(partition))
        seen = checkpoint.horizon if checkpoint else None
        # Without a cursor only a comparison sees what has changed.
        if state == "in_step" and source.cursor is not None:
            seen = found.moment
        one.partitions.append(
            PartitionStatus(
                partition=partition,
                state=state,
                rows_waiting=waiting[partition].rows if partition in waiting else 0,
                watermark=checkpoint.watermark if checkpoint else None,
                lag_seconds=_seconds(clock, seen),
                documents=counts.get(partition),
                dead_letters=dead.get(partition, 0),
                updated_at=checkpoint.updated_at if checkpoint else None,
            )
        )


def _state(checkpoint: Checkpoint | None, stale: Stale | None) -> State:
    if checkpoint is None:
        return "never_loaded"
    if checkpoint.full_pass is not None:
        written = datetime.fromisoformat(str(checkpoint.updated_at))
        return "loading" if datetime.now(UTC) - written < LOADING else "interrupted"
    if stale is None:
        return "in_step"
    return "full_pass_waiting" if stale.rows is None else "changes_waiting"


def _seconds(clock: datetime, moment: str | None) -> float | None:
    if moment is None:
        return None
    return round((clock - datetime.fromisoformat(moment)).total_seconds(), 3)


def _documents(
    engine: Engine, source: Source, generation: Generation, partitions: Sequence[str]
) -> dict[str, int]:
    """The documents of those partitions that can be told by their fields."""
    queries: dict[str, dict[str, Any]] = {
        partition: query
        for partition in partitions
        if (query := documents_of(source, partition)) is not None
    }
    counts: dict[str, int] = {}
    names = list(queries)
    for start in range(0, len(names), FILTERS):
        answer = engine.client.search(
            index=generation.name,
            size=0,
            aggs={
                "partition": {
                    "filters": {
                        "filters": {name: queries[name] for name in names[start : start + FILTERS]}
                    }
                }
            },
        )
        for name, bucket in answer["aggregations"]["partition"]["buckets"].items():
            counts[name] = bucket["doc_count"]
    return counts
