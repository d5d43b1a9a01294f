"""The horizon: what is safe to have seen. The version: in which order snapshots were taken."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from pg_es_pipeline.sync.catalog import Column, Source
from pg_es_pipeline.sync.checkpoints import Checkpoint, Mark
from pg_es_pipeline.sync.documents import field, relation
from pg_es_pipeline.sync.postgres import APPLICATION_NAME, Connection

MARGIN_SECONDS = 2
"""How far the horizon stays behind: a session fixes its transaction's start before it shows it."""

# Any number will do, as long as it is always the same one.
_LOCK = 7_026_427_253

# Our own readers are not waited for: they write nothing.
IS_WAITED_FOR = f"""
datname = current_database() AND pid <> pg_backend_pid()
AND application_name <> '{APPLICATION_NAME}'
AND backend_type NOT IN ('autovacuum worker', 'walsender')
"""
"""The condition on pg_stat_activity of a session whose transaction the horizon waits for."""

# Where other sessions cannot be seen (no
# pg_read_all_stats, or a standby, whose writers are elsewhere), no transaction is taken to stay
# open longer than the lookback. A prepared transaction shows when it was prepared, not when it
# began: the horizon stays where it was.
_HORIZON = f"""
WITH seen AS (
    SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AND NOT pg_is_in_recovery()
               AS writers,
           (SELECT min(xact_start) FROM pg_stat_activity WHERE {IS_WAITED_FOR}) AS oldest,
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

_LOWEST = {"int2": -(1 << 15), "int4": -(1 << 31), "int8": -(1 << 63)}

_ORIGIN = """
SELECT system_identifier || ':' || timeline_id || ':'
       || (SELECT oid FROM pg_database WHERE datname = current_database()),
       clock_timestamp()::text
FROM pg_control_system(), pg_control_checkpoint()
"""

_TO_LOCAL = """
SELECT (%s::timestamptz AT TIME ZONE
        (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'))::text
"""


def horizon(connection: Connection, lookback: timedelta, floor: str | None) -> str:
    """The moment below which every committed change is already visible, as text in UTC.

    It never falls below `floor`, the last one that was found. Call it *before* the snapshot is
    taken: a commit is visible before its session's entry is cleared, never the other way round.
    """
    row = connection.execute(
        _HORIZON,
        {"lookback": lookback, "margin": MARGIN_SECONDS, "floor": floor},
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


def limit(connection: Connection, source: Source, checkpoint: Checkpoint) -> str:
    """The cursor's value below which everything is visible to a snapshot that is taken from now on.

    Moves the checkpoint's horizon on, and its marks. Without a cursor it is the horizon itself.
    """
    cursor = source.cursor
    if source.whole_number_cursor:
        _set_mark(connection, source, checkpoint)
    checkpoint.horizon = horizon(connection, source.table.cursor.lookback, checkpoint.horizon)
    if cursor is None or cursor.type == "timestamptz":
        return checkpoint.horizon
    if source.whole_number_cursor:
        return _settled_number(source, checkpoint)
    row = connection.execute(_TO_LOCAL, [checkpoint.horizon]).fetchone()
    assert row is not None
    return str(row[0])


def limit_after_full_pass(source: Source, checkpoint: Checkpoint) -> str:
    """The limit that held when the full pass began; the checkpoint's horizon is a new one."""
    full_pass = checkpoint.full_pass
    assert full_pass is not None
    if full_pass.mark and _is_settled(full_pass.mark, checkpoint):
        return _limit_of(source, full_pass.mark)
    return full_pass.limit


def _set_mark(connection: Connection, source: Source, checkpoint: Checkpoint) -> None:
    # The highest number is read before the moment: whoever begins after the moment draws a higher.
    row = connection.execute(
        sql.SQL(
            "WITH seen AS MATERIALIZED (SELECT max({}) AS number FROM {}) "
            "SELECT number, clock_timestamp()::text FROM seen"
        ).format(field(_cursor(source)), relation(source))
    ).fetchone()
    assert row is not None
    number, moment = row
    if number is not None and (not checkpoint.marks or checkpoint.marks[-1].number < number):
        checkpoint.marks.append(Mark(moment, number))


def _settled_number(source: Source, checkpoint: Checkpoint) -> str:
    marks = checkpoint.marks
    while len(marks) > 1 and _is_settled(marks[1], checkpoint):
        del marks[0]
    if marks and _is_settled(marks[0], checkpoint):
        return _limit_of(source, marks[0])
    return str(_LOWEST[_cursor(source).type])


def _is_settled(mark: Mark, checkpoint: Checkpoint) -> bool:
    assert checkpoint.horizon is not None
    return is_before(mark.moment, checkpoint.horizon)


def _limit_of(source: Source, mark: Mark) -> str:
    lowest = _LOWEST[_cursor(source).type]
    return str(min(max(mark.number + 1 - source.table.cursor.lookback_ids, lowest), ~lowest))


def _cursor(source: Source) -> Column:
    assert source.cursor is not None
    return source.cursor


@dataclass(frozen=True, slots=True)
class Present:
    """Which database this is, and what time it is there."""

    origin: str | None
    """Changes when a backup is restored or a standby takes over; None: the role may not ask."""
    clock: str

    @classmethod
    def of(cls, connection: Connection) -> "Present":
        """The database behind a connection."""
        try:
            row = connection.execute(_ORIGIN).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            row = connection.execute("SELECT NULL, clock_timestamp()::text").fetchone()
        assert row is not None
        return cls(*row)

    def continues(self, checkpoint: Checkpoint) -> bool:
        """Whether this is the database that the checkpoint speaks of, not set back since.

        If not, rows may have become older again, or be gone, and no cursor can see that.
        """
        if None not in (self.origin, checkpoint.origin) and self.origin != checkpoint.origin:
            return False
        return checkpoint.horizon is None or is_before(checkpoint.horizon, self.clock)


def is_before(moment: str, other: str) -> bool:
    """Compares two moments that are texts of PostgreSQL's."""
    return datetime.fromisoformat(moment) <= datetime.fromisoformat(other)


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
