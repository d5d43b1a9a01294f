"""The walk over a whole index that keeps nothing on the server."""

from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response

from search_service import cursors
from search_service.answers import ScrollResponse
from search_service.context import ask, page_size, permit, seal
from search_service.indices import Index
from search_service.models import ScrollRequest
from search_service.pages import decode_scroll, respond
from search_service.query import scroll_body, select
from search_service.routes.names import IndexName, split
from search_service.routes.problems import problems
from search_service.routes.router import router

PAGE_SIZE = 100


@router.get(
    "/search/{index}/scroll",
    summary="Walk a whole index",
    response_model=ScrollResponse,
    responses=problems(
        s400="The cursor is damaged or belongs to another index.",
        s403="The caller may not scroll.",
        s404="No such index.",
        s422="A field or a parameter is unknown, or the size is out of range.",
    ),
)
async def scroll(
    index: IndexName, parameters: Annotated[ScrollRequest, Query()], request: Request
) -> Response:
    """Every document once, in the order of the table's key: pass `meta.next_cursor` on as `cursor`
    until it is null.

    Cursors hold no state on the server and do not expire. A row inserted behind the cursor during
    the walk is not seen, one inserted before it is. `size` and `fields` may change between pages;
    give them again with each.
    """
    permit(request, "scroll")
    size = page_size(request, parameters.size, PAGE_SIZE, "size")
    names = split(parameters.fields)

    here = cursors.Place()

    def body(found: Index) -> dict[str, Any]:
        nonlocal here
        if parameters.cursor is not None:
            here = cursors.decode(seal(request), parameters.cursor, found.name, found.key)
        return scroll_body(found, names, here, size)

    found, raw = await ask(request, index, body)
    answer = decode_scroll(raw)
    hits = [hit for hit in answer.hits.hits if hit.id not in here.given]
    page, following = hits[:size], hits[size : size + 1]
    next_cursor = None
    if following:
        there = cursors.advance(here, page, following[0])
        next_cursor = cursors.encode(seal(request), found.name, found.key, there)
    content = {
        "data": [hit.source for hit in page],
        "meta": {
            "total_records": answer.hits.total.value,
            "page_size": size,
            "has_next": next_cursor is not None,
            "has_previous": parameters.cursor is not None,
            "next_cursor": next_cursor,
            "selected_fields": select(found.fields, names or None).paths,
        },
    }
    return respond(content, found.fields)
