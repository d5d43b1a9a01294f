"""The sensor that looks for changes every SYNC_INTERVAL seconds and requests runs for them."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from pg_es_pipeline.errors import PipelineError, TookTooLong
from pg_es_pipeline.orchestration.in_flight import UNFINISHED, InFlight, in_flight
from pg_es_pipeline.orchestration.jobs import SYNC_TABLES
from pg_es_pipeline.orchestration.memory import Memory
from pg_es_pipeline.orchestration.names import (
    REINDEX_TAG,
    SENSOR,
    SENSOR_TAG,
    TABLES_TAG,
    tables_of,
)
from pg_es_pipeline.orchestration.partitions import add_new
from pg_es_pipeline.orchestration.requests import Load, Wanted, run_requests
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.staleness import Stale
from pg_es_pipeline.sync.survey import Patience, Survey
from pg_es_pipeline.tables import Table

LARGE_ROWS = 100_000
"""From so many rows on, the changes of a table get runs of their own; less shares one run."""

PATIENCE = Patience(seconds=20, statement_seconds=10)
"""Dagster ends a tick after 60 s. What there is no time for is the next one's to look at first."""

MOST_WAITING = 10
"""Runs in the queue from which on no others are requested."""

REINDEX_AGAIN = timedelta(hours=1)
"""How long after a reindex that has failed the next one is requested."""


@dataclass
class Findings:
    """What one tick found."""

    wanted: Wanted = field(default_factory=Wanted)
    in_step: dict[str, str] = field(default_factory=dict)
    """By index, the moment before which every change is in it."""
    notes: list[str] = field(default_factory=list)


def sync_sensor(
    tables: Sequence[Table], jobs: Sequence[object], interval: int
) -> dg.SensorDefinition:
    """Requests runs for the partitions that have changes, and for those alone."""

    @dg.sensor(
        name=SENSOR,
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
    ) -> dg.SensorResult | dg.SkipReason:
        memory = Memory.read(context.cursor, time.time())
        unfinished = [
            record.dagster_run
            for record in context.instance.get_run_records(RunsFilter(statuses=UNFINISHED))
        ]
        memory.learn(_ended(context.instance, memory.seen))
        try:
            with engine(postgres, elasticsearch, batching) as running:
                found = look(running, tables, context.instance, memory, unfinished)
                running.record_in_step(found.in_step)
                for name in running.remove_old_generations(tables):
                    context.log.info(f"{name}: removed, it was kept for long enough.")
        except PipelineError as error:
            return dg.SkipReason(str(error))
        requests = _with_room(list(run_requests(found.wanted)), unfinished, found.notes, memory)
        for note in found.notes:
            context.log.info(note)
        reason = "\n".join(found.notes) or "Every table is in step."
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else dg.SkipReason(reason),
            cursor=memory.model_dump_json(),
        )

    return sync_changes


def look(
    running: Engine,
    tables: Sequence[Table],
    instance: dg.DagsterInstance,
    memory: Memory,
    unfinished: Sequence[dg.DagsterRun] = (),
) -> Findings:
    """Asks each table which partitions have changes; leaves out those that are being loaded.

    Begins with the table that `memory` names, and notes there where the next look has to begin.
    Raises PipelineError where a server cannot be asked.
    """
    found, busy = Findings(), in_flight(tables, unfinished, instance)
    sources: list[Source] = []
    tables = _from(tables, memory.begin_with)
    known = running.sources(tables)
    for table in tables:
        source = known[table.index]
        if table.index in busy and busy[table.index] is None:
            found.notes.append(f"{table.table}: skipped, a run that loads it is under way.")
        elif isinstance(source, PipelineError):
            found.notes.append(str(source))
        elif failures := memory.waiting(table.index, time.time()):
            found.notes.append(f"{table.table}: skipped, {failures.wait}.")
        else:
            sources.append(source)
    surveys = running.survey(sources, PATIENCE)
    for source in sources:
        survey = surveys.get(source.table.index)
        if isinstance(survey, Survey):
            _note(found, source, survey, instance, busy)
        elif isinstance(survey, TookTooLong):
            # There is much to look at: its run takes the time that it needs.
            found.notes.append(f"{survey} Its run looks for itself.")
            found.wanted.loads.append(Load(source.table, None))
        elif survey is not None:
            found.notes.append(str(survey))
    left = [source.table for source in sources if source.table.index not in surveys]
    memory.begin_with = left[0].index if left else memory.begin_with
    if left:
        found.notes.append(f"No time for {len(left):,} of the tables: the next tick begins there.")
    memory.in_step(found.in_step)
    return found


