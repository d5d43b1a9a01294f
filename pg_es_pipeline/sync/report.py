"""What a load has done so far."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pg_es_pipeline.sync import ndjson
from pg_es_pipeline.sync.extract import Refusal
from pg_es_pipeline.sync.load import Outcome
from pg_es_pipeline.sync.mappings import Difference

SAMPLE = 3
"""Documents kept to show what was loaded."""


@dataclass(slots=True)
class Report:
    """The figures of one partition's load: while it runs, and at its end."""

    index: str
    partition: str
    full: bool = False
    """Whether the whole partition was read."""
    rows: int = 0
    """Rows whose write Elasticsearch has acknowledged; deletes and superseded ones among them."""
    deletes: int = 0
    superseded: int = 0
    """Rows for which the index had something newer already."""
    lost: int = 0
    """Values that Elasticsearch cannot hold, written as null."""
    size: int = 0
    """Bytes of the bulk requests."""
    estimate: int = 0
    """Rows that PostgreSQL's planner expects altogether."""
    batch_size: int = 0
    connections: int = 0
    """Bulk requests at once."""
    throttled: Counter[str] = field(default_factory=Counter)
    """Why less was sent, and how often."""
    batches: int = 0
    retries: int = 0
    slowest: float = 0.0
    """Seconds of the slowest bulk request."""
    slowest_rows: int = 0
    """Rows of that request."""
    latest: float = 0.0
    """Seconds of the last bulk request."""
    waited: float = 0.0
    """Seconds spent waiting for RATE_LIMIT."""
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    watermark: list[str] | None = None
    lag_seconds: float | None = None
    """How far the horizon lies behind the clock at the end."""
    sample: list[dict[str, Any]] = field(default_factory=list)
    differences: tuple[Difference, ...] = ()
    """Why the table's rows ask for a new generation; empty: they fit into the live one."""
    refused: dict[str, Refusal] = field(default_factory=dict)
    """By `_id`: rows that were refused for good, and are not among `rows`."""

    @property
    def dead_letters(self) -> int:
        return len(self.refused)

    @property
    def seconds(self) -> float:
        return (self.ended or time.monotonic()) - self.started

    @property
    def docs_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def megabytes_per_second(self) -> float:
        return self.size / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds still to go by the estimate; None where there is nothing to go by."""
        if not self.rows or self.estimate <= self.rows:
            return None
        return (self.estimate - self.rows) / self.docs_per_second

    def add(self, outcome: Outcome) -> None:
        """Counts an acknowledged batch."""
        batch = outcome.batch
        self.rows += batch.rows + len(batch.unwritable) - len(outcome.refused)
        self.refused.update((one.id, one) for one in outcome.refused)
        self.size += len(batch.body)
        self.lost += batch.lost
        self.deletes += batch.deletes
        self.superseded += outcome.superseded
        self.batches += 1
        self.retries += outcome.retries
        if outcome.seconds > self.slowest:
            self.slowest, self.slowest_rows = outcome.seconds, batch.rows
        self.latest = outcome.seconds
        if len(self.sample) < SAMPLE and batch.rows > batch.deletes:
            documents = filter(None, (row.partition(b"\n")[2] for row in ndjson.rows(batch.body)))
            self.sample += map(json.loads, islice(documents, SAMPLE - len(self.sample)))
