"""The horizon: what is safe to have seen. The version: in which order snapshots were taken."""

from collections.abc import Iterator
from contextlib import contextmanager

from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.postgres import APPLICATION_NAME, Connection

MARGIN_SECONDS = 2
"""How far the horizon stays behind: a session fixes its transaction's start before it shows it."""

# Any number will do, as long as it is always the same one.
_LOCK = 7_026_427_253

# Our own readers are not waited for: they write nothing. Where other sessions cannot be seen (no
# pg_read_all_stats, or a standby, whose writers are elsewhere), no transaction is taken to stay
# open longer than the lookback. A prepared transaction shows when it was prepared, not when it
# began: the horizon stays where it was.
_HORIZON = f"""
WITH seen AS (
    SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AND NOT pg_is_in_recovery()
               AS writers,
           (SELECT min(xact_start) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND application_name <> '{APPLICATION_NAME}'
                  AND backend_type NOT IN ('autovacuum worker', 'walsender')) AS oldest,
           (SELECT min(prepared) FROM pg_prepared_xacts
            WHERE database = current_database()) AS prepared
), safe AS (
    SELECT CASE
        WHEN NOT writers THEN clock_timestamp() - %(lookback)s
        WHEN prepared IS NOT NULL THEN coalesce(%(floor)s::timestamptz, prepared - %(lookback)s)
        ELSE least(oldest, clock_timestamp()) - %(margin)s * interval '1 s'
    END AS horizon
    FROM seen
)
SELECT greatest(horizon, %(floor)s::timestamptz)::text FROM safe
"""

_TO_LOCAL = """
SELECT (%s::timestamptz AT TIME ZONE
        (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'))::text
"""


def horizon(connection: Connection, source: Source, floor: str | None) -> str:
    """The moment below which every committed change is already visible, as text in UTC.

    It never falls below `floor`, the last one that was found. Call it *before* the snapshot is
    taken: a commit is visible before its session's entry is cleared, never the other way round.
    """
    row = connection.execute(
        _HORIZON,
        {"lookback": source.table.cursor.lookback, "margin": MARGIN_SECONDS, "floor": floor},
    ).fetchone()
    assert row is not None
    return str(row[0])


def lag_seconds(connection: Connection, moment: str) -> float:
    """How far a horizon lies behind the database's clock."""
    row = connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - %s::timestamptz)", [moment]
    ).fetchone()
    assert row is not None
    return float(row[0])


def as_cursor(connection: Connection, source: Source, moment: str) -> str:
    """A moment as a value of the cursor column: without a time zone it is in the role's own."""
    if source.cursor.type == "timestamptz":
        return moment
    row = connection.execute(_TO_LOCAL, [moment]).fetchone()
    assert row is not None
    return str(row[0])


@contextmanager
def snapshot(connection: Connection, floor: int) -> Iterator[int]:
    """A read-only transaction with one snapshot; yields the version of what is read in it.

    Versions are microseconds of the database's clock, and always above `floor`. The lock is taken
    before the transaction begins, whose first statement takes the snapshot: so whoever has the
    later snapshot has the higher version.
    """
    connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        row = connection.execute(
            "SELECT greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, %s + 1)",
            [floor],
        ).fetchone()
        assert row is not None
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
    try:
        yield int(row[0])
    finally:
        if not connection.closed:
            connection.rollback()
