"""A row as its part of a bulk request, built in PostgreSQL.

Python never takes a document apart: what PostgreSQL writes is sent as it comes. All SQL here speaks
of the table by its alias `t`.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pg_es_pipeline.sync.catalog import Column, Source
from pg_es_pipeline.sync.types import conversion

META = "pg_es_pipeline"
"""The name of our part in an index's `_meta`."""

MAX_ID_BYTES = 512
"""Elasticsearch's limit for an `_id`; a longer key goes by its SHA-256."""


@dataclass(frozen=True, slots=True)
class Document:
    """How the rows of one table become the documents of one index."""

    source: Source

    def mappings(self) -> dict[str, Any]:
        """The index's mapping: every selected column explicitly, nothing dynamic."""
        table = self.source.table
        return {
            "dynamic": False,
            "_meta": {
                META: {
                    "format": 1,
                    "table": table.table,
                    "key": [column.name for column in self.source.key],
                }
            },
            "properties": {
                column.name: mapping(self.source, column) for column in self.source.columns
            },
        }

    def line(self, version: int) -> sql.Composed:
        """The expression of a row's action and document, each ended by a newline."""
        head = sql.SQL("'\":{{\"_id\":' || to_json({})::text || {} || E'\\n'").format(
            identifier(self.source),
            sql.Literal(f',"version":{version},"version_type":"external_gte"}}}}'),
        )
        index = sql.SQL("'{{\"index' || {} || {} || E'\\n'").format(head, self._json())
        if self.source.soft_delete is None:
            return sql.Composed([index])
        return sql.SQL("CASE WHEN {} THEN '{{\"delete' || {} ELSE {} END").format(
            _is_deleted(self.source.soft_delete), head, index
        )

    def _json(self) -> sql.Composed:
        values = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(
                conversion(column).write(field(column)), sql.Identifier(column.name)
            )
            for column in self.source.columns
        )
        return sql.SQL("(SELECT row_to_json(d.*)::text FROM (SELECT {}) d)").format(values)

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same row would become another document."""
        parts = [self.line(0).as_string(), json.dumps(self.mappings(), sort_keys=True)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def mapping(source: Source, column: Column) -> dict[str, Any]:
    """A field's mapping: the one given in the tables file, else the one of the column's type."""
    return source.table.fields.get(column.name) or conversion(column).mapping


def field(column: Column) -> sql.Identifier:
    """A column of the row."""
    return sql.Identifier("t", column.name)


def relation(source: Source) -> sql.Composed:
    """The table under its alias, for a FROM clause."""
    return sql.SQL("{} AS t").format(sql.Identifier(source.table.schema_name, source.table.name))


def identifier(source: Source) -> sql.Composable:
    """The expression of a row's `_id`: its key as text, of several columns a JSON array.

    No two keys share one: the array keeps the borders between the columns. A key that cannot be an
    `_id`, being longer than 512 bytes or empty, goes by its SHA-256.
    """
    key = key_text(source)
    if len(source.key) == 1 and source.key[0].type in _NEVER_LONG:
        return key
    return sql.SQL(
        "CASE WHEN octet_length({0}) BETWEEN 1 AND {1} THEN {0} "
        "ELSE 'sha256:' || encode(sha256(convert_to({0}, 'UTF8')), 'hex') END"
    ).format(key, sql.Literal(MAX_ID_BYTES))


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


_NEVER_LONG = {"int2", "int4", "int8", "uuid", "date", "timestamp", "timestamptz"}


def _is_deleted(column: Column) -> sql.Composed:
    test = "{} IS TRUE" if column.type == "bool" and not column.array else "{} IS NOT NULL"
    return sql.SQL(test).format(field(column))
