"""How tables and indices are called in Dagster."""

import re
from collections.abc import Mapping, Sequence

import dagster as dg

from pg_es_pipeline.errors import TablesError
from pg_es_pipeline.tables import Table

POOL = "elasticsearch"
"""The pool of the steps that write to Elasticsearch."""

CHANGES_POOL = "elasticsearch_changes"
"""The pool of `sync_all`, for which long loads must not stand in the way."""

SENSOR = "sync_changes"
"""The sensor that requests runs."""

TABLES_TAG = "pg_es_pipeline/tables"
"""On a run: the indices that it loads, with commas between them, or ALL_TABLES."""

ALL_TABLES = "*"

REINDEX_TAG = "pg_es_pipeline/reindex"
"""On a run: the index that it loads a new generation of."""

FAILED_TAG = "pg_es_pipeline/failed"
"""On a run of several tables: the indices of those that have failed."""

BOOTSTRAP_TAG = "pg_es_pipeline/bootstrap"
"""On a run that loads tables for the first time: `true`."""

# Dagster's own.
PRIORITY_TAG = "dagster/priority"
SENSOR_TAG = "dagster/sensor_name"
PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def table_key(table: Table) -> dg.AssetKey:
    """The asset that stands for the source table."""
    return dg.AssetKey(table.upstream or [table.schema_name, table.name])


def index_key(table: Table) -> dg.AssetKey:
    """The index's asset."""
    return dg.AssetKey(table.asset_key or [table.index])


def identifier(table: Table) -> str:
    """The index's name where Dagster allows letters, digits and underscores alone."""
    return re.sub(r"\W", "_", table.index, flags=re.ASCII)


def tables_of(tags: Mapping[str, str]) -> list[str]:
    """The indices that a run with these tags loads, or ALL_TABLES."""
    return [one for one in tags.get(TABLES_TAG, "").split(",") if one]


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
