"""Reads rows from PostgreSQL in order, as ready-made parts of bulk requests."""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import psycopg
from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import FIELD, Column, Source
from pg_es_pipeline.sync.documents import Document, field, identifier, relation
from pg_es_pipeline.sync.postgres import WORK_MEM, Connection, first_line, plan

BLOCK_BYTES = 160 * 1024
"""About how large a block is at most that has more than one row. What PostgreSQL has compressed is
up to 90 times as large, and no larger than a request even then."""

_SORTED_BYTES = WORK_MEM * 3 // 4
"""Of rows as they are in the table: what a sort keeps for itself comes on top."""

# COPY's binary format: a header, which comes with the first row; each row begins with the number of
# its values, and each value with its length.
_HEADER = 19
_END = b"\xff\xff"
_INT32 = struct.Struct("!i")
_COUNTS = struct.Struct("!h iq iq iq i?")

# Types whose comparison is PostgreSQL's own whatever the search path. Others are compared as text.
ORDERED = {
    *("int2", "int4", "int8", "numeric", "date", "timestamp", "timestamptz"),
    *("text", "varchar", "bpchar", "uuid"),
}

# Types whose values are never long.
_SHORT = {
    *("int2", "int4", "int8", "float4", "float8", "bool", "oid", "money", "uuid"),
    *("date", "time", "timetz", "timestamp", "timestamptz", "interval", "macaddr", "inet", "cidr"),
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

NO_ROOM = (psycopg.errors.ConfigurationLimitExceeded, psycopg.errors.DiskFull)
"""PostgreSQL's errors where a chunk in blocks needs a larger temporary file than there may be."""


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

    def position(self) -> list[sql.Composable]:
        """A row's place in it, as texts."""
        return [sql.SQL("{}::text").format(field(column)) for column in self.columns]

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
    """One bulk request: rows in the order of the reading."""

    body: bytes
    """As PostgreSQL built it; `ndjson.rows` takes it apart."""
    rows: int
    """Rows in the body."""
    position: list[str]
    """The order columns of the last row."""
    settled: bool
    """Whether every row's cursor lies below the horizon."""
    deletes: int = 0
    """Rows that are deletes."""
    lost: int = 0
    """Values that Elasticsearch cannot hold, written as null."""
    unwritable: list[Refusal] = dataclass_field(default_factory=list)
    """Rows that PostgreSQL could not write, or the table's transform failed at."""
    dropped: int = 0
    """Rows that the table's transform leaves out, which are deletes among the lines."""


def by_block(
    document: Document,
    *,
    version: int,
    order: Order,
    where: Sequence[sql.Composable],
    settled: sql.Composable,
    limit: int,
    rows: int,
) -> sql.Composed:
    """The COPY of one chunk in blocks of so many rows, fewer where rows are large.

    PostgreSQL reads all of the chunk before it writes the first block: an error that a row causes
    may come before that.
    """
    # A row takes at least its share of a block's bytes, so that there are no more of them. The sum
    # is the place in the order too, so that the sort moves nothing; without it PostgreSQL would not
    # know that. It carries rows as they are in the table: documents are built behind it.
    needed, share = _needed(document, order), BLOCK_BYTES // rows
    place = sql.SQL("sum(greatest({}, {})) OVER w").format(_size(needed), sql.Literal(share))
    return sql.SQL(
        "COPY (SELECT {counts}, "
        "CASE WHEN bool_and(num_nulls({key}) = 0) THEN string_agg({line}, '') END "
        "FROM (SELECT t.*, ({place} - 1) / {bytes} AS {block}"
        " FROM (SELECT {columns} FROM {chunk}) t WINDOW w AS (ROWS UNBOUNDED PRECEDING)"
        " ORDER BY {block}, {place}) t "
        "GROUP BY t.{block} ORDER BY t.{block}) TO STDOUT (FORMAT binary)"
    ).format(
        counts=_counts(document, order, settled, block=True),
        key=sql.SQL(", ").join(map(field, document.source.key)),
        line=document.line(version),
        place=place,
        bytes=sql.Literal(share * rows),
        block=sql.Identifier(FIELD),  # no column has this name
        columns=sql.SQL(", ").join(map(field, needed)),
        chunk=_chunk(document, order, where, limit),
    )


def by_row(
    document: Document,
    *,
    version: int,
    order: Order,
    where: Sequence[sql.Composable],
    settled: sql.Composable,
    limit: int,
) -> sql.Composed:
    """The COPY of one chunk in blocks of one row, each written as soon as it is read."""
    return sql.SQL("COPY (SELECT {counts}, {line} FROM {chunk}) TO STDOUT (FORMAT binary)").format(
        counts=_counts(document, order, settled, block=False),
        line=document.line(version),
        chunk=_chunk(document, order, where, limit),
    )


def rows_in_blocks(
    connection: Connection,
    document: Document,
    *,
    order: Order,
    where: Sequence[sql.Composable],
    limit: int,
) -> int:
    """How many of a chunk's rows are to be read in blocks at once, up to `limit`; 0: none.

    They are put in order once more, which is cheap as long as they fit into memory. Less at once
    costs nothing where an index leads to a chunk's first row; where not, each chunk is a search.
    """
    chosen = sql.SQL("SELECT {} FROM {}").format(
        sql.SQL(", ").join(map(field, _needed(document, order))),
        _chunk(document, order, where, limit),
    )
    planned = plan(connection, chosen)
    rows = int(_SORTED_BYTES // (planned["Plan Width"] + 24))
    if min(limit, planned["Plan Rows"]) <= rows:
        return limit
    return rows if _is_by_index(planned) else 0


def _is_by_index(node: dict[str, Any]) -> bool:
    kind = node["Node Type"] in (
        *("Limit", "Append", "Merge Append"),
        *("Index Scan", "Index Only Scan"),
    )
    return kind and "Filter" not in node and all(map(_is_by_index, node.get("Plans", ())))


def _needed(document: Document, order: Order) -> list[Column]:
    """The columns that a chunk's documents, positions and counts are made of."""
    source = document.source
    others = (one for one in (source.cursor, source.soft_delete) if one)
    columns = (*source.columns, *source.key, *order.columns, *others)
    return list({column.name: column for column in columns}.values())


def _chunk(
    document: Document, order: Order, where: Sequence[sql.Composable], limit: int
) -> sql.Composed:
    return sql.SQL("{} WHERE {} ORDER BY {} LIMIT {}").format(
        relation(document.source),
        sql.SQL(" AND ").join(sql.SQL("({})").format(part) for part in where),
        sql.SQL(", ").join(order.expressions()),
        sql.Literal(limit),
    )


def _counts(
    document: Document, order: Order, settled: sql.Composable, *, block: bool
) -> sql.Composed:
    """What `_Block` has, before its body: of the rows of a group, or of one row."""
    how_many, total, every, last = (
        ("count(*) FILTER (WHERE {})", "sum({})", "bool_and({})", "(array_agg({}))[count(*)::int]")
        if block
        else ("({})::int", "{}", "{}", "{}")
    )
    deleted, lost = document.is_deleted, document.lost()
    none = sql.SQL("0::int8")
    return sql.SQL(", ").join(
        [
            sql.SQL("count(*)" if block else "1::int8"),
            sql.SQL(f"({how_many})::int8").format(deleted) if deleted else none,
            sql.SQL(f"coalesce({total}, 0)::int8").format(lost) if lost else none,
            sql.SQL(every).format(sql.SQL("({}) IS TRUE").format(settled)),
            *(sql.SQL(last).format(value) for value in order.position()),
        ]
    )


def _size(columns: Sequence[Column]) -> sql.Composed:
    """The expression of about how many bytes a row's document has, told without reading values that
    are kept outside of the row: these, and what is no plain text, may be compressed."""
    constant = 100 + sum(len(column.name.encode()) + 25 for column in columns)
    parts: list[sql.Composable] = [sql.Literal(constant)]
    for column in columns:
        if column.array or column.type not in _SHORT:
            plain = not column.array and column.type in ("text", "varchar", "bytea")
            length = "octet_length({})" if plain else "pg_column_size({}) * 4"
            parts.append(sql.SQL(f"coalesce({length}, 0)").format(field(column)))
    return sql.SQL(" + ").join(parts)


def next_row(
    document: Document,
    *,
    order: Order,
    where: Sequence[sql.Composable],
    settled: sql.Composable,
) -> sql.Composed:
    """The first row without its document: `_id`, the order columns as text, and `settled`."""
    return sql.SQL("SELECT {identifier}, {position}, {settled} FROM {chunk}").format(
        identifier=identifier(document.source),
        position=sql.SQL(", ").join(order.position()),
        settled=settled,
        chunk=_chunk(document, order, where, 1),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """One row of a COPY: a part of a batch."""

    rows: int
    deletes: int
    lost: int
    settled: bool
    position: list[memoryview | None]
    body: memoryview


def batches(
    connection: Connection,
    statement: sql.Composed,
    table: str,
    documents: Callable[[], int],
    max_bytes: int,
) -> Iterator[Batch]:
    """Runs a chunk's COPY and puts its blocks together to batches of at most `documents()` rows and
    `max_bytes`; a block that has more by itself is a batch.

    Raises SourceError for a row whose key is NULL. What was read before an error of PostgreSQL is
    yielded first.
    """
    blocks: list[_Block] = []
    rows, size, limit = 0, 0, documents()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        try:
            for block in _blocks(copy, table):
                if blocks and (rows + block.rows > limit or size + len(block.body) > max_bytes):
                    yield _batch(blocks)
                    blocks, rows, size, limit = [], 0, 0, documents()
                blocks.append(block)
                rows += block.rows
                size += len(block.body)
                if rows >= limit or size >= max_bytes:
                    yield _batch(blocks)
                    blocks, rows, size, limit = [], 0, 0, documents()
        except UNWRITABLE:
            if blocks:
                yield _batch(blocks)
            raise
    if blocks:
        yield _batch(blocks)


def _blocks(copy: psycopg.Copy, table: str) -> Iterator[_Block]:
    start = _HEADER
    for data in copy:
        row = memoryview(data)[start:]
        start = 0
        if row[:2] == _END:
            continue
        _, _, rows, _, deletes, _, lost, _, settled = _COUNTS.unpack_from(row)
        *position, body = _values(row[_COUNTS.size :])
        if body is None:
            raise SourceError(
                f"{table}: a row's key is NULL, so that it cannot be told from others. "
                "Name columns that are never NULL under `key`, or correct the row."
            )
        yield _Block(rows, deletes, lost, settled, position, body)


def _values(row: memoryview) -> Iterator[memoryview | None]:
    at = 0
    while at < len(row):
        (length,) = _INT32.unpack_from(row, at)
        at += 4
        yield row[at : at + length] if length >= 0 else None
        at += max(length, 0)


def _batch(blocks: list[_Block]) -> Batch:
    last = blocks[-1]
    return Batch(
        body=b"".join(block.body for block in blocks),
        rows=sum(block.rows for block in blocks),
        position=["" if value is None else bytes(value).decode() for value in last.position],
        settled=last.settled,
        deletes=sum(block.deletes for block in blocks),
        lost=sum(block.lost for block in blocks),
    )
