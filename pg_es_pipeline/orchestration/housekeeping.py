"""The job that removes old runs, and its schedule."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from pg_es_pipeline.orchestration.jobs import op_job
from pg_es_pipeline.orchestration.loading import failing_clearly
from pg_es_pipeline.settings import ProjectSettings, read

HOUSEKEEPING = "housekeeping"


class HousekeepingConfig(dg.Config):
    """What is old."""

    keep_days: int | None = Field(default=None, description="KEEP_RUNS_DAYS, 14")


def housekeeping_job() -> dg.JobDefinition:
    """A job that removes the runs that ended more than so many days ago."""
    description = "Removes old runs, their events and logs, and gives their space back."

    @dg.op(name=f"{HOUSEKEEPING}_op", description=description)
    def clean(context: dg.OpExecutionContext, config: HousekeepingConfig) -> None:
        # What it takes of Dagster's storage and of SQLAlchemy would be most of what a code server
        # has to import.
        from pg_es_pipeline.orchestration.old_runs import remove_runs

        with failing_clearly():
            settings = read(ProjectSettings, keep_runs_days=config.keep_days)
        before = datetime.now(UTC) - timedelta(days=settings.keep_runs_days)
        done = remove_runs(context.instance, before)
        context.log.info(
            f"{done.runs:,} runs from before {before:%Y-%m-%d %H:%M} UTC removed, and "
            f"{done.evaluations:,} evaluations of checks; {done.kept:,} older runs kept that hold "
            f"the last events of an asset; {done.freed / 1e6:,.1f} MB given back"
        )

    return op_job(HOUSEKEEPING, description, clean)


def housekeeping_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Every night."""
    return dg.ScheduleDefinition(
        name=f"{HOUSEKEEPING}_nightly",
        job=job,
        cron_schedule="45 3 * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Removes, once a night, the runs that are older than KEEP_RUNS_DAYS.",
    )
