"""The jobs of one table, for people and for CI: each is a job of all tables with the tag set.

Dagster describes every job to the webserver in full whenever the definitions are loaded, for some
ten milliseconds each: there are none where the tables are many, and the sensor needs none.
"""

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition,
)

from pg_es_pipeline.orchestration.jobs import SYNC_ALL, graph_job
from pg_es_pipeline.orchestration.names import REINDEX_TAG, TABLES_TAG, identifier, index_key
from pg_es_pipeline.tables import Table

MOST_TABLES = 50
"""With more, tables have jobs of their own only where JOBS_PER_TABLE says so."""


def table_jobs(
    tables: Sequence[Table], sync_tables: dg.JobDefinition, reindex: dg.JobDefinition
) -> list[dg.JobDefinition | UnresolvedAssetJobDefinition]:
    """`sync_<index>`, `load_<index>` and `reindex_<index>` for each table; but none that would have
    the name of a job of all tables."""
    return [
        job
        for table in tables
        for job in (
            graph_job(
                sync_job_name(table),
                f"Brings every stale partition of {table.table} up to date.",
                sync_tables.graph,
                {TABLES_TAG: table.index},
            ),
            load_job(table),
            graph_job(
                reindex_job_name(table),
                f"Loads {table.table} into a new generation, and lets {table.index} point at it.",
                reindex.graph,
                {REINDEX_TAG: table.index},
            ),
        )
        if job.name not in (SYNC_ALL, sync_tables.name)
    ]


def load_job(table: Table) -> UnresolvedAssetJobDefinition:
    """`load_<index>` materializes a partition or a contiguous range."""
    return dg.define_asset_job(
        load_job_name(table),
        # A load is not to wait for comparisons of the whole table.
        selection=dg.AssetSelection.assets(index_key(table)).without_checks(),
        description=f"Loads a partition, or a range of partitions, of {table.table}.",
        executor_def=dg.in_process_executor,
        tags={TABLES_TAG: table.index},
    )


def sync_job_name(table: Table) -> str:
    return f"sync_{identifier(table)}"


def load_job_name(table: Table) -> str:
    return f"load_{identifier(table)}"


def reindex_job_name(table: Table) -> str:
    return f"reindex_{identifier(table)}"
