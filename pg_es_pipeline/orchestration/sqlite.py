"""Dagster's history in SQLite files, written by connections that stay open.

Dagster opens the file anew for each event, and SQLite then puts the whole log of the file in order:
a run of a thousand partitions would take longer to be recorded than to be done.
"""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

from dagster import AssetKey, EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy import event as events

OPEN_FILES = 8
"""Of the runs read or written last, and the one that all runs have in common."""


class SqliteStorage(DagsterSqliteStorage):
    """Dagster's own, but for how events are written."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = KeptOpen(str(Path(base_dir) / "history" / "runs"))


class KeptOpen(SqliteEventLogStorage):
    """The events of each run in a file of its own, and those of assets in one for all as well."""

    def __init__(self, base_dir: str) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._has_them = False
        self._planned: tuple[str, AssetKey | None] | None = None
        self._statements: list[str] = []
        """Those that make the tables of a new file, and say of which version they are."""
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).connect() as connection, connection.begin():
            yield connection

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = create_engine(self.conn_string_for_shard(shard), connect_args={"timeout": 60})
            events.listen(engine, "connect", _without_waiting_for_the_disk)
            if shard not in self._initialized_dbs:
                self._make(engine)
                self._initialized_dbs.add(shard)
        self._engines[shard] = engine
        if len(self._engines) > OPEN_FILES:
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def _make(self, engine: Engine) -> None:
        """Makes the tables, unless they are there.

        To find that out Dagster reads the history of its schema, for a third of a second, and again
        for each file, all of which have the same tables.
        """
        with _opened(engine) as file:
            tables = _tables(file)
            if "alembic_version" in tables:
                return
            if self._statements and not tables:
                file.execute("PRAGMA journal_mode = WAL")
                file.execute("BEGIN IMMEDIATE")
                # Somebody who looks at the run may have been first.
                for statement in self._statements if not _tables(file) else ():
                    file.execute(statement)
                file.commit()
                return
        self._initdb(engine)
        with _opened(engine) as file:
            self._statements = [
                statement
                for statement in file.iterdump()
                if statement.startswith(("CREATE ", 'INSERT INTO "alembic_version"'))
            ]

    def store_event(self, event: EventLogEntry) -> None:
        super().store_event(event)
        # The pages that follow a run are told of its events by a change of the file itself; SQLite
        # writes to the log beside it.
        os.utime(self.path_for_shard(event.run_id))

    def _has_asset_key_index_cols_on_connection(self, conn: Connection) -> bool:
        # Dagster looks for them again at each event of an asset. What is there stays.
        self._has_them = self._has_them or super()._has_asset_key_index_cols_on_connection(conn)
        return self._has_them

    def _store_asset_event(self, conn: Connection, event: EventLogEntry, event_id: int) -> None:
        # That a run will load an asset is kept with the asset once, and not for each partition.
        planned = event.get_dagster_event().is_asset_materialization_planned
        what = (event.run_id, event.get_dagster_event().asset_key) if planned else None
        if what is None or what != self._planned:
            super()._store_asset_event(conn, event, event_id)
        self._planned = what

    def dispose(self) -> None:
        while self._engines:
            self._engines.popitem()[1].dispose()
        super().dispose()


@contextmanager
def _opened(engine: Engine) -> Iterator[sqlite3.Connection]:
    with closing(engine.raw_connection()) as connection:
        yield cast("sqlite3.Connection", connection.driver_connection)


def _tables(file: sqlite3.Connection) -> set[str]:
    return {name for [name] in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _without_waiting_for_the_disk(connection: Any, _record: object) -> None:
    # With the log that Dagster has SQLite write, a crash of this process loses nothing all the
    # same, and one of the machine the last events at most.
    connection.execute("PRAGMA synchronous = NORMAL")
