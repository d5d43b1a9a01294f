"""How much is sent at once, and how fast."""

import random
import time
from dataclasses import dataclass, field

from elasticsearch import ConflictError, Elasticsearch, NotFoundError

from pg_es_pipeline.settings import BatchingSettings
from pg_es_pipeline.sync import elastic

MAX_REQUEST_BYTES = 5_000_000
"""A bulk request is closed when it reaches this size; larger ones gain nothing and cost memory."""

BLOCK_ROWS = 100
"""Rows that PostgreSQL puts together at most: with ten times as many, little is left to gain."""

QUICK_SECONDS, SLOW_SECONDS = 1.0, 10.0
"""A bulk request that takes less makes the next ones larger; one that takes longer, smaller."""


@dataclass(slots=True)
class BatchSize:
    """Documents of the next bulk request: additive increase, multiplicative decrease."""

    smallest: int
    largest: int
    documents: int = field(init=False)

    def __post_init__(self) -> None:
        self.documents = min(self.largest, max(self.smallest, 2_000))

    @classmethod
    def of(cls, settings: BatchingSettings) -> "BatchSize":
        """A rate limit is kept smooth by requests of at most one second's worth."""
        largest = settings.max_batch_size
        if settings.rate_limit:
            largest = max(settings.min_batch_size, min(largest, settings.rate_limit))
        return cls(settings.min_batch_size, largest)

    @property
    def block(self) -> int:
        """Rows that PostgreSQL puts together: few enough for a request to be a number of blocks."""
        return max(1, min(BLOCK_ROWS, self.documents // 10))

    def done(self, seconds: float, retries: int) -> None:
        """Learns from a request that got through, after so many retries."""
        if retries or seconds > SLOW_SECONDS:
            self.documents = max(self.smallest, self.documents // 2)
        elif seconds < QUICK_SECONDS:
            self.documents = min(self.largest, self.documents + max(1, self.largest // 50))


class RateLimit:
    """Documents a second of the whole deployment, through one document in Elasticsearch.

    Each run reserves the time that its next documents take at the limit, behind what others have
    reserved, and waits for its turn.
    """

    _ID = "rate"

    def __init__(self, client: Elasticsearch, index: str, documents_per_second: int) -> None:
        self._client = client
        self._index = index
        self.documents_per_second = documents_per_second

    def wait(self, documents: int) -> float:
        """Waits until so many documents may be sent; returns the seconds that it took."""
        if not self.documents_per_second:
            return 0.0
        seconds = max(0.0, self._reserve(documents) - time.time())
        time.sleep(seconds)
        return seconds

    def _reserve(self, documents: int) -> float:
        while True:
            try:
                with elastic.speaking("keeping the rate limit"):
                    return self._try_to_reserve(documents)
            except _Taken:
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311

    def _try_to_reserve(self, documents: int) -> float:
        now = time.time()
        place: dict[str, object]
        try:
            found = self._client.get(index=self._index, id=self._ID)
            # A clock that was wrong once must not stop the deployment for as long as it was ahead.
            start = min(max(now, float(found["_source"]["free_at"])), now + 600)
            place = {"if_seq_no": found["_seq_no"], "if_primary_term": found["_primary_term"]}
        except NotFoundError:
            start, place = now, {"op_type": "create"}
        body = {"kind": "rate", "free_at": start + documents / self.documents_per_second}
        try:
            self._client.index(index=self._index, id=self._ID, document=body, **place)  # type: ignore[arg-type]
        except ConflictError:
            raise _Taken from None
        return start


class _Taken(Exception):
    """Another run reserved at the same moment."""
