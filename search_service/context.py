"""What a request works with: the index it names, its bounds, and Elasticsearch."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from elasticsearch import NotFoundError
from fastapi import Request

from search_service.access.callers import Caller
from search_service.caps import Caps
from search_service.cursors import Seal
from search_service.elastic import Elastic
from search_service.errors import client_left, feature_denied, invalid, unknown_index
from search_service.freshness import HEADERS, FreshnessCache
from search_service.indices import Catalog, Index
from search_service.points import Points
from search_service.settings import Settings

_PATIENCE = 0.05  # seconds; a request that is answered sooner is not worth a look at its client

Result = TypeVar("Result")


async def find(request: Request, name: str) -> Index:
    """The index of this name as the caller may see it.

    Raises:
        search_service.errors.ServiceError: it is not served.
        elastic_transport.TransportError, elasticsearch.ApiError: Elasticsearch fails.
    """
    index = await catalog(request).get(name, caller(request).view)
    state = request.scope["state"]
    freshness: FreshnessCache = request.app.state.freshness
    if state.setdefault("index", name) == name:
        state["headers"].update(freshness.headers(name))
    else:  # several at once: no header can be said of all
        state["index"] = ""
        for header in HEADERS:
            state["headers"].pop(header, None)
    return index


async def visible(request: Request) -> list[Index]:
    """All indexes that the caller may see, as it sees them; raises as `find` does."""
    return await catalog(request).all(caller(request).view)


def caller(request: Request) -> Caller:
    """Who asks."""
    found: Caller = request.state.caller
    return found


def caps(request: Request) -> Caps:
    """What this caller may ask for."""
    return caller(request).limits


def permit(request: Request, *features: str) -> Caps:
    """The caller's bounds, if it may use all these features.

    Raises:
        search_service.errors.ServiceError: it may not.
    """
    found = caps(request)
    for feature in features:
        if feature not in found.features:
            raise feature_denied(feature)
    return found


def page_size(request: Request, wanted: int | None, default: int, location: str) -> int:
    """The number of documents in a page.

    Raises:
        search_service.errors.ServiceError: more are wanted than are allowed.
    """
    cap = caps(request).page_size
    if wanted is None:
        return min(default, cap)
    if wanted > cap:
        raise invalid([{"location": location, "detail": f"a page has at most {cap:,} documents"}])
    return wanted


async def ask(
    request: Request, name: str, body: Callable[[Index], dict[str, Any]]
) -> tuple[Index, bytes]:
    """Elasticsearch's answer to a search, and the index as it was when asked."""
    return await found_again(
        request, name, lambda index: elastic(request).search(index.generation, body(index))
    )


async def found_again(
    request: Request, name: str, work: Callable[[Index], Awaitable[Result]]
) -> tuple[Index, Result]:
    """Do something with an index, and again if its generation is gone meanwhile."""
    for _ in range(2):
        index = await find(request, name)
        try:
            return index, await unless_client_leaves(request, work(index))
        except NotFoundError:  # the alias has moved on, and its old generation is gone
            catalog(request).forget()
    raise unknown_index(name)


async def unless_client_leaves(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which ends with its connection to Elasticsearch, and so there as
    well, when nobody waits for it any more."""
    task = asyncio.current_task()
    assert task is not None
    watchers: list[asyncio.Task[None]] = []
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        task.cancel()

    def start() -> None:
        watchers.append(asyncio.get_running_loop().create_task(watch()))

    timer = asyncio.get_running_loop().call_later(_PATIENCE, start)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise client_left() from None
        raise
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


def settings(request: Request) -> Settings:
    """The service's settings."""
    found: Settings = request.app.state.settings
    return found


def catalog(request: Request) -> Catalog:
    """All indexes; `find` gives the one that a caller may see."""
    found: Catalog = request.app.state.catalog
    return found


def elastic(request: Request) -> Elastic:
    """The way to Elasticsearch."""
    found: Elastic = request.app.state.elastic
    return found


def points(request: Request) -> Points:
    """The points in time of walks and exports."""
    found: Points = request.app.state.points
    return found


def seal(request: Request) -> Seal:
    """What cursors are made and read with."""
    found: Seal = request.app.state.seal
    return found
