"""How much is sent at once, and how fast."""

import random
import time
from collections import Counter

from elasticsearch import ConflictError, Elasticsearch, NotFoundError

from pg_es_pipeline.settings import BatchingSettings
from pg_es_pipeline.sync import elastic
from pg_es_pipeline.sync.pressure import Signs

MAX_REQUEST_BYTES = 5_000_000
"""A bulk request is closed when it reaches this size; larger ones gain nothing and cost memory."""

BLOCK_ROWS = 200
"""Rows that PostgreSQL puts together at most: with ten times as many, little is left to gain."""

QUICK_SECONDS, FAIR_SECONDS, SLOW_SECONDS = 0.1, 1.5, 3.0
"""A quick bulk request makes the next ones larger, a fair one brings them nearer to what the
first were, and a slow one makes them smaller. With a tenth of a second's work in it, what a request
costs by itself hardly counts: larger ones cost Elasticsearch more, and memory. What is under way is
then little enough to be through soon, should Elasticsearch become slow."""

_SLOW = f"requests take more than {SLOW_SECONDS:.0f} s"

FIRST_DOCUMENTS, FIRST_CONNECTIONS = 2_000, 3


class Flow:
    """How many documents a bulk request has, and how many are under way at once.

    Additive increase, multiplicative decrease, within MIN_BATCH_SIZE to MAX_BATCH_SIZE and
    POOL_SIZE: by how long requests take, by what was refused, and by what the nodes say of
    themselves.
    """

    def __init__(self, smallest: int, largest: int, most_connections: int) -> None:
        self._smallest, self._largest = smallest, largest
        self._most = largest, most_connections
        self._first = (
            min(largest, max(smallest, FIRST_DOCUMENTS)),
            min(most_connections, FIRST_CONNECTIONS),
        )
        self.documents, self.connections = self._first
        """Of the next request; requests at once."""
        self.throttled: Counter[str] = Counter()
        """Why less was sent, and how often."""
        self._eased = self._last_fair = float("-inf")
        # Until the nodes have said what time they have.
        self._busy = True
        self._fair = 0
        """Requests since the number of connections changed."""

    @classmethod
    def of(cls, settings: BatchingSettings) -> "Flow":
        """A rate limit is kept smooth by requests of at most one second's worth."""
        largest = settings.max_batch_size
        if settings.rate_limit:
            largest = max(settings.min_batch_size, min(largest, settings.rate_limit))
        return cls(settings.min_batch_size, largest, settings.pool_size)

    @property
    def block(self) -> int:
        """Rows that PostgreSQL puts together: few enough for a request to be a number of blocks."""
        return max(1, min(BLOCK_ROWS, self.documents // 10))

    def done(self, began: float, seconds: float, retried: str | None = None) -> None:
        """Learns from a request that began then (time.monotonic), and why it was retried, if so."""
        if retried:
            self._ease(began, retried)
        elif seconds > SLOW_SECONDS:
            # Elasticsearch lets some requests write segments: it is not slow if later ones are not.
            if began > self._last_fair:
                self._ease(began, _SLOW)
        elif seconds < FAIR_SECONDS:
            self._last_fair = max(self._last_fair, began)
            # Of a node without time, more at once brings no more.
            quick = seconds < QUICK_SECONDS and not self._busy
            documents, connections = self._most if quick else self._first
            step = max(1, self._largest // 50)
            self.documents += max(-step, min(step, documents - self.documents))
            self._fair += 1
            if self._fair >= self.connections != connections:
                self.connections += 1 if self.connections < connections else -1
                self._fair = 0

    def waiting(self, began: float) -> None:
        """Learns from a request that is still under way."""
        if time.monotonic() - began > SLOW_SECONDS:
            self._ease(began, _SLOW)

    def look(self, signs: Signs) -> None:
        """Learns from what the nodes say of themselves."""
        self._busy = signs.busy
        if signs.trouble:
            self._ease(time.monotonic(), signs.trouble)

    def _ease(self, began: float, why: str) -> None:
        # What was sent before the last time says nothing about what was sent less since.
        if began < self._eased:
            return
        self._eased = time.monotonic()
        self.throttled[why] += 1
        self.documents = max(self._smallest, self.documents // 2)
        self.connections = max(1, self.connections // 2)
        self._fair = 0


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
