"""Where Dagster keeps its runs, events and schedules: PostgreSQL where one is named, SQLite if not.

One `dagster.yaml` serves both. Every process of a deployment needs the same variables, so that each
says once which storage it uses.
"""

import fcntl
import logging
import os
from pathlib import Path
from typing import Any

from dagster._core.storage.base_storage import DagsterStorage
from dagster._serdes import ConfigurableClass, ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import get_conn_string

from pg_es_pipeline.orchestration.sqlite import SqliteStorage

_VARIABLES = {
    "hostname": "DAGSTER_PG_HOST",
    "db_name": "DAGSTER_PG_DATABASE",
    "username": "DAGSTER_PG_USER",
    "password": "DAGSTER_PG_PASSWORD",
    "port": "DAGSTER_PG_PORT",
}
_log = logging.getLogger("pg_es_pipeline.storage")


class StorageByEnvironment(DagsterStorage, ConfigurableClass):
    """Makes one of the storages; it is never one itself."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]
        cls, inst_data: ConfigurableClassData | None, config_value: dict[str, Any]
    ) -> DagsterStorage:
        """DAGSTER_PG_HOST and its like, or SQLite files in DAGSTER_HOME.

        Raises ValueError naming the variables that are missing when only some are set.
        """
        given = {key: os.environ.get(name) or None for key, name in _VARIABLES.items()}
        if not any(given.values()):
            folder = Path(os.environ.get("DAGSTER_HOME") or ".dagster").resolve() / "storage"
            _log.info("Dagster's storage: SQLite in %s", folder)
            folder.mkdir(parents=True, exist_ok=True)
            # Daemon and webserver start at once, and each would make the tables of a new folder.
            with (folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                return SqliteStorage.from_local(str(folder), inst_data)
        missing = [
            name
            for key, name in _VARIABLES.items()
            if given[key] is None and key not in ("port", "password")
        ]
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} must be set too: Dagster's storage in PostgreSQL needs "
                "host, database and user. Unset all DAGSTER_PG_* variables to use SQLite."
            )
        port = given["port"] or "5432"
        if not port.isdecimal():
            raise ValueError(f"DAGSTER_PG_PORT is not a port number: {port}")
        _log.info(
            "Dagster's storage: PostgreSQL, %s:%s/%s", given["hostname"], port, given["db_name"]
        )
        # The scheme names the driver: SQLAlchemy 2.1 reads a bare one as psycopg 3, which
        # dagster-postgres does not use.
        url = get_conn_string(
            username=given["username"] or "",
            password=given["password"] or "",
            hostname=given["hostname"] or "",
            db_name=given["db_name"] or "",
            port=port,
            scheme="postgresql+psycopg2",
        )
        return DagsterPostgresStorage(url, inst_data=inst_data)
