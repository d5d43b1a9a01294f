"""Removes old runs from Dagster's storage, which keeps every one for ever.

A run goes with its events, its check evaluations and its logs. What the pages show of an asset is
told by the events of runs: so those stay that hold a partition's last materialization or failure,
an index's last observation, or a check's last evaluation.

Dagster's own `delete_run` takes three transactions for each run, and leaves its file on SQLite.
Here they go by the hundreds, and nothing is locked for longer than one of these batches takes.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from sqlalchemy import Connection, Select, delete, func, or_, select

BATCH = 500
"""Runs, or evaluations, that go in one transaction."""

COMPACTED = 200 << 20
"""Bytes in use up to which a file of SQLite's is written anew, which takes a second or two, and
keeps others from writing for as long."""

_EVENTS, _CHECKS = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
_INDEX = "index"


@dataclass
class Removed:
    """What a housekeeping has removed."""

    runs: int = 0
    kept: int = 0
    """Old runs that something on the pages is told by."""
    evaluations: int = 0
    freed: int = 0
    """Bytes of SQLite's files."""


def remove_runs(instance: dg.DagsterInstance, before: datetime) -> Removed:
    """Removes the finished runs that nothing has happened to since then."""
    runs, events = instance.run_storage, instance.event_log_storage
    if not isinstance(runs, SqlRunStorage) or not isinstance(events, SqlEventLogStorage):
        raise dg.Failure(
            f"{type(events).__name__} is no SQL storage that runs can be removed from: switch the "
            "schedule of this job off.",
            allow_retries=False,
        )
    done, kept = Removed(), _told_by(instance, events)
    naive = before.astimezone(UTC).replace(tzinfo=None)  # As both storages have it.
    for found in _old(runs, naive, _backfills_under_way(instance)):
        gone = [run_id for run_id in found if run_id not in kept]
        done.runs, done.kept = done.runs + len(gone), done.kept + len(found) - len(gone)
        # The run itself last: what is interrupted before is begun anew by the next one.
        with events.index_connection() as connection:
            _delete_events(connection, gone)
        for run_id in gone:
            done.freed += _unlink(events, run_id)
            instance.compute_log_manager.delete_logs(prefix=[run_id])
        with runs.connect() as connection:
            connection.execute(delete(RunTagsTable).where(RunTagsTable.c.run_id.in_(gone)))
            connection.execute(delete(RunsTable).where(RunsTable.c.run_id.in_(gone)))
    done.evaluations = _remove_evaluations(events.index_connection, naive)
    if isinstance(events, SqliteEventLogStorage):
        done.freed += _remove_orphans(events, runs, before)
        done.freed += sum(map(_compact, _shared_files(events)))
    return done


def _told_by(instance: dg.DagsterInstance, events: SqlEventLogStorage) -> set[str]:
    """The runs that hold what the pages show of assets and checks."""
    last = select(func.max(_EVENTS.id)).where(_EVENTS.asset_key.is_not(None))
    materialized = last.where(
        _EVENTS.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value
    ).group_by(_EVENTS.asset_key, _EVENTS.partition)
    # Those of a partition tell how far a load has come, and the materialization tells it better.
    observed = last.where(
        _EVENTS.dagster_event_type == dg.DagsterEventType.ASSET_OBSERVATION.value,
        _EVENTS.partition.is_(None),
    ).group_by(_EVENTS.asset_key)
    with events.index_connection() as connection:
        kept = {
            *connection.scalars(
                select(_EVENTS.run_id).where(
                    or_(_EVENTS.id.in_(materialized), _EVENTS.id.in_(observed))
                )
            ),
            *connection.scalars(select(_CHECKS.run_id).where(_CHECKS.id.in_(_last_evaluations()))),
        }
    for key in instance.all_asset_keys():
        failed = events.get_latest_asset_partition_materialization_attempts_without_materializations
        kept.update(run_id for run_id, _event_id in failed(key).values())
    return kept


