"""This project as Dagster runs it: an asset's materialization, and the sensor's look for changes.

Dagster keeps its history in files, as in a new deployment.
"""

import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from benchmarks.child import ROOT, measured
from benchmarks.servers import Servers
from benchmarks.tables import table as described
from pg_es_pipeline.orchestration.memory import Memory
from pg_es_pipeline.orchestration.sensors import look


def asset(servers: Servers, table: str) -> dict[str, Any]:
    """Materializes the asset of a table. `cost` is that of the whole run in this process, `step`
    and `load` are the seconds that the step took and the load in it."""
    folder = servers.folder / "project"
    folder.mkdir(exist_ok=True)
    entry = described(table).model_dump(include={"table", "index"})
    (folder / "tables.yaml").write_text(
        yaml.safe_dump({"tables": [{**entry, "cursor": {"column": "updated_at"}}]})
    )
    os.environ |= {**servers.variables, "PG_ES_TABLES": str(folder / "tables.yaml")}
    # What it makes follows from the environment.
    from pg_es_pipeline.definitions import defs

    job = defs.resolve_job_def(f"load_{table}")
    with _instance(servers) as instance:
        with measured() as cost:
            result = job.execute_in_process(
                instance=instance,
                partition_key="all",
                run_config={"ops": {table: {"config": {"full": True}}}},
            )
        [materialized] = result.asset_materializations_for_node(table)
    [step] = [event for event in result.all_node_events if event.is_step_success]
    figures = {name: entry.value for name, entry in materialized.metadata.items()}
    return {
        **asdict(cost),
        "rows": figures["rows"],
        "step": step.step_success_data.duration_ms / 1000,
        "load": figures["seconds"],
    }


def ticks(servers: Servers, tables: list[str], repetitions: int) -> dict[str, Any]:
    """Looks for changes of tables that are in step, as the sensor does, each time with connections
    of its own. Raises AssertionError when it finds some."""
    wanted = [described(name) for name in tables]
    seconds = []
    with _instance(servers) as instance:
        for _ in range(repetitions):
            began = time.monotonic()
            with servers.engine() as engine:
                found = look(engine, wanted, instance, Memory(seen=time.time()))
                engine.record_in_step(found.in_step)
                engine.remove_old_generations(wanted)
            seconds.append(time.monotonic() - began)
            assert len(found.in_step) == len(tables), found
    return {"seconds": seconds}


def _instance(servers: Servers) -> dg.DagsterInstance:
    home = servers.folder / "dagster"
    home.mkdir(exist_ok=True)
    shutil.copy(Path(ROOT) / "dagster.yaml", home)
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()
