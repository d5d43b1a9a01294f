"""Which rows and documents are held against each other."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.partitions import any_of, documents_of, predicate


@dataclass(frozen=True, slots=True)
class Scope:
    """The rows and the documents that are held against each other."""

    rows: sql.Composable
    documents: dict[str, Any]
    partition: str | None = None
    """Whose they are; None: the whole table's."""


def whole_table(document: Document) -> Scope:
    """All documents of the index, and the rows that belong to any of its partitions."""
    return Scope(_without_deleted(document, any_of(document.source)), {"match_all": {}})


def one_partition(document: Document, partition: str) -> Scope:
    """Raises SourceError where the documents do not tell which partition they belong to."""
    documents = documents_of(document.source, partition)
    if documents is None:
        raise SourceError(
            f"{document.source.table.table}: which documents belong to the partition {partition} "
            "cannot be told, because the column that says it is not a field that can be searched "
            "so, a transform may change it, or PostgreSQL alone knows. Compare the whole table, "
            "which needs no partition."
        )
    rows = predicate(document.source, partition)
    return Scope(_without_deleted(document, rows), documents, partition)


def _without_deleted(document: Document, rows: sql.Composable) -> sql.Composable:
    if document.is_deleted is None:
        return rows
    return sql.SQL("({}) AND NOT ({})").format(rows, document.is_deleted)
