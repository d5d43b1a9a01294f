"""What one writes by hand: rows as dictionaries, and a helper of Elasticsearch's Python client."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from elasticsearch import Elasticsearch
from elasticsearch.helpers import parallel_bulk, streaming_bulk
from psycopg import sql
from psycopg.rows import dict_row

from benchmarks.child import measured
from benchmarks.servers import Servers

THREADS = 4


def streaming(servers: Servers, table: str, rows: int) -> dict[str, Any]:
    """`streaming_bulk`, with its usual chunks of 500 documents."""
    return _load(servers, table, rows, streaming_bulk)


def parallel(servers: Servers, table: str, rows: int) -> dict[str, Any]:
    """`parallel_bulk`, with four threads and its usual chunks."""
    return _load(servers, table, rows, partial(parallel_bulk, thread_count=THREADS))


def _load(
    servers: Servers,
    table: str,
    rows: int,
    helper: Callable[[Elasticsearch, Iterable[dict[str, Any]]], Iterable[Any]],
) -> dict[str, Any]:
    """Raises BulkIndexError for a document that is refused."""
    with servers.connect() as connection, servers.client() as client:
        # A node with a small heap may refuse whole requests while it is full of garbage.
        patient = client.options(retry_on_status=429, max_retries=100)
        with measured() as cost:
            deque(helper(patient, _actions(connection, table, rows)), maxlen=0)
    return asdict(cost)


def _actions(connection: Any, table: str, rows: int) -> Iterator[dict[str, Any]]:
    statement = sql.SQL("SELECT * FROM {} WHERE id <= {}").format(
        sql.Identifier("public", table), sql.Literal(rows)
    )
    with (
        connection.transaction(),
        connection.cursor("rows", row_factory=dict_row) as cursor,
    ):
        cursor.itersize = 2_000
        for row in cursor.execute(statement):
            yield {"_index": table, "_id": row["id"], "_source": row}
