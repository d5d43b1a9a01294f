"""How long a code location takes to load, without servers.

    python -m benchmarks.definitions [TABLES]

Each round is a process of its own, as a code server is: it imports Dagster and this project, makes
the definitions of so many tables, and the answer that the webserver gets about them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console

from benchmarks import report
from benchmarks.child import ROOT
from benchmarks.records import record

TABLES = 500
REPETITIONS = 5

_PARTITIONS: tuple[dict[str, object], ...] = (
    {},
    {"partitions": {"by": "month", "column": "placed", "start": "2020-01-01"}},
    {"partitions": {"by": "hash", "buckets": 8}},
)


def load() -> dict[str, float]:
    """Seconds of each part, in this process."""
    moments = [time.monotonic()]
    from dagster._core.remote_representation.external_data import RepositorySnap

    from pg_es_pipeline.orchestration.build import build_defs

    moments.append(time.monotonic())
    repository = build_defs().get_repository_def()
    moments.append(time.monotonic())
    RepositorySnap.from_def(repository, defer_snapshots=True)
    moments.append(time.monotonic())
    parts = zip(("imports", "definitions", "snapshots"), moments, moments[1:], strict=False)
    return {name: end - begin for name, begin, end in parts} | {"all": moments[-1] - moments[0]}


def main() -> None:
    """Measures, and prints a table."""
    if sys.argv[1:] == ["--once"]:
        print(json.dumps(load()))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else TABLES
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.yaml"
        tables = [
            {"table": f"public.t{number}", **_PARTITIONS[number % len(_PARTITIONS)]}
            for number in range(count)
        ]
        file.write_text(yaml.safe_dump({"tables": tables}))
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PG_")
        }
        for _ in range(REPETITIONS):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.definitions", "--once"],
                cwd=ROOT,
                env={**environment, "PG_ES_TABLES": str(file)},
                capture_output=True,
                text=True,
                check=True,
            )
            for name, seconds in json.loads(done.stdout).items():
                found.setdefault(name, []).append(seconds)
    records = [
        record(f"load {count} tables · {name}", "s", values) for name, values in found.items()
    ]
    report.show(records, f"{count} tables, median of {REPETITIONS}")
    Console(stderr=True).print("imports: Dagster's and ours; snapshots: what the webserver is told")


if __name__ == "__main__":
    main()
