"""Old runs are removed from both storages, and nothing that the pages show of an asset."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from sqlalchemy import text

from pg_es_pipeline.orchestration.housekeeping import housekeeping_job
from pg_es_pipeline.orchestration.old_runs import remove_runs

REPOSITORY = Path(__file__).parents[3]
INDEX = dg.AssetKey(["orders"])
CHECK = dg.AssetCheckKey(INDEX, "row_parity")
AGES_HENCE = datetime.now(UTC) + timedelta(days=2)
"""Every run of a test is older."""


@pytest.fixture(params=["sqlite", "postgresql"])
def instance(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[dg.DagsterInstance]:
    """An instance as dagster.yaml has it."""
    for name in [name for name in os.environ if name.startswith("DAGSTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    if request.param == "postgresql":
        database = request.getfixturevalue("database")
        monkeypatch.setenv("DAGSTER_PG_HOST", database.host)
        monkeypatch.setenv("DAGSTER_PG_PORT", str(database.port))
        monkeypatch.setenv("DAGSTER_PG_DATABASE", database.dbname)
        monkeypatch.setenv("DAGSTER_PG_USER", database.user)
        monkeypatch.setenv("DAGSTER_PG_PASSWORD", database.password)
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


class Load(dg.Config):
    """What a run records."""

    partitions: list[str]
    observed: bool = False
    checked: bool = False
    note: str = ""


@dg.job
def load() -> None:
    @dg.op
    def record(context: dg.OpExecutionContext, config: Load) -> None:
        print("loading")
        for partition in config.partitions:
            context.log_event(
                dg.AssetMaterialization(INDEX, partition=partition, description=config.note)
            )
            context.log_event(dg.AssetObservation(INDEX, partition=partition))
        if config.observed:
            context.log_event(dg.AssetObservation(INDEX))
        if config.checked:
            evaluation: Any = dg.AssetCheckEvaluation(
                asset_key=INDEX, check_name=CHECK.name, passed=True
            )
            context.log_event(evaluation)

    record()


@dg.job
def nothing() -> None:
    pass


def run(instance: dg.DagsterInstance, *partitions: str, **config: Any) -> str:
    given = {"partitions": list(partitions), **config}
    return load.execute_in_process({"ops": {"record": {"config": given}}}, instance=instance).run_id


def known(instance: dg.DagsterInstance) -> set[str]:
    return set(instance.get_run_ids())


def event_runs(instance: dg.DagsterInstance) -> list[str]:
    """The runs that events are of; on SQLite, those that have no file of their own."""
    events: Any = instance.event_log_storage
    with events.index_connection() as connection:
        return list(connection.execute(text("SELECT run_id FROM event_logs")).scalars())


def test_runs_that_hold_a_partitions_last_materialization_stay(
    instance: dg.DagsterInstance,
) -> None:
    first = run(instance, "a", "b", "c")
    second = run(instance, "a")
    third = run(instance, "a", "b")
    idle = [run(instance) for _ in range(3)]
    done = remove_runs(instance, AGES_HENCE)
    assert known(instance) == {first, third}
    assert (done.runs, done.kept) == (4, 2)
    by_partition = {
        record.partition_key: record.run_id
        for record in reversed(instance.fetch_materializations(INDEX, limit=100).records)
    }
    assert by_partition == {"a": third, "b": third, "c": first}
    assert not set(event_runs(instance)) & {second, *idle}


def test_runs_that_hold_the_last_observation_or_evaluation_stay(
    instance: dg.DagsterInstance,
) -> None:
    for _ in range(2):
        run(instance, checked=True)
    checked = run(instance, checked=True)
    for _ in range(2):
        run(instance, observed=True)
    observed = run(instance, observed=True)
    done = remove_runs(instance, AGES_HENCE)
    assert known(instance) == {checked, observed}
    assert done.evaluations == 2
    history = instance.event_log_storage.get_asset_check_execution_history(CHECK, limit=10)
    assert [one.run_id for one in history] == [checked]
    [observation] = instance.fetch_observations(INDEX, limit=10).records
    assert observation.run_id == observed


def test_a_failed_partition_stays_failed(instance: dg.DagsterInstance) -> None:
    @dg.asset(key=INDEX, partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
    def orders() -> None:
        raise RuntimeError("no")

    result = dg.materialize([orders], instance=instance, partition_key="a", raise_on_error=False)
    remove_runs(instance, AGES_HENCE)
    assert known(instance) == {result.run_id}


def test_runs_that_are_young_or_under_way_stay(instance: dg.DagsterInstance) -> None:
    finished = run(instance)
    waiting = instance.create_run_for_job(nothing).run_id
    remove_runs(instance, datetime.now(UTC) - timedelta(days=1))
    assert known(instance) == {finished, waiting}
    remove_runs(instance, AGES_HENCE)
    assert known(instance) == {waiting}


def test_runs_of_a_backfill_that_is_not_over_stay(instance: dg.DagsterInstance) -> None:
    under_way, over = BulkActionStatus.REQUESTED, BulkActionStatus.COMPLETED_SUCCESS
    runs = {}
    for status in (under_way, over):
        name = status.value
        instance.add_backfill(PartitionBackfill(name, status, False, None, 0.0))
        tags = {"dagster/backfill": name}
        runs[status] = nothing.execute_in_process(instance=instance, tags=tags).run_id
    remove_runs(instance, AGES_HENCE)
    assert known(instance) == {runs[under_way]}


def test_files_and_logs_of_a_run_go_with_it(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    def files() -> set[Path]:
        return {
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and any(run_id in str(path) for run_id in [gone, deleted])
        }

    gone, deleted = run(instance), run(instance)
    assert files()
    instance.delete_run(deleted)
    left = files()
    remove_runs(instance, datetime.now(UTC) - timedelta(days=1))
    assert files() == left
    remove_runs(instance, AGES_HENCE)
    assert {path for path in files() if gone in str(path)} == set()
    assert not [path for path in files() if path.suffix == ".db"]


def test_files_of_sqlite_shrink(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    index = tmp_path / "storage" / "history" / "runs" / "index.db"
    for _ in range(2):
        run(instance, "a", note="much" * 250_000)
    run(instance, "a")
    before = index.stat().st_size if index.exists() else 0
    assert remove_runs(instance, AGES_HENCE).freed >= before / 2
    assert not before or index.stat().st_size < before / 2


def test_the_job_keeps_what_the_environment_says(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEP_RUNS_DAYS", "0")
    result = housekeeping_job().execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    [failure] = result.get_step_failure_events()
    assert "KEEP_RUNS_DAYS is not valid" in str(failure.step_failure_data.user_failure_data)
    monkeypatch.setenv("KEEP_RUNS_DAYS", "7")
    assert housekeeping_job().execute_in_process(instance=instance).success
