"""`reindex`: loads a new generation beside the live one, and switches to it."""

from collections.abc import Sequence

import dagster as dg

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.orchestration.checks import before_switch
from pg_es_pipeline.orchestration.jobs import op_job
from pg_es_pipeline.orchestration.loading import failing_clearly, persist, record, shower
from pg_es_pipeline.orchestration.names import POOL, REINDEX_TAG
from pg_es_pipeline.orchestration.partitions import add_new
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.tables import Table

REINDEX = "reindex"


def reindex_job(tables: Sequence[Table]) -> dg.JobDefinition:
    """`reindex`, of the table whose index the run's tag names."""

    @dg.op(name="reindex_op", pool=POOL, description="Loads a new generation, and switches to it.")
    def reindex(
        context: dg.OpExecutionContext,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        with failing_clearly():
            table = _named(tables, context.run.tags.get(REINDEX_TAG, ""))
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:
            source = running.source(table)
            show = shower(context, source)
            done = persist(context, lambda: running.reindex(source, on_progress=show))
        add_new(context.instance, table, [report.partition for report in done.reports])
        # Only now do people search what was loaded.
        for report in done.reports:
            shown = report is done.reports[-1]
            record(context, source, report, with_contents=shown, generation=done.generation)
        compared = done.compared
        if compared:
            # Taken all right; what it is annotated with does not say so.
            context.log_event(before_switch(table, compared))  # type: ignore[arg-type]
        context.log.info(
            f"{done.index}: {done.generation} is live now, {done.before} was. {done.rows:,} rows "
            f"loaded, {compared.differences if compared else 0:,} differences found and repaired; "
            f"other loads were held for {done.held_seconds:.1f} s"
        )

    return op_job(
        REINDEX,
        f"Loads a table into a new generation beside the live one (of the index that the tag "
        f"{REINDEX_TAG} names), compares both sides, and lets the index point at it. One that was "
        "interrupted is gone on with.",
        reindex,
    )


def _named(tables: Sequence[Table], index: str) -> Table:
    for table in tables:
        if table.index == index:
            return table
    known = ", ".join(sorted(table.index for table in tables))
    raise SourceError(
        f"{f'no index {index!r}' if index else 'no index is named'}: give the run the tag "
        f"{REINDEX_TAG} with one of {known}."
    )
