"""What a tick of the sensor leaves to the next one: Dagster keeps it as the sensor's cursor."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, Self

import dagster as dg
from dagster import DagsterRunStatus
from pydantic import BaseModel, ValidationError

from pg_es_pipeline.orchestration.names import FAILED_TAG, tables_of

FIRST_WAIT, LONGEST_WAIT = 60.0, 3600.0
"""Seconds until a table whose run has failed gets another one: each time twice as many."""


class Failures(BaseModel):
    """Of a table: how often its runs have failed, one after the other."""

    count: int
    run_id: str
    """The last one."""
    until: float
    """When the next one is requested."""

    @property
    def wait(self) -> str:
        runs = "its last run has" if self.count == 1 else f"its last {self.count} runs have"
        return (
            f"{runs} failed or been terminated (the reason is in the log of run "
            f"{self.run_id[:8]}); the next one is requested at "
            f"{datetime.fromtimestamp(self.until, UTC):%H:%M:%S} UTC"
        )


class Memory(BaseModel):
    """Where to go on, and which tables to leave alone for how long."""

    version: Literal[1] = 1
    begin_with: str = ""
    """The index that the next tick looks at first."""
    seen: float
    """Runs that have ended until then are accounted for."""
    failures: dict[str, Failures] = {}
    """By index."""

    @classmethod
    def read(cls, cursor: str | None, now: float) -> Self:
        """What the last tick left; a new one where there is nothing, or nothing that it knows."""
        try:
            return cls.model_validate_json(cursor or "")
        except ValidationError:
            return cls(seen=now)

    def learn(self, ended: Iterable[dg.RunRecord]) -> None:
        """Takes the runs into account that have ended since the last tick."""
        for record in sorted(ended, key=lambda one: one.end_time or 0):
            run, end = record.dagster_run, record.end_time or 0
            if end <= self.seen:
                continue
            self.seen = end
            tables = set(tables_of(run.tags))
            # A run that was killed or terminated has not said which of its tables is to blame.
            failed = set(filter(None, run.tags.get(FAILED_TAG, "").split(","))) or tables
            if run.status == DagsterRunStatus.SUCCESS:
                failed = set()
            for index in tables - failed:
                self.failures.pop(index, None)
            for index in failed:
                self._blame(index, run.run_id, end)

    def _blame(self, index: str, run_id: str, end: float) -> None:
        before = self.failures.get(index)
        count = before.count + 1 if before else 1
        # No more doublings than it takes: the number would outgrow what a float can hold.
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(count - 1, 10))
        self.failures[index] = Failures(count=count, run_id=run_id, until=end + wait)

    def waiting(self, index: str, now: float) -> Failures | None:
        """The failures of a table that is to be left alone for now."""
        found = self.failures.get(index)
        return found if found and now < found.until else None

    def in_step(self, indices: Iterable[str]) -> None:
        """Whatever failed before, nothing is left to be done for these."""
        for index in indices:
            self.failures.pop(index, None)
