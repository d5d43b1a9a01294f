"""Requests compiled to Elasticsearch's query DSL, after a check against the index's mapping.

Pure functions: the same request and mapping give the same query, and no server is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from search_service.caps import Caps
from search_service.conditions import Clause, Compiler, text_problem, unknown_field
from search_service.cursors import Place, Step
from search_service.errors import Error, beyond_window, invalid, mistake
from search_service.facets import facet_aggregations
from search_service.fields import WORDS, Fields
from search_service.indices import Index
from search_service.models import CountRequest, Highlight, Matching, Page, SearchRequest, Text
from search_service.sorting import check_after, reversed_sort, sort_of

_HIGHLIGHTED = 100_000  # characters of a value that fragments are looked for in
_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Selection:
    """The fields to return: their leaf paths, and the `_source` filter for them."""

    paths: list[str]
    source: dict[str, list[str]] | bool


def restricted(index: Index, filters: Sequence[Clause], text: Clause | None = None) -> Clause:
    """The query for documents that meet all filters, and the index's own: every body has its
    query from here."""
    required = [*index.filters, *filters]
    if text is None:
        return {"bool": {"filter": required}} if required else {"match_all": {}}
    return {"bool": {"must": [text], **({"filter": required} if required else {})}}


def search_body(
    request: SearchRequest, index: Index, page_size: int, caps: Caps = _CAPS
) -> dict[str, Any]:
    """The body of Elasticsearch's search for a numbered page.

    Raises:
        search_service.errors.ServiceError: a field is unknown, a value does not suit it, or the
            page is out of reach; all mistakes are told at once.
    """
    body = _body(request, index, caps)
    last = request.page * page_size
    if last > index.window:
        raise beyond_window(last, index.window)
    return {**body, "from": last - page_size, "size": page_size, "track_total_hits": True}


def walk_body(
    request: SearchRequest, index: Index, page_size: int, caps: Caps = _CAPS
) -> dict[str, Any]:
    """The body for a page of a walk with cursors: one document more than the page has.

    `step_body` makes it the one of a certain page.

    Raises:
        search_service.errors.ServiceError: as for `search_body`.
    """
    body = _body(request, index, caps)
    _check_size(page_size + 1, index, 1, "page_size")
    return {**body, "size": page_size + 1}


def step_body(body: dict[str, Any], step: Step, point: str, keep_alive: str) -> dict[str, Any]:
    """A walk's body for the page at a step, in a point in time."""
    sort = [*body["sort"], {"_shard_doc": {"order": "asc"}}]
    return {
        **body,
        "sort": reversed_sort(sort) if step.backwards else sort,
        "pit": {"id": point, "keep_alive": keep_alive},
        "track_total_hits": step.total is None,
        **({} if step.begins else {"search_after": step.after}),
    }


def export_body(
    request: Matching, page: Page, index: Index, caps: Caps = _CAPS
) -> tuple[dict[str, Any], Selection]:
    """The body for a part of an export, and the fields that it has.

    Raises:
        search_service.errors.ServiceError: as for `search_body`.
    """
    errors: list[Error] = []
    filters, text = _matching(request, index, caps, errors)
    selection = _select(index.fields, page.fields, page.exclude_fields, errors)
    # Without a wish, the order of storage is the fastest.
    sort = sort_of(page.sort_by, index, errors, text is not None) if page.sort_by else []
    if errors:
        raise invalid(errors)
    return {
        "query": restricted(index, filters, text),
        "sort": sort,
        "_source": selection.source,
    }, selection


def count_body(request: CountRequest, index: Index, caps: Caps = _CAPS) -> dict[str, Any]:
    """The body of a search that only counts.

    Raises:
        search_service.errors.ServiceError: as for `search_body`.
    """
    errors: list[Error] = []
    filters, text = _matching(request, index, caps, errors)
    if errors:
        raise invalid(errors)
    return {"query": restricted(index, filters, text), "size": 0, "track_total_hits": True}


