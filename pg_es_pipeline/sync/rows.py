"""Rows by their keys: what a repair, or another try of refused rows, writes."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.documents import Document, field, identifier, relation
from pg_es_pipeline.sync.extract import ORDERED, UNWRITABLE, Batch, Refusal, unwritable
from pg_es_pipeline.sync.partitions import any_of
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.snapshot import snapshot
from pg_es_pipeline.sync.transforming import contents, transformed


def lines(
    connection: Connection, document: Document, ids: Sequence[str], version: int
) -> Iterator[bytes]:
    """The lines of bulk requests that bring the documents of these `_id`s in step with the rows.

    One for each: of a row that is there, its document; of one that is not, is softly deleted, or
    lies outside every partition, a delete. Take all of them inside `with snapshot(…) as version`.
    Some thousand ids at once are right. Raises psycopg.Error, also for a row that PostgreSQL cannot
    write.
    """
    missing = dict.fromkeys(ids)
    for found, line in _select(connection, document, ids, document.line(version)):
        del missing[found]
        yield line.encode()
    for absent in missing:
        yield _delete(absent, version)


def documents(
    connection: Connection, document: Document, ids: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What the documents of these `_id`s ought to be; those without a row, or whose row the table's
    transform leaves out, are left out."""
    line = sql.SQL("CASE WHEN {} THEN NULL ELSE {} END").format(
        document.is_deleted or sql.SQL("false"), document.json()
    )
    found = dict(_select(connection, document, ids, line))
    return contents(document, {id: text for id, text in found.items() if text is not None})


def _select(
    connection: Connection, document: Document, ids: Sequence[str], expression: sql.Composable
) -> Iterator[tuple[str, Any]]:
    """An expression over each of the rows, by `_id`."""
    wanted = set(ids)
    inside = any_of(document.source)
    for condition in _conditions(connection, document.source, list(wanted)):
        statement = sql.SQL("SELECT {}, {} FROM {} WHERE ({}) AND ({})").format(
            identifier(document.source),
            expression,
            relation(document.source),
            condition,
            inside,
        )
        with connection.cursor() as cursor:
            for found, value in cursor.stream(statement):
                # Equal keys may be written in two ways (1.0 and 1.00): only one is this `_id`.
                if found in wanted:
                    wanted.remove(found)
                    yield found, value


def _delete(absent: str, version: int) -> bytes:
    action = {"_id": absent, "version": version, "version_type": "external_gte"}
    return json.dumps({"delete": action}, separators=(",", ":")).encode() + b"\n"


def _conditions(
    connection: Connection, source: Source, ids: Sequence[str]
) -> Iterator[sql.Composable]:
    """Together they find the rows of these `_id`s, by the key's index where that can be."""
    if any(column.array or column.type not in ORDERED for column in source.key):
        yield _by_identifier(source, ids)
        return
    hashed = [one for one in ids if one.startswith("sha256:")]
    # What is no key at all is nobody's `_id`: there is no row to look for.
    keys = [key for one in ids if (key := _key(source, one)) is not None]
    if keys:
        values = [
            sql.SQL("{}::{}[]").format(sql.Literal(list(column)), sql.Identifier(of.type))
            for of, column in zip(source.key, zip(*keys, strict=True), strict=True)
        ]
        if not _are_valid(connection, values):
            yield _by_identifier(source, ids)
            return
        yield _by_key(source, values)
    if hashed:
        yield _by_identifier(source, hashed)


def _by_key(source: Source, values: Sequence[sql.Composable]) -> sql.Composed:
    fields = [field(column) for column in source.key]
    if len(fields) == 1:
        return sql.SQL("{} = ANY ({})").format(fields[0], values[0])
    return sql.SQL("({}) IN (SELECT * FROM unnest({}))").format(
        sql.SQL(", ").join(fields), sql.SQL(", ").join(values)
    )


def _by_identifier(source: Source, ids: Sequence[str]) -> sql.Composed:
    """Reads the whole table. As bytes: not every `_id` can be a text in the database's encoding."""
    return sql.SQL("convert_to({}, 'UTF8') = ANY ({}::bytea[])").format(
        identifier(source), sql.Literal([one.encode() for one in ids])
    )


def _key(source: Source, one: str) -> tuple[str, ...] | None:
    """The key's values as text, if the `_id` is one of these."""
    if "\0" in one:
        return None
    if len(source.key) == 1:
        return (one,)
    try:
        values = json.loads(one, parse_int=str, parse_float=str)
    except ValueError:
        return None
    if not isinstance(values, list) or len(values) != len(source.key):
        return None
    return tuple(values) if all(map(_is_text, values)) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _are_valid(connection: Connection, values: Sequence[sql.Composable]) -> bool:
    """Whether all are values of the key's types; a document that is not ours has any `_id`."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(values)))
    except psycopg.DataError:
        return False
    return True


def batch(
    connection: Connection, document: Document, ids: Sequence[str], floor: int
) -> tuple[Batch, int]:
    """The lines as a batch, read in a snapshot whose version is above the floor; and that version.

    A row that PostgreSQL cannot write, or the table's transform fails at, is named in the batch.
    """
    version = floor
    try:
        with snapshot(connection, floor) as version:
            found = list(lines(connection, document, ids, version))
    except UNWRITABLE as error:
        if len(ids) == 1:
            refusal = Refusal(ids[0], unwritable(error), version)
            return Batch(b"", 0, position=[], settled=True, unwritable=[refusal]), version
        middle = len(ids) // 2
        first, version = batch(connection, document, ids[:middle], version)
        second, version = batch(connection, document, ids[middle:], version)
        both = Batch(
            first.body + second.body,
            first.rows + second.rows,
            position=[],
            settled=True,
            deletes=first.deletes + second.deletes,
            unwritable=first.unwritable + second.unwritable,
            dropped=first.dropped + second.dropped,
        )
        return both, version
    deletes = sum(line.startswith(b'{"delete"') for line in found)
    whole = Batch(b"".join(found), len(found), [], settled=True, deletes=deletes)
    return transformed(document, whole), version