def _from(tables: Sequence[Table], index: str) -> list[Table]:
    """The tables, beginning with that one."""
    start = next((at for at, table in enumerate(tables) if table.index == index), 0)
    return [*tables[start:], *tables[:start]]


def _note(
    found: Findings,
    source: Source,
    survey: Survey,
    instance: dg.DagsterInstance,
    busy: InFlight,
) -> None:
    table = source.table
    if survey.differences:
        _note_differences(found, table, survey, instance)
    add_new(instance, table, survey.partitions)
    if not survey.stale:
        found.in_step[table.index] = survey.moment
        return
    loading = busy.get(table.index) or set()
    stale = [one for one in survey.stale if one.partition not in loading]
    if len(stale) < len(survey.stale):
        found.notes.append(
            f"{table.table}: {len(survey.stale) - len(stale):,} of its partitions are skipped, "
            "runs that load them are under way."
        )
    first = not any(one.watermark for one in survey.checkpoints.values())
    if first and table.bootstrap == "manual":
        found.notes.append(
            f"{table.table}: has never been loaded, and `bootstrap` is manual. Load a partition of "
            f"it, or all: dagster job launch -j {SYNC_TABLES} --tags "
            f"'{json.dumps({TABLES_TAG: table.index})}'"
        )
    elif stale:
        _want(found.wanted, source, survey, stale, first)


def _want(
    wanted: Wanted, source: Source, survey: Survey, stale: Sequence[Stale], first: bool
) -> None:
    table, keys = source.table, [one.partition for one in stale]
    if _rows(stale, source.estimate // len(survey.partitions)) >= LARGE_ROWS:
        wanted.loads.append(Load(table, keys, first))
    else:
        (wanted.bootstraps if first else wanted.changes)[table.index] = keys


def _rows(stale: Sequence[Stale], share: int) -> int:
    """Rows to look at. A partition that is read as a whole counts with its share of the table."""
    return sum(share if one.rows is None else one.rows for one in stale)


def _with_room(
    requests: list[dg.RunRequest],
    unfinished: Sequence[dg.DagsterRun],
    notes: list[str],
    memory: Memory,
) -> list[dg.RunRequest]:
    """As many of the requests as the queue has room for."""
    waiting = sum(
        run.status == DagsterRunStatus.QUEUED and run.tags.get(SENSOR_TAG) == SENSOR
        for run in unfinished
    )
    room = max(0, MOST_WAITING - waiting)
    if len(requests) > room:
        notes.append(
            f"{waiting:,} runs are waiting in the queue: {room:,} of {len(requests):,} new ones "
            "are requested, the others later. Is the daemon running, or is a limit in dagster.yaml "
            "too low for what there is to load?"
        )
        # Those that were left out come first next time.
        later = tables_of(requests[room].tags)
        memory.begin_with = later[0] if later else memory.begin_with
    return requests[:room]


def _ended(instance: dg.DagsterInstance, since: float) -> Sequence[dg.RunRecord]:
    """The runs of this sensor that have ended since."""
    return instance.get_run_records(
        RunsFilter(
            statuses=[
                DagsterRunStatus.SUCCESS,
                DagsterRunStatus.FAILURE,
                DagsterRunStatus.CANCELED,
            ],
            tags={SENSOR_TAG: SENSOR},
            updated_after=datetime.fromtimestamp(since, UTC),
        )
    )


def _note_differences(
    found: Findings, table: Table, survey: Survey, instance: dg.DagsterInstance
) -> None:
    """Requests a reindex where the rows do not fit into the live generation any more."""
    why = "; ".join(map(str, survey.differences))
    note = f"{table.table}: the rows do not fit into the index {table.index} any more ({why})."
    last = instance.get_run_records(RunsFilter(tags={REINDEX_TAG: table.index}), limit=1)
    if last and not last[0].dagster_run.is_finished:
        found.notes.append(f"{note} A new generation is being loaded.")
    elif table.reindex == "manual":
        found.notes.append(f"{note} Load a new generation: pg-es reindex {table.index}")
    elif last and not last[0].dagster_run.is_success and _is_recent(last[0]):
        found.notes.append(
            f"{note} The last run that reindexed it has failed; it is tried again an hour later."
        )
    elif survey.declined:
        found.notes.append(
            f"{note} The generation with these mappings was rolled back: put them back, or load "
            f"it again with pg-es reindex {table.index}"
        )
    else:
        found.wanted.reindexes.append(table)


def _is_recent(record: dg.RunRecord) -> bool:
    return datetime.now(UTC).timestamp() - (record.end_time or 0) < REINDEX_AGAIN.total_seconds()
