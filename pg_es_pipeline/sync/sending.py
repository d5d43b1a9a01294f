"""Keeps several of a load's batches under way at once.

A batch is in memory until it is acknowledged itself. Who goes by the order of the reading, as the
checkpoint does, hears of it when all before it are acknowledged too.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass

from pg_es_pipeline.sync.extract import Batch
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.load import Loader, Outcome
from pg_es_pipeline.sync.throttle import SLOW_SECONDS, Flow

AHEAD_BYTES = 64_000_000
"""So much is sent behind a request that takes long before it is waited for: Elasticsearch may let
it write a segment for seconds, and take others meanwhile."""

Passed = Callable[[Batch], None]
"""Hears that a batch is acknowledged, and all that were read before it."""


@dataclass(slots=True)
class _Sent:
    """A batch that has not passed."""

    batch: Batch
    """Without its body once it is entered."""
    size: int
    passed: Passed
    is_entered: bool = False
    """What became of it is in the books."""


class Sending:
    """The batches of one load that are under way, and those that wait for one before them.

    Args:
        enter: takes what became of a batch into the books; what it raises ends the load.
        tell: is called after each.
    """

    def __init__(
        self,
        loader: Loader,
        flow: Flow,
        generation: Generation,
        enter: Callable[[Outcome], None],
        tell: Callable[[], None],
    ) -> None:
        self._loader = loader
        self._flow = flow
        self._generation = generation
        self._enter_outcome = enter
        self._tell = tell
        self._sent: deque[_Sent] = deque()
        """In the order of the reading."""
        self._sent_bytes = 0
        self._under_way: dict[Future[Outcome], _Sent] = {}

    def send(self, batch: Batch, passed: Passed) -> None:
        """Sends a batch as soon as there is room for it."""
        self._settle_until(self._has_room)
        future = self._loader.submit(self._generation, batch)
        sent = self._under_way[future] = _Sent(batch, len(batch.body), passed)
        self._sent.append(sent)
        self._sent_bytes += sent.size

    def wait_for_all(self) -> None:
        """Until every batch has passed."""
        self._settle_until(lambda: not self._under_way)

    def keep_what_arrived(self) -> None:
        """After an error: waits for what is under way, and lets pass what arrived in order. Its own
        errors are left aside: the first one is the one to tell."""
        wait(self._under_way)
        for future in list(self._under_way):
            with suppress(Exception):
                self._enter(future)
        with suppress(Exception):
            self._move_on()

    def _has_room(self) -> bool:
        is_idle = len(self._under_way) < self._flow.connections
        return is_idle and self._sent_bytes < AHEAD_BYTES

    def _settle_until(self, enough: Callable[[], bool]) -> None:
        self._settle()
        while not enough():
            self._wait_for_any()
            self._settle()

    def _wait_for_any(self) -> None:
        began = time.monotonic()
        while self._under_way and not wait(self._under_way, SLOW_SECONDS, FIRST_COMPLETED).done:
            self._flow.waiting(began)

    def _settle(self) -> None:
        for future in [one for one in self._under_way if one.done()]:
            self._enter(future)
            self._tell()
        self._move_on()

    def _enter(self, future: Future[Outcome]) -> None:
        sent = self._under_way[future]
        self._enter_outcome(future.result())
        sent.batch.body, sent.is_entered = b"", True
        del self._under_way[future]

    def _move_on(self) -> None:
        while self._sent and self._sent[0].is_entered:
            sent = self._sent[0]
            sent.passed(sent.batch)
            self._sent.popleft()
            self._sent_bytes -= sent.size
