"""A loader: a process that brings stale partitions up to date until it is told to end, or killed.

    python -m tests.torture.loader PLAN SEED LOG

PLAN is a JSON file with the entries of the tables file, LOG a file that gets a line for each load.
PG_* and ES_* name the servers; Elasticsearch is meant to be the proxy.
"""

import faulthandler
import json
import logging
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from pg_es_pipeline.errors import PipelineError
from pg_es_pipeline.settings import (
    BatchingSettings,
    ElasticsearchSettings,
    PostgresSettings,
    read,
)
from pg_es_pipeline.sync import elastic, load, partition_load, reindex
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.tables import Table

# A load of hundreds of rows is to have several chunks and checkpoints, and a fault is to end within
# seconds, not minutes.
SHORTER = {
    (elastic, "REQUEST_TIMEOUT"): 1.0,
    (load, "RETRY_SECONDS"): 2.0,
    (reindex, "LOCK_WAIT"): "300ms",
    (reindex, "SWITCH_SECONDS"): 3.0,
    (partition_load, "CHUNK_ROWS"): 150,
    (partition_load, "CHECKPOINT_SECONDS"): 0.1,
}


class Loader:
    """Loads in a loop; `run` returns when the process was asked to end."""

    def __init__(self, tables: list[Table], seed: str, log: Path) -> None:
        self._tables = tables
        self._random = random.Random(seed)
        self._log = log.open("a", buffering=1)
        self._ended = False
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ended = True

    def run(self) -> None:
        while not self._ended:
            largest = self._random.choice([50, 200, 1_000])
            batching = BatchingSettings(
                min_batch_size=10, max_batch_size=largest, pool_size=self._random.randint(1, 4)
            )
            with Engine(read(PostgresSettings), read(ElasticsearchSettings), batching) as engine:
                for _ in range(self._random.randint(1, 10)):
                    if not self._ended:
                        self._step(engine)

    def _step(self, engine: Engine) -> None:
        table = self._random.choice(self._tables)
        what = "looking"
        try:
            source = engine.source(table)
            stale, _moment = engine.stale(source)
            partitions = [one.partition for one in stale]
            self._random.shuffle(partitions)
            has_index = not stale or any(one.rows is not None for one in stale)
            if has_index and self._random.random() < 0.15:
                what = f"reconcile {table.index}"
                engine.reconcile(source)
                self._note(done="reconcile")
            if has_index and self._random.random() < 0.08:
                what = f"reindex {table.index}"
                engine.reindex(source)
                self._note(done="reindex")
            for partition in partitions[: self._random.randint(1, 4)]:
                what = f"load {table.index} {partition}"
                full = self._random.random() < 0.1
                report = engine.sync(source, partition, full=full)
                self._note(done="load", rows=report.rows, retries=report.retries)
            engine.refresh()
        except PipelineError as error:
            self._note(
                done="error",
                what=what,
                passing=error.passing,
                kind=type(error).__name__,
                error=str(error),
            )
            time.sleep(0.1)  # a server may be down: leave it the processor
        except Exception:
            self._note(done="crash", what=what, error=traceback.format_exc())

    def _note(self, **fields: Any) -> None:
        self._log.write(json.dumps(fields) + "\n")


def main() -> None:
    faulthandler.register(signal.SIGUSR1)
    # It warns on stderr when a server that went away cannot be told to cancel a statement.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    plan, seed, log = sys.argv[1:]
    for (module, name), value in SHORTER.items():
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)
    tables = [Table.model_validate(entry) for entry in json.loads(Path(plan).read_text())]
    Loader(tables, seed, Path(log)).run()


if __name__ == "__main__":
    main()
