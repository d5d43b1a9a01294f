"""The PostgreSQL server: version, what the role sees, open transactions, the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from psycopg import sql

from pg_es_pipeline.sync.checks.finding import POSTGRESQL, Finding, quoted
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.snapshot import IS_WAITED_FOR

OLDEST_VERSION = 13

LONG_TRANSACTION = timedelta(minutes=10)
"""From this age on, an open or a prepared transaction is reported."""

CLOCK_TOLERANCE = timedelta(seconds=5)

_ROLE = """
SELECT current_user::text, pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       pg_is_in_recovery()
"""

_OPEN = f"""
SELECT pid, usename::text, application_name, state,
       extract(epoch FROM clock_timestamp() - xact_start),
       query_start::timestamptz(0)::text
FROM pg_stat_activity
WHERE {IS_WAITED_FOR} AND clock_timestamp() - xact_start >= %s
ORDER BY xact_start
"""

_PREPARED = """
SELECT gid, owner::text, extract(epoch FROM clock_timestamp() - prepared)
FROM pg_prepared_xacts
WHERE database = current_database() AND clock_timestamp() - prepared >= %s
ORDER BY prepared
"""


def findings(connection: Connection) -> Iterator[Finding]:
    """What is amiss with the server or the role as a whole."""
    version = connection.info.server_version
    if version < OLDEST_VERSION * 10_000:
        yield Finding(
            "error",
            POSTGRESQL,
            f"The server's version is {version // 10_000}, and the oldest supported one is "
            f"{OLDEST_VERSION}.",
            "Loads may fail or miss rows.",
            "Upgrade the server.",
        )
    row = connection.execute(_ROLE).fetchone()
    assert row is not None
    role, sees_sessions, is_standby = row
    if is_standby:
        yield Finding(
            "note",
            POSTGRESQL,
            "The server is a hot standby, and the transactions that write are elsewhere.",
            "The last minutes (`cursor.lookback`) are compared at every look; a transaction that "
            "stays open longer can be missed.",
            "Set `cursor.lookback` in the tables file above the longest transaction, or let "
            "PG_HOST name the primary.",
        )
    elif not sees_sessions:
        yield Finding(
            "warning",
            POSTGRESQL,
            f"The role {role} may not see other sessions' transactions.",
            "The last minutes (`cursor.lookback`) are compared at every look instead; a "
            "transaction that stays open longer can be missed.",
            f"GRANT pg_read_all_stats TO {quoted(role)};",
        )
    else:
        yield from _open_transactions(connection)
    yield from _prepared_transactions(connection)
    yield from _clock(connection)


def _open_transactions(connection: Connection) -> Iterator[Finding]:
    for pid, user, application, state, age, query_start in connection.execute(
        _OPEN, [LONG_TRANSACTION]
    ):
        yield Finding(
            "warning",
            POSTGRESQL,
            f"A transaction is open for {_age(age)}: process {pid}, user {user}, application "
            f"{application or 'unnamed'}, {state}, its last statement began at {query_start}.",
            "The watermarks stay at its start until it ends: what was written since is compared "
            "at every look, and VACUUM removes nothing newer.",
            f"SELECT pg_terminate_backend({pid});",
        )


def _prepared_transactions(connection: Connection) -> Iterator[Finding]:
    for gid, owner, age in connection.execute(_PREPARED, [LONG_TRANSACTION]):
        name = sql.Literal(gid).as_string(connection)
        yield Finding(
            "warning",
            POSTGRESQL,
            f"The transaction {gid} of {owner} is prepared for {_age(age)}, and neither committed "
            "nor rolled back.",
            "The watermarks stay where they were until it ends: what was written since is "
            "compared at every look, and VACUUM removes nothing newer.",
            f"ROLLBACK PREPARED {name};  -- or COMMIT PREPARED {name};",
        )


def _clock(connection: Connection) -> Iterator[Finding]:
    before = machine_clock()
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    after = machine_clock()
    ahead = row[0] - (before + (after - before) / 2)
    if abs(ahead) > CLOCK_TOLERANCE + (after - before) / 2:
        direction = "ahead of" if ahead > timedelta() else "behind"
        yield Finding(
            "warning",
            POSTGRESQL,
            f"The server's clock is {_age(abs(ahead).total_seconds())} {direction} this machine's.",
            "Partitions of time begin by this machine's clock, and lags are counted by the "
            "server's.",
            "Let both keep time by NTP: timedatectl set-ntp true",
        )


def machine_clock() -> datetime:
    """This machine's."""
    return datetime.now(UTC)


def _age(seconds: float | Decimal) -> str:
    return str(timedelta(seconds=round(seconds)))
