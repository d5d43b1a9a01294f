"""What Dagster adds: from a tick to searchable changes, and a run of many partitions.

    python -m benchmarks.runs [ROUNDS]

Both with the repository's dagster.yaml and SQLite files in a new folder. A daemon as a deployment
has it ticks over ten tables in step; then a row of each is changed in one transaction, and the time
is taken from the beginning of the tick that finds them until a search finds them all. Beside it, a
run over 1,000 partitions with a row each, less what the loads in it have taken, is what recording
them costs.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.scheduler.instigation import TickStatus
from elasticsearch import ApiError
from psycopg import sql
from rich.console import Console

from benchmarks import report, tables
from benchmarks.child import ROOT, run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers, started
from dev.stack.processes import tail, wait_until
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.report import Report

ROUNDS = 5
TABLES = 10
ROWS = 1_000
PARTITIONS = 1_000
PATIENCE = 300

_PARTITIONED = "partitioned"


def measure(servers: Servers, plan: Plan) -> list[Record]:
    names = [f"searched_{number}" for number in range(TABLES)]
    with servers.connect() as connection:
        for name in names:
            tables.make(connection, tables.NARROW, ROWS, name)
        tables.make(connection, tables.NARROW, PARTITIONS, _PARTITIONED)
    ticks = run("runs:ticks", servers, names=names, repetitions=plan.rounds)["seconds"]
    plan.say(f"from tick to search: {', '.join(f'{one:.1f}' for one in ticks)} s")
    recorded = []
    for _ in range(plan.rounds):
        recorded.append(run("runs:partitions", servers))
        plan.say(
            "{partitions:,} partitions: {seconds:.1f} s, {loads:.1f} in loads".format_map(
                recorded[-1]
            )
        )
    return [
        record(f"from a tick to changes of {TABLES} tables in a search", "s", ticks),
        record(f"run of {PARTITIONS:,} partitions", "s", [one["seconds"] for one in recorded]),
        record(
            f"run of {PARTITIONS:,} partitions · beyond the loads",
            "s",
            [one["seconds"] - one["loads"] for one in recorded],
        ),
    ]


def ticks(servers: Servers, names: list[str], repetitions: int) -> dict[str, Any]:
    """Seconds from a tick's beginning until a search finds the changes of all tables."""
    entries = [tables.table(name).model_dump(include={"table", "index"}) for name in names]
    found = []
    with _project(servers, "ticking", entries) as instance, _daemon(), servers.client() as client:

        def searchable(city: str) -> bool:
            query = {"term": {"city.raw": city}}
            try:
                answer = client.search(index=names, size=0, query=query, ignore_unavailable=True)
            except ApiError:  # of an index that is just being made
                return False
            return bool(answer["hits"]["total"]["value"] == len(names))

        for number in range(repetitions + 1):
            city = f"Changed {number}"
            with servers.connect() as connection, connection.transaction():
                for name in names:
                    connection.execute(
                        sql.SQL("UPDATE {} SET city = %s, updated_at = now() WHERE id = %s").format(
                            sql.Identifier("public", name)
                        ),
                        [city, number + 1],
                    )
            if not wait_until(partial(searchable, city), PATIENCE):
                log = Path(os.environ["DAGSTER_HOME"], "daemon.log")
                raise TimeoutError(f"the changes of round {number} are not found. {tail(log)}")
            now = time.time()
            # The first round is the first load.
            if number:
                found.append(now - _requesting_tick(instance))
            _wait_for_the_runs(instance)
    return {"seconds": found}


def partitions(servers: Servers) -> dict[str, Any]:
    """The seconds of a run over partitions of a row each, and those of the loads in it."""
    entry = {
        **tables.table(_PARTITIONED).model_dump(include={"table", "index"}),
        "partitions": {"by": "list", "column": "id", "values": list(range(1, PARTITIONS + 1))},
    }
    with _project(servers, f"partitions-{time.time_ns()}", [entry]) as instance:
        from pg_es_pipeline.definitions import defs
        from pg_es_pipeline.orchestration.names import RANGE_END, RANGE_START

        job = defs.resolve_job_def(f"load_{_PARTITIONED}")
        began = time.monotonic()
        with _timed() as loads:
            result = job.execute_in_process(
                instance=instance, tags={RANGE_START: "1", RANGE_END: str(PARTITIONS)}
            )
        seconds = time.monotonic() - began
        events = result.asset_materializations_for_node(_PARTITIONED)
        if len(events) != PARTITIONS:
            raise AssertionError(f"{len(events):,} of {PARTITIONS:,} partitions were recorded")
    return {"partitions": PARTITIONS, "seconds": seconds, "loads": sum(loads)}


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds of each load that the engine makes meanwhile."""
    sync, seconds = Engine.sync, list[float]()

    def timed(*given: Any, **options: Any) -> Report:
        began = time.monotonic()
        try:
            return sync(*given, **options)
        finally:
            seconds.append(time.monotonic() - began)

    Engine.sync = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Engine.sync = sync  # type: ignore[method-assign]


@contextmanager
def _project(
    servers: Servers, name: str, entries: list[dict[str, Any]]
) -> Iterator[dg.DagsterInstance]:
    """An instance of its own with these tables, which the environment then names."""
    home = servers.folder / name
    home.mkdir()
    shutil.copy(Path(ROOT) / "dagster.yaml", home)
    listed = [{**entry, "cursor": {"column": "updated_at"}} for entry in entries]
    (home / "tables.yaml").write_text(yaml.safe_dump({"tables": listed}))
    os.environ |= {
        **servers.variables,
        "PG_ES_TABLES": str(home / "tables.yaml"),
        "DAGSTER_HOME": str(home),
        "SYNC_INTERVAL": "5",
    }
    with dg.DagsterInstance.get() as instance:
        yield instance


@contextmanager
def _daemon() -> Iterator[None]:
    command = [str(Path(sys.executable).parent / "dagster-daemon"), "run"]
    log = Path(os.environ["DAGSTER_HOME"], "daemon.log")
    with log.open("w") as output:
        daemon = subprocess.Popen(
            [*command, "-m", "pg_es_pipeline.definitions"],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(daemon.pid, signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)


def _requesting_tick(instance: dg.DagsterInstance) -> float:
    """When the last tick began that has requested runs."""
    [sensor] = [one for one in instance.all_instigator_state() if one.name == "sync_changes"]
    ticks = instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id, limit=20)
    return max(one.timestamp for one in ticks if one.status == TickStatus.SUCCESS)


def _wait_for_the_runs(instance: dg.DagsterInstance) -> None:
    def over() -> bool:
        return all(one.is_finished for one in instance.get_runs(limit=5))

    if not wait_until(over, PATIENCE):
        raise TimeoutError("a run does not end")


def main() -> None:
    """Measures, and prints a table."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else ROUNDS
    plan = Plan(rounds=rounds, scale=1, seed=0, say=Console(stderr=True).print)
    with started() as servers:
        records = measure(servers, plan)
    report.show(records, f"Medians of {rounds} rounds")


if __name__ == "__main__":
    main()
