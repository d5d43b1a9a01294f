"""A table of which one row in a hundred has changed."""

from benchmarks import indices, tables
from benchmarks.ceiling import Feeder
from benchmarks.child import run
from benchmarks.loads import CEILING, load
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers
from dev.stack.processes import wait_until
from pg_es_pipeline.sync.snapshot import horizon

ROWS = 1_000_000
SHARE = 100

_TABLE = "changing"
_CHANGE = f"""
WITH changed AS (
    UPDATE public.{_TABLE} SET amount = amount + 1, updated_at = clock_timestamp()
    WHERE id = ANY (%s) RETURNING updated_at
)
SELECT max(updated_at)::text FROM changed
"""


def measure(servers: Servers, plan: Plan, feeder: Feeder) -> list[Record]:
    """Loads what has changed; beside it the ceiling's load of so many documents."""
    rows = plan.rows(ROWS)
    many = rows // SHARE
    with servers.connect() as connection:
        tables.make(connection, tables.NARROW, rows, _TABLE)
    run("engine:load", servers, table=_TABLE)
    seconds: list[float] = []
    ceiling: list[float] = []
    for number in range(plan.rounds):
        for work in plan.rng.sample(["changes", CEILING], 2):
            if work == CEILING:
                took = load(servers, plan, CEILING, "narrow", many, feeder).seconds
                ceiling.append(took)
            else:
                took = _load_changes(servers, plan.rng.sample(range(1, rows + 1), many), rows)
                seconds.append(took)
            plan.say(f"round {number + 1}: {many:,} rows, {work}: {took:.2f} s")
    indices.delete(servers, _TABLE)
    reference = f"changes · {CEILING}, {many:,} documents"
    return [
        record(reference, "s", ceiling),
        record(f"changes · {many:,} of {rows:,} rows", "s", seconds, reference, ceiling),
    ]


def _load_changes(servers: Servers, ids: list[int], rows: int) -> float:
    """Changes these rows, and loads them once they are safe to have been seen; in seconds."""
    with servers.engine() as engine:
        lookback = tables.table(_TABLE).cursor.lookback
        row = engine.connection.execute(_CHANGE, [ids]).fetchone()
        assert row is not None
        [changed] = row
        if not wait_until(lambda: horizon(engine.connection, lookback, None) > changed, 60):
            raise TimeoutError(f"the changes of {changed} are not settled: a transaction is open")
    found = run("engine:load", servers, table=_TABLE, full=False)
    if found["rows"] < len(ids):
        raise indices.WrongAnswer(f"{len(ids):,} rows have changed, {found['rows']:,} were loaded.")
    indices.require_right(servers, _TABLE, rows, ids[: indices.SAMPLE])
    return float(found["seconds"])
