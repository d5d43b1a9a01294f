"""Connections to PostgreSQL whose session cannot change a document."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from pg_es_pipeline.errors import ServerAway, SourceError, TookTooLong
from pg_es_pipeline.settings import PostgresSettings

Connection = psycopg.Connection[TupleRow]

APPLICATION_NAME = "pg-es-pipeline"
"""How our sessions show in pg_stat_activity; they only read."""

# Each of these changes how a value is written as text or JSON, so that a document would depend on
# who reads the row. `TimeZone` is not among them: it is set after the connection is made, so that
# `pg_settings.reset_val` still tells the zone that the role's own sessions use.
_PINNED = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "xmlbinary": "base64",
}

# What a role or a database sets for people's sessions must not end a load in its middle. Ours are
# bounded all the same: a chunk, the wait for a lock, a client that went away.
_BOUNDS = {
    "statement_timeout": "6h",
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "10min",
    "transaction_timeout": "0",
    "default_transaction_isolation": "read committed",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

WORK_MEM = 32 * 1024 * 1024
"""Bytes that a sort may take before it writes a temporary file: a chunk of usual rows."""

# A chunk's statement is long, and new each time: compiling it costs more than that brings.
_SPEED = f"""
SELECT set_config('jit', 'off', false),
       CASE WHEN pg_size_bytes(current_setting('work_mem')) < {WORK_MEM}
            THEN set_config('work_mem', '{WORK_MEM // 1024}kB', false) END
"""


def connect(settings: PostgresSettings, *, patience: int = 10) -> Connection:
    """Opens an autocommit connection in UTC with every setting that shapes text pinned.

    `patience` is how many seconds connecting may take. Raises ServerAway, naming host, port and
    database, when there is no connecting.
    """
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "dbname": settings.database,
        "user": settings.user,
        "sslmode": settings.sslmode,
        "client_encoding": "utf8",
        "application_name": APPLICATION_NAME,
        "connect_timeout": patience,
        "keepalives_idle": 30,
    }
    if settings.password:
        options["password"] = settings.password.get_secret_value()
    try:
        connection = psycopg.connect(autocommit=True, **options)
    except psycopg.OperationalError as error:
        raise ServerAway(
            f"PostgreSQL at {settings.host}:{settings.port} (database {settings.database}, "
            f"user {settings.user}) cannot be reached: {first_line(error)}. "
            "Check PG_HOST, PG_PORT, PG_DATABASE, PG_USER, PG_PASSWORD and PG_SSLMODE."
        ) from None
    pinned = {**_PINNED, **_BOUNDS, "TimeZone": "UTC"}
    connection.execute(
        "SELECT set_config(name, value, false) "
        "FROM unnest(%s::text[], %s::text[]) AS s (name, value) "
        # transaction_timeout is there from PostgreSQL 17 on.
        "WHERE current_setting(name, true) IS NOT NULL",
        [list(pinned), list(pinned.values())],
    )
    connection.execute(_SPEED)
    return connection


def planned_rows(connection: Connection, query: sql.Composable) -> int:
    """How many rows the planner expects of a query: it scales what was counted last to the size of
    now, and knows views as well."""
    return int(plan(connection, query)["Plan Rows"])


def plan(connection: Connection, query: sql.Composable) -> dict[str, Any]:
    """The topmost node of a query's plan."""
    row = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)).fetchone()
    assert row is not None
    return dict(row[0][0]["Plan"])


@contextmanager
def lock_timeout(connection: Connection, duration: str) -> Iterator[None]:
    """While no statement waits longer for a lock; it fails with LockNotAvailable then."""
    with _bound(connection, "lock_timeout", duration):
        yield


@contextmanager
def statement_timeout(connection: Connection, duration: str) -> Iterator[None]:
    """While no statement takes longer; it fails with QueryCanceled then, TookTooLong to others."""
    with _bound(connection, "statement_timeout", duration):
        yield


@contextmanager
def _bound(connection: Connection, setting: str, value: str) -> Iterator[None]:
    connection.execute("SELECT set_config(%s, %s, false)", [setting, value])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT set_config(%s, %s, false)", [setting, _BOUNDS[setting]])


@contextmanager
def speaking(what: str) -> Iterator[None]:
    """Turns PostgreSQL's errors into ours; `what` says what was being done."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise SourceError(
            f"{what}: {first_line(error)}. GRANT SELECT on it to the role in PG_USER."
        ) from None
    except psycopg.errors.QueryCanceled as error:
        raise TookTooLong(f"{what}: PostgreSQL gave up: {first_line(error)}.") from None
    except psycopg.OperationalError as error:
        raise ServerAway(f"{what}: PostgreSQL failed: {first_line(error)}.") from None
    except psycopg.Error as error:
        raise SourceError(f"{what}: PostgreSQL refused: {first_line(error)}.") from None


def first_line(error: Exception) -> str:
    """What an error says, without where in the statement."""
    return str(error).strip().splitlines()[0].rstrip(".")
