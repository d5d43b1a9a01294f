"""A table that the test writes and the engine loads."""

from dataclasses import dataclass
from typing import Any

import psycopg
from elasticsearch import Elasticsearch

from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.report import Report
from pg_es_pipeline.tables import Table
from tests.connections import postgres_settings


@dataclass
class Orders:
    """public.orders in a database of its own, and the index that it goes to."""

    database: Any
    es: Elasticsearch
    table: Table
    pg: psycopg.Connection[Any]

    def engine(self, **batching: Any) -> Engine:
        database = self.database
        return Engine(
            postgres_settings(database),
            ElasticsearchSettings(
                host=database.environment["ES_HOST"],
                port=database.environment["ES_PORT"],
                compress=database.environment.get("ES_COMPRESS", False),
            ),
            BatchingSettings(**batching),
        )

    def sync(self, partition: str = "all", *, full: bool = False, **batching: Any) -> Report:
        with self.engine(**batching) as engine:
            report = engine.sync(engine.source(self.table), partition, full=full)
            engine.refresh()
        return report

    def stale(self) -> dict[str, int | None]:
        with self.engine() as engine:
            found, _moment = engine.stale(engine.source(self.table))
        return {one.partition: one.rows for one in found}

    def insert(self, ids: range, *, age: str = "1 hour", note: str = "new") -> None:
        self.pg.execute(
            "INSERT INTO orders (id, note, updated_at, placed) "
            "SELECT id, %s, now() - %s::interval, '2024-01-01'::timestamptz + id * interval '1 day'"
            "FROM generate_series(%s::bigint, %s::bigint) AS id",
            [note, age, ids.start, ids.stop - 1],
        )

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database.conninfo)

    def documents(self) -> dict[str, dict[str, Any]]:
        """Everything in the index, by `_id`."""
        self.es.indices.refresh(index=self.table.index)
        found: dict[str, dict[str, Any]] = {}
        after = None
        while True:
            page = self.es.search(
                index=self.table.index,
                size=5000,
                sort=["id"],
                search_after=after,
            )["hits"]["hits"]
            if not page:
                return found
            found.update((hit["_id"], hit["_source"]) for hit in page)
            after = page[-1]["sort"]

    def rows(self) -> dict[str, dict[str, Any]]:
        """What ought to be in the index: the rows that are not deleted, by key."""
        return {
            str(row[0]): row[1]
            for row in self.pg.execute(
                "SELECT id, row_to_json(o) FROM orders o WHERE deleted_at IS NULL"
            )
        }

    def is_in_step(self) -> bool:
        return notes(self.documents()) == notes(self.rows())


def notes(documents: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {key: document["note"] for key, document in documents.items()}
