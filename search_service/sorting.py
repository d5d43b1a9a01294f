"""The order of documents: what Elasticsearch sorts by, there and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from search_service.conditions import unknown_field
from search_service.errors import Error, bad_cursor, mistake, shown
from search_service.fields import DATES, FLOATS, INTEGERS, Field
from search_service.indices import Index
from search_service.values import WrongValueError, check, point

# Types whose indexed form may be coarser than the column's: `date` keeps milliseconds, the others
# the nearest float. Two rows with different keys can look alike in them.
_COARSE = frozenset({"date", *FLOATS})
_DIRECTIONS = ("asc", "desc")
_OF_A_DOCUMENT = frozenset({"_score", "_seq_no", "_shard_doc"})
"""What documents are sorted by that no field of theirs has."""

Sort = list[dict[str, Any]]


def sort_of(
    wanted: Mapping[str, Any], index: Index, errors: list[Error], scored: bool = False
) -> Sort:
    """The order that is wanted, then that of the key; `scored`: there is a relevance."""
    sort: Sort = []
    if scored and not wanted:
        wanted = {"_score": "desc"}
    for name, order in wanted.items():
        field = index.fields.find(name)
        location = f"sort_by.{name[:255]}"
        if field is None and name == "_score" and scored:
            sort += _directed(name, order, location, errors)
        elif field is None:
            unknown_field(index.fields, name, "sort_by", errors)
        elif field.located:
            sort += _by_distance(field, order, location, errors)
        elif not field.sortable:
            mistake(errors, location, f"{field.kind} cannot be sorted by")
        else:
            how = {"missing": "_last", **_nested(field)}
            sort += _directed(field.exact, order, location, errors, **how)
    key = _key(index)
    sort += [{field.exact: {"order": "asc"}} for field in key if field.path not in wanted]
    if any(field.type in _COARSE for field in key):
        sort.append({"_seq_no": {"order": "asc"}})
    return sort


def _directed(name: str, order: Any, location: str, errors: list[Error], **how: Any) -> Sort:
    if order not in _DIRECTIONS:
        mistake(errors, location, f'expected "asc" or "desc", got {shown(order)}')
        return []
    return [{name: {"order": order, **how}}]


def _by_distance(field: Field, order: Any, location: str, errors: list[Error]) -> Sort:
    """The nearest first. A document without a place is infinitely far away."""
    if not isinstance(order, dict) or order.keys() != {"near"}:
        mistake(errors, location, 'expected {"near": {"lat": 52.5, "lon": 13.4}}')
        return []
    try:
        centre = point(order["near"])
    except WrongValueError as error:
        errors.append(error.at(f"{location}.near"))
        return []
    return [{"_geo_distance": {field.path: centre, "order": "asc", **_nested(field)}}]


def _nested(field: Field) -> dict[str, Any]:
    return {"nested": {"path": field.nested}} if field.nested else {}


def reversed_sort(sort: Sort) -> Sort:
    """The same order from its other end; a key's documents without a value come last, too."""
    turned = []
    for entry in sort:
        ((name, how),) = entry.items()
        ascending = how["order"] == "asc"
        other = {**how, "order": "desc" if ascending else "asc"}
        if not name.startswith("_") or "missing" in how:
            other["missing"] = "_first"
        if name not in _OF_A_DOCUMENT:
            # Of several values, the one that counts there counts on the way back as well.
            other["mode"] = "min" if ascending else "max"
        turned.append({name: other})
    return turned


def _key(index: Index) -> list[Field]:
    """The fields of the key, which may be hidden."""
    return [field for path in index.key if (field := index.fields.ordering(path))]


def check_after(index: Index, after: Sequence[Any]) -> list[Any]:
    """The sort values of a place in the order of the key.

    Raises:
        search_service.errors.ServiceError: they do not suit it.
    """
    key = _key(index)
    kinds = [field.type for field in key]
    if any(kind in _COARSE for kind in kinds):
        kinds.append("long")
    if len(after) != len(kinds) or not all(map(_suits, kinds, after)):
        raise bad_cursor("does not fit the index's key")
    return list(after)


def _suits(kind: str, value: object) -> bool:
    """Whether Elasticsearch gives such a sort value for the type, and so takes it back."""
    if kind in DATES:
        kind = "long"
    if kind == "boolean":
        return isinstance(value, bool) or (type(value) is int and value in {0, 1})
    if kind in INTEGERS:
        right = type(value) is int
    elif kind in FLOATS:
        right = type(value) in {int, float}
    else:
        right = isinstance(value, str) and not (kind == "ip" and "/" in value)
    if not right:
        return False
    try:
        check(Field("", kind, ""), value)
    except WrongValueError:
        return False
    return True
