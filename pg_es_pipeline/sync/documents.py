"""A row as its part of a bulk request, built in PostgreSQL.

Python never takes a document apart, unless the table has a transform: what PostgreSQL writes is
sent as it comes. All SQL here speaks of the table by its alias `t`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pg_es_pipeline.sync.catalog import FIELD, Column, Source
from pg_es_pipeline.sync.conversions import Conversion
from pg_es_pipeline.sync.transform import Transform, transform_of
from pg_es_pipeline.sync.types import conversion

META = "pg_es_pipeline"
"""The name of our part in an index's `_meta`."""

BUCKET, HASH, KEY = f"{FIELD}.bucket", f"{FIELD}.hash", f"{FIELD}.key"
"""Fields: a hash of the key, one of the content, and the `_id`."""

BUCKETS = 1 << 31
"""How many values the hash of a key has. A hash of the content has twice as many: few enough for
Elasticsearch to sum up two million of them exactly."""

MAX_ID_BYTES = 512
"""Elasticsearch's limit for an `_id`; a longer key goes by its SHA-256."""


@dataclass(frozen=True, slots=True)
class Document:
    """How the rows of one table become the documents of one index."""

    source: Source

    def mappings(self) -> dict[str, Any]:
        """The index's mapping: every selected column explicitly, nothing dynamic."""
        table = self.source.table
        fields = self.fields
        return {
            "dynamic": False,
            "_meta": {
                META: {
                    "format": 1,
                    "table": table.table,
                    "key": [column.name for column in self.source.key],
                    **({"order": self._order} if self.transform else {}),
                }
            },
            # A dot in a column's name is a part of the name: `a.b` is a field of its own.
            **({"subobjects": False} if any("." in name for name in fields) else {}),
            "properties": fields | self._own_mapping(),
        }

    @property
    def transform(self) -> Transform | None:
        """The function that PostgreSQL's documents go through; it raises SourceError."""
        return transform_of(self.source)

    @property
    def fields(self) -> dict[str, Any]:
        """The mapping of each field, without our own part."""
        if self.transform is not None:
            return dict(self.transform.fields)
        return {column.name: mapping(self.source, column) for column in self.source.columns}

    @property
    def _order(self) -> list[str]:
        """The fields that say in which order documents come: the function may have changed the
        key, so that it tells two documents apart no longer."""
        kept = [column.name for column in self.source.key if column.name in self.fields]
        return [*kept, KEY]

    def _own_mapping(self) -> dict[str, Any]:
        if not has_bucket(self.source):
            return {}
        fields: dict[str, Any] = {"bucket": {"type": "integer"}}
        if self.source.content_hash:
            fields["hash"] = {"type": "long", "index": False}
        if self.transform is not None:
            fields["key"] = {"type": "keyword"}
        return {FIELD: {"properties": fields}}

    def lost(self) -> sql.Composable | None:
        """The expression of how many of a row's values (a list is one) Elasticsearch cannot hold,
        NULL if it can hold all; None if no type of the table has such values."""
        lossy = [
            (found.usual or found.holds, found.holds, field(column))
            for column in self.source.columns
            if (found := _conversion(self.source, column)).holds
        ]
        if not lossy:
            return None
        return sql.SQL("CASE WHEN ({}) IS FALSE THEN nullif({}, 0) END").format(
            sql.SQL(" AND ").join(usual(value) for usual, _, value in lossy),
            sql.SQL(" + ").join(
                sql.SQL("({} IS FALSE)::int").format(holds(value)) for _, holds, value in lossy
            ),
        )

    def line(self, version: int) -> sql.Composed:
        """The expression of a row's action and document, each ended by a newline."""
        head = sql.SQL('\'":{{"_id":\' || {} || {}').format(
            _quoted_identifier(self.source),
            sql.Literal(f',"version":{version},"version_type":"external_gte"}}}}\n'),
        )
        index = sql.SQL("'{{\"index' || {} || {} || E'\\n'").format(head, self.json())
        if self.is_deleted is None:
            return sql.Composed([index])
        return sql.SQL("CASE WHEN {} THEN '{{\"delete' || {} ELSE {} END").format(
            self.is_deleted, head, index
        )

    @property
    def is_deleted(self) -> sql.Composed | None:
        """The condition of a soft delete; None where the table knows none."""
        column = self.source.soft_delete
        if column is None:
            return None
        test = "{} IS TRUE" if column.type == "bool" and not column.array else "{} IS NOT NULL"
        return sql.SQL(test).format(field(column))

    def json(self) -> sql.Composed:
        """The expression of a row's document."""
        if not has_bucket(self.source):
            return self._object()
        own = sql.SQL("'{{\"bucket\":' || {}").format(bucket(self.source))
        if self.source.content_hash:
            own = sql.SQL("{} || ',\"hash\":' || {}").format(own, _HASH)
        if self.source.table.transform is not None:
            own = sql.SQL("{} || ',\"key\":' || {}").format(own, _quoted_identifier(self.source))
        return sql.SQL("(SELECT left(j.content, -1) || {} || {} || '}}}}' FROM {} j)").format(
            sql.Literal(f',"{FIELD}":'), own, self._content()
        )

    def content_hash(self) -> sql.Composed:
        """The expression of the hash of a row's document, as the document carries it."""
        return sql.SQL("(SELECT {} FROM {} j)").format(_HASH, self._content())

    def _content(self) -> sql.Composed:
        # OFFSET 0 keeps PostgreSQL from building the document for each place that speaks of it.
        return sql.SQL("(SELECT {} AS content OFFSET 0)").format(self._object())

    def _object(self) -> sql.Composed:
        found = [(_conversion(self.source, column), column) for column in self.source.columns]
        careful = _object((column, one.write(field(column))) for one, column in found)
        tests = [one.usual(field(column)) for one, column in found if one.usual]
        if not tests:
            return careful
        # One test of a row costs less than a CASE for each value, and nearly every row passes.
        plain = _object(
            (column, field(column) if one.usual else one.write(field(column)))
            for one, column in found
        )
        return sql.SQL("CASE WHEN ({}) IS NOT FALSE THEN {} ELSE {} END").format(
            sql.SQL(" AND ").join(tests), plain, careful
        )

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same row would become another document."""
        parts = [self.line(0).as_string(), json.dumps(self.mappings(), sort_keys=True)]
        return _digest(*parts, *([self.transform.digest] if self.transform else []))

    @property
    def layout(self) -> str:
        """Changes whenever an index that is made for the documents would be another."""
        return _digest(json.dumps(self.mappings(), sort_keys=True))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _object(values: Iterable[tuple[Column, sql.Composable]]) -> sql.Composed:
    return sql.SQL("(SELECT row_to_json(d.*)::text FROM (SELECT {}) d)").format(
        sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(value, sql.Identifier(column.name))
            for column, value in values
        )
    )


_HASH = sql.SQL('(hashtextextended(j.content COLLATE "C", 0) & 4294967295)')


def mapping(source: Source, column: Column) -> dict[str, Any]:
    """A field's mapping: the one given in the tables file, else the one of the column's type."""
    return _conversion(source, column).mapping


def _conversion(source: Source, column: Column) -> Conversion:
    return conversion(column, source.table.fields.get(column.name))


def field(column: Column) -> sql.Identifier:
    """A column of the row."""
    return sql.Identifier("t", column.name)


def relation(source: Source) -> sql.Composed:
    """The table under its alias, for a FROM clause."""
    return sql.SQL("{} AS t").format(sql.Identifier(source.table.schema_name, source.table.name))


def identifier(source: Source) -> sql.Composable:
    """The expression of a row's `_id`: its key as text, of several columns a JSON array.

    No two keys share one: the array keeps the borders between the columns. A key that cannot be an
    `_id`, being longer than 512 bytes or empty, goes by its SHA-256, and so does one that looks
    like that.
    """
    key = key_text(source)
    if _is_plain(source):
        return key
    return sql.SQL(
        "CASE WHEN octet_length({0}) BETWEEN 1 AND {1} AND left({0}, 7) <> 'sha256:' THEN {0} "
        "ELSE 'sha256:' || encode(sha256(convert_to({0}, 'UTF8')), 'hex') END"
    ).format(key, sql.Literal(MAX_ID_BYTES))


def _quoted_identifier(source: Source) -> sql.Composable:
    """The expression of a row's `_id` as JSON."""
    if _is_plain(source):
        return sql.SQL("'\"' || {} || '\"'").format(identifier(source))
    return sql.SQL("to_json({})::text").format(identifier(source))


def _is_plain(source: Source) -> bool:
    """Whether the key is of a type whose texts are short, and without what JSON has to escape."""
    return len(source.key) == 1 and source.key[0].type in _PLAIN and not source.key[0].array


def key_text(source: Source) -> sql.Composable:
    """The expression of a row's whole key as one text; no two keys have the same.

    NULL where a column of the key is: such a row cannot be told from others.
    """
    texts = [sql.SQL("{}::text").format(field(column)) for column in source.key]
    if len(texts) == 1:
        return texts[0]
    return sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN json_build_array({0})::text END").format(
        sql.SQL(", ").join(texts)
    )


def has_bucket(source: Source) -> bool:
    """Whether documents carry the hash of their key: there is nothing else to put them in order by
    that both sides agree on, their content is compared, or a transform may change the key."""
    return bool(source.content_hash or source.table.transform) or not source.whole_number_key


def bucket(source: Source) -> sql.Composed:
    """The expression of the hash of a row's key, below BUCKETS."""
    return sql.SQL('(hashtextextended({} COLLATE "C", 0) & {})').format(
        key_text(source), sql.Literal(BUCKETS - 1)
    )


_PLAIN = {"int2", "int4", "int8", "uuid", "date", "timestamp", "timestamptz"}