def _last_evaluations() -> Select[tuple[int]]:
    return select(func.max(_CHECKS.id)).group_by(_CHECKS.asset_key, _CHECKS.check_name)


def _backfills_under_way(instance: dg.DagsterInstance) -> list[str]:
    statuses = [one for one in BulkActionStatus if one not in BULK_ACTION_TERMINAL_STATUSES]
    found = instance.get_backfills(filters=BulkActionsFilter(statuses=statuses))
    return [one.backfill_id for one in found]


def _old(
    runs: SqlRunStorage, before: datetime, backfills: Sequence[str]
) -> Iterator[Sequence[str]]:
    """The ids of finished runs, some at a time."""
    table, after = RunsTable.c, 0
    statement = (
        select(table.id, table.run_id)
        .where(
            table.status.in_([status.value for status in FINISHED_STATUSES]),
            table.update_timestamp < before,
            or_(table.backfill_id.is_(None), table.backfill_id.not_in(backfills)),
        )
        .order_by(table.id)
        .limit(BATCH)
    )
    while True:
        with runs.connect() as connection:
            found = connection.execute(statement.where(table.id > after)).all()
        if not found:
            return
        after = found[-1][0]
        yield [run_id for _id, run_id in found]


def _delete_events(connection: Connection, run_ids: Sequence[str]) -> None:
    """On PostgreSQL all events, on SQLite those that are not in the run's own file."""
    mine = _EVENTS.run_id.in_(run_ids)
    tags = AssetEventTagsTable.c.event_id.in_(select(_EVENTS.id).where(mine))
    connection.execute(delete(AssetEventTagsTable).where(tags))
    connection.execute(delete(SqlEventLogStorageTable).where(mine))


def _remove_evaluations(
    connect: Callable[[], AbstractContextManager[Connection]], before: datetime
) -> int:
    """Removes the old evaluations of checks, which Dagster keeps apart from the runs."""
    removed = after = 0
    with connect() as connection:
        last = set(connection.scalars(_last_evaluations()))
    old = select(_CHECKS.id).where(_CHECKS.create_timestamp < before).order_by(_CHECKS.id)
    while True:
        with connect() as connection:
            found = connection.scalars(old.where(_CHECKS.id > after).limit(BATCH)).all()
            gone = [one for one in found if one not in last]
            connection.execute(delete(AssetCheckExecutionsTable).where(_CHECKS.id.in_(gone)))
        removed += len(gone)
        if not found:
            return removed
        after = found[-1]


def _unlink(events: SqlEventLogStorage, run_id: str) -> int:
    """Removes the file that SQLite has of a run's events; returns its size."""
    if not isinstance(events, SqliteEventLogStorage):
        return 0
    size, file = 0, events.path_for_shard(run_id)
    for name in (file, f"{file}-wal", f"{file}-shm"):
        if (path := Path(name)).exists():
            size += path.stat().st_size
            path.unlink()
    return size


def _remove_orphans(events: SqliteEventLogStorage, runs: SqlRunStorage, before: datetime) -> int:
    """Removes what was left of runs that somebody has deleted on Dagster's pages."""
    old = {
        file.stem
        for file in Path(events.path_for_shard(_INDEX)).parent.glob("*-*.db")
        if file.stat().st_mtime < before.timestamp()
    }
    with runs.connect() as connection:
        old.difference_update(connection.scalars(select(RunsTable.c.run_id)))
    return sum(_unlink(events, run_id) for run_id in old)


def _shared_files(events: SqliteEventLogStorage) -> list[Path]:
    """The files that hold what is not of one run: events of assets, runs, ticks."""
    index = Path(events.path_for_shard(_INDEX))
    storage = index.parents[2]
    return [index, storage / "history" / "runs.db", storage / "schedules" / "schedules.db"]


def _compact(file: Path) -> int:
    """Gives back what a file has free, where that is most of it; returns the bytes."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if free * 2 < pages or (pages - free) * size > COMPACTED:
            return 0
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:  # Somebody is writing: the next night, then.
            return 0
    return int(free * size)
