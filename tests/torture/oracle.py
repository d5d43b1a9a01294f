"""What ought to be in Elasticsearch, and what is: by rules of its own (docs/types.md says them).

Nothing here uses the engine, the client that it uses, or the SQL that it writes documents with.
"""

import hashlib
import http.client
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads

from tests.torture.schema import Column, TortureTable

BOOKKEEPING = "_pg_es"
"""The pipeline's own field, which is no part of the row."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Wrong:
    """A row that the two sides do not agree on; None where a side does not have it."""

    index: str
    id: str
    expected: Document | None
    found: Document | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.index}: {self.id!r} is missing; the row: {self.expected}"
        if self.expected is None:
            return f"{self.index}: {self.id!r} is there, and no row: {self.found}"
        names = self.expected.keys() | self.found.keys()
        different = "; ".join(
            f"{name!r} is {self.found.get(name, '-')!r} instead of {self.expected.get(name, '-')!r}"
            for name in sorted(names)
            if name not in self.found
            or name not in self.expected
            or self.found[name] != self.expected[name]
        )
        return f"{self.index}: {self.id!r} differs: {different}"


class Index:
    """Reads Elasticsearch by plain HTTP, past the proxy."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Raises RuntimeError for an answer that is an error."""
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        content = json.loads(answer.read(), parse_float=Decimal)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {content}")
        return content

    def documents(self, index: str) -> dict[str, Document]:
        """Everything in the index, by `_id`."""
        self.call("POST", f"/{index}/_refresh")
        opened = self.call("POST", f"/{index}/_pit?keep_alive=1m")["id"]
        try:
            return {hit["_id"]: hit["_source"] for hit in self._hits(opened)}
        finally:
            self.call("DELETE", "/_pit", {"id": opened})

    def _hits(self, opened: str) -> Iterator[Any]:
        query: dict[str, Any] = {
            "size": 1000,
            "pit": {"id": opened, "keep_alive": "1m"},
            "sort": ["_shard_doc"],
            "track_total_hits": False,
        }
        while hits := self.call("POST", "/_search", query)["hits"]["hits"]:
            yield from hits
            query["search_after"] = hits[-1]["sort"]

    def strays(self, prefix: str, indices: set[str]) -> list[str]:
        """Physical indices below the prefix that no alias of ours points at, or without a mapping:
        a write that came too late has made them."""
        found = self.call("GET", f"/{prefix}*?expand_wildcards=all")
        ours = {f"{index}{role}" for index in indices for role in ("", ".NEXT", ".OLD")}
        return [
            f"{name} (aliases {sorted(state['aliases'])}, {state['mappings'].get('dynamic')!r})"
            for name, state in found.items()
            if not ours & state["aliases"].keys()
            or state["mappings"].get("dynamic") not in (False, "false")
        ]

    def dead_letters(self, prefix: str) -> list[Any]:
        """Rows that Elasticsearch is said to have refused; no row here deserves it."""
        query = {"query": {"prefix": {"index": prefix}}, "size": 100}
        path = "/pg-es-dead-letters*/_search?ignore_unavailable=true"
        return [hit["_source"] for hit in self.call("POST", path, query)["hits"]["hits"]]


def compare(
    connection: psycopg.Connection[Any], index: Index, table: TortureTable
) -> tuple[int, list[Wrong]]:
    """Compares both sides document by document: how many there ought to be, and what is wrong."""
    expected = dict(_expected(connection, table))
    found = {key: _read(table, document) for key, document in index.documents(table.index).items()}
    wrong = [
        Wrong(table.index, key, expected.get(key), found.get(key))
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
    return len(expected), wrong


def _expected(
    connection: psycopg.Connection[Any], table: TortureTable
) -> Iterator[tuple[str, Document]]:
    set_json_loads(lambda text: json.loads(text, parse_float=Decimal), connection)
    connection.execute("SET TIME ZONE 'UTC'; SET DateStyle = 'ISO'")
    # Python has no infinite times: they are read as text.
    columns = sql.SQL(", ").join(
        sql.SQL("{}::text" if column.type.startswith("timestamp") else "{}").format(
            sql.Identifier(column.name)
        )
        for column in table.columns
    )
    query = sql.SQL("SELECT {} FROM {}").format(columns, table.relation)
    for row in connection.execute(query):
        document = {
            column.name: _value(column, value)
            for column, value in zip(table.columns, row, strict=True)
        }
        deleted = table.soft_delete and row[table.columns.index(table.soft_delete)]
        if not deleted:
            yield identifier([row[table.columns.index(column)] for column in table.key]), document


def identifier(key: list[Any]) -> str:
    """A document's `_id`."""
    texts = [str(part) for part in key]
    text = texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)
    if 1 <= len(text.encode()) <= 512 and not text.startswith("sha256:"):
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _value(column: Column, value: Any) -> Any:
    match value:
        case Decimal():
            return value if value.is_finite() else None
        case float():
            return Decimal(repr(value)) if math.isfinite(value) else None
        case UUID() | date():
            return str(value)
    if column.type.startswith("timestamp"):
        return None if value in (None, "infinity") else _moment(value)
    if column.type == "jsonb":
        return value if value is None or isinstance(value, dict) else {"value": value}
    return value


def _read(table: TortureTable, document: Document) -> Document:
    """A document from the index, its times as times: they may be written in several ways."""
    times = {column.name for column in table.columns if column.type.startswith("timestamp")}
    return {
        name: _moment(value) if name in times and isinstance(value, str) else value
        for name, value in document.items()
        if name != BOOKKEEPING
    }


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment
