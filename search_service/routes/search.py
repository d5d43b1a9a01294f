"""Searches: of one index, of several at once, and what only counts."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from elasticsearch import ApiError, NotFoundError
from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import Response

from search_service import grammar
from search_service.answers import Count, ManyResponse, SearchResponse, Suggestions
from search_service.caps import Caps
from search_service.context import (
    ask,
    catalog,
    elastic,
    find,
    page_size,
    permit,
    unless_client_leaves,
)
from search_service.errors import ServiceError, invalid, unknown_index
from search_service.facets import facet_results, too_many_buckets
from search_service.indices import Index
from search_service.models import (
    CountRequest,
    ManyRequest,
    SearchRequest,
    SimpleSearch,
    SuggestRequest,
    TermsFacet,
    Text,
)
from search_service.pages import Answer, Hit, decode_answer, encoded, respond, respond_unless_known
from search_service.query import count_body, search_body, select
from search_service.routes.names import IndexName, split
from search_service.routes.problems import BODY, NOT_CHANGED, problems
from search_service.routes.router import router
from search_service.routes.walk import walk_page
from search_service.suggest import suggest_body, suggestions

PAGE_SIZE = 10
_WRONG = "A field is unknown, a value does not suit its field, or the page is out of reach."
_FEATURE = "The caller may not use a feature that the request needs."
_EXPIRED = "The cursor has expired."


@router.post(
    "/search",
    summary="Search an index",
    response_model=SearchResponse,
    responses=problems(
        **{**BODY, "s400": "The body is not JSON, or the cursor is not one of this search."},
        s403=_FEATURE,
        s404="No such index.",
        s410=_EXPIRED,
        s422=_WRONG,
    ),
)
async def search(body: SearchRequest, request: Request) -> Response:
    """Documents that meet every condition of `query_fields`, sorted, in pages.

    - `{"carrier": "UA"}` matches the exact value, `{"carrier": ["UA", "AA"]}` any of them,
      `{"distance": {"gte": 500, "lte": 1000}}` a range, bounds included; one bound is enough.
    - Dates are ISO 8601; without an offset they are UTC, without a time they mean the whole day.
    - `q` finds words in text fields, `filter` combines conditions in groups.
    - `meta.total_records` is exact. Pages reach the first 10,000 documents (unless the index
      allows another number); `"pagination": "cursor"` reaches all.
    """
    content, index = await _search(request, lambda _: body, body)
    return respond(content, index.fields)


@router.get(
    "/search/{index}",
    summary="Search an index by its address",
    response_model=SearchResponse,
    responses={
        **NOT_CHANGED,
        **problems(
            s400="The cursor is damaged or belongs to another search.",
            s403=_FEATURE,
            s404="No such index.",
            s410=_EXPIRED,
            s422=_WRONG,
        ),
    },
)
async def simple_search(
    index: IndexName, parameters: Annotated[SimpleSearch, Query()], request: Request
) -> Response:
    """The same as POST /search, for what fits into an address.

    `filter=carrier:UA,AA -origin:JFK dep_delay:>=60`: conditions with blanks between, or in a
    `filter` each, all of which hold. `field:value`, `field:a,b` (any of them), `field:>5`, `>=`,
    `<`, `<=`, `field:1..5` (both included), `field:Uni*` (begins with), `field:*` (has a value),
    and with `-` before the field the opposite. A value with blanks or commas is in quotes.
    """
    tests = [
        test
        for position, text in enumerate(parameters.filter)
        for test in grammar.parse(text, f"filter.{position}")
    ]
    try:
        wanted = SearchRequest(
            index=index,
            q=None if parameters.q is None else Text(text=parameters.q),
            fields=split(parameters.fields) or None,
            sort_by=_directions(split(parameters.sort)),
            page=parameters.page,
            page_size=parameters.page_size,
            pagination=parameters.pagination,
            cursor=parameters.cursor,
            highlight=parameters.highlight,
            facets={name: TermsFacet(type="terms") for name in split(parameters.facet)},
        )
    except ValidationError as error:
        mistakes = [{**one, "loc": ("query", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(mistakes) from None

    def of(found: Index) -> SearchRequest:
        return wanted.model_copy(update={"filter": grammar.as_group(tests, found.fields)})

    content, found = await _search(request, of, wanted)
    return respond_unless_known(request, content, found.fields)


@router.post(
    "/search/many",
    summary="Several searches at once",
    response_model=ManyResponse,
    responses=problems(**BODY, s403=_FEATURE, s404="No such index.", s422=_WRONG),
)
async def search_many(body: ManyRequest, request: Request) -> Response:
    """The answers to several searches, in their order; pages have numbers here, not cursors.

    When one of them cannot be answered, none is: the problem's `location` begins with its place.
    """
    caps = permit(request, "search")
    if len(body.searches) > caps.searches:
        detail = f"a request has at most {caps.searches} searches, this one {len(body.searches)}"
        raise invalid([{"location": "searches", "detail": detail}])
    for _ in range(2):
        indices = []
        asked = []
        for position, wanted in enumerate(body.searches):
            try:
                _permit(request, wanted)
                index = await find(request, wanted.index)
                if wanted.walks:
                    detail = "searches together have no cursors; use page numbers"
                    raise invalid([{"location": "pagination", "detail": detail}])
                query = search_body(wanted, index, _size(request, wanted), caps)
                asked.append((index.generation, query))
                indices.append(index)
            except ServiceError as error:
                raise error.within(f"searches.{position}") from None
        try:
            work = elastic(request).search_many(asked)
            answers = await unless_client_leaves(request, work)
            break
        except NotFoundError:  # an alias has moved on
            catalog(request).forget()
        except ApiError as error:
            raise _facets_refused(error, caps) from error
    else:
        raise unknown_index(wanted.index)
    results = []
    for wanted, index, answer in zip(body.searches, indices, answers, strict=True):
        content = _page(wanted, index, decode_answer(answer), _size(request, wanted), caps)
        results.append(msgspec.Raw(encoded(content, index.fields)))
    return respond({"results": results})


@router.post(
    "/search/count",
    summary="Count documents",
    response_model=Count,
    responses=problems(**BODY, s403=_FEATURE, s404="No such index.", s422=_WRONG),
)
async def count(body: CountRequest, request: Request) -> Response:
    """How many documents match, exactly."""
    caps = permit(request, "count")
    _, raw = await ask(request, body.index, lambda index: count_body(body, index, caps))
    return respond({"count": decode_answer(raw).hits.total.value})


@router.get(
    "/search/{index}/suggest",
    summary="Suggest values",
    response_model=Suggestions,
    responses={**NOT_CHANGED, **problems(s403=_FEATURE, s404="No such index.", s422=_WRONG)},
)
async def suggest(
    index: IndexName, parameters: Annotated[SuggestRequest, Query()], request: Request
) -> Response:
    """Values of a field of texts that begin with `prefix`, the most frequent first.

    In a large index, a part of the documents is looked at: some 100 thousand of each shard.
    """
    caps = permit(request, "suggest")
    if parameters.size > caps.suggestions:
        detail = f"an answer has at most {caps.suggestions} suggestions"
        raise invalid([{"location": "size", "detail": detail}])
    prefix, size = parameters.prefix, parameters.size
    _, raw = await ask(
        request, index, lambda found: suggest_body(found, parameters.field, prefix, size)
    )
    found = suggestions(decode_answer(raw).aggregations, prefix, size)
    return respond_unless_known(request, {"suggestions": found})


async def _search(
    request: Request, wanted_of: Callable[[Index], SearchRequest], wanted: SearchRequest
) -> tuple[dict[str, Any], Index]:
    caps = _permit(request, wanted)
    size = _size(request, wanted)
    try:
        if wanted.walks:
            index, hits, aggregations, meta = await walk_page(
                request, wanted_of, wanted, size, caps
            )
            meta["selected_fields"] = _selected(wanted, index)
            return _content(wanted, index, hits, aggregations, meta, caps), index
        index, raw = await ask(
            request, wanted.index, lambda index: search_body(wanted_of(index), index, size, caps)
        )
    except NotFoundError:
        raise
    except ApiError as error:
        raise _facets_refused(error, caps) from error
    return _page(wanted, index, decode_answer(raw), size, caps), index


def _page(
    wanted: SearchRequest, index: Index, answer: Answer, size: int, caps: Caps
) -> dict[str, Any]:
    total = answer.hits.total.value
    pages = -(-total // size)
    meta = {
        "total_records": total,
        "page_size": size,
        "current_page": wanted.page,
        "total_pages": pages,
        "has_next": wanted.page < pages,
        "has_previous": wanted.page > 1,
        "selected_fields": _selected(wanted, index),
    }
    return _content(wanted, index, answer.hits.hits, answer.aggregations, meta, caps)


def _content(
    wanted: SearchRequest,
    index: Index,
    hits: Sequence[Hit],
    aggregations: dict[str, Any],
    meta: dict[str, Any],
    caps: Caps,
) -> dict[str, Any]:
    content: dict[str, Any] = {"data": [hit.source for hit in hits], "meta": meta}
    if wanted.highlight:
        content["highlights"] = [hit.highlight for hit in hits]
    if wanted.facets:
        content["facets"] = facet_results(wanted.facets, aggregations, index.fields, caps)
    return content


def _selected(wanted: SearchRequest, index: Index) -> list[str]:
    return select(index.fields, wanted.fields, wanted.exclude_fields).paths


def _size(request: Request, wanted: SearchRequest) -> int:
    given = wanted.page_size if wanted.page_size is not None else wanted.size
    return page_size(request, given, PAGE_SIZE, "page_size")


def _permit(request: Request, wanted: SearchRequest) -> Caps:
    used = {"facets": wanted.facets, "highlight": wanted.highlight, "cursor": wanted.walks}
    return permit(request, "search", *(name for name, use in used.items() if use))


def _directions(names: list[str]) -> dict[str, Any]:
    return {name.removeprefix("-"): "desc" if name.startswith("-") else "asc" for name in names}


def _facets_refused(error: ApiError, caps: Caps) -> Exception:
    return too_many_buckets(caps.buckets) if "too_many_buckets" in str(error.body) else error
