"""Suggestions: the values of a field that begin with what somebody has typed."""

from typing import Any

from search_service.conditions import unknown_field, within
from search_service.errors import Error, invalid
from search_service.facets import by_documents, of_documents
from search_service.fields import STRINGS, WORDS
from search_service.indices import Index
from search_service.query import restricted
from search_service.values import WrongValueError, check

_LOOKED_AT = 100_000  # documents of a shard: what a suggestion costs at most
_MORE = 5  # times the values that are wanted: a document's other values come along


def suggest_body(index: Index, path: str, prefix: str, size: int) -> dict[str, Any]:
    """The body of a search for values of a field.

    Raises:
        search_service.errors.ServiceError: no such field, or one without texts.
    """
    leaf = index.fields.find(path)
    if leaf is None:
        errors: list[Error] = []
        unknown_field(index.fields, path, "field", errors)
        raise invalid(errors)
    suitable = leaf.type in STRINGS | WORDS and leaf.filterable and leaf.sortable
    if not suitable:
        detail = f"{leaf.kind} has no suggestions; name a field of texts"
        raise invalid([{"location": "field", "detail": detail}])
    try:
        check(leaf, prefix)
    except WrongValueError as error:
        raise invalid([error.at("prefix")]) from None
    begins = {"prefix": {leaf.exact: {"value": prefix, "case_insensitive": True}}}
    values = {"terms": {"field": leaf.exact, "size": size * _MORE}}
    return {
        "query": restricted(index, [within(leaf, begins)]),
        "size": 0,
        "track_total_hits": False,
        "terminate_after": _LOOKED_AT,
        "aggs": {"values": of_documents(leaf, values)},
    }


def suggestions(answer: dict[str, Any], prefix: str, size: int) -> list[dict[str, Any]]:
    """The values in an answer that begin with the text, whatever its case."""
    buckets = by_documents(answer.get("values", {})).get("buckets", [])
    begun = prefix.lower()
    return [
        {"value": bucket["key"], "count": bucket["doc_count"]}
        for bucket in buckets
        if bucket["key"].lower().startswith(begun)
    ][:size]
