"""Runs the engine inside a Dagster step: progress, results, failures."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import dagster as dg
from dagster import DagsterEvent
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.events import AssetMaterializationPlannedData

from pg_es_pipeline.errors import (
    CheckpointConflict,
    DeletesRefused,
    PipelineError,
    RowsRefused,
    TookTooLong,
)
from pg_es_pipeline.orchestration.metadata import (
    contents,
    finished_line,
    progress,
    progress_line,
    result,
    throttled,
)
from pg_es_pipeline.orchestration.names import FAILED_TAG, index_key
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.dead_letters import summary
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.tables import Table

Done = TypeVar("Done")

Context = dg.OpExecutionContext | dg.AssetExecutionContext

PROGRESS_SECONDS = 5.0
"""How often a load shows how far it is."""

RETRY_SECONDS = (10, 30, 90)
"""Waits before a load is tried again after a failure that may pass by itself; others are final.

Dagster's own retries will not do: it would try again after a termination too, and begin with the
first partition of a range again.
"""

SHOWN = 100
"""Partitions of a run up to which each of them shows its columns and some documents; of more, the
last alone: Dagster takes longer to keep those than for all the rest."""

OF_ONE_PARTITION = (CheckpointConflict, DeletesRefused, RowsRefused, TookTooLong)
"""Failures that say nothing about the other partitions of a table."""

FAILURES_TOLD = 10
"""Of one table's partitions; of those beyond, only how many there are."""

RECORDED = {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}
"""On an asset's result: its partitions are recorded already.

Dagster records a range at the end of its step, all of it or nothing: a run that is killed would
leave no trace of what it has finished. An output that is not required would do as well, but skip
the assets and checks behind it.
"""


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Shows an error of ours as a failure with its message alone."""
    try:
        yield
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def for_each(
    context: Context,
    running: Engine,
    tables: Sequence[Table],
    work: Callable[[Source], None],
) -> None:
    """Works on table after table; one that fails does not stop the others, but fails the step."""
    failures: dict[str, PipelineError] = {}
    sources = running.sources(tables)
    # To refresh an index takes as long as to load a few rows into it: behind the next one's load.
    with ThreadPoolExecutor(1, "refresh") as behind:
        refreshes = []
        for table in tables:
            source = sources[table.index]
            try:
                if isinstance(source, PipelineError):
                    raise source
                work(source)
            except PipelineError as error:
                context.log.error(str(error))  # noqa: TRY400 - the message says it all
                failures[table.index] = error
            refreshes.append(behind.submit(running.refresh))
    for refresh in refreshes:
        try:
            refresh.result()
        except PipelineError as error:
            context.log.warning(
                f"{error} What was loaded is found as soon as its index is refreshed."
            )
    if failures:
        context.instance.add_run_tags(context.run.run_id, {FAILED_TAG: ",".join(failures)})
        raise dg.Failure("\n".join(map(str, failures.values())), allow_retries=False)


def load_partitions(
    context: Context,
    engine: Engine,
    source: Source,
    partitions: Sequence[str],
    *,
    full: bool,
) -> None:
    """Loads partitions one after the other, and records each of them as soon as it is finished.

    Raises PipelineError: at the end, where it is about some of the partitions alone.
    """
    show, failures = shower(context, source), list[str]()
    for partition in partitions:
        try:
            report = persist(
                context, partial(engine.sync, source, partition, full=full, on_progress=show)
            )
        except OF_ONE_PARTITION as error:
            context.log.warning(f"{error} Going on with the other partitions.")
            failures.append(str(error))
            continue
        if report.dead_letters:
            context.log.warning(
                f"{report.index} {partition}: {summary(report.refused.values())}. Kept as dead "
                "letters: correct the rows or the mapping, and run `pg-es retry` or the job "
                "retry_dead_letters."
            )
        if report.differences:
            context.log.warning(
                f"{report.index}: the rows do not fit into the live generation any more "
                f"({'; '.join(map(str, report.differences))}). It is loaded with the mappings that "
                f"it has, until `pg-es reindex {report.index}` or the job reindex has loaded a new "
                "one."
            )
        shown = len(partitions) <= SHOWN or partition == partitions[-1]
        record(context, source, report, with_contents=shown)
    if failures:
        more = len(failures) - FAILURES_TOLD
        told = failures[:FAILURES_TOLD] + ([f"And {more:,} more partitions."] if more > 0 else [])
        raise PipelineError("\n".join(told))


def plan(context: dg.OpExecutionContext, table: Table, partitions: Sequence[str]) -> None:
    """Shows partitions as being loaded and, if the run ends before they are, as failed. Dagster
    does so itself where a run is one of assets."""
    for partition in partitions:
        planned = DagsterEvent.build_asset_materialization_planned_event(
            context.job_name,
            context.op.name,
            AssetMaterializationPlannedData(index_key(table), partition),
        )
        context.instance.report_dagster_event(planned, context.run_id, logging.DEBUG)


def record(
    context: Context, source: Source, report: Report, *, with_contents: bool, **more: Any
) -> None:
    """Shows a partition as materialized, whatever becomes of the rest of the run."""
    metadata = {**result(report), **more}
    if with_contents:
        metadata |= contents(report, source)
    context.log_event(
        dg.AssetMaterialization(
            index_key(source.table),
            # The run's log shows it: a line beside it would take as long to be kept as a request.
            description=finished_line(report),
            partition=report.partition,
            metadata=metadata,
        )
    )


def persist(context: Context, load: Callable[[], Done]) -> Done:
    """Tries again what may pass; a load goes on from its checkpoint, a reindex too."""
    for wait in RETRY_SECONDS:
        try:
            return load()
        except PipelineError as error:
            if not error.passing:
                raise
            context.log.warning(f"{error} Trying again in {wait} s.")
        time.sleep(wait)
    return load()


def shower(context: Context, source: Source) -> Callable[[Report], None]:
    """Shows how far a load is, every few seconds, in the run's log and at the asset."""
    shown, told = time.monotonic(), Counter[str]()

    def show(report: Report) -> None:
        nonlocal shown, told
        if time.monotonic() - shown < PROGRESS_SECONDS:
            return
        shown = time.monotonic()
        context.log.info(progress_line(report))
        if report.throttled != told:
            told = Counter(report.throttled)
            what = f"{report.index} {report.partition}"
            context.log.warning(f"{what}: slowed down: {throttled(report)}")
        context.log_event(
            dg.AssetObservation(
                index_key(source.table), partition=report.partition, metadata=progress(report)
            )
        )

    return show
