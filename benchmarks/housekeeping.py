"""What a day of ticks costs Dagster's storage, and what it takes to remove it again.

`python -m benchmarks.housekeeping [RUNS]`. A tick that finds changes makes a run of one step that
materializes a partition; one that finds none, a tick alone. So many of each are recorded through
Dagster's own interfaces, in SQLite files as `dagster.yaml` has them, and a day has 1,440 of them.
"""

import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from benchmarks.child import ROOT
from pg_es_pipeline.orchestration.old_runs import remove_runs

DAY, YEAR = 1_440, 525_600
"""Ticks every 60 seconds."""

SKIPPED = "Every table is in step."


@dg.job(executor_def=dg.in_process_executor)
def sync_all() -> None:
    """A run like that of a small change."""

    @dg.op
    def sync(context: dg.OpExecutionContext) -> None:
        figures = {f"figure_{number}": number for number in range(20)}
        context.log.info("orders 2024-01: 10 rows in 0.1 s, 100 docs/s")
        context.log_event(dg.AssetMaterialization("orders", partition="2024-01", metadata=figures))

    sync()


def record_tick(instance: dg.DagsterInstance, run_id: str | None) -> None:
    """A tick that has requested a run, or none."""
    tick = instance.create_tick(
        TickData(
            instigator_origin_id="sync_changes",
            instigator_name="sync_changes",
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.STARTED,
            timestamp=time.time(),
            selector_id="sync_changes",
        )
    )
    status = TickStatus.SUCCESS if run_id else TickStatus.SKIPPED
    tick = tick.with_status(status, end_timestamp=time.time())
    instance.update_tick(tick.with_run_info(run_id=run_id) if run_id else tick.with_reason(SKIPPED))


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(count: int) -> None:
    """Prints the figures of a day, and a year's."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        shutil.copy(ROOT / "dagster.yaml", folder)
        os.environ["DAGSTER_HOME"] = home
        with dg.DagsterInstance.from_config(home) as instance:
            sync_all.execute_in_process(instance=instance)
            empty = size(folder)
            for _ in range(count):
                record_tick(instance, None)
            ticks = (size(folder) - empty) / count
            for _ in range(count):
                record_tick(instance, sync_all.execute_in_process(instance=instance).run_id)
            runs = (size(folder) - empty) / count - ticks
            started = time.perf_counter()
            done = remove_runs(instance, datetime.now(UTC) + timedelta(days=1))
            seconds = (time.perf_counter() - started) / done.runs
        print(f"a tick without changes: {ticks / 1e3:.1f} kB; with a run: {runs / 1e3:.0f} kB")
        print(
            f"a day without changes: {ticks * DAY / 1e6:.1f} MB, with one in each tick: "
            f"{runs * DAY / 1e6:,.0f} MB"
        )
        print(
            f"30 days of these: {runs * DAY * 30 / 1e9:.1f} GB; a year: {runs * YEAR / 1e9:.0f} GB"
        )
        print(
            f"removed: {done.runs:,} runs at {seconds * 1e3:.1f} ms each; a day's in "
            f"{seconds * DAY:.0f} s, a year's in {seconds * YEAR / 60:.0f} min"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