def document_body(index: Index, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
    """The body of a search for the document with one of these ids.

    Raises:
        search_service.errors.ServiceError: a field is unknown.
    """
    selection = select(index.fields, fields or None)
    query = restricted(index, [{"ids": {"values": list(ids)}}])
    return {"query": query, "size": 1, "_source": selection.source, "track_total_hits": False}


def scroll_body(
    index: Index, fields: Sequence[str], place: Place, page_size: int
) -> dict[str, Any]:
    """The body of Elasticsearch's search for the page at a place.

    It asks for one document more than the page has, to know the next one, and for those again that
    the place has already given out.

    Raises:
        search_service.errors.ServiceError: a field is unknown, the page is larger than
            Elasticsearch's window, or the place does not suit the key.
    """
    selection = select(index.fields, fields or None)
    size = page_size + len(place.given) + 1
    _check_size(size, index, len(place.given) + 1, "size")
    body: dict[str, Any] = {
        "query": restricted(index, []),
        "sort": sort_of({}, index, []),
        "size": size,
        "_source": selection.source,
        "track_total_hits": True,
    }
    if place.after is not None:
        body["search_after"] = check_after(index, place.after)
    return body


def select(
    fields: Fields, names: Sequence[str] | None, excluded: Sequence[str] | None = None
) -> Selection:
    """The fields that a request wants, without repetitions, in its order or the mapping's.

    Raises:
        search_service.errors.ServiceError: a name is unknown, or nothing is left.
    """
    errors: list[Error] = []
    selection = _select(fields, names, excluded, errors)
    if errors:
        raise invalid(errors)
    return selection


def _body(request: SearchRequest, index: Index, caps: Caps) -> dict[str, Any]:
    errors: list[Error] = []
    filters, text = _matching(request, index, caps, errors)
    sort = sort_of(request.sort_by, index, errors, text is not None)
    selection = _select(index.fields, request.fields, request.exclude_fields, errors)
    body: dict[str, Any] = {
        "query": restricted(index, filters, text),
        "sort": sort,
        "_source": selection.source,
    }
    if request.highlight and request.q is not None and text is not None:
        wanted = request.highlight if isinstance(request.highlight, Highlight) else Highlight()
        body["highlight"] = _highlight(wanted, request.q, index.fields, text, errors)
    if request.facets:
        body["aggs"] = facet_aggregations(request.facets, index.fields, caps, errors)
    if errors:
        raise invalid(errors)
    return body


def _matching(
    request: Matching, index: Index, caps: Caps, errors: list[Error]
) -> tuple[list[Clause], Clause | None]:
    compiler = Compiler(index.fields, caps, errors)
    filters = compiler.conditions(request.query_fields, "query_fields")
    if request.filter is not None:
        filters.append(compiler.group(request.filter, "filter"))
    if request.q is None:
        return filters, None
    return filters, _full_text(request.q, index.fields, caps, errors)


def _full_text(wanted: Text, fields: Fields, caps: Caps, errors: list[Error]) -> Clause:
    if problem := text_problem(wanted.text, caps):
        errors.append({"location": "q", "detail": problem})
    if wanted.fields is None:
        names = [leaf.path for leaf in fields.words()][: caps.text_fields]
        if not names:
            errors.append({"location": "q", "detail": "the index has no text field to look in"})
    else:
        names = _text_fields(fields, list(wanted.fields), "q.fields", errors)
        if len(names) > caps.text_fields:
            detail = f"words are looked for in at most {caps.text_fields} fields"
            errors.append({"location": "q.fields", "detail": detail})
        if isinstance(wanted.fields, dict):
            names = [f"{name}^{wanted.fields[name]:g}" for name in names]
    query: dict[str, Any] = {"query": wanted.text, "fields": names}
    if wanted.phrase:
        query["type"] = "phrase"
    elif wanted.fuzziness is not None:
        # One letter has to be right, or every word of the index would be compared with.
        query |= {"fuzziness": str(wanted.fuzziness).upper(), "prefix_length": 1}
    else:
        query["type"] = "cross_fields"  # each word in any of the fields
    if not wanted.phrase:
        query["operator"] = "and" if wanted.operator == "all" else "or"
    if wanted.minimum_match is not None:
        query["minimum_should_match"] = str(wanted.minimum_match)
    return {"multi_match": query}


def _text_fields(
    fields: Fields, names: Sequence[str], location: str, errors: list[Error]
) -> list[str]:
    found = []
    for name in dict.fromkeys(names):
        leaf = fields.find(name)
        if leaf is None:
            unknown_field(fields, name, location, errors)
        elif leaf.type not in WORDS or not leaf.searched or leaf.nested:
            nested = " in nested documents" if leaf.nested else ""
            detail = f"{leaf.kind}{nested} has no words to look for; name a text field"
            mistake(errors, f"{location}.{name[:255]}", detail)
        else:
            # In the list that Elasticsearch takes, these two have a meaning.
            found.append(name.replace("*", "\\*").replace("^", "\\^"))
    return found


def _highlight(
    wanted: Highlight, q: Text, fields: Fields, text: Clause, errors: list[Error]
) -> dict[str, Any]:
    if wanted.fields is not None:
        names = _text_fields(fields, wanted.fields, "highlight.fields", errors)
    elif q.fields is not None:
        names = _text_fields(fields, list(q.fields), "q.fields", [])
    else:
        names = [leaf.path for leaf in fields.words()]
    return {
        "fields": {name: {} for name in names},
        "highlight_query": text,
        "encoder": "html",
        "pre_tags": [wanted.before],
        "post_tags": [wanted.after],
        "number_of_fragments": wanted.fragments,
        "fragment_size": wanted.fragment_size,
        "max_analyzed_offset": _HIGHLIGHTED,
    }


def _select(
    fields: Fields,
    names: Sequence[str] | None,
    excluded: Sequence[str] | None,
    errors: list[Error],
) -> Selection:
    paths = list(fields.leaves) if names is None else _leaves(fields, "fields", names, errors)
    dropped = set(_leaves(fields, "exclude_fields", excluded or [], errors))
    paths = [path for path in paths if path not in dropped]
    source: dict[str, list[str]] = {}
    if names is not None or fields.restricted:
        source["includes"] = paths
    if left_out := [*sorted(dropped), *fields.excluded]:
        source["excludes"] = left_out
    if not paths and not errors:
        location = "fields" if not excluded else "exclude_fields"
        errors.append({"location": location, "detail": "no field is left to return"})
    return Selection(paths, source or True)


def _leaves(fields: Fields, location: str, names: Sequence[str], errors: list[Error]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        below = fields.under(name)
        if not below:
            unknown_field(fields, name, location, errors)
        found.update(dict.fromkeys(below))
    return list(found)


def _check_size(size: int, index: Index, more: int, location: str) -> None:
    if size > index.window:
        detail = f"the largest page of this index has {index.window - more:,} documents"
        raise invalid([{"location": location, "detail": detail}])
