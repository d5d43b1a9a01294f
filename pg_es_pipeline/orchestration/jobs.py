"""The jobs `sync_all` and `sync_tables` bring what is stale up to date.

They are made of a plain op: a step of a partitioned asset takes one contiguous range of
one table, and a run's start costs seconds, so that many small changes of many tables share one run.
"""

from collections.abc import Mapping, Sequence
from enum import Enum

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.storage.partition_status_cache import AssetPartitionStatus
from pydantic import Field

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.orchestration.loading import failing_clearly, for_each, load_partitions, plan
from pg_es_pipeline.orchestration.names import (
    ALL_TABLES,
    CHANGES_POOL,
    POOL,
    TABLES_TAG,
    index_key,
    tables_of,
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
SYNC_TABLES, SYNC_OP = "sync_tables", "sync_op"


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


def sync_jobs(tables: Sequence[Table]) -> tuple[dg.JobDefinition, dg.JobDefinition]:
    """`sync_all` and `sync_tables`. They differ in the pool that they wait for."""
    return (
        op_job(
            SYNC_ALL,
            "Brings every stale partition of every table up to date.",
            _sync_op(SYNC_ALL_OP, CHANGES_POOL, tables),
            {TABLES_TAG: ALL_TABLES},
        ),
        op_job(
            SYNC_TABLES,
            "Brings every stale partition of some tables up to date: of those that `partitions` "
            f"names, or the tag {TABLES_TAG}.",
            _sync_op(SYNC_OP, POOL, tables),
        ),
    )


def _sync_op(name: str, pool: str, tables: Sequence[Table]) -> dg.OpDefinition:
    @dg.op(name=name, pool=pool, description="Brings partitions up to date.")
    def sync(
        context: dg.OpExecutionContext,
        config: SyncConfig,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        with failing_clearly():
            wanted = _wanted(tables, config.partitions, tables_of(context.run.tags))
            with engine(postgres, elasticsearch, batching) as running:

                def one(source: Source) -> None:
                    _load(context, running, source, config)

                for_each(context, running, wanted, one)

    return sync


def op_job(
    name: str, description: str, op: dg.OpDefinition, tags: Mapping[str, str] | None = None
) -> dg.JobDefinition:
    """A job of one op, in the process of the run."""
    graph = dg.GraphDefinition(f"{op.name}_graph", node_defs=[op])
    return graph_job(name, description, graph, tags)


def graph_job(
    name: str,
    description: str,
    graph: dg.GraphDefinition,
    tags: Mapping[str, str] | None = None,
) -> dg.JobDefinition:
    """A job of this graph, in the process of the run."""
    return graph.to_job(
        name, description=description, executor_def=dg.in_process_executor, tags=tags
    )


def _wanted(
    tables: Sequence[Table], partitions: Mapping[str, object], tagged: Sequence[str]
) -> list[Table]:
    """The tables that a run is for by its tag, or else by its partitions; of those, the ones whose
    partitions are named, if any are."""
    if not (partitions or tagged):
        raise SourceError(
            "no table is named: give the run the tag "
            f"{TABLES_TAG} with indices, separated by commas, or `partitions` by index."
        )
    known = {table.index for table in tables}
    of_run = set(tagged or partitions)
    if ALL_TABLES in of_run:
        of_run = known
    if unknown := sorted(of_run - known | partitions.keys() - of_run):
        taken = ", ".join(sorted(of_run & known or known))
        raise SourceError(f"no index {unknown[0]!r} in this run: it takes {taken}.")
    return [table for table in tables if table.index in (partitions or of_run)]


def _load(
    context: dg.OpExecutionContext, running: Engine, source: Source, config: SyncConfig
) -> None:
    table = source.table
    keys = config.partitions.get(table.index) or _selected(
        context.instance, running, source, config.select
    )
    add_new(context.instance, table, keys)
    plan(context, table, keys)
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
