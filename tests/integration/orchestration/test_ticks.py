"""Ticks of the sensor one after the other, over real tables."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest

from pg_es_pipeline.orchestration import sensors
from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.names import (
    BOOTSTRAP_TAG,
    SENSOR,
    SENSOR_TAG,
    TABLES_TAG,
)
from pg_es_pipeline.orchestration.resources import RESOURCES
from pg_es_pipeline.orchestration.table_jobs import reindex_job_name, sync_job_name
from pg_es_pipeline.sync.survey import Patience
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders
from tests.queued import queued_run


@dataclass
class Deployment:
    """A sensor over some tables, and what it has left to its next tick."""

    tables: list[Table]
    instance: dg.DagsterInstance
    cursor: str | None = None
    notes: str = ""
    """Of the last tick, if it has requested nothing."""

    def tick(self) -> list[dg.RunRequest]:
        repository = self._definitions().get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance,
            repository_def=repository,
            resources=RESOURCES,
            cursor=self.cursor,
        ) as context:
            found = repository.get_sensor_def(SENSOR).evaluate_tick(context)
        self.cursor = found.cursor or self.cursor
        self.notes = found.skip_message or ""
        return list(found.run_requests or [])

    def run(self, request: dg.RunRequest) -> bool:
        """Runs what was requested; tells whether it succeeded."""
        job = self._definitions().resolve_job_def(request.job_name or "")
        return job.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            run_config=request.run_config,
            tags={**request.tags, SENSOR_TAG: SENSOR},
        ).success

    def _definitions(self) -> dg.Definitions:
        return build_defs(self.tables, executor=dg.in_process_executor)


@pytest.fixture
def deployment(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Three indices of one table with rows in it."""
    for name, value in orders.database.environment.items():
        monkeypatch.setenv(name, value)
    orders.insert(range(1, 31))
    tables = [
        orders.table.model_copy(update={"index": f"{orders.table.index}-{letter}"})
        for letter in "abc"
    ]
    with dg.DagsterInstance.ephemeral() as instance:
        yield Deployment(tables, instance)


def loaded(request: dg.RunRequest) -> list[str]:
    """The last letters of the indices that are to be loaded."""
    return [index[-1] for index in request.tags[TABLES_TAG].split(",")]


def test_what_a_tick_has_no_time_for_comes_first_in_the_next(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "PATIENCE", Patience(seconds=0, statement_seconds=10))
    assert [loaded(*deployment.tick()) for _ in range(4)] == [["a"], ["b"], ["c"], ["a"]]


def test_a_table_that_takes_too_long_to_look_at_gets_a_run_of_its_own(
    deployment: Deployment, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed = "CREATE OR REPLACE FUNCTION slowed(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ {} $$"
    orders.pg.execute(slowed.format("BEGIN RETURN $1; END"))
    orders.pg.execute(
        "CREATE VIEW slow AS SELECT slowed(id) AS id, note, updated_at, deleted_at FROM orders"
    )
    view = {"table": "public.slow", "key": ("id",)}
    deployment.tables[1] = deployment.tables[1].model_copy(update=view)
    [request] = deployment.tick()
    assert deployment.run(request)
    orders.pg.execute(slowed.format("BEGIN PERFORM pg_sleep(60); RETURN $1; END"))
    orders.pg.execute("UPDATE orders SET note = 'changed' WHERE id = 7")
    monkeypatch.setattr(sensors, "PATIENCE", Patience(seconds=20, statement_seconds=2))
    shared, own = deployment.tick()
    assert (loaded(shared), loaded(own)) == (["a", "c"], ["b"])
    assert (own.job_name, own.run_config) == ("sync_tables", {})


def test_a_failing_table_is_left_alone_for_longer_and_longer_and_stops_no_other(
    deployment: Deployment, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad, _ = deployment.tables
    broken = {"fields": {"note": {"type": "integer"}}, "max_dead_letters": 0}
    deployment.tables = [good, bad.model_copy(update=broken)]
    [request] = deployment.tick()
    assert not deployment.run(request)
    assert deployment.tick() == []
    assert "public.orders: skipped, its last run has failed" in deployment.notes
    orders.pg.execute("UPDATE orders SET note = 'changed' WHERE id = 7")
    [request] = deployment.tick()
    assert loaded(request) == ["a"]
    assert deployment.run(request)
    monkeypatch.setattr("time.time", lambda now=sensors.time.time: now() + 61)
    [request] = deployment.tick()
    assert loaded(request) == ["b"]


def test_a_manual_first_load_is_waited_for(deployment: Deployment, orders: Orders) -> None:
    by_hand = deployment.tables[0].model_copy(update={"bootstrap": "manual"})
    deployment.tables = [by_hand]
    assert deployment.tick() == []
    assert "dagster job launch -j sync_tables --tags" in deployment.notes
    orders.table = by_hand
    orders.sync()
    orders.insert(range(50, 60), age="0 s")
    assert [loaded(request) for request in deployment.tick()] == [["a"]]


def test_first_loads_wait_behind_the_changes_of_what_is_loaded(
    deployment: Deployment, orders: Orders
) -> None:
    orders.table = deployment.tables[1]
    orders.sync()
    orders.insert(range(50, 60), age="0 s")
    changes, first = deployment.tick()
    assert (loaded(changes), loaded(first)) == (["b"], ["a", "c"])
    assert BOOTSTRAP_TAG not in changes.tags
    assert first.tags[BOOTSTRAP_TAG] == "true"


def test_nothing_more_is_requested_than_the_queue_has_room_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "LARGE_ROWS", 0)
    monkeypatch.setattr(sensors, "MOST_WAITING", 2)
    first = deployment.tick()
    assert [loaded(request) for request in first] == [["a"], ["b"]]
    deployment.instance.add_run(queued_run({SENSOR_TAG: SENSOR}))
    deployment.instance.add_run(queued_run({}))  # of somebody else
    assert [loaded(request) for request in deployment.tick()] == [["c"]]
    assert [loaded(request) for request in deployment.tick()] == [["a"]]


def test_a_job_of_one_table_loads_that_table_alone(deployment: Deployment) -> None:
    table = deployment.tables[1]
    for job in (sync_job_name(table), reindex_job_name(table)):
        assert deployment.run(dg.RunRequest(job_name=job))
        assert [loaded(request) for request in deployment.tick()] == [["a", "c"]]


def test_a_tick_survives_a_cursor_that_it_does_not_know(deployment: Deployment) -> None:
    deployment.cursor = "2024-01-01T00:00:00 some other sensor's"
    assert len(deployment.tick()) == 1
