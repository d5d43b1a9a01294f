"""Dagster's partitions of a table: the same keys as the engine's."""

from datetime import UTC, datetime

import dagster as dg

from pg_es_pipeline.sync.partitions import KEY_FORMATS, keys
from pg_es_pipeline.tables import Partitions, TimePartitions

_CRON = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * 1",
    "month": "0 0 1 * *",
    "year": "0 0 1 1 *",
}


def partitions_definition(partitions: Partitions | None) -> dg.PartitionsDefinition[str]:
    """The partitions as Dagster shows and backfills them."""
    if not isinstance(partitions, TimePartitions):
        return dg.StaticPartitionsDefinition(keys(partitions, datetime.now(UTC)))
    form, end = KEY_FORMATS[partitions.by], partitions.end
    return dg.TimeWindowPartitionsDefinition(
        start=partitions.start.strftime(form),
        end=end.strftime(form) if end else None,
        # The period that is going on has rows already. Dagster does not go beyond the end.
        end_offset=1,
        fmt=form,
        cron_schedule=_CRON[partitions.by],
        timezone=partitions.time_zone,
    )
