"""Reads rows from PostgreSQL in order, as ready-made lines of bulk requests."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import psycopg
from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import Column, Source
from pg_es_pipeline.sync.documents import Document, field, identifier, relation
from pg_es_pipeline.sync.postgres import Connection, first_line

_INT32 = struct.Struct("!i")
_HEADER = 19  # bytes of COPY's binary header, which comes with the first row
_END = b"\xff\xff"
_NULL = _INT32.pack(-1)

# Types whose comparison is PostgreSQL's own whatever the search path. Others are compared as text.
ORDERED = {
    *("int2", "int4", "int8", "numeric", "date", "timestamp", "timestamptz"),
    *("text", "varchar", "bpchar", "uuid"),
}


UNWRITABLE = (
    psycopg.DataError,
    psycopg.InternalError,
    psycopg.errors.OutOfMemory,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.RaiseException,
)
"""PostgreSQL's errors that one row may cause: a value that a view's expression fails at, a document
of more than 1 GB, a damaged page."""


def unwritable(error: psycopg.Error) -> str:
    """The reason why a row is refused that PostgreSQL failed at."""
    return f"PostgreSQL cannot write the row: {first_line(error)}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was refused for good."""

    id: str
    """Of its document."""
    reason: str
    version: int
    """Of the reading."""


@dataclass(frozen=True, slots=True)
class Order:
    """The columns that a reading goes along: unique together, so that it can stop and go on."""

    columns: tuple[Column, ...]

    def expressions(self) -> list[sql.Composable]:
        return [_comparable(column) for column in self.columns]

    def after(self, position: Sequence[str]) -> sql.Composed:
        """The rows behind a position; one with fewer values than columns is itself included."""
        return self._compared(">" if len(position) == len(self.columns) else ">=", position)

    def at(self, position: Sequence[str]) -> sql.Composed:
        """The row at a position."""
        return self._compared("=", position)

    def _compared(self, operator: str, position: Sequence[str]) -> sql.Composed:
        columns = self.columns[: len(position)]
        values = [
            sql.SQL("{}::{}").format(
                sql.Literal(text),
                sql.SQL(column.declared if column.type in ORDERED else "text"),
            )
            for column, text in zip(columns, position, strict=True)
        ]
        return sql.SQL("({}) {} ({})").format(
            sql.SQL(", ").join(map(_comparable, columns)),
            sql.SQL(operator),
            sql.SQL(", ").join(values),
        )


def full_order(source: Source) -> Order:
    """For reading a whole partition: along its column, where an index on that can be used."""
    leading = source.partition_column
    return Order((leading, *_without(source.key, leading)) if leading else source.key)


def changes_order(source: Source) -> Order:
    """For reading what changed: along the cursor, ties split by key."""
    assert source.cursor is not None
    # One value is a limit, more are a row's position: where the cursor is the key, it comes twice.
    rest = _without(source.key, source.cursor) or (source.cursor,)
    return Order((source.cursor, *rest))


def _without(columns: tuple[Column, ...], column: Column | None) -> tuple[Column, ...]:
    return tuple(other for other in columns if other != column)


def _comparable(column: Column) -> sql.Composable:
    if column.type in ORDERED:
        return field(column)
    return sql.SQL("{}::text").format(field(column))


@dataclass(slots=True)
class Batch:
    """The lines of one bulk request, in the order of the reading."""

    lines: list[bytes]
    size: int
    """Bytes."""
    position: list[str]
    """The order columns of the last row."""
    settled: bool
    """Whether the last row's cursor lies below the horizon."""
    lost: int = 0
    """Values that Elasticsearch cannot hold, written as null."""
    unwritable: list[Refusal] = dataclass_field(default_factory=list)
    """Rows that PostgreSQL could not write."""


def query(
    document: Document,
    *,
    version: int,
    order: Order,
    where: Sequence[sql.Composable],
    settled: sql.Composable,
    limit: int,
) -> sql.Composed:
    """The COPY of one chunk: line, the order columns as text, whether the row is settled, and how
    many of its values are lost (NULL: none)."""
    expressions = order.expressions()
    position = [sql.SQL("{}::text").format(field(column)) for column in order.columns]
    return sql.SQL(
        "COPY (SELECT {line}, {position}, {settled}, {lost} FROM {relation} WHERE {where} "
        "ORDER BY {order} LIMIT {limit}) TO STDOUT (FORMAT binary)"
    ).format(
        line=document.line(version),
        position=sql.SQL(", ").join(position),
        settled=settled,
        lost=document.lost() or sql.NULL,
        relation=relation(document.source),
        where=sql.SQL(" AND ").join(sql.SQL("({})").format(part) for part in where),
        order=sql.SQL(", ").join(expressions),
        limit=sql.Literal(limit),
    )


def next_row(
    document: Document,
    *,
    order: Order,
    where: Sequence[sql.Composable],
    settled: sql.Composable,
) -> sql.Composed:
    """The first row without its document: `_id`, the order columns as text, and `settled`."""
    position = [sql.SQL("{}::text").format(field(column)) for column in order.columns]
    return sql.SQL(
        "SELECT {identifier}, {position}, {settled} FROM {relation} WHERE {where} "
        "ORDER BY {order} LIMIT 1"
    ).format(
        identifier=identifier(document.source),
        position=sql.SQL(", ").join(position),
        settled=settled,
        relation=relation(document.source),
        where=sql.SQL(" AND ").join(sql.SQL("({})").format(part) for part in where),
        order=sql.SQL(", ").join(order.expressions()),
    )


def batches(
    connection: Connection,
    statement: sql.Composed,
    table: str,
    documents: Callable[[], int],
    max_bytes: int,
) -> Iterator[Batch]:
    """Runs a chunk's COPY and cuts it into batches of at most `documents()` rows and `max_bytes`.

    Raises SourceError for a row whose key is NULL. What was read before an error of PostgreSQL is
    yielded first.
    """
    lines: list[bytes] = []
    size, limit, last, lost = 0, documents(), b"", 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        skip = _HEADER
        try:
            for data in copy:
                row = bytes(data)[skip:]
                skip = 0
                if row[:2] == _END:
                    continue
                (length,) = _INT32.unpack_from(row, 2)
                if length < 0:
                    raise SourceError(
                        f"{table}: a row's key is NULL, so that it cannot be told from others. "
                        "Name columns that are never NULL under `key`, or correct the row."
                    )
                lines.append(row[6 : 6 + length])
                size += length
                last = row
                if not row.endswith(_NULL):
                    lost += int.from_bytes(row[-4:])
                if len(lines) >= limit or size >= max_bytes:
                    yield _batch(lines, size, last, lost)
                    lines, size, limit, lost = [], 0, documents(), 0
        except UNWRITABLE:
            if lines:
                yield _batch(lines, size, last, lost)
            raise
    if lines:
        yield _batch(lines, size, last, lost)


def _batch(lines: list[bytes], size: int, row: bytes, lost: int) -> Batch:
    values, at = [], 2
    for _ in range(int.from_bytes(row[:2])):
        (length,) = _INT32.unpack_from(row, at)
        at += 4
        values.append(row[at : at + length] if length >= 0 else b"")
        at += max(length, 0)
    _line, *position, settled, _lost = values
    return Batch(lines, size, [text.decode() for text in position], settled == b"\x01", lost)
