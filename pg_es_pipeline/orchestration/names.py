"""How tables and indices are called in Dagster."""

import re
from collections.abc import Sequence

import dagster as dg

from pg_es_pipeline.errors import TablesError
from pg_es_pipeline.tables import Table

POOL = "elasticsearch"
"""The pool of the steps that write to Elasticsearch."""

TABLES_TAG = "pg_es_pipeline/tables"
"""On a run that no asset selection describes: the indices that it loads."""


def table_key(table: Table) -> dg.AssetKey:
    """The asset that stands for the source table."""
    return dg.AssetKey(table.upstream or [table.schema_name, table.name])


def index_key(table: Table) -> dg.AssetKey:
    """The index's asset."""
    return dg.AssetKey(table.asset_key or [table.index])


def identifier(table: Table) -> str:
    """The index's name where Dagster allows letters, digits and underscores alone."""
    return re.sub(r"\W", "_", table.index, flags=re.ASCII)


def reindex_job_name(table: Table) -> str:
    return f"reindex_{identifier(table)}"


def require_distinct(tables: Sequence[Table]) -> Sequence[Table]:
    """Raises TablesError when two indices would have jobs of the same name."""
    seen: dict[str, str] = {}
    for table in tables:
        other = seen.setdefault(identifier(table), table.index)
        if other != table.index:
            raise TablesError(
                f"the indices {other!r} and {table.index!r} differ only in characters that Dagster "
                "does not allow in a job's name. Rename one of them."
            )
    return tables
