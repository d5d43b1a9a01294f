"""Follows the first load through Dagster's events, and shows how far it is."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dev.demo.dagster import SENSOR, Dagster, Event, Load, Run, Tick
from dev.demo.errors import DemoError
from dev.demo.services import Services

SILENCE_SECONDS = 90

_POLL_SECONDS = 1.0
_LINE_SECONDS = 3.0
# The first of them says most: the failure of a step comes before that of its run.
_FAILURES = ("ExecutionStepFailureEvent", "RunFailureEvent")
_IN_STEP = "Every table is in step."


@dataclass
class Progressed:
    """How far the load of an index is."""

    partitions: dict[str, Load] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(load.rows for load in self.partitions.values())

    @property
    def docs_per_second(self) -> float:
        seconds = sum(load.seconds for load in self.partitions.values())
        return self.rows / seconds if seconds else 0.0

    def note(self, partition: str, load: Load) -> None:
        """Takes what is known of a partition."""
        # A step that is tried again goes on behind what it has loaded, and reports only the rest.
        known = self.partitions.get(partition)
        if known is None or load.rows >= known.rows:
            self.partitions[partition] = load


Show = Callable[[str, Progressed], None]


def follow(
    dagster: Dagster, services: Services, expected: Mapping[str, int], console: Console
) -> bool:
    """Returns when every table is in step; whether something had to be loaded for that.

    `expected` is the number of rows by index. Raises DemoError when a run or the sensor fails, or
    nothing happens for SILENCE_SECONDS.
    """
    progress = {index: Progressed() for index in expected}
    statuses: dict[str, str] = {}
    reasons: dict[str, list[str]] = {}
    heard = time.monotonic()
    with _display(expected, console) as show:
        while True:
            services.check()
            tick, runs = dagster.tick(), dagster.runs()
            for run in runs:
                if statuses.get(run.id) == run.status and run.is_over:
                    continue
                events = list(dagster.events(run))
                if events or statuses.get(run.id) != run.status:
                    heard = time.monotonic()
                statuses[run.id] = run.status
                for index in _take(events, progress):
                    show(index, progress[index])
                reasons.setdefault(run.id, []).extend(
                    event.message for event in events if event.kind in _FAILURES
                )
                _require_success(run, reasons[run.id], services)
            if (
                tick
                and _is_settled(tick, runs)
                and (tick.note == _IN_STEP or (runs and _all_loaded(dagster, expected)))
            ):
                return bool(runs)
            if time.monotonic() - heard > SILENCE_SECONDS:
                note = f" The sensor {SENSOR} says: {tick.note}" if tick and tick.note else ""
                raise DemoError(
                    f"nothing has happened in Dagster for {SILENCE_SECONDS} s.{note}\n"
                    f"Its logs: {services.log('dagster-daemon')} and {services.log('dagster')}"
                )
            time.sleep(_POLL_SECONDS)


def _is_settled(tick: Tick, runs: Sequence[Run]) -> bool:
    """Whether all that the sensor has asked for is over."""
    return (
        tick.is_over and tick.runs <= {run.id for run in runs} and all(run.is_over for run in runs)
    )


def _take(events: list[Event], progress: Mapping[str, Progressed]) -> set[str]:
    """Notes the figures in these events; returns the indices that have changed."""
    changed = set()
    for event in events:
        if event.index in progress and event.load is not None:
            progress[event.index].note(event.partition, event.load)
            changed.add(event.index)
    return changed


def _require_success(run: Run, reasons: Sequence[str], services: Services) -> None:
    if run.status == "CANCELED":
        raise DemoError(f"the run of {run.job} was cancelled")
    if run.status == "FAILURE":
        raise DemoError(
            f"the run of {run.job} has failed: {reasons[0] if reasons else 'it gives no reason'}\n"
            f"Its log: {services.log('dagster')}"
        )


def _all_loaded(dagster: Dagster, indices: Mapping[str, int]) -> bool:
    return all(None not in loads for loads in dagster.last_loads(list(indices)).values())


@contextmanager
def _display(expected: Mapping[str, int], console: Console) -> Iterator[Show]:
    """Bars, which vanish in the end, in a terminal; else lines."""
    if not console.is_terminal:
        yield _lines(expected, console)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,} rows"),
        TextColumn("{task.fields[rate]:,.0f} docs/s"),
        console=console,
        transient=True,
    ) as bars:
        tasks = {
            index: bars.add_task(index, total=rows, rate=0.0) for index, rows in expected.items()
        }
        yield lambda index, progress: bars.update(
            tasks[index], completed=progress.rows, rate=progress.docs_per_second
        )


def _lines(expected: Mapping[str, int], console: Console) -> Show:
    """A line for an index when it is done, and every few seconds until then."""
    shown: dict[str, float] = {}

    def show(index: str, progress: Progressed) -> None:
        now = time.monotonic()
        done = progress.rows >= expected[index]
        if now - shown.get(index, 0.0) < (0.0 if done else _LINE_SECONDS):
            return
        # Nothing follows the line that says it is done.
        shown[index] = float("inf") if done else now
        rate = f", {progress.docs_per_second:,.0f} docs/s" if progress.docs_per_second else ""
        console.print(f"  {index}: {progress.rows:,} of {expected[index]:,} rows{rate}")

    return show
