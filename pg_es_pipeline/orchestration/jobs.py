"""Jobs: `sync_all` and `sync_<index>` bring what is stale up to date, `load_<index>` a range.

The `sync` jobs are made of a plain op: a step of a partitioned asset takes one contiguous range of
one table, and a run's start costs seconds, so that many small changes of many tables share one run.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from pydantic import Field

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.orchestration.loading import failing_clearly, for_each, load_partitions
from pg_es_pipeline.orchestration.names import (
    ALL_TABLES,
    CHANGES_POOL,
    POOL,
    TABLES_TAG,
    identifier,
    index_key,
)
from pg_es_pipeline.orchestration.partitions import add_new, partitions_definition
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.tables import Table

SYNC_ALL, SYNC_ALL_OP = "sync_all", "sync_all_op"
SYNC_OP = "sync_op"
"""Of the jobs of one table."""


class Select(Enum):
    """Which partitions a `sync` job loads that is not told their names."""

    STALE = "STALE"
    MISSING = "MISSING"
    FAILED = "FAILED"
    ALL = "ALL"


class SyncConfig(dg.Config):
    """What a `sync` job loads, and how."""

    partitions: dict[str, list[str]] = Field(
        default={}, description="Partitions by index; without any, those that `select` says."
    )
    select: Select = Field(
        default=Select.STALE,
        description="`STALE`: rows have changed; `MISSING`: never materialized; `FAILED`: the "
        "last run for them has failed; `ALL`.",
    )
    full: bool = Field(
        default=False,
        description="Read the partitions as a whole again; otherwise only what changed since the "
        "last load.",
    )


def sync_job(tables: Sequence[Table]) -> dg.JobDefinition:
    """`sync_all` brings partitions of all these tables up to date in one run."""
    op = _sync_op(SYNC_ALL_OP, CHANGES_POOL, lambda _: tables)
    description = "Brings every stale partition of every table up to date."
    return op_job(SYNC_ALL, description, op, {TABLES_TAG: ALL_TABLES})


def table_jobs(tables: Sequence[Table]) -> list[dg.JobDefinition]:
    """`sync_<index>` for each table. They share one op: another for each would cost as much to
    define as all the rest of it."""
    by_job = {sync_job_name(table): [table] for table in tables}
    op = _sync_op(SYNC_OP, POOL, by_job.__getitem__)
    return [
        op_job(
            sync_job_name(table),
            f"Brings every stale partition of {table.table} up to date.",
            op,
            {TABLES_TAG: table.index},
        )
        for table in tables
    ]


def _sync_op(name: str, pool: str, tables_of: Callable[[str], Sequence[Table]]) -> dg.OpDefinition:
    """Loads the tables of the job that it is in."""

    @dg.op(name=name, pool=pool, description="Brings partitions up to date.")
    def sync(
        context: dg.OpExecutionContext,
        config: SyncConfig,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        with failing_clearly():
            wanted = _wanted(tables_of(context.job_name), config.partitions)
            with engine(postgres, elasticsearch, batching) as running:

                def one(source: Source) -> None:
                    _load(context, running, source, config)

                for_each(context, running, wanted, one)

    return sync


def op_job(
    name: str, description: str, op: dg.OpDefinition, tags: Mapping[str, str] | None = None
) -> dg.JobDefinition:
    """A job of one op, in the process of the run."""
    return _graph(op).to_job(
        name, description=description, executor_def=dg.in_process_executor, tags=tags
    )


@cache
def _graph(op: dg.OpDefinition) -> dg.GraphDefinition:
    return dg.GraphDefinition(f"{op.name}_graph", node_defs=[op])


def sync_job_name(table: Table) -> str:
    return f"sync_{identifier(table)}"


def load_job_name(table: Table) -> str:
    return f"load_{identifier(table)}"


def load_jobs(tables: Sequence[Table]) -> list[UnresolvedAssetJobDefinition]:
    """`load_<index>` for each table: materializes a partition or a contiguous range."""
    return [
        dg.define_asset_job(
            load_job_name(table),
            # A load is not to wait for comparisons of the whole table.
            selection=dg.AssetSelection.assets(index_key(table)).without_checks(),
            description=f"Loads a partition, or a range of partitions, of {table.table}.",
            executor_def=dg.in_process_executor,
            tags={TABLES_TAG: table.index},
        )
        for table in tables
    ]


def _wanted(tables: Sequence[Table], partitions: Mapping[str, object]) -> list[Table]:
    known = {table.index for table in tables}
    if unknown := sorted(set(partitions) - known):
        raise SourceError(
            f"no index {unknown[0]!r} in this job: `partitions` takes {', '.join(sorted(known))}."
        )
    return [table for table in tables if not partitions or table.index in partitions]


def _load(
    context: dg.OpExecutionContext, running: Engine, source: Source, config: SyncConfig
) -> None:
    table = source.table
    keys = config.partitions.get(table.index) or _selected(
        context.instance, running, source, config.select
    )
    add_new(context.instance, table, keys)
    load_partitions(context, running, source, keys, full=config.full)


def _selected(
    instance: dg.DagsterInstance, running: Engine, source: Source, select: Select
) -> list[str]:
    if select is Select.STALE:
        stale, _moment = running.stale(source)
        return [one.partition for one in stale]
    keys = running.partitions(source)
    if select is Select.ALL:
        return keys
    add_new(instance, source.table, keys)
    definition, asset = partitions_definition(source.table), index_key(source.table)
    with partition_loading_context(dynamic_partitions_store=instance):
        status = instance.get_status_by_partition(asset, keys, definition) or {}
    wanted = AssetPartitionStatus.FAILED if select is Select.FAILED else None
    return [key for key in keys if status.get(key) is wanted]
