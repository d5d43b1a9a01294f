"""Turns requests away before anything is done for them: in a flood that is most of the work."""

import asyncio
from collections import Counter

import structlog
from starlette.types import Scope

from search_service.metrics import Metrics
from search_service.middleware import is_export, is_public
from search_service.overload import Lane, overloaded

log = structlog.get_logger(__name__)

_TICK = 0.05  # seconds between two looks at how late the process is
_TICKS = 20  # between two lines in the log


class Gate:
    """Stands before a lane, whose width it keeps to what the process can do."""

    def __init__(self, lane: Lane, metrics: Metrics) -> None:
        self._lane = lane
        self._metrics = metrics
        self._shed: Counter[str] = Counter()
        """By method, not yet told."""

    def refuses(self, scope: Scope) -> bool:
        """Whether there is no room for a request that needs it; then it counts as turned away."""
        path = scope["path"]
        if scope["method"] == "HEAD" or is_public(path) or is_export(path) or self._lane.expects():
            return False
        self._shed[scope["method"]] += 1
        return True

    async def watch(self) -> None:
        """Keep the lane's pace, until cancelled, and tell how many were turned away: to count and
        log each one would be more work than to turn it away."""
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_TICKS):
                due = loop.time() + _TICK
                await asyncio.sleep(_TICK)
                self._lane.keep_pace(loop.time() - due)
            if self._shed:
                self._metrics.count_shed(self._shed, overloaded())
                log.warning("requests_shed", count=self._shed.total(), reason=overloaded().kind)
                self._shed.clear()
