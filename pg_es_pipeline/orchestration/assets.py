"""One external asset for each source table, and one partitioned asset for each index."""

import dagster as dg

from pg_es_pipeline.orchestration.loading import RECORDED, failing_clearly, load_partitions
from pg_es_pipeline.orchestration.names import POOL, index_key, table_key
from pg_es_pipeline.orchestration.partitions import partitions_definition
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.tables import Table


class LoadConfig(dg.Config):
    """How partitions are loaded."""

    full: bool = False
    """Read the partitions as a whole again; otherwise only what changed since the last load."""


def table_spec(table: Table) -> dg.AssetSpec:
    """The source: not made here, but where the lineage begins."""
    return dg.AssetSpec(
        table_key(table),
        group_name="tables",
        kinds={"postgres", "table"},
        description=f"The table `{table.table}` in PostgreSQL.",
    )


def index_asset(table: Table) -> dg.AssetsDefinition:
    """The index. Materializing a partition loads what changed in it since the last time."""

    @dg.asset(
        key=index_key(table),
        deps=[table_key(table)],
        partitions_def=partitions_definition(table),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        group_name="indices",
        kinds={"postgres", "elasticsearch"},
        description=f"The index `{table.index}`, loaded from the table `{table.table}`.",
        metadata={"table": table.table, "index": table.index},
    )
    def load(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> dg.MaterializeResult[None]:
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:
            source = running.source(table)
            load_partitions(context, running, source, context.partition_keys, full=config.full)
        return dg.MaterializeResult(metadata=RECORDED)

    return load
