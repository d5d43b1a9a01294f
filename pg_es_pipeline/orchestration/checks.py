"""Asset checks: whether an index can be trusted, on demand and every hour.

One step answers whatever was selected of all checks, over one connection to each server: a step for
each index would cost its start, and a definition.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus as Status,
)

from pg_es_pipeline.orchestration.jobs import op_job
from pg_es_pipeline.orchestration.loading import failing_clearly
from pg_es_pipeline.orchestration.names import index_key
from pg_es_pipeline.orchestration.resources import (
    BatchingResource,
    ElasticsearchResource,
    PostgresResource,
    engine,
)
from pg_es_pipeline.sync.audit import QUESTIONS, Verdict, audit
from pg_es_pipeline.sync.reconcile import Reconciliation
from pg_es_pipeline.tables import Table

CHECK_ALL = "check_all"

RECORDED_AGAIN = timedelta(days=1)
"""How long a check that passes, as it did the last time, is not recorded by the schedule again: a
record costs some milliseconds, and 7 kB of Dagster's storage."""


def asset_checks(tables: Sequence[Table]) -> dg.AssetChecksDefinition:
    """The checks of all indices; any of them can be executed alone."""
    by_key = {index_key(table): table for table in tables}

    @dg.multi_asset_check(
        name="checks",
        specs=[
            dg.AssetCheckSpec(name, asset=key, description=question)
            for key in by_key
            for name, question in QUESTIONS.items()
        ],
        can_subset=True,
    )
    def checks(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> Iterator[dg.AssetCheckResult]:
        asked: dict[str, list[str]] = {}
        for key in context.selected_asset_check_keys:
            asked.setdefault(by_key[key.asset_key].index, []).append(key.name)
        wanted = [table for table in tables if table.index in asked]
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:
            for table, verdicts in audit(running, wanted, asked):
                for name, verdict in verdicts.items():
                    yield dg.AssetCheckResult(**_shown(table, name, verdict))

    return checks


def check_job(tables: Sequence[Table]) -> dg.JobDefinition:
    """A job that executes every check of these tables in one run, and records what is news."""
    description = "Executes every check of every index; records what has changed, fails, or is old."

    @dg.op(name=f"{CHECK_ALL}_op", description=description)
    def check(
        context: dg.OpExecutionContext,
        postgres: PostgresResource,
        elasticsearch: ElasticsearchResource,
        batching: BatchingResource,
    ) -> None:
        asked = {table.index: list(QUESTIONS) for table in tables}
        passed_lately = _passed_lately(context.instance, tables)
        failed = 0
        with failing_clearly(), engine(postgres, elasticsearch, batching) as running:
            for table, verdicts in audit(running, tables, asked):
                for name, verdict in verdicts.items():
                    key = dg.AssetCheckKey(index_key(table), name)
                    if not verdict.passed:
                        failed += 1
                        log = context.log.error if verdict.is_error else context.log.warning
                        log(f"{name}: {verdict.description}")
                    elif key in passed_lately:
                        continue
                    # Taken all right; what it is annotated with does not say so.
                    context.log_event(evaluation(table, name, verdict))  # type: ignore[arg-type]
        count = len(tables) * len(QUESTIONS)
        context.log.info(f"{count:,} checks of {len(tables):,} indices, {failed:,} did not pass")

    return op_job(CHECK_ALL, description, check)


def check_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every hour."""
    return dg.ScheduleDefinition(
        name=f"{CHECK_ALL}_hourly",
        job=job,
        cron_schedule="17 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks once an hour whether the indices can be trusted.",
    )


def evaluation(table: Table, name: str, verdict: Verdict) -> dg.AssetCheckEvaluation:
    """The verdict as an event, for a run that no check was planned in."""
    return dg.AssetCheckEvaluation(**_shown(table, name, verdict))


def before_switch(table: Table, compared: Reconciliation) -> dg.AssetCheckEvaluation:
    """What a reindex has found, and repaired, before it let the alias point at its generation."""
    figures = {
        "rows": compared.rows,
        "documents": compared.documents,
        "difference": compared.missing - compared.extra,
        "changed": compared.changed,
        "repaired": compared.written + compared.deleted,
    }
    said = (
        f"{compared.rows:,} rows and {compared.documents:,} documents compared by "
        f"{compared.level} before the alias was switched, {compared.differences:,} differences "
        "repaired."
    )
    return evaluation(table, "row_parity", Verdict(True, said, figures))


def _shown(table: Table, name: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "asset_key": index_key(table),
        "check_name": name,
        "passed": verdict.passed,
        "severity": dg.AssetCheckSeverity.ERROR if verdict.is_error else dg.AssetCheckSeverity.WARN,
        "description": verdict.description,
        "metadata": dict(verdict.figures),
    }


def _passed_lately(
    instance: dg.DagsterInstance, tables: Sequence[Table]
) -> Collection[dg.AssetCheckKey]:
    """The checks that passed the last time, if that is not long ago."""
    keys = [dg.AssetCheckKey(index_key(table), name) for table in tables for name in QUESTIONS]
    known = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    since = (datetime.now(UTC) - RECORDED_AGAIN).timestamp()
    return {
        key
        for key, record in known.items()
        if record.status is Status.SUCCEEDED and record.create_timestamp > since
    }
