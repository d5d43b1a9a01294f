"""Which partitions have changes: one query for a table.

A partition is in step when the rows at or beyond its watermark are the very ones that its last run
loaded. Their number and a digest of their keys, cursors and row versions tell: a row that commits
late, below rows that were loaded already, shows as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


def stale_partitions(
    connection: Connection,
    source: Source,
    partitions: Sequence[str],
    checkpoints: Mapping[str, Checkpoint],
    fingerprint: str,
) -> list[Stale]:
    """The partitions that are not in step, in their order."""
    watermarks = {
        partition: checkpoint.watermark
        for partition in partitions
        if (checkpoint := checkpoints.get(partition)) is not None
        and checkpoint.watermark is not None
        and checkpoint.full_pass is None
        and checkpoint.fingerprint == fingerprint
    }
    present = windows(connection, source, watermarks)
    result = []
    for partition in partitions:
        if partition not in present:
            result.append(Stale(partition, None))
        elif present[partition] != checkpoints[partition].window:
            result.append(Stale(partition, present[partition].rows))
    return result


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
    row = [key_text(source), sql.SQL("{}::text").format(field(source.cursor))]
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
        after=changes_order(source).after(watermark),
    )
