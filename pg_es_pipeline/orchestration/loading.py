"""Runs the engine inside a Dagster step: progress, results, failures."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from pg_es_pipeline.errors import PipelineError
from pg_es_pipeline.orchestration.metadata import Metadata, progress, progress_line, result
from pg_es_pipeline.orchestration.names import index_key
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.report import Report

PROGRESS_SECONDS = 5.0
"""How often a load shows how far it is."""

RETRY = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL)
"""For failures that may pass by themselves; others are not tried again."""


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Shows an error of ours as a failure with its message alone."""
    try:
        yield
    except PipelineError as error:
        raise failure(error) from None


def failure(error: PipelineError) -> dg.Failure:
    return dg.Failure(str(error), allow_retries=error.passing)


def load_partitions(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    engine: Engine,
    source: Source,
    partitions: Sequence[str],
    *,
    full: bool,
    done: Callable[[str, Metadata], None],
) -> None:
    """Loads partitions one after the other; `done` takes each one's metadata as it is finished."""
    for partition in partitions:
        report = engine.sync(source, partition, full=full, on_progress=_shower(context, source))
        context.log.info(
            f"{report.index} {partition}: {report.rows:,} rows in {report.seconds:.1f} s, "
            f"{report.docs_per_second:,.0f} docs/s"
        )
        done(partition, result(report, source))
    engine.refresh()


def _shower(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, source: Source
) -> Callable[[Report], None]:
    shown = time.monotonic()

    def show(report: Report) -> None:
        nonlocal shown
        if time.monotonic() - shown < PROGRESS_SECONDS:
            return
        shown = time.monotonic()
        context.log.info(progress_line(report))
        context.log_event(
            dg.AssetObservation(
                index_key(source.table), partition=report.partition, metadata=progress(report)
            )
        )

    return show
