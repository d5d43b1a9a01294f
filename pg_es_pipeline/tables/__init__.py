"""`tables.yaml`: which tables go to which indices, and how.

The file says *what*; the environment says *where* and *how hard*.
"""

from pg_es_pipeline.tables.models import (
    Checks,
    Cursor,
    HashPartitions,
    ListPartitions,
    NativePartitions,
    Partitions,
    RangePartitions,
    Snapshot,
    Table,
    Tables,
    TimePartitions,
    index_name_problem,
    share,
)
from pg_es_pipeline.tables.reading import gathered, read_tables

__all__ = [
    "Checks",
    "Cursor",
    "HashPartitions",
    "ListPartitions",
    "NativePartitions",
    "Partitions",
    "RangePartitions",
    "Snapshot",
    "Table",
    "Tables",
    "TimePartitions",
    "gathered",
    "index_name_problem",
    "read_tables",
    "share",
]
