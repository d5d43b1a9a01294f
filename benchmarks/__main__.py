"""`make bench`: measures everything in one run, prints a table, and writes build/bench.json."""

import argparse
import secrets
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    ceiling,
    changes,
    generations,
    loads,
    machine,
    pressure,
    reconcile,
    report,
    search,
    tables,
    ticks,
)
from benchmarks.child import run
from benchmarks.plan import SMALLEST, Plan
from benchmarks.records import Results
from benchmarks.servers import Servers, started

_ROOT = Path(__file__).parents[1]

_MAIN = "narrow"
"""The table beside whose ceiling other figures are put."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each load (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows (1)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the order")
    parser.add_argument(
        "--tables",
        default=list(tables.SHAPES),
        type=lambda given: given.split(","),
        help=f"of the first loads, separated by commas ({','.join(tables.SHAPES)})",
    )
    parser.add_argument("--output", type=Path, default=_ROOT / "build" / "bench.json")
    given = parser.parse_args()
    if given.rounds < 1 or given.scale < SMALLEST:
        parser.error(f"one round at least, and a scale of {SMALLEST} at least")
    if _MAIN not in given.tables or set(given.tables) - set(tables.SHAPES):
        parser.error(f"the tables are {', '.join(tables.SHAPES)}; {_MAIN} is always one of them")
    say = report.clock()
    plan = Plan(given.rounds, given.scale, given.seed, say, given.tables)
    say(f"seed {plan.seed}, {plan.rounds} rounds, scale {plan.scale:g}")
    with started() as servers:
        results = measure(servers, plan)
    report.finish(results, given.output)


def measure(servers: Servers, plan: Plan) -> Results:
    """All parts, one after the other. Raises WrongAnswer, whatever else was measured."""
    results = Results(
        machine=machine.machine(),
        versions=machine.versions(servers),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=plan.seed,
        rounds=plan.rounds,
        scale=plan.scale,
    )
    with servers.connect() as connection:
        for name, shape in tables.SHAPES.items():
            tables.make(connection, shape, plan.rows(loads.ROWS[name]))
    feeders = {}
    for name in plan.tables:
        found = run(
            "ceiling:best",
            servers,
            shape=name,
            rows=plan.rows(loads.SEARCH_ROWS[name]),
            seed=plan.rng.randrange(2**32),
        )
        results.ceiling[name] = found
        feeders[name] = ceiling.Feeder(**found["best"])
        plan.say(f"{name}: the ceiling is best reached by {feeders[name]}")
    # Those loads have warmed the node up for the ceiling's requests. The pipeline's have versions.
    run("engine:load", servers, table=_MAIN)
    results.records += loads.measure(servers, plan, feeders)
    results.records += loads.growth(servers, plan, feeders[_MAIN])
    results.records += changes.measure(servers, plan, feeders[_MAIN])
    repetitions = min(plan.rounds, reconcile.REPETITIONS)
    results.records += reconcile.measure(servers, plan, plan.rows(reconcile.ROWS), repetitions)
    results.records += ticks.measure(servers, plan)
    results.records += search.measure(servers, plan)
    few, many = (loads.growing(plan.rows(rows)) for rows in loads.GROWTH)
    results.records += generations.measure(servers, plan, few)
    results.records += pressure.measure(servers, plan, many)
    return results


if __name__ == "__main__":
    main()
