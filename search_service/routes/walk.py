"""Pages of a walk with cursors, in a point in time."""

from collections.abc import Callable
from typing import Any

from elasticsearch import NotFoundError
from fastapi import Request

from search_service.caps import Caps
from search_service.context import elastic, find, found_again, points, seal, unless_client_leaves
from search_service.cursors import Step, digest
from search_service.errors import bad_cursor, expired_cursor
from search_service.indices import Index
from search_service.models import SearchRequest
from search_service.pages import SortedHit, decode_walk
from search_service.query import step_body, walk_body

Page = tuple[Index, list[SortedHit], dict[str, Any], dict[str, Any]]


async def walk_page(
    request: Request,
    wanted_of: Callable[[Index], SearchRequest],
    wanted: SearchRequest,
    size: int,
    caps: Caps,
) -> Page:
    """The index, the documents, the aggregations and the `meta` of a page.

    Raises:
        search_service.errors.ServiceError: as for `walk_body`, or the cursor is no longer good.
    """
    if wanted.cursor is None:

        async def begin(index: Index) -> Page:
            body = walk_body(wanted_of(index), index, size, caps)
            return await _take(request, index, body, Step(_search_of(index, body)), size)

        return (await found_again(request, wanted.index, begin))[1]
    step = seal(request).open(wanted.cursor, Step, expires=True)
    index = await find(request, wanted.index)
    body = walk_body(wanted_of(index), index, size, caps)
    if step.search != _search_of(index, body):
        raise bad_cursor("belongs to another search; give the same one with each page")
    if step.generation != index.generation:
        raise expired_cursor("is from before the index was loaded anew")
    try:
        return await unless_client_leaves(request, _take(request, index, body, step, size))
    except NotFoundError:
        raise expired_cursor("has expired") from None


def _search_of(index: Index, body: dict[str, Any]) -> str:
    return digest(index.name, body["query"], body["sort"])


async def _take(
    request: Request, index: Index, body: dict[str, Any], step: Step, size: int
) -> Page:
    held = points(request)
    walk, point = step.walk, step.point
    if point is None:
        walk, point = await held.open(index.generation)
    else:
        held.used(walk)
    try:
        raw = await elastic(request).search_point(step_body(body, step, point, held.keep_alive))
    except BaseException:
        if step.point is None:
            held.close(walk, point)
        raise
    answer = decode_walk(raw)
    point = answer.pit_id or point
    hits = answer.hits.hits
    more = len(hits) > size
    hits = hits[:size]
    if step.backwards:
        hits.reverse()
    total = step.total if answer.hits.total is None else answer.hits.total.value
    has_next = step.backwards or more
    has_previous = more if step.backwards else not step.begins
    if not has_next:
        # The end of the walk: who goes back from here begins a new one.
        held.close(walk, point)

    def cursor(hit: SortedHit, *, backwards: bool) -> str:
        there = Step(
            step.search,
            walk if has_next else "",
            index.generation,
            point if has_next else None,
            hit.sort,
            backwards,
            total if has_next else None,
        )
        return seal(request).close(there)

    meta = {
        "total_records": total,
        "page_size": size,
        "has_next": has_next,
        "has_previous": has_previous,
        "next_cursor": cursor(hits[-1], backwards=False) if has_next and hits else None,
        "previous_cursor": cursor(hits[0], backwards=True) if has_previous and hits else None,
    }
    return index, hits, answer.aggregations, meta
