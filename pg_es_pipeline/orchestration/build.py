"""The definitions of a list of tables: a table of contents of what Dagster is given."""

import logging
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import dagster as dg
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)

from pg_es_pipeline.errors import PipelineError, SettingsError
from pg_es_pipeline.orchestration.alerts import alert_sensors
from pg_es_pipeline.orchestration.assets import index_assets
from pg_es_pipeline.orchestration.checks import asset_checks, check_job, check_schedule
from pg_es_pipeline.orchestration.housekeeping import housekeeping_job, housekeeping_schedule
from pg_es_pipeline.orchestration.jobs import sync_jobs
from pg_es_pipeline.orchestration.names import require_distinct
from pg_es_pipeline.orchestration.reindexing import reindex_job
from pg_es_pipeline.orchestration.resources import RESOURCES
from pg_es_pipeline.orchestration.sensors import sync_sensor
from pg_es_pipeline.orchestration.table_jobs import MOST_TABLES, table_jobs
from pg_es_pipeline.orchestration.translator import TableData, Translator, translated
from pg_es_pipeline.orchestration.upkeep import reconcile_job, reconcile_schedule, retry_job
from pg_es_pipeline.settings import PostgresSettings, ProjectSettings, read
from pg_es_pipeline.sync.describe import Description, describe
from pg_es_pipeline.tables import Table, gathered, read_tables

# Backfill policies and code references are in beta, and there is no doing without the first. Every
# command would say so.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

_log = logging.getLogger("pg_es_pipeline.definitions")

Part = Literal["sensors", "schedules"]


def build_defs(
    tables: Path | str | Iterable[Table] | None = None,
    *,
    translator: Translator | None = None,
    resources: Mapping[str, object] | None = None,
    without: Collection[Part] = (),
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Assets, jobs, sensors and schedules that keep the indices of these tables in step.

    `tables` is a tables file, or tables; without it, the file that PG_ES_TABLES names. `resources`
    replaces some of `postgres`, `elasticsearch` and `batching`. `without` leaves out what would
    start runs by itself. Comments and columns are PostgreSQL's where it can be reached: once, and
    not in the processes of runs.

    Raises SettingsError and TablesError.
    """
    settings = read(ProjectSettings)
    shown = [
        translated(translator or Translator(), data)
        for data in _described(tables or settings.pg_es_tables, settings.search_url)
    ]
    listed = require_distinct([table for table, _, _ in shown])
    sync_all, sync_tables = sync_jobs(listed)
    reindex = reindex_job(listed)
    of_tables = settings.jobs_per_table
    if of_tables is None:
        of_tables = len(listed) <= MOST_TABLES
    reconcile_all, check_all = reconcile_job(listed), check_job(listed)
    housekeeping = housekeeping_job()
    schedules = [
        reconcile_schedule(reconcile_all),
        check_schedule(check_all),
        housekeeping_schedule(housekeeping),
    ]
    sensors = [
        sync_sensor(listed, [sync_all, sync_tables, reindex], settings.sync_interval),
        *alert_sensors(),
    ]
    return dg.Definitions(
        assets=[
            *(source for _, source, _ in shown if source),
            *index_assets([(table, spec) for table, _, spec in shown]),
        ],
        asset_checks=[asset_checks(listed)],
        jobs=[
            sync_all,
            sync_tables,
            reindex,
            *(table_jobs(listed, sync_tables, reindex) if of_tables else ()),
            reconcile_all,
            retry_job(listed),
            check_all,
            housekeeping,
        ],
        schedules=[] if "schedules" in without else schedules,
        sensors=[] if "sensors" in without else sensors,
        resources={**RESOURCES, **(resources or {})},
        executor=executor,
    )


def _described(tables: Path | str | Iterable[Table], search_url: str | None) -> list[TableData]:
    if isinstance(tables, Path | str):
        path = Path(tables)
        file = read_tables(path)
    else:
        path, file = None, gathered(tables)
    try:
        postgres = read(PostgresSettings)
    except SettingsError:  # the runs and the sensor say which variables are missing
        postgres = None
    found = _ask(postgres, file.tables) if postgres else {}
    return [
        TableData(
            table,
            found.get(table.index),
            database=postgres.database if postgres else None,
            search_url=search_url,
            reference=_reference(path, file.line(table.index)) if path else None,
        )
        for table in file.tables
    ]


def _ask(postgres: PostgresSettings, tables: Sequence[Table]) -> dict[str, Description]:
    # A run's process makes the definitions anew, and shows them to nobody.
    if DefinitionsLoadContext.get().load_type is DefinitionsLoadType.RECONSTRUCTION:
        return {}
    try:
        return describe(postgres, tables)
    except PipelineError as error:
        _log.warning("Assets are shown without PostgreSQL's comments and columns: %s", error)
        return {}


def _reference(file: Path, line: int | None) -> dg.LocalFileCodeReference:
    return dg.LocalFileCodeReference(
        file_path=str(file.resolve()), line_number=line, label=file.name
    )
