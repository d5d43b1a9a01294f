"""Loads as Dagster runs them: events by partition, metadata, failures."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from pg_es_pipeline.errors import ServerAway, SourceError
from pg_es_pipeline.orchestration import loading, sensors
from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.jobs import sync_jobs
from pg_es_pipeline.orchestration.names import (
    RANGE_END,
    RANGE_START,
    REINDEX_TAG,
    SENSOR,
    SENSOR_TAG,
    TABLES_TAG,
    index_key,
    table_key,
)
from pg_es_pipeline.orchestration.partitions import partitions_definition
from pg_es_pipeline.orchestration.resources import RESOURCES
from pg_es_pipeline.orchestration.table_jobs import load_job_name, reindex_job_name
from pg_es_pipeline.sync.engine import Engine
from tests.integration.orders import Orders

MONTHS = [f"2024-0{month}" for month in range(1, 7)]


@pytest.fixture
def monthly(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> Orders:
    """The table in six monthly partitions, named by the environment."""
    for name, value in orders.database.environment.items():
        monkeypatch.setenv(name, value)
    orders.table = orders.table.model_validate(
        {
            **orders.table.model_dump(exclude_defaults=True),
            "partitions": {
                "by": "month",
                "column": "placed",
                "start": "2024-01-01",
                "end": "2024-07-01",
            },
        }
    )
    return orders


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


def definitions(orders: Orders) -> dg.Definitions:
    return build_defs([orders.table], executor=dg.in_process_executor)


def execute(
    orders: Orders, instance: dg.DagsterInstance, job: str, **arguments: Any
) -> dg.ExecuteInProcessResult:
    return (
        definitions(orders)
        .resolve_job_def(job)
        .execute_in_process(instance=instance, raise_on_error=False, **arguments)
    )


def load_range(
    orders: Orders, instance: dg.DagsterInstance, first: str, last: str
) -> dg.ExecuteInProcessResult:
    tags = {RANGE_START: first, RANGE_END: last}
    return execute(orders, instance, load_job_name(orders.table), tags=tags)


def materialized(orders: Orders, instance: dg.DagsterInstance) -> dict[str, dict[str, Any]]:
    """The metadata of every materialization, by partition; a second one is an error."""
    found: dict[str, dict[str, Any]] = {}
    records = instance.fetch_materializations(index_key(orders.table), limit=1000).records
    for record in records:
        event = record.asset_materialization
        assert event is not None
        assert event.partition is not None
        assert event.partition not in found
        found[event.partition] = {name: entry.value for name, entry in event.metadata.items()}
    return found


def tick(orders: Orders, instance: dg.DagsterInstance) -> Any:
    repository = definitions(orders).get_repository_def()
    with dg.build_sensor_context(
        instance=instance, repository_def=repository, resources=RESOURCES
    ) as context:
        return repository.get_sensor_def("sync_changes").evaluate_tick(context)


def run_requests(orders: Orders, instance: dg.DagsterInstance) -> list[set[str]]:
    """Executes what a tick requests; the partitions of each run."""
    loaded = []
    for request in tick(orders, instance).run_requests or []:
        known = set(instance.get_run_ids())
        result = execute(
            orders,
            instance,
            request.job_name or "",
            run_config=request.run_config,
            tags=dict(request.tags),
        )
        assert result.success
        [run_id] = set(instance.get_run_ids()) - known
        loaded.append(
            {
                event.partition
                for event in result.all_events
                if event.is_step_materialization and event.partition
            }
        )
        assert run_id
    return loaded


def test_a_transforms_own_columns_are_shown_as_what_the_index_has(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    transform = "tests.integration.sync.transforms:titled"
    monthly.table = monthly.table.model_copy(update={"transform": transform})
    monthly.insert(range(1, 20))
    assert load_range(monthly, instance, "2024-01", "2024-01").success
    [event] = materialized(monthly, instance).values()
    columns = {column.name: column.type for column in event["dagster/column_schema"].columns}
    assert columns["title"] == "text"
    assert columns["id"] == "bigint → long"
    assert "note" not in columns
    lineage = event["dagster/column_lineage"].deps_by_column
    assert [one.column_name for one in lineage["id"]] == ["id"]
    assert "note" in [one.column_name for one in lineage["title"]]
    assert event["sample"].records[0].data["title"] == "new"


def test_a_range_is_one_run_with_figures_for_each_partition(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 181))
    assert load_range(monthly, instance, "2024-02", "2024-04").success
    events = materialized(monthly, instance)
    assert {month: event["rows"] for month, event in events.items()} == {
        "2024-02": 29,
        "2024-03": 31,
        "2024-04": 30,
    }
    for event in events.values():
        assert event["full_pass"] is True
        assert event["docs_per_second"] > 0
        assert event["slowest_request_documents"] == event["rows"]
        assert (event["throttled_times"], "throttled" in event) == (0, False)
        assert event["watermark"]
        assert event["lag_seconds"] >= 2
        assert len(event["sample"].records) == 3
        columns = {column.name: column.type for column in event["dagster/column_schema"].columns}
        assert columns["placed"] == "timestamp with time zone → date"
        assert event["dagster/column_lineage"].deps_by_column["note"] == [
            dg.TableColumnDep(asset_key=table_key(monthly.table), column_name="note")
        ]


def test_a_partition_that_fails_keeps_no_other_from_being_loaded(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 181), note="1")
    monthly.pg.execute("UPDATE orders SET note = 'x' WHERE id = 100")
    monthly.table = monthly.table.model_copy(
        update={"fields": {"note": {"type": "integer"}}, "max_dead_letters": 0}
    )
    result = load_range(monthly, instance, "2024-01", "2024-06")
    assert not result.success
    assert set(materialized(monthly, instance)) == {*MONTHS} - {"2024-04"}
    [failure] = [event for event in result.all_events if event.is_step_failure]
    told = str(failure.event_specific_data)
    assert "public.orders, partition 2024-04: 1 row was refused for good" in told
    assert "`exclude`" in told


def test_a_failure_that_all_partitions_share_ends_the_run_and_what_is_finished_stays(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monthly.insert(range(1, 181))
    monkeypatch.setattr(loading, "RETRY_SECONDS", ())
    sync, asked = Engine.sync, list[str]()

    def failing(self: Engine, source: Any, partition: str, **options: Any) -> Any:
        asked.append(partition)
        if partition == "2024-02":
            raise ServerAway("gone")
        return sync(self, source, partition, **options)

    monkeypatch.setattr(Engine, "sync", failing)
    assert not load_range(monthly, instance, "2024-01", "2024-03").success
    assert asked == ["2024-01", "2024-02"]
    assert set(materialized(monthly, instance)) == {"2024-01"}


def test_sync_all_brings_every_stale_partition_up_to_date(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 181))
    assert execute(monthly, instance, "sync_all").success
    assert set(materialized(monthly, instance)) == set(MONTHS)
    assert monthly.is_in_step()


@pytest.mark.parametrize(
    ("select", "partitions"),
    [
        ("MISSING", MONTHS[4:]),
        ("FAILED", MONTHS[2:3]),
        ("ALL", MONTHS),
        ("STALE", MONTHS[2:]),
    ],
)
def test_a_backfill_takes_the_partitions_that_it_is_told_to_select(
    monthly: Orders,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    select: str,
    partitions: list[str],
) -> None:
    monthly.insert(range(1, 181))
    assert load_range(monthly, instance, "2024-01", "2024-02").success
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "sync", lambda *_, **__: 1 / 0)
        assert not load_range(monthly, instance, "2024-03", "2024-03").success
    instance.report_runless_asset_event(
        dg.AssetMaterialization(index_key(monthly.table), partition="2024-04")
    )
    config = {"ops": {"sync_all_op": {"config": {"select": select, "full": True}}}}
    result = execute(monthly, instance, "sync_all", run_config=config)
    events = [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization
    ]
    assert [event.partition for event in events] == partitions
    assert all(event.metadata["full_pass"].value for event in events)


def test_an_unknown_index_or_partition_in_the_configuration_is_named(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    def message(partitions: dict[str, list[str]]) -> str:
        config = {"ops": {"sync_all_op": {"config": {"partitions": partitions}}}}
        result = execute(monthly, instance, "sync_all", run_config=config)
        [failure] = [event for event in result.all_events if event.is_step_failure]
        return str(failure.event_specific_data)

    assert "no index 'nothing' in this run" in message({"nothing": ["all"]})
    assert "no month '2024-13'" in message({monthly.table.index: ["2024-13"]})


def test_the_tables_of_a_run_are_those_of_its_tag(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    def failure(job: str, tags: dict[str, str], **config: Any) -> str | None:
        result = execute(monthly, instance, job, tags=tags, run_config=config)
        failures = [event for event in result.all_events if event.is_step_failure]
        return str(failures[0].event_specific_data) if failures else None

    monthly.insert(range(1, 31))
    index = monthly.table.index
    one = {"config": {"partitions": {index: ["2024-01"]}}}
    assert "no table is named: give the run the tag" in str(failure("sync_tables", {}))
    assert "no index 'x' in this run" in str(failure("sync_tables", {TABLES_TAG: f"{index},x"}))
    assert f"no index '{index}' in this run" in str(
        failure("sync_tables", {TABLES_TAG: "x"}, ops={"sync_op": one})
    )
    assert materialized(monthly, instance) == {}
    assert failure("sync_tables", {}, ops={"sync_op": one}) is None
    assert set(materialized(monthly, instance)) == {"2024-01"}
    assert failure("sync_tables", {TABLES_TAG: index}) is None
    assert monthly.is_in_step()
    assert "no index is named: give the run the tag" in str(failure("reindex", {}))
    assert "no index 'x': give the run the tag" in str(failure("reindex", {REINDEX_TAG: "x"}))
    assert failure("reindex", {REINDEX_TAG: index}) is None


def test_partitions_that_a_run_has_not_finished_are_shown_as_failed(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monthly.insert(range(1, 181))
    sync, left = Engine.sync, MONTHS[:2]

    def sync_some(self: Engine, *given: Any, **options: Any) -> Any:
        if not left:
            raise SourceError("the table is gone")
        left.pop()
        return sync(self, *given, **options)

    monkeypatch.setattr(Engine, "sync", sync_some)
    assert not execute(monthly, instance, "sync_all").success
    definition = partitions_definition(monthly.table)
    status = instance.get_status_by_partition(index_key(monthly.table), MONTHS, definition)
    assert status is not None
    assert [one and one.value for one in map(status.get, MONTHS)] == [
        *["MATERIALIZED"] * 2,
        *["FAILED"] * 4,
    ]


def test_an_unset_variable_fails_the_run_by_its_name(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ES_HOST")
    result = execute(monthly, instance, "sync_all")
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "ES_HOST is not set" in str(failure.event_specific_data)


def test_the_launchpad_overrides_the_environment(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 11))
    config = {"resources": {"batching": {"config": {"max_batch_size": 3, "min_batch_size": 1}}}}
    assert execute(monthly, instance, "sync_all", run_config=config).success
    assert materialized(monthly, instance)["2024-01"]["batch_size"] == 3


def test_a_long_load_shows_how_far_it_is(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PROGRESS_SECONDS", 0.0)
    monthly.insert(range(1, 31))
    assert load_range(monthly, instance, "2024-01", "2024-01").success
    records = instance.fetch_observations(index_key(monthly.table), limit=10).records
    observation = records[0].asset_observation
    assert observation is not None
    assert observation.partition == "2024-01"
    assert {
        *("rows", "estimated_rows", "percent", "docs_per_second", "batch_size", "connections"),
    } <= set(observation.metadata)


def test_a_tick_loads_exactly_what_changed(monthly: Orders, instance: dg.DagsterInstance) -> None:
    monthly.insert(range(1, 181))
    assert run_requests(monthly, instance) == [set(MONTHS)]
    assert monthly.is_in_step()
    assert run_requests(monthly, instance) == []

    monthly.pg.execute("UPDATE orders SET note = 'changed' WHERE id BETWEEN 10 AND 20")
    monthly.pg.execute("UPDATE orders SET deleted_at = now() WHERE id = 100")
    monthly.pg.execute("INSERT INTO orders (id, note, placed) VALUES (900, 'new', '2024-01-31')")
    instance.wipe_assets([index_key(monthly.table)])
    assert run_requests(monthly, instance) == [{"2024-01", "2024-04"}]
    events = materialized(monthly, instance)
    assert (events["2024-01"]["rows"], events["2024-04"]["rows"]) == (12, 1)
    assert events["2024-04"]["deletes"] == 1
    assert monthly.is_in_step()


def test_much_gets_runs_of_its_own(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monthly.insert(range(1, 181))
    assert run_requests(monthly, instance)
    monkeypatch.setattr("pg_es_pipeline.orchestration.sensors.LARGE_ROWS", 10)
    monthly.pg.execute(
        "UPDATE orders SET note = 'changed' "
        "WHERE to_char(placed, 'YYYY-MM') IN ('2024-01', '2024-02', '2024-05')"
    )
    requests = tick(monthly, instance).run_requests or []
    assert [one.job_name for one in requests] == ["sync_tables"]
    assert run_requests(monthly, instance) == [{"2024-01", "2024-02", "2024-05"}]
    assert monthly.is_in_step()


def test_a_table_that_is_being_loaded_is_skipped_and_the_tick_says_so(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 31))
    [request] = tick(monthly, instance).run_requests or []
    instance.create_run_for_job(
        definitions(monthly).resolve_job_def("sync_all"),
        status=dg.DagsterRunStatus.STARTED,
        tags=dict(request.tags),
    )
    second = tick(monthly, instance)
    assert not second.run_requests
    assert "public.orders: skipped, a run that loads it is under way" in second.skip_message


def test_of_a_table_the_partitions_under_way_alone_are_skipped(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 31))
    config = {"ops": {"sync_all_op": {"config": {"partitions": {monthly.table.index: MONTHS[:2]}}}}}
    job = definitions(monthly).resolve_job_def("sync_all")
    ours = {SENSOR_TAG: SENSOR}
    started = dg.DagsterRunStatus.STARTED
    instance.create_run_for_job(job, status=started, tags=ours, run_config=config)
    [request] = tick(monthly, instance).run_requests
    [op] = request.run_config["ops"].values()
    assert op["config"]["partitions"] == {monthly.table.index: MONTHS[2:]}


def test_a_broken_table_does_not_stop_the_others(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 31))
    broken = monthly.table.model_copy(
        update={"table": "public.missing", "index": f"{monthly.table.index}-missing"}
    )
    tables = [broken, monthly.table]
    result = (
        dg.Definitions(jobs=sync_jobs(tables), resources=RESOURCES)
        .resolve_job_def("sync_all")
        .execute_in_process(instance=instance, raise_on_error=False)
    )
    assert not result.success
    assert monthly.is_in_step()


def test_a_tick_without_settings_says_which_are_missing(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PG_HOST")
    assert "PG_HOST is not set" in (tick(monthly, instance).skip_message or "")


def test_a_tick_records_how_fresh_the_index_is(
    monthly: Orders, instance: dg.DagsterInstance
) -> None:
    monthly.insert(range(1, 31))
    run_requests(monthly, instance)
    assert not tick(monthly, instance).run_requests
    found = monthly.es.get(index="pg-es-checkpoints", id=f"freshness:{monthly.table.index}")
    assert found["_source"]["in_step_at"]


def test_a_failure_that_may_pass_is_tried_again(
    monthly: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monthly.insert(range(1, 61))
    monkeypatch.setattr(loading, "RETRY_SECONDS", (0,))
    failures: list[Exception] = [ServerAway("gone for a moment")]
    sync = Engine.sync

    def failing_once(self: Engine, source: Any, partition: str, **options: Any) -> Any:
        if partition == "2024-02" and failures:
            raise failures.pop()
        return sync(self, source, partition, **options)

    monkeypatch.setattr(Engine, "sync", failing_once)
    assert load_range(monthly, instance, "2024-01", "2024-02").success
    events = materialized(monthly, instance)
    assert (events["2024-01"]["rows"], events["2024-02"]["rows"]) == (30, 29)


@pytest.mark.parametrize("large", [10, 1_000_000], ids=["much", "little"])
def test_ranges_of_a_growing_table_become_known_and_are_loaded(
    monthly: Orders,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    large: int,
) -> None:
    monkeypatch.setattr("pg_es_pipeline.orchestration.sensors.LARGE_ROWS", large)
    described = monthly.table.model_dump(exclude_unset=True)
    ranges = {"by": "range", "column": "id", "width": 100}
    monthly.table = monthly.table.model_validate({**described, "partitions": ranges})
    assert run_requests(monthly, instance) == []
    monthly.insert(range(1, 251))
    assert run_requests(monthly, instance) == [{"0", "100", "200"}]
    monthly.insert(range(300, 302))
    assert run_requests(monthly, instance) == [{"300"}]
    assert set(materialized(monthly, instance)) == {"0", "100", "200", "300"}

    asset = definitions(monthly).resolve_asset_graph().get(index_key(monthly.table))
    assert asset.partitions_def is not None
    known = asset.partitions_def.get_partition_keys(dynamic_partitions_store=instance)
    assert set(known) == {"0", "100", "200", "300"}
    # One of them can be loaded from the asset's page.
    job = load_job_name(monthly.table)
    assert execute(monthly, instance, job, partition_key="100").success


@pytest.fixture
def outdated(monthly: Orders, instance: dg.DagsterInstance) -> Orders:
    """Loaded before the tables file gave a column another mapping."""
    monthly.insert(range(1, 61))
    run_requests(monthly, instance)
    instance.wipe_assets([index_key(monthly.table)])
    fields = {"note": {"type": "keyword"}}
    monthly.table = monthly.table.model_copy(update={"fields": fields})
    return monthly


def requested(orders: Orders, instance: dg.DagsterInstance) -> list[str]:
    return [request.job_name for request in tick(orders, instance).run_requests or []]


def test_a_tick_requests_a_new_generation_where_the_live_one_does_not_fit(
    outdated: Orders, instance: dg.DagsterInstance
) -> None:
    job = reindex_job_name(outdated.table)
    assert requested(outdated, instance) == ["reindex"]
    assert execute(outdated, instance, job).success
    events = materialized(outdated, instance)
    assert {month: event["rows"] for month, event in events.items()} == {
        **dict.fromkeys(MONTHS, 0),
        "2024-01": 30,
        "2024-02": 29,
        "2024-03": 1,
    }
    assert {event["generation"] for event in events.values()} == {f"{outdated.table.index}-000002"}
    assert requested(outdated, instance) == []
    assert outdated.is_in_step()


def test_changes_are_loaded_while_a_new_generation_is(
    outdated: Orders, instance: dg.DagsterInstance
) -> None:
    job = reindex_job_name(outdated.table)
    run_under_way(outdated, instance, job, dg.DagsterRunStatus.STARTED)
    assert requested(outdated, instance) == []
    outdated.pg.execute("UPDATE orders SET note = 'changed' WHERE id = 7")
    second = tick(outdated, instance)
    assert [request.job_name for request in second.run_requests] == ["sync_all"]
    run_requests(outdated, instance)
    assert outdated.is_in_step()


def test_a_manual_reindex_is_not_requested_but_told(
    outdated: Orders, instance: dg.DagsterInstance
) -> None:
    outdated.table = outdated.table.model_copy(update={"reindex": "manual"})
    message = tick(outdated, instance).skip_message
    assert "note: type is text, not keyword" in message
    assert f"pg-es reindex {outdated.table.index}" in message


def test_a_generation_that_was_rolled_back_is_not_requested_again(
    outdated: Orders, instance: dg.DagsterInstance
) -> None:
    execute(outdated, instance, reindex_job_name(outdated.table))
    with outdated.engine() as engine:
        engine.roll_back(engine.source(outdated.table))
    assert "was rolled back" in tick(outdated, instance).skip_message


def test_a_reindex_that_failed_is_requested_again_an_hour_later(
    outdated: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = reindex_job_name(outdated.table)
    monkeypatch.setattr(Engine, "reindex", lambda *_, **__: 1 / 0)
    assert not execute(outdated, instance, job).success
    assert "The last run that reindexed it has failed" in tick(outdated, instance).skip_message
    monkeypatch.setattr(sensors, "REINDEX_AGAIN", timedelta(0))
    assert requested(outdated, instance) == ["reindex"]


def test_a_reindex_goes_on_after_a_failure_that_may_pass(
    outdated: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "RETRY_SECONDS", (0,))
    failures: list[Exception] = [ServerAway("gone for a moment")]
    reindex = Engine.reindex

    def failing_once(self: Engine, source: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return reindex(self, source, **options)

    monkeypatch.setattr(Engine, "reindex", failing_once)
    assert execute(outdated, instance, reindex_job_name(outdated.table)).success
    assert requested(outdated, instance) == []


def test_a_tick_removes_generations_that_were_kept_for_long_enough(
    outdated: Orders, instance: dg.DagsterInstance
) -> None:
    execute(outdated, instance, reindex_job_name(outdated.table))
    tick(outdated, instance)
    assert len(outdated.es.indices.get(index=f"{outdated.table.index}-*")) == 2
    outdated.table = outdated.table.model_copy(update={"keep_generations": timedelta(0)})
    tick(outdated, instance)
    assert list(outdated.es.indices.get(index=f"{outdated.table.index}-*")) == [
        f"{outdated.table.index}-000002"
    ]


def run_under_way(
    orders: Orders, instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus
) -> None:
    resolved = definitions(orders).resolve_job_def(job)
    instance.create_run_for_job(resolved, status=status, tags=resolved.run_tags)
