"""First loads: of three tables by this project, by others and as fast as can be; and of few rows
and many."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import indices, tables
from benchmarks.ceiling import Feeder
from benchmarks.child import run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers

ROWS = {"narrow": 500_000, "wide": 100_000, "text": 100_000}

SEARCH_ROWS = {"narrow": 100_000, "wide": 20_000, "text": 15_000}
"""For finding the ceiling's best way."""

GROWTH = (100_000, 2_000_000)

CEILING, ENGINE, ASSET, STREAMING = "ceiling", "engine", "asset", "streaming_bulk"
METHODS = {
    CEILING: "ceiling:load",
    ENGINE: "engine:load",
    ASSET: "orchestration:asset",
    STREAMING: "helpers_bulk:streaming",
    "parallel_bulk": "helpers_bulk:parallel",
}

# They load whole tables, make the index, and make searchable what they have written.
_THE_PROJECT = (ENGINE, ASSET)

Feeders = Mapping[str, Feeder]


@dataclass(frozen=True, slots=True)
class Load:
    """The figures of one load."""

    seconds: float
    speed: float
    """Documents a second; of an asset, of the load in its step."""
    step_speed: float
    """Of an asset, of the whole step; of all others the same as `speed`."""
    cpu: float
    """CPU seconds of the client for a million documents."""
    above: float
    """MB."""
    peak: float
    """MB."""
    start: float
    """Seconds from the start of the process to that of the load."""
    search: float
    """Milliseconds of the first search."""


def measure(servers: Servers, plan: Plan, feeders: Feeders) -> list[Record]:
    """Each table by each method, in random order within each round."""
    found: dict[str, dict[str, list[Load]]] = {
        table: {method: [] for method in METHODS} for table in plan.tables
    }
    for number in range(plan.rounds):
        for table in plan.rng.sample(plan.tables, len(plan.tables)):
            for method in plan.rng.sample(list(METHODS), len(METHODS)):
                # As many for the helpers, slow as they are: what becomes of a load when segments
                # have to be merged is seen late.
                rows = plan.rows(ROWS[table])
                one = load(servers, plan, method, table, rows, feeders[table])
                found[table][method].append(one)
                plan.say(f"round {number + 1}: {table}, {method}: {one.speed:,.0f} docs/s")
    records: list[Record] = []
    for table, loads in found.items():
        with servers.connect() as connection:
            size = tables.json_bytes(connection, table) / plan.rows(ROWS[table])
        records += _records(table, loads, size)
    return records


def growth(servers: Servers, plan: Plan, feeder: Feeder) -> list[Record]:
    """The narrow table with few rows, and with many."""
    sizes = [plan.rows(rows) for rows in GROWTH]
    with servers.connect() as connection:
        for rows in sizes:
            tables.make(connection, tables.NARROW, rows, growing(rows))
    methods = [(method, rows) for method in (CEILING, ENGINE) for rows in sizes]
    found: dict[tuple[str, int], list[Load]] = {one: [] for one in methods}
    # They take long, and differ by little.
    for number in range((plan.rounds + 1) // 2):
        for method, rows in plan.rng.sample(methods, len(methods)):
            one = load(servers, plan, method, growing(rows), rows, feeder)
            found[method, rows].append(one)
            plan.say(f"round {number + 1}: {rows:,} rows, {method}: {one.speed:,.0f} docs/s")
    records = []
    few, many = sizes
    for method in (CEILING, ENGINE):
        for figure, unit, value in (_SPEED, _ABOVE):
            small = list(map(value, found[method, few]))
            large = list(map(value, found[method, many]))
            reference = f"{few:,} rows · {method} · {figure}"
            records += [
                record(reference, unit, small),
                record(f"{many:,} rows · {method} · {figure}", unit, large, reference, small),
            ]
    return records


def load(servers: Servers, plan: Plan, method: str, table: str, rows: int, feeder: Feeder) -> Load:
    """Loads the first rows of a table into a new index, requires that it is right, and deletes it.

    Raises WrongAnswer.
    """
    if method in _THE_PROJECT:
        indices.delete(servers, table)
        found = run(METHODS[method], servers, table=table)
    else:
        given: dict[str, Any] = asdict(feeder) if method == CEILING else {}
        indices.empty(servers, table)
        found = run(METHODS[method], servers, table=table, rows=rows, **given)
        indices.refresh(servers, table)
    search = indices.require_right(servers, table, rows, plan.sample(rows))
    indices.delete(servers, table)
    seconds = found["seconds"]
    return Load(
        seconds=seconds,
        speed=rows / found.get("load", seconds),
        step_speed=rows / found.get("step", seconds),
        cpu=found["cpu"] * 1e6 / rows,
        above=found["peak"] - found["idle"],
        peak=found["peak"],
        start=found["start"],
        search=search,
    )


def growing(rows: int) -> str:
    """The name of the narrow table with so many rows."""
    return f"narrow_{rows}"


Figure = tuple[str, str, Callable[[Load], float]]
"""What it is called, its unit, and its value."""

_SPEED: Figure = ("speed", "docs/s", lambda one: one.speed)
_STEP: Figure = ("speed of the whole step", "docs/s", lambda one: one.step_speed)
_CPU: Figure = ("client CPU", "CPU s/M docs", lambda one: one.cpu)
_ABOVE: Figure = ("memory above idle", "MB", lambda one: one.above)
_BY_ITSELF: tuple[Figure, ...] = (
    _ABOVE,
    ("peak memory", "MB", lambda one: one.peak),
    ("start of the process", "s", lambda one: one.start),
    ("first search", "ms", lambda one: one.search),
)


def _records(table: str, found: Mapping[str, Sequence[Load]], size: float) -> list[Record]:
    """All figures of a table, of which a row has so many bytes."""
    records: list[Record] = []

    def beside_the_ceiling(method: str, figure: Figure, reference: Figure) -> None:
        name, unit, value = figure
        against, _, value_there = reference
        records.append(
            record(
                f"{table} · {method} · {name}",
                unit,
                list(map(value, found[method])),
                None if method == CEILING else f"{table} · {CEILING} · {against}",
                list(map(value_there, found[CEILING])),
            )
        )

    for method in METHODS:
        beside_the_ceiling(method, _SPEED, _SPEED)
        if method == ASSET:
            beside_the_ceiling(method, _STEP, _SPEED)
    for method in _THE_PROJECT:
        pairs = zip(found[method], found[STREAMING], strict=True)
        times = [one.speed / other.speed for one, other in pairs]
        records.append(record(f"{table} · {method} · beside {STREAMING}", "times", times))
    for method, loads in found.items():
        data = [one.speed * size / 1e6 for one in loads]
        records.append(record(f"{table} · {method} · data", "MB/s", data))
    for method in METHODS:
        beside_the_ceiling(method, _CPU, _CPU)
    for name, unit, value in _BY_ITSELF:
        for method, loads in found.items():
            records.append(record(f"{table} · {method} · {name}", unit, list(map(value, loads))))
    return records
