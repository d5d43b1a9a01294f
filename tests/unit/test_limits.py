"""What dagster.yaml lets run at once: asked of the queue and of the pools as Dagster asks them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)

from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.names import BOOTSTRAP_TAG, CHANGES_POOL, POOL, TABLES_TAG
from pg_es_pipeline.tables import Table
from tests.queued import queued_run

REPOSITORY = Path(__file__).parents[2]
BACKFILL = "dagster/backfill"


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    for name in [name for name in os.environ if name.startswith("DAGSTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(REPOSITORY / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def started(instance: dg.DagsterInstance, *tags: dict[str, str]) -> list[dict[str, str]]:
    """The tags of the runs that leave the queue first, of runs with these."""
    for each in tags:
        instance.add_run(queued_run(each))
    with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
        runs = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
    return [{name: run.tags[name] for name in tags[0]} for run in runs]


@pytest.mark.parametrize(
    ("tag", "values", "first"),
    [
        (TABLES_TAG, ["a", "a", "a", "b"], ["a", "a", "b"]),
        (BOOTSTRAP_TAG, ["true"] * 3, ["true"] * 2),
        (BACKFILL, ["x", "x", "x", "y", "z", "z"], ["x", "x", "y", "z"]),
    ],
)
def test_of_runs_of_a_kind_as_many_leave_the_queue_as_their_limit_allows(
    instance: dg.DagsterInstance, tag: str, values: list[str], first: list[str]
) -> None:
    assert started(instance, *({tag: value} for value in values)) == [
        {tag: value} for value in first
    ]


@pytest.mark.parametrize("pool", [POOL, CHANGES_POOL])
def test_a_pool_is_limited_from_its_first_use_on(instance: dg.DagsterInstance, pool: str) -> None:
    def claims() -> Iterator[bool]:
        for number in range(3):
            run = dg.DagsterRun("load", run_id=f"run{number}")
            yield InstanceConcurrencyContext(instance, run).claim(pool, "step")

    assert list(claims()) == [True, True, False]


def test_changes_have_a_pool_of_their_own() -> None:
    defs = build_defs([Table(table="orders")])
    pools = {
        name: {node.pool for node in defs.resolve_job_def(name).graph.node_defs}
        for name in ("sync_all", "sync_orders", "load_orders", "reindex_orders")
    }
    assert pools == {
        "sync_all": {CHANGES_POOL},
        "sync_orders": {POOL},
        "load_orders": {POOL},
        "reindex_orders": {POOL},
    }
