"""What is aimed at, beside what was measured."""

from collections.abc import Iterator

from benchmarks.goals import Goal
from benchmarks.records import Results
from benchmarks.report import number
from benchmarks.service.overload import IN_TIME, TIMES
from benchmarks.service.plan import CONNECTIONS

GROWTH = 1.1
"""What is called flat: by how much memory may differ."""


def goals(results: Results) -> Iterator[Goal]:
    """All of them. Raises LookupError where a figure is missing."""
    own = results.find("one at a time · own time · p50").value
    yield Goal(
        "one search after the other: at most 1.5 ms above Elasticsearch's own time, p50",
        f"{number(own)} ms",
        own <= 1.5,
    )
    share = results.find(f"{CONNECTIONS} connections · service · searches").ratio or 0
    yield Goal(
        f"{CONNECTIONS} connections: 0.9 of Elasticsearch's own throughput or more",
        f"{share:.2f}",
        share >= 0.9,
    )
    for record in results.records:
        if record.unit == "MB" and record.ratio is not None:
            yield Goal(
                f"{record.name.partition(' · ')[0]}: the same memory, within 10 %",
                f"{record.ratio:.2f} of that of a tenth",
                record.ratio <= GROWTH,
            )
    times = results.find("overload · p99 of the answered").ratio or 0
    yield Goal(
        f"asked {TIMES} times as much as it can: p99 of the answered at most 3 times the usual one",
        f"{times:.1f} times",
        times <= 3,
    )
    late = results.find(f"overload · turned away after {IN_TIME} ms").value
    slowest = results.find("overload · slowest of the turned away").value
    yield Goal(
        f"the others are turned away within {IN_TIME} ms",
        f"{100 - late:.2f} % are; the slowest after {number(slowest)} ms",
        late == 0,
    )
    lost = results.find("overload · neither answered nor turned away").value
    yield Goal("none is left without an answer", number(lost), lost == 0)
