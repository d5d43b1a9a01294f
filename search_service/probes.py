"""What those ask who keep the service running: is it there, can it work, what has it done."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from search_service.answers import ProblemDetails
from search_service.errors import ServiceError, elasticsearch_away

_PATIENCE = 2.0  # seconds, below the usual patience of a probe

router = APIRouter()


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/health/live", summary="Whether the process answers")
async def live() -> Alive:
    """Without a word to Elasticsearch: a restart would not bring that back."""
    return Alive()


@router.get(
    "/health/ready",
    summary="Whether searches can be answered",
    responses={503: {"model": ProblemDetails, "description": "Elasticsearch is away."}},
)
async def ready(request: Request) -> Alive:
    """Elasticsearch answers; it is asked once a second at most, however many probes there are."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await request.app.state.catalog.all()
    except TimeoutError:
        raise elasticsearch_away() from None
    return Alive()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """For Prometheus. With rules in force it is for callers whose role has `metrics: true`."""
    if not request.state.caller.policy.metrics:
        detail = "This needs a role with metrics: true; ask the service's operator."
        raise ServiceError(403, "feature-denied", "Not allowed", detail)
    state = request.app.state
    state.metrics.breaker_open.set(state.breaker.is_open)
    content, media_type = state.metrics.exposition(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
