"""The endpoints: check the request, ask Elasticsearch once, shape the answer."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from elasticsearch import AsyncElasticsearch, NotFoundError
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from search_service import cursors
from search_service.errors import invalid, unknown_index
from search_service.indices import Catalog, Freshness, Index, count_documents, freshness
from search_service.models import (
    ElasticsearchHealth,
    FieldList,
    Health,
    IndexHealth,
    IndexList,
    IndexStatus,
    ProblemDetails,
    ScrollRequest,
    ScrollResponse,
    SearchRequest,
    SearchResponse,
)
from search_service.query import scroll_body, search_body, select
from search_service.settings import Settings

SEARCH_PAGE_SIZE = 10
SCROLL_PAGE_SIZE = 100
HEALTH_TIMEOUT = 2.0  # seconds, below the usual patience of a probe

router = APIRouter()

IndexName = Annotated[
    str, Path(description="One of GET /indices.", max_length=255, examples=["flights"])
]


def _problems(**meanings: str) -> dict[int | str, dict[str, Any]]:
    common = {
        "s500": "A defect of the service.",
        "s503": "Elasticsearch is away, overloaded, or refuses the service.",
        "s504": "Elasticsearch did not answer in time.",
    }
    return {
        int(status[1:]): {"model": ProblemDetails, "description": meaning}
        for status, meaning in {**meanings, **common}.items()
    }


@router.post(
    "/search",
    summary="Search an index",
    response_model=SearchResponse,
    responses=_problems(
        s400="The body is not JSON.",
        s404="No such index.",
        s413="The body has more than 1 MiB.",
        s415="The body is not declared as JSON.",
        s422="A field is unknown, a value does not suit its field, or the page is out of reach.",
    ),
)
async def search(body: SearchRequest, request: Request) -> Response:
    """Documents that meet every condition of `query_fields`, sorted, in numbered pages.

    - `{"carrier": "UA"}` matches the exact value, `{"carrier": ["UA", "AA"]}` any of them,
      `{"distance": {"gte": 500, "lte": 1000}}` a range, bounds included; one bound is enough.
    - Dates are ISO 8601; without an offset they are UTC, without a time they mean the whole day.
    - `meta.total_records` is exact. Pages reach the first 10,000 documents (unless the index
      allows another number); `GET /search/{index}/scroll` reaches all.
    """
    wanted = body.page_size if body.page_size is not None else body.size
    page_size = _page_size(request, wanted, SEARCH_PAGE_SIZE, "page_size")
    index, answer = await _ask(
        request, body.index, lambda index: search_body(body, index, page_size)
    )
    total = answer["hits"]["total"]["value"]
    pages = -(-total // page_size)
    return _json(
        {
            "data": [hit["_source"] for hit in answer["hits"]["hits"]],
            "meta": {
                "total_records": total,
                "page_size": page_size,
                "current_page": body.page,
                "total_pages": pages,
                "has_next": body.page < pages,
                "has_previous": body.page > 1,
                "selected_fields": select(index.fields, body.fields, body.exclude_fields).paths,
            },
        }
    )


@router.get(
    "/search/{index}/scroll",
    summary="Walk a whole index",
    response_model=ScrollResponse,
    responses=_problems(
        s400="The cursor is damaged or belongs to another index.",
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
    page_size = _page_size(request, parameters.size, SCROLL_PAGE_SIZE, "size")
    names = [name for given in parameters.fields for name in given.split(",")]

    def place(found: Index) -> cursors.Place:
        if parameters.cursor is None:
            return cursors.Place()
        return cursors.decode(parameters.cursor, found.name, found.key)

    found, answer = await _ask(
        request, index, lambda found: scroll_body(found, names, place(found), page_size)
    )
    here = place(found)
    hits = [hit for hit in answer["hits"]["hits"] if hit["_id"] not in here.given]
    page, following = hits[:page_size], hits[page_size : page_size + 1]
    next_cursor = None
    if following:
        there = cursors.advance(here, page, following[0])
        next_cursor = cursors.encode(found.name, found.key, there)
    return _json(
        {
            "data": [hit["_source"] for hit in page],
            "meta": {
                "total_records": answer["hits"]["total"]["value"],
                "page_size": page_size,
                "has_next": next_cursor is not None,
                "has_previous": parameters.cursor is not None,
                "next_cursor": next_cursor,
                "selected_fields": select(found.fields, names or None).paths,
            },
        }
    )


@router.get(
    "/indices/{index}/fields",
    summary="The fields of an index",
    responses=_problems(s404="No such index.", s422="The name is too long."),
)
async def fields(index: IndexName, request: Request) -> FieldList:
    """The fields that can be returned, with Elasticsearch's type of each."""
    found = await _catalog(request).get(index)
    types = {path: field.type for path, field in found.fields.leaves.items()}
    return FieldList(index=found.name, fields=list(types), field_types=types)


