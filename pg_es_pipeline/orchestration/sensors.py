"""The sensor that looks for changes every SYNC_INTERVAL seconds and requests runs for them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from pg_es_pipeline.errors import PipelineError
from pg_es_pipeline.orchestration.jobs import SYNC_ALL, load_job_name
from pg_es_pipeline.orchestration.names import TABLES_TAG, index_key, reindex_job_name
from pg_es_pipeline.orchestration.partitions import add_new
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.partitions import grows
from pg_es_pipeline.sync.staleness import Stale
from pg_es_pipeline.sync.survey import Survey
from pg_es_pipeline.tables import Table

LARGE_ROWS = 100_000
"""From so many rows on, the changes of a table get runs of their own; less shares one run."""

REINDEX_AGAIN = timedelta(hours=1)
"""How long after a reindex that has failed the next one is requested."""

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"

_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@dataclass
class Findings:
    """What one tick found."""

    small: dict[str, list[str]] = field(default_factory=dict)
    """Partitions by index, for the shared run."""
    large: list[tuple[Table, str, str]] = field(default_factory=list)
    """Contiguous ranges: table, first and last partition."""
    in_step: dict[str, str] = field(default_factory=dict)
    reindex: list[Table] = field(default_factory=list)
    """Tables whose rows ask for a new generation."""
    notes: list[str] = field(default_factory=list)


def sync_sensor(
    tables: Sequence[Table], jobs: Sequence[object], interval: int
) -> dg.SensorDefinition:
    """Requests runs for the partitions that have changes, and for those alone."""

    @dg.sensor(
        name="sync_changes",
        jobs=jobs,  # type: ignore[arg-type]
        minimum_interval_seconds=interval,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks for changed rows in each table and loads the partitions that have some.",
    )
    def sync_changes(
        context: dg.SensorEvaluationContext,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            with engine(postgres, elasticsearch, batching) as running:
                found = look(running, tables, context.instance)
                running.record_in_step(found.in_step)
                for name in running.remove_old_generations(tables):
                    context.log.info(f"{name}: removed, it was kept for long enough.")
        except PipelineError as error:
            yield dg.SkipReason(str(error))
            return
        for note in found.notes:
            context.log.info(note)
        requests = list(_requests(found))
        if not requests:
            yield dg.SkipReason("\n".join(found.notes) or "Every table is in step.")
        yield from requests

    return sync_changes


def look(running: Engine, tables: Sequence[Table], instance: dg.DagsterInstance) -> Findings:
    """Asks each table which partitions have changes; leaves out those that are being loaded.

    Raises PipelineError where a server cannot be asked.
    """
    found, unfinished = Findings(), instance.get_runs(RunsFilter(statuses=_UNFINISHED))
    busy = busy_indices(unfinished, tables)
    sources: list[Source] = []
    known = running.sources(tables)
    for table in tables:
        source = known[table.index]
        if table.index in busy:
            found.notes.append(f"{table.table}: skipped, a run that loads it is under way.")
        elif isinstance(source, PipelineError):
            found.notes.append(str(source))
        else:
            sources.append(source)
    surveys = running.survey(sources)
    for source in sources:
        survey = surveys[source.table.index]
        if isinstance(survey, PipelineError):
            found.notes.append(str(survey))
            continue
        if survey.differences:
            _note_differences(found, source.table, survey, instance)
        _note_stale(found, source, survey, instance)
    return found


def _note_stale(
    found: Findings, source: Source, survey: Survey, instance: dg.DagsterInstance
) -> None:
    table, stale, partitions = source.table, survey.stale, survey.partitions
    if not stale:
        found.in_step[table.index] = survey.moment
        return
    add_new(instance, table, partitions)
    # Dagster knows no ranges of partitions that grow.
    if grows(table.partitions) or _rows(stale, source.estimate // len(partitions)) < LARGE_ROWS:
        found.small[table.index] = [one.partition for one in stale]
    else:
        found.large += [(table, *ends) for ends in _ranges(partitions, stale)]


def _note_differences(
    found: Findings, table: Table, survey: Survey, instance: dg.DagsterInstance
) -> None:
    """Requests a reindex where the rows do not fit into the live generation any more."""
    why = "; ".join(map(str, survey.differences))
    note = f"{table.table}: the rows do not fit into the index {table.index} any more ({why})."
    last = instance.get_run_records(RunsFilter(job_name=reindex_job_name(table)), limit=1)
    if last and not last[0].dagster_run.is_finished:
        found.notes.append(f"{note} A new generation is being loaded.")
    elif table.reindex == "manual":
        found.notes.append(f"{note} Load a new generation: pg-es reindex {table.index}")
    elif last and not last[0].dagster_run.is_success and _is_recent(last[0]):
        found.notes.append(
            f"{note} The last run of {reindex_job_name(table)} has failed; it is tried again an "
            "hour later."
        )
    elif survey.declined:
        found.notes.append(
            f"{note} The generation with these mappings was rolled back: put them back, or load "
            f"it again with pg-es reindex {table.index}"
        )
    else:
        found.reindex.append(table)


def _is_recent(record: dg.RunRecord) -> bool:
    return datetime.now(UTC).timestamp() - (record.end_time or 0) < REINDEX_AGAIN.total_seconds()


def busy_indices(unfinished: Iterable[dg.DagsterRun], tables: Sequence[Table]) -> set[str]:
    """The indices that runs under way, or waiting for their turn, load. A reindex is none of them:
    it leaves the live generation to the others."""
    busy, indices = set[str](), {index_key(table): table.index for table in tables}
    for run in unfinished:
        busy.update(filter(None, run.tags.get(TABLES_TAG, "").split(",")))
        busy.update(indices[key] for key in run.asset_selection or () if key in indices)
    return busy


def _requests(found: Findings) -> Iterator[dg.RunRequest]:
    if found.small:
        yield dg.RunRequest(
            job_name=SYNC_ALL,
            run_config={"ops": {f"{SYNC_ALL}_op": {"config": {"partitions": found.small}}}},
            tags={TABLES_TAG: ",".join(found.small)},
        )
    for table, first, last in found.large:
        yield dg.RunRequest(
            job_name=load_job_name(table),
            asset_selection=[index_key(table)],
            tags={RANGE_START: first, RANGE_END: last, TABLES_TAG: table.index},
        )

    for table in found.reindex:
        yield dg.RunRequest(job_name=reindex_job_name(table))


def _rows(stale: Sequence[Stale], share: int) -> int:
    """Rows to look at. A partition that is read as a whole counts with its share of the table."""
    return sum(share if one.rows is None else one.rows for one in stale)


def _ranges(partitions: Sequence[str], stale: Sequence[Stale]) -> Iterator[tuple[str, str]]:
    """The contiguous stretches of stale partitions, each by its first and last key."""
    wanted = {one.partition for one in stale}
    for is_stale, stretch in groupby(partitions, wanted.__contains__):
        if is_stale:
            keys_of_stretch = list(stretch)
            yield keys_of_stretch[0], keys_of_stretch[-1]
