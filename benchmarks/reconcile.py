"""How fast both sides are compared, and a table without a cursor brought up to date.

    python -m benchmarks.reconcile [ROWS …]

Every figure is the median of several runs, each in a process of its own, of which the peak memory
is taken too. In every run ten documents are wrong, or a thousandth of the rows has changed.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch
from rich.console import Console
from rich.table import Table as Grid

from dev.stack import Stack
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings, PostgresSettings
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.postgres import connect
from pg_es_pipeline.tables import Table

REPETITIONS = 3
WRONG = 10
SIZES = (100_000, 1_000_000, 2_000_000)

TABLES = {
    "keys, whole number": Table(
        table="public.numbered", index="numbered", cursor={"column": "updated_at"}
    ),
    "keys, text": Table(table="public.named", index="named", cursor={"column": "updated_at"}),
    "content": Table(
        table="public.numbered",
        index="hashed",
        cursor={"column": "updated_at"},
        content_hash=True,
    ),
    "snapshot run": Table(table="public.numbered", index="snapped", capture="snapshot"),
}

COLUMNS = """
    customer int, status text, amount numeric(10, 2), placed timestamptz, paid boolean,
    email text, street text, city text, note text,
    updated_at timestamptz DEFAULT now() - interval '1 hour'
"""
VALUES = """
    n %% 5000, (ARRAY['new', 'paid', 'sent', 'done'])[n %% 4 + 1], n %% 100000 / 100.0,
    '2024-01-01'::timestamptz + n * interval '1 minute', n %% 2 = 0,
    'customer' || n || '@example.org', n %% 300 || ' Long Street', 'City ' || n %% 900,
    repeat('word ' || n %% 977 || ' ', 8)
"""


def main() -> None:
    """Measures, and prints a table."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    grid = Grid(title=f"Median of {REPETITIONS} runs, {WRONG} wrong documents in each")
    for column in ("what", "rows", "seconds", "rows/s", "spread", "found", "MB at peak"):
        grid.add_column(column, justify="left" if column == "what" else "right")
    with tempfile.TemporaryDirectory(prefix="pg-es-bench-") as folder:
        Path(folder).chmod(0o755)
        stack = Stack(Path(folder), {}, ports="free")
        variables = stack.up()
        try:
            for size in sizes:
                _fill(variables, size)
                for what in TABLES:
                    _run("load", what, variables)
                    runs = [_measure(what, variables, size) for _ in range(REPETITIONS)]
                    seconds = statistics.median(run["seconds"] for run in runs)
                    grid.add_row(
                        what,
                        f"{size:,}",
                        f"{seconds:.2f}",
                        f"{size / seconds:,.0f}",
                        " ".join(f"{run['seconds']:.2f}" for run in runs),
                        f"{runs[0]['found']:,}",
                        f"{max(run['memory'] for run in runs):.0f}",
                    )
        finally:
            stack.down()
    Console().print(grid)


def _fill(variables: dict[str, str], size: int) -> None:
    with connect(_postgres(variables)) as connection:
        for table, key, value in (("numbered", "bigint", "n"), ("named", "text", "'k' || n")):
            connection.execute(f"DROP TABLE IF EXISTS public.{table}")
            connection.execute(f"CREATE TABLE public.{table} (id {key} PRIMARY KEY, {COLUMNS})")
            rows = f"SELECT {value}, {VALUES} FROM generate_series(1, %s) n"
            connection.execute(f"INSERT INTO public.{table} {rows}", [size])
            connection.execute(f"CREATE INDEX ON public.{table} (updated_at, id)")
        connection.execute("VACUUM ANALYZE public.numbered, public.named")
    with _client(variables) as client:
        for table in TABLES.values():
            client.indices.delete(index=f"{table.index}-000001", ignore_unavailable=True)


def _measure(what: str, variables: dict[str, str], size: int) -> dict[str, Any]:
    if what == "snapshot run":
        with connect(_postgres(variables)) as connection:
            connection.execute(
                "UPDATE public.numbered SET amount = amount + 1 WHERE id IN "
                "(SELECT id FROM public.numbered ORDER BY random() LIMIT %s)",
                [size // 1000],
            )
            connection.execute(
                "DELETE FROM public.numbered WHERE id IN "
                "(SELECT id FROM public.numbered ORDER BY random() LIMIT %s)",
                [size // 10_000],
            )
    else:
        with _client(variables) as client:
            index = TABLES[what].index
            random = {"function_score": {"random_score": {}}}
            hits = client.search(index=index, size=WRONG, query=random, source=False)["hits"][
                "hits"
            ]
            for hit in hits:
                client.delete(index=hit["_index"], id=hit["_id"])
    return _run("compare", what, variables)


def _postgres(variables: dict[str, str]) -> PostgresSettings:
    return PostgresSettings(
        **{name: variables[f"PG_{name}".upper()] for name in ("host", "port", "database", "user")},
        password=variables["PG_PASSWORD"],
    )


def _client(variables: dict[str, str]) -> Elasticsearch:
    return Elasticsearch(
        f"http://{variables['ES_HOST']}:{variables['ES_PORT']}", request_timeout=120
    )


def _run(task: str, what: str, variables: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reconcile", f"--{task}", what, json.dumps(variables)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _child(task: str, what: str, variables: dict[str, str]) -> None:
    elasticsearch = ElasticsearchSettings(host=variables["ES_HOST"], port=variables["ES_PORT"])
    with Engine(_postgres(variables), elasticsearch, BatchingSettings()) as engine:
        source = engine.source(TABLES[what])
        started = time.monotonic()
        found = 0
        if task == "load" or what == "snapshot run":
            report = engine.sync(source, "all")
            engine.refresh()
            found = report.rows
        else:
            found = engine.reconcile(source).differences
        seconds = time.monotonic() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "found": found, "memory": memory}))


if __name__ == "__main__":
    if sys.argv[1:2] in (["--load"], ["--compare"]):
        _child(sys.argv[1][2:], sys.argv[2], json.loads(sys.argv[3]))
    else:
        main()