@router.get("/indices", summary="The indexes", responses=_problems())
async def indices(request: Request) -> IndexList:
    """The indexes that can be searched: their table, size, and how fresh they are."""
    found = await _catalog(request).all()
    counts = await count_documents(_client(request), found)
    fresh = await freshness(_client(request), found, _settings(request).search_timeout)
    return IndexList(
        indices=[
            IndexStatus(
                index=index.name,
                table=index.table,
                documents=counts[index.name],
                **_freshness(fresh.get(index.name)),
            )
            for index in found
            if index.name in counts
        ]
    )


@router.get("/health", summary="Health", responses=_problems())
async def health(request: Request) -> Health:
    """Elasticsearch's status and the sync lag of each index; 503 when Elasticsearch is away.

    With SEARCH_MAX_LAG set, an index that lags more, or whose lag is unknown, is `degraded`.
    """
    settings = _settings(request)
    timeout = min(HEALTH_TIMEOUT, settings.search_timeout)
    # Not info() or ping(): the health of the cluster is what a search needs.
    cluster = await _client(request).options(request_timeout=timeout).cluster.health()
    found = await _catalog(request).all()
    fresh = await freshness(_client(request), found, timeout)
    lags = []
    for index in found:
        known = fresh.get(index.name)
        limit = settings.search_max_lag
        late = limit is not None and (known is None or known.lag > limit)
        lags.append(
            IndexHealth(index=index.name, status="degraded" if late else "ok", **_freshness(known))
        )
    degraded = cluster["status"] == "red" or any(lag.status == "degraded" for lag in lags)
    return Health(
        status="degraded" if degraded else "ok",
        elasticsearch=ElasticsearchHealth(status=cluster["status"]),
        max_lag_seconds=settings.search_max_lag,
        indices=lags,
    )


async def _ask(
    request: Request, name: str, body: Callable[[Index], dict[str, Any]]
) -> tuple[Index, Any]:
    """Elasticsearch's answer, and the index as it was when asked."""
    timeout = _settings(request).search_timeout
    catalog = _catalog(request)
    for _ in range(2):
        index = await catalog.get(name)
        try:
            return index, await _client(request).search(
                index=index.generation,
                body={**body(index), "timeout": f"{round(timeout * 1000)}ms"},
                # Half an answer would look like a whole one.
                allow_partial_search_results=False,
            )
        except NotFoundError:  # the alias has moved on, and its old generation is gone
            catalog.forget()
    raise unknown_index(name)


def _page_size(request: Request, wanted: int | None, default: int, location: str) -> int:
    cap = _settings(request).search_max_page_size
    if wanted is None:
        return min(default, cap)
    if wanted > cap:
        raise invalid([{"location": location, "detail": f"a page has at most {cap:,} documents"}])
    return wanted


def _freshness(known: Freshness | None) -> dict[str, Any]:
    return {
        "in_step_at": known.in_step_at if known else None,
        "lag_seconds": known.lag if known else None,
    }


def _json(content: Any) -> Response:
    """Documents as they are, without a second validation of each."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded = text.encode()
    except ValueError:
        # A json column may hold 1e999, which has become infinite and is written as null, or half a
        # surrogate pair, which has only an escaped form.
        finite = json.loads(json.dumps(content), parse_constant=lambda _: None)
        encoded = json.dumps(finite, separators=(",", ":")).encode()
    return Response(encoded, media_type="application/json")


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _client(request: Request) -> AsyncElasticsearch:
    client: AsyncElasticsearch = request.app.state.client
    return client


def _catalog(request: Request) -> Catalog:
    catalog: Catalog = request.app.state.catalog
    return catalog
