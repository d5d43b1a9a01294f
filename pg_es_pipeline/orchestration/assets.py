"""The partitioned asset of an index."""

import dagster as dg

from pg_es_pipeline.orchestration.loading import RECORDED, failing_clearly, load_partitions
from pg_es_pipeline.orchestration.names import POOL
from pg_es_pipeline.orchestration.partitions import backfill_policy
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


def index_asset(table: Table, spec: dg.AssetSpec) -> dg.AssetsDefinition:
    """The index. Materializing a partition loads what changed in it since the last time."""

    @dg.asset(
        key=spec.key,
        partitions_def=spec.partitions_def,
        group_name=spec.group_name,
        owners=[*spec.owners],
        tags={name: tag for name, tag in spec.tags.items() if not name.startswith("dagster/kind/")},
        kinds=spec.kinds,
        description=spec.description,
        metadata=spec.metadata,
        automation_condition=spec.automation_condition,
        code_version=spec.code_version,
        # Dagster would name these inputs after the tables, whose names may have blanks.
        ins={
            f"upstream_{number}": dg.AssetIn(dep.asset_key, dagster_type=dg.Nothing)
            for number, dep in enumerate(spec.deps)
        },
        backfill_policy=backfill_policy(table),
        pool=POOL,
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
