"""Runs seeds, and says which of them went wrong and how to run those again."""

import argparse
import signal
import sys
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from tests.torture import servers
from tests.torture.scenario import Result, run, summary


def run_all(seeds: Iterable[int], jobs: int) -> list[Result]:
    """Runs the seeds, so many at a time, each of those with servers of its own.

    An interrupt ends it after the seeds under way, with the servers gone.
    """
    waiting = deque(seeds)

    def work() -> list[Result]:
        results = []
        with servers.started() as mine:
            while True:
                try:
                    seed = waiting.popleft()
                except IndexError:
                    break
                results.append(run(seed, mine))
                report(results[-1])
        return results

    with ThreadPoolExecutor(jobs) as pool:
        workers = [pool.submit(work) for _ in range(jobs)]
        try:
            return [result for worker in workers for result in worker.result()]
        finally:
            waiting.clear()


def report(result: Result) -> None:
    """A line; for a seed that failed also what is wrong and how to run it again."""
    lines = [str(result)]
    if result.failed:
        lines += [f"    {line}" for line in result.details()]
        lines.append(f"    run it again: make torture SEED={result.seed}")
    print("\n".join(lines), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--seeds", type=int, default=20, help="how many to run (20)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time (1)")
    given = parser.parse_args()
    if given.seed is not None:
        given.first, given.seeds = given.seed, 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = run_all(range(given.first, given.first + given.seeds), min(given.jobs, given.seeds))
    failed = sorted(result.seed for result in results if result.failed)
    if failed:
        print(f"seeds that failed: {', '.join(map(str, failed))}")
    print(summary(results))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
