"""Indices for the loads, and whether what a load has left there is right."""

import json
import time
from collections.abc import Sequence

from psycopg import sql

from benchmarks.servers import Servers
from benchmarks.tables import table
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Indices

SAMPLE = 100
"""How many documents are compared value by value."""


class WrongAnswer(Exception):
    """A search has found something else than PostgreSQL has."""


def delete(servers: Servers, name: str) -> None:
    """All generations."""
    with servers.client() as client:
        found = client.indices.get(index=f"{name}-0*", features="settings", expand_wildcards="all")
        if found:
            client.indices.delete(index=list(found))


def empty(servers: Servers, name: str) -> None:
    """Makes the index of a table anew, with the pipeline's own settings and mapping."""
    delete(servers, name)
    with servers.engine() as engine:
        Indices(engine.client).ensure(Document(engine.source(table(name))))


def refresh(servers: Servers, name: str) -> None:
    """For loads that do not make searchable what they have written."""
    with servers.client() as client:
        client.indices.refresh(index=name)


def require_right(servers: Servers, name: str, rows: int, ids: Sequence[int]) -> float:
    """Searches: are the first rows of the table in the index, and nothing else? In milliseconds.

    Raises WrongAnswer unless their number is right, and the document of each of these
    ids is equal to its row, value by value.
    """
    with servers.client() as client:
        began = time.monotonic()
        found = client.search(
            index=name,
            query={"terms": {"id": list(ids)}},
            size=len(ids),
            aggregations={"all": {"global": {}}},
        )
        milliseconds = (time.monotonic() - began) * 1000
    count = found["aggregations"]["all"]["doc_count"]
    if count != rows:
        raise WrongAnswer(f"{name}: {count:,} documents are found, and there are {rows:,} rows.")
    documents = {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}
    with servers.connect() as connection:
        expected = {
            str(key): json.loads(text)
            for key, text in connection.execute(
                sql.SQL(
                    "SELECT id, row_to_json(t)::text FROM {} t WHERE id = ANY (%s::bigint[])"
                ).format(sql.Identifier("public", name)),
                [list(ids)],
            )
        }
    for key, row in expected.items():
        if documents.get(key) != row:
            raise WrongAnswer(
                f"{name}: the document {key} is not its row.\n"
                f"    document: {documents.get(key)}\n    row: {row}"
            )
    if len(documents) != len(expected):
        raise WrongAnswer(f"{name}: a search for {len(expected)} found {len(documents)}.")
    return milliseconds
