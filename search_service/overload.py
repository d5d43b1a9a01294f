"""What keeps the service and Elasticsearch working when more is asked than they can do."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import structlog
from elastic_transport import TransportError
from elasticsearch import ApiError

from search_service.errors import ServiceError, elasticsearch_away

log = structlog.get_logger(__name__)

QUEUE_SECONDS = 0.025
"""What a request waits for its turn at most: who is turned away is to know it within 50 ms."""

NARROWEST = 4
"""Requests under way that keep a process busy: with more, all of them only take longer."""

LATE = 0.005
"""Seconds by which the work of a process is late when it has more than it can do."""

FAILURES = 5
"""Failures of Elasticsearch in a row after which it is left alone."""

PAUSE = 2.0
"""Seconds for which it is left alone, before a single request tries it again."""


def overloaded() -> ServiceError:
    """There is no room for a request."""
    detail = "More searches are under way than this service can do at once. Try again in a moment."
    return ServiceError(503, "overloaded", "Overloaded", detail, headers={"Retry-After": "1"})


class Lane:
    """Lets so many requests be under way at once, a quarter as many wait a moment, and sheds all
    others.

    Use as `async with lane:`.

    Raises:
        search_service.errors.ServiceError: 503, there is no room.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.under_way = 0
        self.shed = 0
        """Requests for which there was no room, since `keep_pace`."""
        self._most = width
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._expected = 0

    def expects(self) -> bool:
        """Whether a request that has just come will find room.

        Those that have come in the same turn of the event loop have not taken theirs yet.
        """
        if self._expected >= self.width - self.under_way + self._room:
            self.shed += 1
            return False
        if not self._expected:
            asyncio.get_running_loop().call_soon(self._expect_none)
        self._expected += 1
        return True

    def keep_pace(self, late: float) -> None:
        """Narrow the lane if the process turns requests away and is so many seconds late with its
        own work; else widen it again. A slow Elasticsearch is no reason: then the process waits."""
        if self.shed and late > LATE:
            self.width = max(min(NARROWEST, self._most), self.width * 3 // 4)
        elif self.width < self._most:
            self.width += 1
        self.shed = 0

    async def __aenter__(self) -> None:
        if self.under_way < self.width and not self._waiting:
            self.under_way += 1
            return
        if self._room <= 0:
            self.shed += 1
            raise overloaded()
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(QUEUE_SECONDS, _give_up, turn)
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave()  # its turn had come in the same moment
            raise
        finally:
            timer.cancel()
            if turn in self._waiting:
                self._waiting.remove(turn)

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    @property
    def _room(self) -> int:
        """How many more may wait. Each makes those behind it wait longer, and none sooner done."""
        return max(1, self.width // 4) - len(self._waiting)

    def _leave(self) -> None:
        self.under_way -= 1
        while self._waiting and self.under_way < self.width:
            turn = self._waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)

    def _expect_none(self) -> None:
        self._expected = 0


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(overloaded())


class Breaker:
    """Leaves Elasticsearch alone for a while once it cannot be reached or does not answer in time.

    An answer of any status is a success: what it says is for the caller to judge.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._closed_until = float("-inf")
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether requests are turned away, but for the one that tries."""
        return self._failures >= FAILURES

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around a request of Elasticsearch.

        Raises:
            search_service.errors.ServiceError: 503, it is being left alone.
        """
        tries = self.is_open
        if tries:
            wait = self._closed_until - time.monotonic()
            if wait > 0 or self._trying:
                raise elasticsearch_away(max(1, ceil(wait)))
            self._trying = True
        try:
            yield
        except TransportError as error:
            self._failures += 1
            self._closed_until = time.monotonic() + PAUSE
            if self._failures == FAILURES:
                log.warning("elasticsearch_left_alone", seconds=PAUSE, reason=type(error).__name__)
            raise
        except ApiError:
            self._succeeded()
            raise
        else:
            self._succeeded()
        finally:
            if tries:
                self._trying = False

    def _succeeded(self) -> None:
        if self.is_open:
            log.info("elasticsearch_back")
        self._failures = 0
