"""`make bench-search`: measures the search service, prints a table, and writes
build/bench-search.json."""

import argparse
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine, report, tables
from benchmarks.child import ROOT, run
from benchmarks.plan import SMALLEST, Plan
from benchmarks.records import Results
from benchmarks.servers import started
from benchmarks.service import memory, overload, quiet, throughput, wrk
from benchmarks.service.asked import INDEX, Searches
from benchmarks.service.plan import Bench
from benchmarks.service.process import running
from dev.apt import NotInstalled

ROWS = 300_000

_PACKAGES = (
    *("pg-es-pipeline", "fastapi", "starlette", "uvicorn", "uvloop", "httptools"),
    *("elastic-transport", "msgspec", "pydantic"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each part (5)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rows (1)")
    parser.add_argument("--length", type=float, default=1.0, help="of what takes long (1)")
    parser.add_argument("--workers", type=int, default=1, help="processes of the service (1)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32), help="of the order")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench-search.json")
    given = parser.parse_args()
    if min(given.rounds, given.workers) < 1 or min(given.scale, given.length) < SMALLEST:
        parser.error(f"one round and worker at least, a scale and a length of {SMALLEST} at least")
    say = report.clock()
    try:
        program = wrk.program(os.environ, ROOT / "build" / "wrk.log")
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    plan = Plan(given.rounds, given.scale, given.seed, say)
    say(f"seed {plan.seed}, {plan.rounds} rounds, scale {plan.scale:g}, length {given.length:g}")
    results = measure(plan, program, given.length, given.workers)
    report.finish(results, given.output)
    return 0


def measure(plan: Plan, program: str, length: float, workers: int) -> Results:
    """All parts, one after the other. Raises WrongAnswer."""
    with started() as servers:
        about = machine.machine() | {"workers of the service": workers, "length": length}
        results = Results(
            machine=about,
            versions=machine.versions(servers, _PACKAGES),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=plan.seed,
            rounds=plan.rounds,
            scale=plan.scale,
        )
        with servers.connect() as connection:
            tables.make(connection, tables.NARROW, plan.rows(ROWS), INDEX)
        run("engine:load", servers, table=INDEX)
        plan.say(f"{plan.rows(ROWS):,} rows are loaded")
        with running(servers, workers) as service:
            searches = Searches(servers, service, plan.rng)
            bench = Bench(servers, service, searches, plan, program, length)
            results.records += quiet.measure(bench)
            results.records += throughput.measure(bench)
            results.records += quiet.features(bench)
            results.records += overload.measure(bench)
            results.records += memory.of_exports(bench)
            # It leaves walks behind, which exports would have to wait for.
            results.records += memory.over_requests(bench)
    return results


if __name__ == "__main__":
    sys.exit(main())
