"""Facets: how many of the documents that match have which value.

Those of a field in nested documents count the documents that these are in, each of them once.
"""

from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from search_service.caps import Caps
from search_service.conditions import unknown_field
from search_service.errors import MAX_ERRORS, Error, ServiceError, mistake, shown
from search_service.fields import DATES, FLOATS, INTEGERS, Field, Fields
from search_service.models import DatesFacet, FacetRange, HistogramFacet, RangesFacet, TermsFacet
from search_service.values import DATE_FORMAT, WrongValueError, check_bound

AnyFacet = TermsFacet | RangesFacet | HistogramFacet | DatesFacet

# Names of aggregations.
_WITHIN, _DOCUMENTS = "within", "documents"

_NUMBERS = frozenset({*INTEGERS, *FLOATS})
_SUITABLE = {
    "ranges": frozenset({*_NUMBERS, *DATES, "ip"}),
    "histogram": _NUMBERS,
    "dates": DATES,
}


def facet_aggregations(
    wanted: Mapping[str, AnyFacet], fields: Fields, caps: Caps, errors: list[Error]
) -> dict[str, Any]:
    """Elasticsearch's aggregation for each facet, under a name of our own: `0`, `1`, …"""
    if len(wanted) > caps.facets:
        detail = f"a search has at most {caps.facets} facets, this one {len(wanted)}"
        errors.append({"location": "facets", "detail": detail})
        return {}
    found = {}
    for number, (name, facet) in enumerate(wanted.items()):
        location = f"facets.{name[:255]}"
        path = name if facet.field is None else facet.field
        leaf = fields.find(path)
        if leaf is None:
            unknown_field(fields, path, location, errors)
        elif not leaf.sortable or leaf.type not in _SUITABLE.get(facet.type, {leaf.type}):
            detail = f"{leaf.kind} has no facet of the type {facet.type}"
            errors.append({"location": location, "detail": detail})
        else:
            aggregation = _aggregation(facet, leaf, caps, location, errors)
            found[str(number)] = of_documents(leaf, aggregation)
    return found


def facet_results(
    wanted: Mapping[str, AnyFacet], answer: Mapping[str, Any], fields: Fields, caps: Caps
) -> dict[str, Any]:
    """The facets of an answer, by the names that the request gave them.

    Raises:
        search_service.errors.ServiceError: one has more buckets than are allowed.
    """
    results = {}
    for number, (name, facet) in enumerate(wanted.items()):
        leaf = fields.find(name if facet.field is None else facet.field)
        result = by_documents(answer.get(str(number), {}))
        buckets = result.get("buckets", [])
        if len(buckets) > caps.buckets:
            raise too_many_buckets(caps.buckets)
        kind = leaf.type if leaf else ""
        if isinstance(facet, RangesFacet):
            results[name] = {"buckets": _in_ranges(facet, buckets)}
        else:
            results[name] = {"buckets": [_bucket(kind, bucket) for bucket in buckets]}
        if isinstance(facet, TermsFacet):
            results[name]["others"] = result.get("sum_other_doc_count", 0)
    return results


def of_documents(leaf: Field, aggregation: dict[str, Any]) -> dict[str, Any]:
    """The aggregation, made to count documents: of a field in nested ones, those that these are in.
    `by_documents` reads its result."""
    if leaf.nested is None:
        return aggregation
    counted = {**aggregation, "aggs": {_DOCUMENTS: {"reverse_nested": {}}}}
    return {"nested": {"path": leaf.nested}, "aggs": {_WITHIN: counted}}


