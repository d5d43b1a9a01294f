"""Turns requests away before anything is done for them: in a flood that is most of the work."""

import asyncio

import structlog
from starlette.responses import Response
from starlette.types import Scope

from search_service.errors import respond
from search_service.metrics import Metrics
from search_service.middleware import is_export, is_public, request_id
from search_service.overload import Lane, overloaded

log = structlog.get_logger(__name__)

_TICK = 0.05  # seconds between two looks at how late the process is
_TICKS = 20  # between two lines in the log


class Gate:
    """Stands before a lane, whose width it keeps to what the process can do."""

    def __init__(self, lane: Lane, metrics: Metrics) -> None:
        self._lane = lane
        self._metrics = metrics
        self._shed = 0

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request for which there is no room; None: there is, or it needs none."""
        path = scope["path"]
        if scope["method"] == "HEAD" or is_public(path) or is_export(path) or self._lane.expects():
            return None
        self._shed += 1
        problem = overloaded()
        self._metrics.turned_away.labels(problem.kind).inc()
        self._metrics.count(scope["method"], "none", problem.status, "", 0.0)
        # The state of a request is made where it is handled.
        named = request_id(scope["headers"])
        answer = respond({"state": {"request_id": named}}, problem)
        answer.headers["x-request-id"] = named
        return answer

    async def watch(self) -> None:
        """Keep the lane's pace, until cancelled. What was turned away is a line a second: a line
        for each would be as much work as the requests."""
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_TICKS):
                due = loop.time() + _TICK
                await asyncio.sleep(_TICK)
                self._lane.keep_pace(loop.time() - due)
            if self._shed:
                log.warning("requests_shed", count=self._shed, reason="overloaded")
                self._shed = 0
