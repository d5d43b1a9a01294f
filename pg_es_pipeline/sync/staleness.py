"""Which partitions have changes: one query for a table.

A partition is in step when the rows at or beyond its watermark are the very ones that its last run
loaded. Their number and a digest of their keys, cursors and row versions tell: a row that commits
late, below rows that were loaded already, shows as well. Without a cursor, PostgreSQL's count of
the table's changes tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.checkpoints import Checkpoint, Window
from pg_es_pipeline.sync.documents import field, key_text, relation
from pg_es_pipeline.sync.extract import changes_order
from pg_es_pipeline.sync.partitions import predicate
from pg_es_pipeline.sync.postgres import Connection


@dataclass(frozen=True, slots=True)
class Stale:
    """A partition that needs a run."""

    partition: str
    rows: int | None
    """Rows to look at; None where the whole partition has to be read."""


SURE_AFTER = timedelta(hours=1)
"""Without a cursor both sides are compared at least this often, whatever PostgreSQL has counted: it
counts what a session has done some time after the commit, and in a crash not at all."""

# What is written to the table and everything below it. TRUNCATE is not counted, but makes a new
# file; a crash discards the counts, and shows in the server's start or the writer's reset.
_ACTIVITY = """
WITH RECURSIVE tree AS (
    SELECT to_regclass(%s)::oid AS oid
    UNION SELECT inhrelid FROM tree JOIN pg_inherits ON inhparent = tree.oid
)
SELECT concat_ws('|', pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter),
       string_agg(concat_ws(',', c.oid, c.relfilenode, n_tup_ins, n_tup_upd, n_tup_del), ' '
                  ORDER BY c.oid))
FROM tree JOIN pg_class c USING (oid) LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
HAVING bool_and(c.relkind IN ('r', 'p')) AND current_setting('track_counts')::bool
"""


def stale_partitions(
    connection: Connection,
    source: Source,
    partitions: Sequence[str],
    checkpoints: Mapping[str, Checkpoint],
    clock: str,
) -> list[Stale]:
    """The partitions that are not in step, in their order; `checkpoints` are those that count."""
    known = {
        partition: checkpoint
        for partition in partitions
        if (checkpoint := checkpoints.get(partition)) is not None
        and checkpoint.watermark is not None
        and checkpoint.full_pass is None
    }
    if source.cursor is None:
        counted = activity(connection, source) if known else None
        return [
            Stale(partition, None)
            for partition in partitions
            if partition not in known
            or _has_to_be_compared(source, known[partition], counted, clock)
        ]
    present = windows(connection, source, {key: one.watermark or [] for key, one in known.items()})
    result = []
    for partition in partitions:
        if partition not in present:
            result.append(Stale(partition, None))
        elif present[partition] != known[partition].window:
            result.append(Stale(partition, present[partition].rows))
    return result


def activity(connection: Connection, source: Source) -> str | None:
    """What PostgreSQL has counted of the table's changes; None where it does not count."""
    name = sql.Identifier(source.table.schema_name, source.table.name).as_string()
    row = connection.execute(_ACTIVITY, [name]).fetchone()
    return str(row[0]) if row else None


def _has_to_be_compared(
    source: Source, checkpoint: Checkpoint, counted: str | None, clock: str
) -> bool:
    assert checkpoint.watermark is not None
    age = datetime.fromisoformat(clock) - datetime.fromisoformat(checkpoint.watermark[0])
    if age < source.table.snapshot.every:
        return False
    return counted is None or counted != checkpoint.activity or age >= SURE_AFTER


def windows(
    connection: Connection, source: Source, watermarks: Mapping[str, Sequence[str]]
) -> dict[str, Window]:
    """The rows at or beyond each partition's watermark as they are now, by partition."""
    if not watermarks:
        return {}
    statement = sql.SQL(" UNION ALL ").join(
        _window(source, partition, watermark) for partition, watermark in watermarks.items()
    )
    return {
        partition: Window(rows, digest) for partition, rows, digest in connection.execute(statement)
    }


def _window(source: Source, partition: str, watermark: Sequence[str]) -> sql.Composed:
    order = changes_order(source)
    row = [key_text(source), sql.SQL("{}::text").format(field(order.columns[0]))]
    if source.row_versions:
        # Shows also what changed without moving the cursor.
        row.append(sql.SQL("t.xmin::text"))
    return sql.SQL(
        "(SELECT {partition}, count(*), "
        "coalesce(sum(hashtextextended(concat_ws('|', {row}), 0)), 0)::text "
        "FROM {relation} WHERE ({predicate}) AND ({after}))"
    ).format(
        partition=sql.Literal(partition),
        row=sql.SQL(", ").join(row),
        relation=relation(source),
        predicate=predicate(source, partition),
        after=order.after(watermark),
    )
