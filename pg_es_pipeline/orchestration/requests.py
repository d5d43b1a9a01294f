"""The runs that a tick requests, the most urgent first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import dagster as dg

from pg_es_pipeline.orchestration.jobs import (
    SYNC_ALL,
    SYNC_ALL_OP,
    SYNC_OP,
    load_job_name,
    sync_job_name,
)
from pg_es_pipeline.orchestration.names import (
    BOOTSTRAP_TAG,
    PRIORITY_TAG,
    RANGE_END,
    RANGE_START,
    TABLES_TAG,
    index_key,
    reindex_job_name,
)
from pg_es_pipeline.sync.partitions import grows
from pg_es_pipeline.tables import Table

CHANGES_PRIORITY, BOOTSTRAP_PRIORITY = 10, -10
"""Of runs that wait in the queue; what people launch has 0. The few changes of many tables go
first, what has never been loaded last."""


@dataclass(frozen=True)
class Load:
    """Partitions of one table that get runs of their own."""

    table: Table
    all: Sequence[str]
    """All partitions of the table, in order."""
    stale: Sequence[str] | None
    """Those to load; None: the run finds out."""
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
    """One for all small changes, and for much one for each contiguous range of a table."""
    if wanted.changes:
        yield _shared(wanted.changes, {PRIORITY_TAG: str(CHANGES_PRIORITY)})
    for table in wanted.reindexes:
        yield dg.RunRequest(job_name=reindex_job_name(table))
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
    return _sync(SYNC_ALL, partitions, {**tags, TABLES_TAG: ",".join(partitions)})


def _own(load: Load, tags: Mapping[str, str]) -> Iterator[dg.RunRequest]:
    table = load.table
    tags = {**tags, TABLES_TAG: table.index}
    if load.stale is None:
        yield dg.RunRequest(job_name=sync_job_name(table), tags=tags)
    elif grows(table.partitions):
        # Dagster has these in the order in which they came to be known, so that no range is sure.
        for keys in _cut(load.stale, table.max_partitions_per_run):
            yield _sync(sync_job_name(table), {table.index: keys}, tags)
    else:
        for keys in contiguous(load.all, load.stale, table.max_partitions_per_run):
            yield dg.RunRequest(
                job_name=load_job_name(table),
                asset_selection=[index_key(table)],
                # Not said, it is all of them.
                asset_check_keys=[],
                tags={**tags, RANGE_START: keys[0], RANGE_END: keys[-1]},
            )


def _sync(
    job: str, partitions: Mapping[str, Sequence[str]], tags: Mapping[str, str]
) -> dg.RunRequest:
    config = {"partitions": {index: list(keys) for index, keys in partitions.items()}}
    op = SYNC_ALL_OP if job == SYNC_ALL else SYNC_OP
    return dg.RunRequest(
        job_name=job, run_config={"ops": {op: {"config": config}}}, tags=dict(tags)
    )


def contiguous(
    partitions: Sequence[str], wanted: Sequence[str], most: int | None = None
) -> Iterator[Sequence[str]]:
    """The wanted ones of these partitions, each stretch without a gap by itself, and none with more
    than `most`."""
    chosen = set(wanted)
    for is_wanted, stretch in groupby(partitions, chosen.__contains__):
        if is_wanted:
            yield from _cut(list(stretch), most)


def _cut(keys: Sequence[str], most: int | None) -> Iterator[Sequence[str]]:
    length = most or max(1, len(keys))
    for start in range(0, len(keys), length):
        yield keys[start : start + length]
