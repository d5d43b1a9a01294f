"""The partitioned assets of the indices."""

from collections.abc import Sequence

import dagster as dg

from pg_es_pipeline.orchestration.loading import (
    RECORDED,
    failing_clearly,
    for_each,
    load_partitions,
)
from pg_es_pipeline.orchestration.names import POOL
from pg_es_pipeline.orchestration.partitions import backfill_policy
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.tables import Table


class LoadConfig(dg.Config):
    """How partitions are loaded."""

    full: bool = False
    """Read the partitions as a whole again; otherwise only what changed since the last load."""


def index_assets(listed: Sequence[tuple[Table, dg.AssetSpec]]) -> list[dg.AssetsDefinition]:
    """An asset for each index. Materializing a partition loads what changed in it since the last
    time.

    They share one function: most of the time that Dagster takes for an asset it looks at that.
    """
    tables = {spec.key: table for table, spec in listed}

    @dg.op
    def load(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> dg.MaterializeResult[None]:
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:

            def one(source: Source) -> None:
                load_partitions(context, running, source, context.partition_keys, full=config.full)

            for_each(context, running, [tables[context.asset_key]], one)
        return dg.MaterializeResult(metadata=RECORDED)

    return [_asset(table, spec, load) for table, spec in listed]


def _asset(table: Table, spec: dg.AssetSpec, load: dg.OpDefinition) -> dg.AssetsDefinition:
    # Dagster would name these inputs after the tables, whose names may have blanks.
    inputs = {f"upstream_{number}": dep.asset_key for number, dep in enumerate(spec.deps)}
    op = dg.OpDefinition(
        load.compute_fn,
        name=spec.key.to_python_identifier(),
        description=spec.description,
        ins=dict.fromkeys(inputs, dg.In(dg.Nothing)),
        outs=load.outs,
        config_schema=load.config_schema,
        required_resource_keys=load.required_resource_keys,
        pool=POOL,
    )
    return dg.AssetsDefinition(
        specs=[spec],
        keys_by_input_name=inputs,
        keys_by_output_name=dict.fromkeys(load.outs, spec.key),
        node_def=op,
        backfill_policy=backfill_policy(table),
    )
