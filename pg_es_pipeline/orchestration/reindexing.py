"""`reindex_<index>`: loads a new generation beside the live one, and switches to it."""

from collections.abc import Sequence

import dagster as dg

from pg_es_pipeline.orchestration.checks import before_switch
from pg_es_pipeline.orchestration.jobs import op_job
from pg_es_pipeline.orchestration.loading import failing_clearly, persist, record, shower
from pg_es_pipeline.orchestration.names import POOL, reindex_job_name
from pg_es_pipeline.orchestration.partitions import add_new
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.tables import Table


def reindex_jobs(tables: Sequence[Table]) -> list[dg.JobDefinition]:
    """`reindex_<index>` for each table."""
    by_job = {reindex_job_name(table): table for table in tables}

    @dg.op(name="reindex_op", pool=POOL, description="Loads a new generation, and switches to it.")
    def reindex(
        context: dg.OpExecutionContext,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        table = by_job[context.job_name]
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:
            source = running.source(table)
            show = shower(context, source)
            done = persist(context, lambda: running.reindex(source, on_progress=show))
        add_new(context.instance, table, [report.partition for report in done.reports])
        # Only now do people search what was loaded.
        for report in done.reports:
            record(context, source, report, generation=done.generation)
        compared = done.compared
        if compared:
            # Taken all right; what it is annotated with does not say so.
            context.log_event(before_switch(table, compared))  # type: ignore[arg-type]
        context.log.info(
            f"{done.index}: {done.generation} is live now, {done.before} was. {done.rows:,} rows "
            f"loaded, {compared.differences if compared else 0:,} differences found and repaired; "
            f"other loads were held for {done.held_seconds:.1f} s"
        )

    return [
        op_job(
            name,
            f"Loads {table.table} into a new generation beside the live one, compares both sides, "
            f"and lets {table.index} point at it. One that was interrupted is gone on with.",
            reindex,
        )
        for name, table in by_job.items()
    ]
