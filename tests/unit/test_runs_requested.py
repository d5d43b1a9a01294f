"""What the sensor requests, what it leaves alone, and what it remembers."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus
from dagster._core.events import StepMaterializationData

from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.in_flight import in_flight
from pg_es_pipeline.orchestration.memory import LONGEST_WAIT, Memory
from pg_es_pipeline.orchestration.names import (
    FAILED_TAG,
    PARTITION,
    RANGE_END,
    RANGE_START,
    SENSOR,
    SENSOR_TAG,
    TABLES_TAG,
    index_key,
)
from pg_es_pipeline.orchestration.partitions import add_new
from pg_es_pipeline.orchestration.requests import Load, Wanted, run_requests
from pg_es_pipeline.tables import Table

MONTHS = [f"2024-{month:02}" for month in range(1, 13)]
MONTHLY = {"by": "month", "column": "placed", "start": "2024-01-01", "end": "2025-01-01"}
OURS = {SENSOR_TAG: SENSOR}


def table(index: str = "orders", **entry: Any) -> Table:
    return Table(table=f"public.{index}", index=index, **entry)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


# What is requested


def requested(*loads: Load, **wanted: Any) -> list[dg.RunRequest]:
    return list(run_requests(Wanted(loads=list(loads), **wanted)))


def priorities(requests: list[dg.RunRequest]) -> list[int]:
    return [int(request.tags.get("dagster/priority", 0)) for request in requests]


def test_the_few_changes_of_all_tables_share_a_run_which_goes_first() -> None:
    bootstrap = Load(table("first"), ["all"], first=True)
    much = Load(table("much"), ["all"])
    requests = requested(
        bootstrap, much, changes={"a": ["all"], "b": ["1", "2"]}, bootstraps={"c": ["all"]}
    )
    jobs = [request.job_name for request in requests]
    assert jobs == ["sync_all", "sync_tables", "sync_all", "sync_tables"]
    assert priorities(requests) == [10, 0, -10, -10]
    [op] = requests[0].run_config["ops"].values()
    assert op["config"]["partitions"] == {"a": ["all"], "b": ["1", "2"]}
    assert requests[0].tags[TABLES_TAG] == "a,b"


@pytest.mark.parametrize(
    ("wanted", "most", "runs"),
    [
        ([0, 1, 2], None, [[0, 1, 2]]),
        ([0, 1, 3, 11], None, [[0, 1, 3, 11]]),
        ([0, 1, 2, 3, 4, 6], 2, [[0, 1], [2, 3], [4, 6]]),
        (range(12), 5, [range(5), range(5, 10), range(10, 12)]),
    ],
)
def test_much_is_cut_into_runs_of_limited_length(
    wanted: list[int], most: int | None, runs: list[list[int]]
) -> None:
    monthly = table(partitions=MONTHLY, max_partitions_per_run=most)
    requests = requested(Load(monthly, [MONTHS[number] for number in wanted]))
    found = [
        request.run_config["ops"]["sync_op"]["config"]["partitions"]["orders"]
        for request in requests
    ]
    assert found == [[MONTHS[number] for number in run] for run in runs]
    assert {request.tags[TABLES_TAG] for request in requests} == {"orders"}


def test_a_table_that_takes_too_long_to_look_at_gets_a_run_that_looks() -> None:
    [request] = requested(Load(table(), None))
    assert (request.job_name, request.run_config) == ("sync_tables", {})
    assert request.tags[TABLES_TAG] == "orders"


# What is under way


def under_way(
    instance: dg.DagsterInstance,
    *tables: Table,
    job: str,
    status: DagsterRunStatus = DagsterRunStatus.STARTED,
    tags: dict[str, str] | None = None,
    finished: tuple[str, ...] = (),
    **arguments: Any,
) -> dict[str, Any]:
    """What is in flight with one run of that job; `finished` partitions are recorded in it."""
    definitions = build_defs(tables)
    resolved = definitions.resolve_job_def(job)
    run = instance.create_run_for_job(
        resolved, status=status, tags={**resolved.run_tags, **(tags or {})}, **arguments
    )
    for partition in finished:
        event = dg.AssetMaterialization(index_key(tables[0]), partition=partition)
        report(instance, run, event)
    return dict(in_flight(tables, [run], instance))


def report(
    instance: dg.DagsterInstance, run: dg.DagsterRun, event: dg.AssetMaterialization
) -> None:
    data = StepMaterializationData(event)
    kind = DagsterEventType.ASSET_MATERIALIZATION.value
    instance.report_dagster_event(
        DagsterEvent(kind, run.job_name, event_specific_data=data), run.run_id
    )


ASSET = frozenset({dg.AssetKey("orders")})
RANGE = {RANGE_START: "2024-03", RANGE_END: "2024-05"}


def test_of_a_requested_range_what_is_not_finished_is_in_flight(
    instance: dg.DagsterInstance,
) -> None:
    found = under_way(
        instance,
        table(partitions=MONTHLY),
        job="load_orders",
        tags={**RANGE, **OURS},
        asset_selection=ASSET,
        finished=("2024-03",),
    )
    assert found == {"orders": {"2024-04", "2024-05"}}


def test_a_backfill_keeps_only_the_partition_that_it_is_at(instance: dg.DagsterInstance) -> None:
    found = under_way(
        instance,
        table(partitions=MONTHLY),
        job="load_orders",
        tags=RANGE,
        asset_selection=ASSET,
        finished=("2024-03",),
    )
    assert found == {"orders": {"2024-04"}}


def test_a_backfill_that_waits_for_its_turn_keeps_none(instance: dg.DagsterInstance) -> None:
    found = under_way(
        instance,
        table(partitions=MONTHLY),
        job="load_orders",
        status=DagsterRunStatus.NOT_STARTED,
        tags={PARTITION: "2024-03"},
        asset_selection=ASSET,
    )
    assert found == {}


def test_the_partitions_that_a_shared_run_was_told_to_load_are_in_flight(
    instance: dg.DagsterInstance,
) -> None:
    config = {"partitions": {"a": ["all"], "b": ["all"]}}
    found = under_way(
        instance,
        *map(table, "abc"),
        job="sync_all",
        status=DagsterRunStatus.NOT_STARTED,
        tags=OURS,
        run_config={"ops": {"sync_all_op": {"config": config}}},
    )
    assert found == {"a": {"all"}, "b": {"all"}}


@pytest.mark.parametrize(("job", "busy"), [("sync_all", "abc"), ("sync_b", "b")])
def test_a_run_that_loads_whatever_is_stale_keeps_its_tables(
    instance: dg.DagsterInstance, job: str, busy: str
) -> None:
    assert under_way(instance, *map(table, "abc"), job=job) == dict.fromkeys(busy)


def test_a_range_of_partitions_that_are_others_now_keeps_the_whole_table(
    instance: dg.DagsterInstance,
) -> None:
    growing = table(partitions={"by": "range", "column": "id", "width": 10})
    add_new(instance, growing, ["0", "10"])
    tags = {RANGE_START: "0", RANGE_END: "7", **OURS}
    run = dg.DagsterRun(
        "load_orders", status=DagsterRunStatus.STARTED, tags=tags, asset_selection=ASSET
    )
    assert in_flight([growing], [run], instance) == {"orders": None}


# What is remembered


def ended(
    instance: dg.DagsterInstance, status: DagsterRunStatus, end: float, **tags: str
) -> dg.RunRecord:
    run = dg.DagsterRun("sync_all", status=status, tags={TABLES_TAG: "a,b", **tags})
    instance.add_run(run)
    [record] = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id]))
    return record._replace(end_time=float(end))


def test_the_wait_of_a_failing_table_grows_up_to_an_hour_and_ends_with_a_success(
    instance: dg.DagsterInstance,
) -> None:
    memory, waits = Memory(seen=0), []
    for end in range(1, 21):
        failed = ended(instance, DagsterRunStatus.FAILURE, end, **{FAILED_TAG: "b"})
        memory.learn([failed])
        waits.append(memory.failures["b"].until - end)
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == LONGEST_WAIT
    assert memory.waiting("a", 20) is None
    assert "its last 20 runs have failed" in memory.failures["b"].wait
    memory.learn([ended(instance, DagsterRunStatus.SUCCESS, 21)])
    assert memory.failures == {}


def test_a_run_that_was_killed_counts_for_all_of_its_tables(instance: dg.DagsterInstance) -> None:
    memory = Memory(seen=0)
    memory.learn([ended(instance, DagsterRunStatus.FAILURE, 1)])
    assert set(memory.failures) == {"a", "b"}


def test_a_run_counts_once(instance: dg.DagsterInstance) -> None:
    memory = Memory(seen=0)
    run = ended(instance, DagsterRunStatus.CANCELED, 1)
    memory.learn([run])
    again = Memory.read(memory.model_dump_json(), time.time())
    again.learn([run])
    assert again.failures["a"].count == 1


@pytest.mark.parametrize(
    "cursor", [None, "", "garbage", "[]", '{"version": 0, "seen": 1}', '{"version": 2, "seen": 1}']
)
def test_a_cursor_that_is_not_known_is_begun_anew(cursor: str | None) -> None:
    assert Memory.read(cursor, 7.0) == Memory(seen=7.0)
