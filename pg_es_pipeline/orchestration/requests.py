"""The runs that a tick requests, the most urgent first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from pg_es_pipeline.orchestration.jobs import SYNC_ALL, SYNC_ALL_OP, SYNC_OP, SYNC_TABLES
from pg_es_pipeline.orchestration.names import (
    BOOTSTRAP_TAG,
    PRIORITY_TAG,
    REINDEX_TAG,
    TABLES_TAG,
)
from pg_es_pipeline.orchestration.reindexing import REINDEX
from pg_es_pipeline.tables import Table

CHANGES_PRIORITY, BOOTSTRAP_PRIORITY = 10, -10
"""Of runs that wait in the queue; what people launch has 0. The few changes of many tables go
first, what has never been loaded last."""


@dataclass(frozen=True)
class Load:
    """Partitions of one table that get runs of their own."""

    table: Table
    stale: Sequence[str] | None
    """Those to load, in order; None: the run finds out."""
    first: bool = False
    """Whether the table has never been loaded."""


@dataclass
class Wanted:
    """What is to be loaded."""

    changes: dict[str, list[str]] = field(default_factory=dict)
    """Partitions by index with little to load: all of them share a run."""
    bootstraps: dict[str, list[str]] = field(default_factory=dict)
    """The same of tables that have never been loaded."""
    loads: list[Load] = field(default_factory=list)
    reindexes: list[Table] = field(default_factory=list)


def run_requests(wanted: Wanted) -> Iterator[dg.RunRequest]:
    """One for all small changes, and for much one or several for each table."""
    if wanted.changes:
        yield _shared(wanted.changes, {PRIORITY_TAG: str(CHANGES_PRIORITY)})
    for table in wanted.reindexes:
        yield dg.RunRequest(job_name=REINDEX, tags={REINDEX_TAG: table.index})
    for load in wanted.loads:
        if not load.first:
            yield from _own(load, {})
    if wanted.bootstraps:
        yield _shared(wanted.bootstraps, _bootstrap_tags())
    for load in wanted.loads:
        if load.first:
            yield from _own(load, _bootstrap_tags())


def _bootstrap_tags() -> dict[str, str]:
    return {PRIORITY_TAG: str(BOOTSTRAP_PRIORITY), BOOTSTRAP_TAG: "true"}


def _shared(partitions: Mapping[str, Sequence[str]], tags: Mapping[str, str]) -> dg.RunRequest:
    tags = {**tags, TABLES_TAG: ",".join(partitions)}
    return dg.RunRequest(job_name=SYNC_ALL, run_config=_only(SYNC_ALL_OP, partitions), tags=tags)


def _own(load: Load, tags: Mapping[str, str]) -> Iterator[dg.RunRequest]:
    index = load.table.index
    tags = {**tags, TABLES_TAG: index}
    if load.stale is None:
        yield dg.RunRequest(job_name=SYNC_TABLES, tags=tags)
        return
    most = load.table.max_partitions_per_run or max(1, len(load.stale))
    for start in range(0, len(load.stale), most):
        config = _only(SYNC_OP, {index: load.stale[start : start + most]})
        yield dg.RunRequest(job_name=SYNC_TABLES, run_config=config, tags=tags)


def _only(op: str, partitions: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    chosen = {index: list(keys) for index, keys in partitions.items()}
    return {"ops": {op: {"config": {"partitions": chosen}}}}
