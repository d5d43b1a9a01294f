"""How fast both sides are compared, and a table without a cursor brought up to date.

    python -m benchmarks.reconcile [ROWS …]

Every figure is the median of several runs, each in a process of its own, of which the peak memory
is taken too. In every run ten documents are wrong, or a thousandth of the rows has changed.
"""

import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console

from benchmarks import indices, report, tables
from benchmarks.child import measured, run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers, started
from pg_es_pipeline.tables import Table

REPETITIONS = 3
WRONG = 10
ROWS = 1_000_000
SIZES = (100_000, 1_000_000, 2_000_000)

_CURSOR = {"column": "updated_at"}
TABLES = {
    "keys, whole number": Table(table="public.numbered", index="numbered", cursor=_CURSOR),
    "keys, text": Table(table="public.named", index="named", cursor=_CURSOR),
    "content": Table(table="public.numbered", index="hashed", cursor=_CURSOR, content_hash=True),
    "snapshot run": Table(table="public.numbered", index="snapped", capture="snapshot"),
}


def measure(servers: Servers, plan: Plan, rows: int, repetitions: int) -> list[Record]:
    """Compares tables of so many rows with their indices."""
    with servers.connect() as connection:
        tables.make(connection, tables.NARROW, rows, "numbered")
        tables.make(connection, tables.NARROW, rows, "named", key="text")
    records: list[Record] = []
    for what, table in TABLES.items():
        indices.delete(servers, table.index)
        run("reconcile:load", servers, what=what)
        found = []
        for _ in range(repetitions):
            _spoil(servers, what, rows)
            found.append(run("reconcile:compare", servers, what=what))
            plan.say(f"reconcile of {rows:,} rows, {what}: {found[-1]['seconds']:.2f} s")
        indices.delete(servers, table.index)
        name = f"reconcile · {rows:,} rows · {what}"
        records += [
            record(f"{name} · time", "s", [one["seconds"] for one in found]),
            record(f"{name} · speed", "rows/s", [rows / one["seconds"] for one in found]),
            record(f"{name} · peak memory", "MB", [one["peak"] for one in found]),
        ]
    with servers.connect() as connection:
        for name in ("numbered", "named"):
            tables.drop(connection, name)
    return records


def load(servers: Servers, what: str) -> dict[str, Any]:
    """The first load."""
    with servers.engine() as engine:
        engine.sync(engine.source(TABLES[what]), "all")
        engine.refresh()
    return {}


def compare(servers: Servers, what: str) -> dict[str, Any]:
    """Compares and repairs, or brings up to date what is compared in every run.

    Raises WrongAnswer when it has not found what is wrong.
    """
    with servers.engine() as engine:
        source = engine.source(TABLES[what])
        with measured() as cost:
            if what == "snapshot run":
                found = engine.sync(source, "all").rows
            else:
                found = engine.reconcile(source).differences
    if found < WRONG:
        raise indices.WrongAnswer(f"{what}: {found} differences were found of {WRONG} or more.")
    return asdict(cost)


def _spoil(servers: Servers, what: str, rows: int) -> None:
    """Makes some documents go, or some rows change."""
    if what == "snapshot run":
        some = "(SELECT id FROM public.numbered ORDER BY random() LIMIT %s)"
        with servers.connect() as connection:
            connection.execute(
                f"UPDATE public.numbered SET amount = amount + 1 WHERE id IN {some}",
                [max(WRONG, rows // 1_000)],
            )
            connection.execute(f"DELETE FROM public.numbered WHERE id IN {some}", [rows // 10_000])
        return
    drawn: dict[str, Any] = {"function_score": {"random_score": {}}}
    with servers.client() as client:
        found = client.search(index=TABLES[what].index, size=WRONG, query=drawn, source=False)
        for hit in found["hits"]["hits"]:
            client.delete(index=hit["_index"], id=hit["_id"])


def main() -> None:
    """Measures, and prints a table."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    console = Console(stderr=True)
    plan = Plan(rounds=REPETITIONS, scale=1, seed=0, say=console.print)
    with started() as servers:
        records = [one for size in sizes for one in measure(servers, plan, size, REPETITIONS)]
    report.show(records, f"Median of {REPETITIONS} runs, {WRONG} wrong documents in each")


if __name__ == "__main__":
    main()
