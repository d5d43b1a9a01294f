"""Jobs beside the loads: `reconcile_all` compares both sides, `retry_dead_letters` tries again."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from pg_es_pipeline.orchestration.jobs import op_job
from pg_es_pipeline.orchestration.loading import failing_clearly, for_each
from pg_es_pipeline.orchestration.names import POOL, index_key
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.tables import Table

RECONCILE_ALL = "reconcile_all"
RETRY_DEAD_LETTERS = "retry_dead_letters"


class ReconcileConfig(dg.Config):
    """What `reconcile_all` compares, and what it may do."""

    indices: list[str] = Field(default=[], description="Of these indices alone; all if empty.")
    repair: bool = Field(default=True, description="Write the rows anew that differ.")


def reconcile_job(tables: Sequence[Table]) -> dg.JobDefinition:
    """A job that compares these tables with their indices, and repairs what differs."""
    description = "Compares every table with its index, and repairs what differs."

    @dg.op(name=f"{RECONCILE_ALL}_op", pool=POOL, description=description)
    def reconcile(
        context: dg.OpExecutionContext,
        config: ReconcileConfig,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        wanted = [one for one in tables if not config.indices or one.index in config.indices]
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:

            def one(source: Source) -> None:
                _reconcile(context, running, source, repair=config.repair)

            for_each(context, running, wanted, one)

    return op_job(RECONCILE_ALL, description, reconcile)


def reconcile_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every night; it has to be switched on."""
    return dg.ScheduleDefinition(
        name=f"{RECONCILE_ALL}_nightly",
        job=job,
        cron_schedule="30 2 * * *",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Finds, once a night, what no cursor can see.",
    )


def retry_job(tables: Sequence[Table]) -> dg.JobDefinition:
    """A job that tries the dead letters of these tables again."""
    description = "Tries the rows again that were refused."

    @dg.op(name=f"{RETRY_DEAD_LETTERS}_op", pool=POOL, description=description)
    def retry(
        context: dg.OpExecutionContext,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:

            def one(source: Source) -> None:
                found = running.retry(source)
                log = context.log.warning if found.remaining else context.log.info
                log(
                    f"{source.table.index}: {found.tried:,} dead letters tried again, "
                    f"{found.loaded:,} loaded, {found.deleted:,} of rows that are no more, "
                    f"{len(found.remaining):,} remain"
                )

            for_each(context, running, tables, one)

    return op_job(RETRY_DEAD_LETTERS, description, retry)


def _reconcile(
    context: dg.OpExecutionContext, running: Engine, source: Source, *, repair: bool
) -> None:
    found = running.reconcile(source, repair=repair)
    log = context.log.warning if found.differences else context.log.info
    log(
        f"{found.index}: {found.rows:,} rows and {found.documents:,} documents compared by "
        f"{found.level} in {found.seconds:.1f} s: {found.missing:,} missing, {found.extra:,} "
        f"extra, {found.changed:,} changed; {found.written:,} written, {found.deleted:,} deleted"
    )
    context.log_event(
        dg.AssetObservation(
            index_key(source.table),
            metadata={
                "compared": found.level.value,
                "rows": found.rows,
                "documents": found.documents,
                "missing": found.missing,
                "extra": found.extra,
                "changed": found.changed,
                "written": found.written,
                "deleted": found.deleted,
                "seconds": round(found.seconds, 3),
            },
        )
    )
