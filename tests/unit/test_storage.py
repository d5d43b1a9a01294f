"""Where Dagster keeps its history: in PostgreSQL where the environment names one, or in files."""

import dataclasses
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.events import AssetMaterializationPlannedData
from psycopg import sql

from pg_es_pipeline.orchestration.sqlite import OPEN_FILES
from pg_es_pipeline.orchestration.storage import StorageByEnvironment

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A DAGSTER_HOME with the repository's dagster.yaml, and no DAGSTER_PG_*."""
    for name in [name for name in os.environ if name.startswith("DAGSTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    return tmp_path


@contextmanager
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as made:
        yield made


@dg.job
def nothing() -> None:
    pass


@pytest.fixture
def role(database: Any) -> Iterator[Any]:
    """The database as a role sees it whose password has every character that a URL reserves."""
    name, password = f"{database.dbname}_owner", "p@ss/w:rd%20?#'\""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {0} LOGIN PASSWORD {1}; GRANT ALL ON SCHEMA public TO {0}").format(
                sql.Identifier(name), sql.Literal(password)
            )
        )
        yield dataclasses.replace(database, user=name, password=password)
        connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_without_variables_a_run_is_kept_in_files_in_the_home(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("DAGSTER_PG_HOST", "")
    with instance(home) as dagster:
        run = dagster.create_run_for_job(nothing)
        assert dagster.get_run_by_id(run.run_id)
    assert (home / "storage").is_dir()


def test_whoever_follows_a_run_is_told_of_its_events(home: Path) -> None:
    """The pages follow a run by its file, which SQLite itself writes to now and then only."""
    told = threading.Event()
    with instance(home) as follower, instance(home) as writer:
        run = writer.create_run_for_job(nothing)
        writer.report_engine_event("first", run)
        follower.watch_event_logs(run.run_id, None, lambda entry, _cursor: _set(told, entry))
        writer.report_engine_event("second", run)
        assert told.wait(60)


def _set(told: threading.Event, entry: dg.EventLogEntry) -> None:
    if entry.message == "second":
        told.set()


def test_an_asset_knows_the_run_that_is_to_load_it_last(home: Path) -> None:
    """Though of a run's many partitions the first alone is noted with the asset."""
    keys = [dg.AssetKey("orders"), dg.AssetKey("items")]
    with instance(home) as dagster:
        runs = [dagster.create_run_for_job(nothing).run_id for _ in range(2)]

        def plan(run: str, key: dg.AssetKey) -> None:
            for partition in "ab":
                data = AssetMaterializationPlannedData(key, partition)
                event = dg.DagsterEvent.build_asset_materialization_planned_event("job", "op", data)
                dagster.report_dagster_event(event, run)

        for run, key in [(runs[0], keys[0]), (runs[1], keys[0]), (runs[0], keys[1])]:
            plan(run, key)
        records = dagster.get_asset_records(keys)
        last = {one.asset_entry.asset_key: one.asset_entry.last_run_id for one in records}
        assert last == {keys[0]: runs[1], keys[1]: runs[0]}
        plan(runs[0], keys[0])
        [record] = dagster.get_asset_records(keys[:1])
        assert record.asset_entry.last_run_id == runs[0]
        planned = [
            entry.get_dagster_event().partition
            for run in runs
            for entry in dagster.all_logs(
                run, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
            )
        ]
        assert planned == ["a", "b"] * 4


def test_more_runs_are_written_than_files_stay_open(home: Path) -> None:
    with instance(home) as dagster:
        runs = [dagster.create_run_for_job(nothing) for _ in range(2 * OPEN_FILES)]
        for run in [*runs, *runs]:
            dagster.report_engine_event("something", run)
        assert {len(dagster.all_logs(run.run_id)) for run in runs} == {2}
        opened = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()}
    assert (
        len(
            [
                name
                for name in opened
                if name.startswith(f"{home}/storage/history/runs") and name.endswith(".db")
            ]
        )
        <= OPEN_FILES
    )


def test_with_all_variables_a_run_is_kept_in_postgresql(
    monkeypatch: pytest.MonkeyPatch, home: Path, role: Any
) -> None:
    """Whatever characters the password has."""
    for name, value in {
        "HOST": role.host,
        "PORT": str(role.port),
        "DATABASE": role.dbname,
        "USER": role.user,
        "PASSWORD": role.password,
    }.items():
        monkeypatch.setenv(f"DAGSTER_PG_{name}", value)
    with instance(home) as dagster:
        run = dagster.create_run_for_job(nothing)
    with psycopg.connect(role.conninfo) as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [(run.run_id,)]
        tables = {name for (name,) in connection.execute("SELECT relname FROM pg_class").fetchall()}
    assert {"event_logs", "jobs"} <= tables
    assert not (home / "storage").exists()


def test_the_documented_statements_make_a_database_that_dagster_can_use(
    monkeypatch: pytest.MonkeyPatch, home: Path, database: Any
) -> None:
    page = (REPOSITORY / "docs" / "monitoring.md").read_text()
    [statements] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    name = f"{database.dbname}_history"
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        for statement in re.sub(r"\bdagster\b", name, statements).strip().split("\n"):
            connection.execute(statement)
        given = {"HOST": database.host, "PORT": str(database.port), "PASSWORD": "choose-one"}
        for variable, value in {**given, "DATABASE": name, "USER": name}.items():
            monkeypatch.setenv(f"DAGSTER_PG_{variable}", value)
        with instance(home) as dagster:
            assert dagster.get_run_by_id(dagster.create_run_for_job(nothing).run_id)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.execute(f"DROP ROLE {name}")


def test_dagster_sends_nothing_home_and_invites_nobody(home: Path) -> None:
    with instance(home) as dagster:
        assert not dagster.telemetry_enabled
        assert not dagster.nux_enabled


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"HOST"}, {"DATABASE", "USER"}),
        ({"PORT"}, {"HOST", "DATABASE", "USER"}),
        ({"PASSWORD"}, {"HOST", "DATABASE", "USER"}),
        ({"HOST", "USER", "PASSWORD"}, {"DATABASE"}),
        ({"DATABASE", "USER"}, {"HOST"}),
    ],
)
def test_variables_that_are_missing_beside_others_are_named(
    monkeypatch: pytest.MonkeyPatch, given: set[str], missing: set[str]
) -> None:
    """An empty variable is a missing one."""
    for name in missing:
        monkeypatch.setenv(f"DAGSTER_PG_{name}", "")
    for name in given:
        monkeypatch.setenv(f"DAGSTER_PG_{name}", "1")
    with pytest.raises(ValueError, match="must be set too") as caught:
        StorageByEnvironment.from_config_value(None, {})
    said = str(caught.value).partition(" must be set")[0].split(" and ")
    assert set(said) == {f"DAGSTER_PG_{name}" for name in missing}


def test_a_port_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "DATABASE", "USER", "PORT"):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", "abc")
    with pytest.raises(ValueError, match="DAGSTER_PG_PORT"):
        StorageByEnvironment.from_config_value(None, {})
