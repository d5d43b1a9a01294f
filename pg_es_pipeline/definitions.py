"""Everything that Dagster loads."""

import warnings

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

_settings = read(ProjectSettings)
_tables = require_distinct(read_tables(_settings.pg_es_tables).tables)
_sync_all = sync_job(SYNC_ALL, _tables, "Brings every stale partition of every table up to date.")
_load_jobs = load_jobs(_tables)
_reindex_jobs = reindex_jobs(_tables)
_requested_jobs = [_sync_all, *_load_jobs, *_reindex_jobs]
_reconcile_all = reconcile_job(_tables)

defs = dg.Definitions(
    assets=[*map(table_spec, _tables), *map(index_asset, _tables)],
    jobs=[
        _sync_all,
        *table_jobs(_tables),
        *_load_jobs,
        *_reindex_jobs,
        _reconcile_all,
        retry_job(_tables),
    ],
    schedules=[reconcile_schedule(_reconcile_all)],
    sensors=[
        sync_sensor(_tables, [_sync_all, *_load_jobs, *_reindex_jobs], _settings.sync_interval)
    ],
    resources=RESOURCES,
    executor=dg.in_process_executor,
)
