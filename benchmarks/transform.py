"""What a `transform` costs a first load.

    python -m benchmarks.transform [ROWS]

The same table is loaded as it is, through a function that gives back what it gets, and through one
that derives, renames and drops. The loads take turns; then the same without sending anything, which
shows what one process can do at most.
"""

import sys
from concurrent.futures import Future
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks import indices, report, tables
from benchmarks.child import measured, run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers, started
from pg_es_pipeline.sync.load import Loader, Outcome

if TYPE_CHECKING:  # a load without a transform is to be measured without it
    import pandas as pd

ROWS = 200_000
REPETITIONS = 5

SENT, KEPT = "to Elasticsearch", "to nothing"


def identity(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Changes nothing."""
    return frame


def typical(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Drops a quarter of the rows, derives two columns, renames one and leaves one out."""
    frame = frame[frame["status"] != "done"]
    return (
        frame.assign(
            weekday=frame["placed"].dt.day_name().astype("category"),
            domain=frame["email"].str.extract("@(.*)", expand=False),
        )
        .rename(columns={"note": "description"})
        .drop(columns=["street"])
    )


FUNCTIONS = {
    "none": None,
    "identity": "benchmarks.transform:identity",
    "derive, rename, drop": "benchmarks.transform:typical",
}


def measure(servers: Servers, plan: Plan) -> list[Record]:
    """Each function, sent and not sent."""
    rows = plan.rows(ROWS)
    with servers.connect() as connection:
        tables.make(connection, tables.NARROW, rows, "transformed")
    records: list[Record] = []
    for sink in (SENT, KEPT):
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in FUNCTIONS}
        for _ in range(plan.rounds):
            for name in plan.rng.sample(list(FUNCTIONS), len(FUNCTIONS)):
                indices.delete(servers, "transformed")
                found[name].append(run("transform:load", servers, name=name, sent=sink == SENT))
        plain = [rows / one["seconds"] for one in found["none"]]
        for name, loads in found.items():
            what = f"transform {sink} · {name}"
            reference = () if name == "none" else (f"transform {sink} · none · speed", plain)
            speeds = [rows / one["seconds"] for one in loads]
            records += [
                record(f"{what} · speed", "rows/s", speeds, *reference),
                record(
                    f"{what} · client CPU",
                    "CPU s/M rows",
                    [one["cpu"] * 1e6 / rows for one in loads],
                ),
                record(f"{what} · peak memory", "MB", [one["peak"] for one in loads]),
            ]
    indices.delete(servers, "transformed")
    return records


def load(servers: Servers, name: str, sent: bool) -> dict[str, Any]:
    """One first load through that function."""
    table = tables.table("transformed").model_copy(update={"transform": FUNCTIONS[name]})
    if not sent:
        Loader.submit = _take  # type: ignore[method-assign,assignment]
    with servers.engine() as engine:
        source = engine.source(table)
        with measured() as cost:
            engine.sync(source, "all")
    return asdict(cost)


def _take(_self: Any, _generation: Any, batch: Any) -> "Future[Outcome]":
    taken: Future[Outcome] = Future()
    taken.set_result(Outcome(batch))
    return taken


def main() -> None:
    """Measures, and prints a table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    console = Console(stderr=True)
    plan = Plan(rounds=REPETITIONS, scale=rows / ROWS, seed=0, say=console.print)
    with started() as servers:
        records = measure(servers, plan)
    report.show(records, f"{rows:,} rows of 11 columns, median of {REPETITIONS}")


if __name__ == "__main__":
    main()
