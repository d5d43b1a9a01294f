"""The definitions of a list of tables: a table of contents of what Dagster is given."""

import warnings
from pathlib import Path

import dagster as dg

from pg_es_pipeline.orchestration.assets import index_asset, table_spec
from pg_es_pipeline.orchestration.jobs import SYNC_ALL, load_jobs, sync_job, table_jobs
from pg_es_pipeline.orchestration.names import require_distinct
from pg_es_pipeline.orchestration.reindexing import reindex_jobs
from pg_es_pipeline.orchestration.resources import RESOURCES
from pg_es_pipeline.orchestration.sensors import sync_sensor
from pg_es_pipeline.orchestration.upkeep import reconcile_job, reconcile_schedule, retry_job
from pg_es_pipeline.settings import ProjectSettings, read
from pg_es_pipeline.tables import read_tables

# Backfill policies are in beta, and there is no doing without them. Every command would say so.
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def build_defs(
    tables: Path | None = None, *, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """Assets, jobs, sensors and schedules that keep the indices of these tables in step.

    Without `tables`, the file is the one that PG_ES_TABLES names. Raises SettingsError and
    TablesError.
    """
    settings = read(ProjectSettings)
    listed = require_distinct(read_tables(tables or settings.pg_es_tables).tables)
    sync_all = sync_job(SYNC_ALL, listed, "Brings every stale partition of every table up to date.")
    loads, reindexes = load_jobs(listed), reindex_jobs(listed)
    reconcile_all = reconcile_job(listed)
    return dg.Definitions(
        assets=[
            *map(table_spec, listed),
            *map(index_asset, listed),
        ],
        jobs=[
            sync_all,
            *table_jobs(listed),
            *loads,
            *reindexes,
            reconcile_all,
            retry_job(listed),
        ],
        schedules=[
            reconcile_schedule(reconcile_all),
        ],
        sensors=[
            sync_sensor(listed, [sync_all, *loads, *reindexes], settings.sync_interval),
        ],
        resources=RESOURCES,
        executor=executor,
    )
