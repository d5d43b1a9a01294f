"""What compressed bulk requests cost, and where they pay.

    python -m benchmarks.compression [ROWS]

The same table is loaded with its requests as they are, and compressed: straight to Elasticsearch,
and through a narrow way. The loads take turns.
"""

import sys
from typing import Any

from rich.console import Console

from benchmarks import engine, indices, report, tables
from benchmarks.child import run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers, started
from benchmarks.way import NARROW_BYTES, Way

ROWS = 100_000
REPETITIONS = 5

STRAIGHT, NARROW = "straight", f"{NARROW_BYTES / 1e6:g} MB/s"
AS_IT_IS, COMPRESSED = "as it is", "compressed"


def measure(servers: Servers, plan: Plan, table: str) -> list[Record]:
    """Each way, and each kind of request."""
    loads = [(way, how) for way in (STRAIGHT, NARROW) for how in (AS_IT_IS, COMPRESSED)]
    found: dict[tuple[str, str], list[dict[str, Any]]] = {one: [] for one in loads}
    for number in range(plan.rounds):
        for way, how in plan.rng.sample(loads, len(loads)):
            indices.delete(servers, table)
            given = {"table": table, "is_narrow": way == NARROW, "compresses": how == COMPRESSED}
            found[way, how].append(run("compression:load", servers, **given))
        plan.say(f"round {number + 1} of {plan.rounds}")
    indices.delete(servers, table)
    records: list[Record] = []
    for way, how in loads:
        speeds, plain = (
            [one["rows"] / one["seconds"] for one in found[way, kind]] for kind in (how, AS_IT_IS)
        )
        reference = (f"{way} · {AS_IT_IS} · speed", plain) if how == COMPRESSED else ()
        cpu = [one["cpu"] * 1e6 / one["rows"] for one in found[way, how]]
        records += [
            record(f"{way} · {how} · speed", "docs/s", speeds, *reference),
            record(f"{way} · {how} · client CPU", "CPU s/M docs", cpu),
        ]
    return records


def load(servers: Servers, table: str, is_narrow: bool, compresses: bool) -> dict[str, Any]:
    """One first load."""
    if compresses:
        servers = servers.compressing()
    if not is_narrow:
        return engine.load(servers, table)
    with Way(servers) as way, way.narrowed():
        return engine.load(servers.behind(way.port), table)


def main() -> None:
    """Measures, and prints a table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    console = Console(stderr=True)
    plan = Plan(rounds=REPETITIONS, scale=rows / ROWS, seed=0, say=console.print)
    with started() as servers:
        with servers.connect() as connection:
            tables.make(connection, tables.NARROW, rows)
        records = measure(servers, plan, tables.NARROW.name)
    report.show(records, f"{rows:,} rows of 11 columns, median of {REPETITIONS}")


if __name__ == "__main__":
    main()
