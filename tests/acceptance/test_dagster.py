"""Dagster's own commands and services over the project's definitions, as an operator uses them."""

import json
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from elasticsearch import Elasticsearch, NotFoundError

from pg_es_pipeline.orchestration.names import RANGE_END, RANGE_START
from tests.acceptance.services import (
    BIN,
    ROOT,
    Environment,
    Services,
    bare_environment,
    dagster,
    running,
    wait_until,
)

EXECUTE = ("job", "execute", "-m", "pg_es_pipeline.definitions")
MATERIALIZE = ("asset", "materialize", "-m", "pg_es_pipeline.definitions", "--select")


@pytest.fixture
def pg(database: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE items (id bigint PRIMARY KEY, note text, day date NOT NULL,"
            " updated_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(
            "INSERT INTO items SELECT id, 'new', '2024-01-01'::date + (id % 90)::int,"
            " now() - interval '1 h' FROM generate_series(1, 20000) AS id"
        )
        yield connection


@pytest.fixture
def index(prefix: str) -> str:
    return f"{prefix}items"


@pytest.fixture
def environment(
    database: Any, pg: psycopg.Connection[Any], index: str, tmp_path: Path
) -> Environment:
    """A project of one table in three months, with an instance of its own."""
    tables = tmp_path / "tables.yaml"
    tables.write_text(
        "tables:\n"
        f"  - table: public.items\n    index: {index}\n"
        "    partitions: {by: month, column: day, start: 2024-01-01, end: 2024-04-01}\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    return {
        **bare_environment(),
        **database.environment,
        "DAGSTER_HOME": str(home),
        "PG_ES_TABLES": str(tables),
        "SYNC_INTERVAL": "3600",
    }


def count(es: Elasticsearch, index: str) -> int:
    try:
        es.indices.refresh(index=index)
        return int(es.count(index=index)["count"])
    except NotFoundError:
        return 0


def test_the_definitions_load_without_any_environment(tmp_path: Path) -> None:
    done = dagster({**bare_environment(), "DAGSTER_HOME": ""}, "definitions", "validate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful" in done.stdout + done.stderr


def test_an_unset_environment_fails_a_run_with_the_variables_name(
    environment: Environment,
) -> None:
    del environment["PG_HOST"]
    done = dagster(environment, *EXECUTE, "-j", "sync_all")
    assert done.returncode != 0
    assert "PG_HOST is not set" in done.stdout + done.stderr


def test_a_partition_a_range_and_what_is_stale_from_the_command_line(
    environment: Environment, index: str, es: Elasticsearch, pg: psycopg.Connection[Any]
) -> None:
    def expected(condition: str) -> int:
        row = pg.execute(f"SELECT count(*) FROM items WHERE {condition}").fetchone()
        assert row
        return int(row[0])

    one = dagster(environment, *MATERIALIZE, index, "--partition", "2024-02")
    assert one.returncode == 0, one.stderr
    assert count(es, index) == expected("day >= '2024-02-01' AND day < '2024-03-01'")
    several = dagster(environment, *MATERIALIZE, index, "--partition-range", "2024-02...2024-03")
    assert several.returncode == 0, several.stderr
    assert count(es, index) == expected("day >= '2024-02-01'")
    stale = dagster(environment, *EXECUTE, "-j", "sync_all")
    assert stale.returncode == 0, stale.stderr
    assert count(es, index) == expected("true")


def test_a_killed_run_loses_nothing_and_doubles_nothing(
    environment: Environment, index: str, es: Elasticsearch
) -> None:
    """SIGKILL in mid-load, then the same again: every row is there, once."""
    limited = {**environment, "RATE_LIMIT": "1500", "MAX_BATCH_SIZE": "300"}
    arguments = [*MATERIALIZE, index, "--partition-range"]
    run = subprocess.Popen(
        [str(BIN / "dagster"), *arguments, "2024-01...2024-03"],
        cwd=ROOT,
        env=limited,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: count(es, index) > 1000, "the load to begin")
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert count(es, index) < 20000
    again = dagster(environment, *arguments, "2024-01...2024-03")
    assert again.returncode == 0, again.stderr
    assert count(es, index) == 20000
    ids = es.search(
        index=index, size=0, aggs={"ids": {"value_count": {"field": "id"}}}, track_total_hits=True
    )
    assert ids["aggregations"]["ids"]["value"] == 20000


@pytest.fixture
def services(environment: Environment, tmp_path: Path) -> Iterator[Services]:
    with running(environment, tmp_path) as started:
        yield started


BACKFILL = """
mutation ($selector: PartitionsByAssetSelector!) {
  launchPartitionBackfill(backfillParams: {partitionsByAssets: [$selector]}) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


def test_the_sensor_a_launch_and_a_backfill(
    services: Services,
    environment: Environment,
    index: str,
    es: Elasticsearch,
    pg: psycopg.Connection[Any],
) -> None:
    # The sensor is on, and loads what has never been loaded.
    wait_until(lambda: count(es, index) == 20000, "the sensor's first load")
    wait_until(lambda: {run["status"] for run in services.runs()} == {"SUCCESS"}, "its run to end")

    # A job launched without a partition brings what is stale up to date.
    pg.execute("UPDATE items SET note = 'changed', updated_at = now() WHERE id <= 100")
    # Its tags and its configuration go with it, and it has the id that was chosen for it.
    run_id = str(uuid.uuid4())
    chosen = {
        "ops": {
            "sync_all_op": {"config": {"partitions": {index: ["2024-01", "2024-02", "2024-03"]}}}
        }
    }
    launched = dagster(
        environment,
        *("job", "launch", "-j", "sync_all", "--run-id", run_id),
        *("--tags", '{"commit": "4f3eb2a"}', "--config-json", json.dumps(chosen)),
    )
    assert launched.returncode == 0, launched.stderr
    assert dagster(environment, "job", "launch", "-j", "sync_none").returncode != 0
    wait_until(
        lambda: [run["status"] for run in services.runs()] == ["SUCCESS"] * 2, "the launched run"
    )
    assert services.runs()[0]["runId"] == run_id
    assert {"key": "commit", "value": "4f3eb2a"} in services.runs()[0]["tags"]
    es.indices.refresh(index=index)
    assert es.count(index=index, query={"term": {"note.raw": "changed"}})["count"] == 100

    # A backfill, as the UI requests it: one run for contiguous partitions.
    answer = services.query(
        BACKFILL,
        selector={
            "assetKey": {"path": [index]},
            "partitions": {"range": {"start": "2024-01", "end": "2024-02"}},
        },
    )["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    wait_until(
        lambda: [run["status"] for run in services.runs()] == ["SUCCESS"] * 3, "the backfill's run"
    )
    tags = {tag["key"]: tag["value"] for tag in services.runs()[0]["tags"]}
    assert tags["dagster/asset_partition_range_start"] == "2024-01"
    assert tags["dagster/asset_partition_range_end"] == "2024-02"


LAUNCH = """
mutation ($job: JobOrPipelineSelector!, $tags: [ExecutionTag!]!) {
  launchRun(executionParams: {selector: $job, executionMetadata: {tags: $tags}}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""

STATUS = """
query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode { partitionStats { numMaterialized numFailed numMaterializing } }
  }
}
"""


def test_the_status_of_partitions_is_true_after_a_run_was_killed_or_terminated(
    environment: Environment,
    index: str,
    es: Elasticsearch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = Path(environment["PG_ES_TABLES"])
    tables.write_text("defaults: {bootstrap: manual}\n" + tables.read_text())
    slow = {**environment, "RATE_LIMIT": "1500", "MAX_BATCH_SIZE": "300"}
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    january, february = count_in(range(31)), count_in(range(60))
    with running(slow, tmp_path) as services, dg.DagsterInstance.get() as instance:

        def load() -> str:
            bounds = {RANGE_START: "2024-01", RANGE_END: "2024-03"}
            answer = services.query(
                LAUNCH,
                job=services.selector(f"load_{index.replace('-', '_')}"),
                tags=[{"key": key, "value": value} for key, value in bounds.items()],
            )["launchRun"]
            assert answer["__typename"] == "LaunchRunSuccess", answer
            return str(answer["run"]["runId"])

        def ends(run_id: str, status: str) -> bool:
            return (run_id, status) in {(run["runId"], run["status"]) for run in services.runs()}

        def statuses() -> tuple[int, int]:
            """Of the three partitions: materialized and failed ones."""
            found = services.query(STATUS, key={"path": [index]})["assetNodeOrError"]
            stats = found["partitionStats"]
            assert stats["numMaterializing"] == 0
            return stats["numMaterialized"], stats["numFailed"]

        killed = load()
        wait_until(lambda: count(es, index) > january, "the second partition")
        os.kill(process_of(instance, killed), signal.SIGKILL)
        wait_until(lambda: ends(killed, "FAILURE"), "the killed run to be seen")
        assert statuses() == (1, 2)

        terminated = load()
        wait_until(lambda: count(es, index) > february, "the third partition")
        services.query(
            "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }", id=terminated
        )
        wait_until(lambda: ends(terminated, "CANCELED"), "the run to end")
        assert statuses() == (2, 1)

        finished = load()
        wait_until(lambda: ends(finished, "SUCCESS"), "the last run")
        assert statuses() == (3, 0)
        recorded = Counter(
            record.run_id
            for record in instance.fetch_materializations(dg.AssetKey(index), limit=100).records
        )
    assert recorded == {killed: 1, terminated: 2, finished: 3}
    assert count(es, index) == 20000


def count_in(days: range) -> int:
    """Rows on these days of the year."""
    return sum(number % 90 in days for number in range(1, 20001))


def process_of(instance: dg.DagsterInstance, run_id: str) -> int:
    found = [
        re.search(r"pid: (\d+)", entry.message or "")
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    ]
    [pid, *_] = [int(one[1]) for one in found if one]
    return pid