def by_documents(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of such an aggregation, as that of a field that is not nested."""
    if _WITHIN not in result:
        return result
    inner = result[_WITHIN]
    buckets = [
        {**bucket, "doc_count": bucket[_DOCUMENTS]["doc_count"]} for bucket in inner["buckets"]
    ]
    return {**inner, "buckets": buckets}


def _most_frequent(leaf: Field) -> str:
    """What the values of a field are ordered by, for those of the most documents to come first."""
    return _DOCUMENTS if leaf.nested else "_count"


def too_many_buckets(limit: int) -> ServiceError:
    """A histogram is so fine that it has more buckets than an answer may have."""
    detail = f"A facet has at most {limit:,} buckets. Take a longer interval, or narrow the search."
    return ServiceError(422, "too-many-buckets", "Facet too fine", detail)


def _aggregation(
    facet: AnyFacet, leaf: Field, caps: Caps, location: str, errors: list[Error]
) -> dict[str, Any]:
    field: dict[str, Any] = {"field": leaf.exact}
    match facet:
        case TermsFacet():
            if facet.size > caps.buckets:
                detail = f"a facet has at most {caps.buckets:,} buckets"
                mistake(errors, f"{location}.size", detail)
                return {}
            order = {"_key": "asc"} if facet.order == "value" else {_most_frequent(leaf): "desc"}
            formatted = {"format": DATE_FORMAT} if leaf.type in DATES else {}
            return {"terms": {**field, **formatted, "size": facet.size, "order": order}}
        case HistogramFacet():
            return {"histogram": {**field, "interval": facet.interval, "min_doc_count": 1}}
        case DatesFacet():
            if not _is_zone(facet.time_zone):
                detail = f"is no time zone: {shown(facet.time_zone)}; give one such as UTC"
                mistake(errors, f"{location}.time_zone", detail)
            return {
                "date_histogram": {
                    **field,
                    "calendar_interval": facet.every,
                    "time_zone": facet.time_zone,
                    "format": DATE_FORMAT,
                    "min_doc_count": 1,
                }
            }
    # Elasticsearch puts them in an order of its own.
    ranges = [
        {"key": str(position), **_range(one, leaf, f"{location}.ranges.{position}", errors)}
        for position, one in enumerate(facet.ranges)
    ]
    kind = "ip_range" if leaf.type == "ip" else "date_range" if leaf.type in DATES else "range"
    formatted = {"format": DATE_FORMAT} if leaf.type in DATES else {}
    return {kind: {**field, **formatted, "ranges": ranges}}


def _range(one: FacetRange, leaf: Field, location: str, errors: list[Error]) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    order: dict[str, Any] = {}
    for name, value, meant in (("from", one.from_, "gte"), ("to", one.to, "lt")):
        if value is None:
            continue
        try:
            bounds[name], order[name] = check_bound(leaf, value, meant)
        except WrongValueError as error:
            if len(errors) < MAX_ERRORS:
                errors.append(error.at(f"{location}.{name}"))
    if one.from_ is None and one.to is None:
        mistake(errors, location, "give from, to, or both")
    if len(order) == 2 and None not in order.values() and order["from"] > order["to"]:
        mistake(errors, location, "from is above to; swap them")
    return bounds


def _in_ranges(facet: RangesFacet, buckets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for bucket in sorted(buckets, key=lambda bucket: int(bucket["key"])):
        key = facet.ranges[int(bucket["key"])].key
        bounds: dict[str, Any] = {
            name: bucket.get(f"{name}_as_string", bucket[name])
            for name in ("from", "to")
            if name in bucket
        }
        named: dict[str, Any] = {} if key is None else {"key": key}
        found.append({**named, **bounds, "count": bucket["doc_count"]})
    return found


def _bucket(kind: str, bucket: Mapping[str, Any]) -> dict[str, Any]:
    value = bucket.get("key_as_string", bucket["key"])
    if kind == "boolean":
        value = bool(bucket["key"])
    elif kind in _NUMBERS:
        value = bucket["key"]
    return {"value": value, "count": bucket["doc_count"]}


def _is_zone(name: str) -> bool:
    # Of the other names without an area, Elasticsearch knows some and some not.
    return name == "UTC" or ("/" in name and name in available_timezones())
