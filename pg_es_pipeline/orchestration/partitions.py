"""Dagster's partitions of a table: the same keys as the engine's."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg

from pg_es_pipeline.sync.partitions import KEY_FORMATS, grows, keys
from pg_es_pipeline.tables import NativePartitions, RangePartitions, Table, TimePartitions

_CRON = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * 1",
    "month": "0 0 1 * *",
    "year": "0 0 1 1 *",
}


def partitions_definition(table: Table) -> dg.PartitionsDefinition[str]:
    """The partitions as Dagster shows and backfills them."""
    partitions = table.partitions
    if isinstance(partitions, RangePartitions | NativePartitions):
        return dg.DynamicPartitionsDefinition(name=_dynamic(table))
    if not isinstance(partitions, TimePartitions):
        return dg.StaticPartitionsDefinition(keys(partitions, datetime.now(UTC)))
    form, end = KEY_FORMATS[partitions.by], partitions.end
    return dg.TimeWindowPartitionsDefinition(
        start=partitions.start.strftime(form),
        end=end.strftime(form) if end else None,
        # The period that is going on has rows already. Dagster does not go beyond the end.
        end_offset=1 + partitions.end_offset,
        fmt=form,
        cron_schedule=_CRON[partitions.by],
        timezone=partitions.time_zone,
    )


def backfill_policy(table: Table) -> dg.BackfillPolicy:
    """How many partitions of a backfill share a run."""
    most = table.max_partitions_per_run
    return dg.BackfillPolicy.multi_run(most) if most else dg.BackfillPolicy.single_run()


def add_new(instance: dg.DagsterInstance, table: Table, partitions: Sequence[str]) -> None:
    """Makes partitions that the table has come to have known to Dagster."""
    if not grows(table.partitions):
        return
    known = set(instance.get_dynamic_partitions(_dynamic(table)))
    if new := [partition for partition in partitions if partition not in known]:
        instance.add_dynamic_partitions(_dynamic(table), new)


def _dynamic(table: Table) -> str:
    return f"partitions of {table.index}"
