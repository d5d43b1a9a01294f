"""Which partitions the runs under way load."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any, cast

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

from pg_es_pipeline.orchestration.names import (
    ALL_TABLES,
    PARTITION,
    RANGE_END,
    RANGE_START,
    SENSOR,
    SENSOR_TAG,
    index_key,
    tables_of,
)
from pg_es_pipeline.orchestration.partitions import partitions_definition
from pg_es_pipeline.tables import Table

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]

InFlight = Mapping[str, Set[str] | None]
"""Partitions by index; None: all there are."""


def in_flight(
    tables: Sequence[Table], runs: Iterable[dg.DagsterRun], instance: dg.DagsterInstance
) -> InFlight:
    """What of these tables is being loaded, or will be by a run that the sensor has requested.

    A long backfill that somebody else has launched keeps the partition alone that it is at: the
    others can be brought up to date before and after it gets there. A reindex keeps none: it leaves
    the live generation to the others.
    """
    found: dict[str, set[str] | None] = {}
    for run in runs:
        ours = run.tags.get(SENSOR_TAG) == SENSOR
        if not ours and run.status in (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED):
            continue
        for table, partitions in _partitions(tables, run, instance):
            index = table.index
            if partitions is None:
                found[index] = None
                continue
            done = _finished(run, table, instance) if len(partitions) > 1 else set()
            left = (one for one in partitions if one not in done)
            known = found.setdefault(index, set())
            if known is not None:
                known.update(left if ours else islice(left, 1))
    return found


def _partitions(
    tables: Sequence[Table], run: dg.DagsterRun, instance: dg.DagsterInstance
) -> Iterator[tuple[Table, Sequence[str] | None]]:
    """What a run loads, in its order; None: all partitions that need it."""
    tags, selected = run.tags, run.asset_selection or ()
    named = set(tables_of(tags))
    config = _config(run)
    for table in tables:
        if index_key(table) in selected:
            if PARTITION in tags:
                yield table, [tags[PARTITION]]
            elif RANGE_START in tags:
                yield table, _range(table, tags[RANGE_START], tags[RANGE_END], instance)
            else:
                yield table, None
        elif table.index in config:
            yield table, config[table.index]
        elif not config and not named.isdisjoint({table.index, ALL_TABLES}):
            yield table, None


def _config(run: dg.DagsterRun) -> Mapping[str, Sequence[str]]:
    """Of a `sync` job: the partitions by index that it was told to load."""
    ops = cast("Mapping[str, Any]", run.run_config.get("ops") or {})
    for op in ops.values():
        if partitions := (op.get("config") or {}).get("partitions"):
            return dict(partitions)
    return {}


def _range(
    table: Table, first: str, last: str, instance: dg.DagsterInstance
) -> Sequence[str] | None:
    keys = partitions_definition(table).get_partition_keys(dynamic_partitions_store=instance)
    try:
        return keys[keys.index(first) : keys.index(last) + 1]
    except ValueError:  # the partitions are others than they were
        return None


def _finished(run: dg.DagsterRun, table: Table, instance: dg.DagsterInstance) -> set[str]:
    events = instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    return {
        event.partition
        for entry in events
        if (event := entry.asset_materialization)
        and event.partition
        and event.asset_key == index_key(table)
    }
