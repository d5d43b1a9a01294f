"""Requests compiled to Elasticsearch's query DSL, after a check against the index's mapping.

Pure functions: the same request and mapping give the same query, and no server is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_service.cursors import Place
from search_service.errors import MAX_ERRORS, Error, bad_cursor, beyond_window, invalid, nearest
from search_service.fields import DATES, FLOATS, INTEGERS, Field, Fields
from search_service.indices import Index
from search_service.models import MAX_VALUES, SearchRequest
from search_service.values import DATE_FORMAT, WrongValueError, check, check_bound

# Types whose indexed form may be coarser than the column's: `date` keeps milliseconds, the others
# the nearest float. Two rows with different keys can look alike in them.
_COARSE = frozenset({"date", *FLOATS})


@dataclass(frozen=True, slots=True)
class Selection:
    """The fields to return: their leaf paths, and the `_source` filter for them."""

    paths: list[str]
    source: dict[str, list[str]] | bool


def search_body(request: SearchRequest, index: Index, page_size: int) -> dict[str, Any]:
    """The body of Elasticsearch's search for a page.

    Raises:
        search_service.errors.ServiceError: a field is unknown, a value does not suit it, or the
            page is out of reach; all mistakes are told at once.
    """
    errors: list[Error] = []
    query = _query(request.query_fields, index.fields, errors)
    sort = _sort(request.sort_by, index, errors)
    selection = _select(index.fields, request.fields, request.exclude_fields, errors)
    if errors:
        raise invalid(errors)
    last = request.page * page_size
    if last > index.window:
        raise beyond_window(last, index.window)
    return {
        "query": query,
        "sort": sort,
        "from": last - page_size,
        "size": page_size,
        "_source": selection.source,
        "track_total_hits": True,
    }


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
    if size > index.window:
        largest = index.window - len(place.given) - 1
        detail = f"the largest page of this index has {largest:,} documents"
        raise invalid([{"location": "size", "detail": detail}])
    body: dict[str, Any] = {
        "sort": _sort({}, index, []),
        "size": size,
        "_source": selection.source,
        "track_total_hits": True,
    }
    if place.after is not None:
        body["search_after"] = _check_after(index, place.after)
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
    if names is not None:
        source["includes"] = paths
    if hidden := sorted(dropped) + fields.hidden:
        source["excludes"] = hidden
    if not paths and not errors:
        location = "fields" if not excluded else "exclude_fields"
        errors.append({"location": location, "detail": "no field is left to return"})
    return Selection(paths, source or True)


def _leaves(fields: Fields, location: str, names: Sequence[str], errors: list[Error]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        below = fields.under(name)
        if not below and len(errors) < MAX_ERRORS:
            errors.append(_unknown(fields, name, location))
        found.update(dict.fromkeys(below))
    return list(found)


def _unknown(fields: Fields, name: str, location: str) -> Error:
    if children := fields.under(name):
        detail = f"is an object; name a field in it, such as {children[0]}"
    else:
        detail = "unknown field." + nearest(name, list(fields.leaves))
    return {"location": f"{location}.{name[:255]}", "detail": detail}


def _query(conditions: Mapping[str, Any], fields: Fields, errors: list[Error]) -> dict[str, Any]:
    filters = []
    for name, condition in conditions.items():
        location = f"query_fields.{name[:255]}"
        field = fields.find(name)
        if field is None:
            errors.append(_unknown(fields, name, "query_fields"))
        elif not field.filterable:
            detail = f"a {field.type} field cannot be filtered by"
            if field.type == "flattened":
                detail += f"; name a key in it, as {name}.key"
            errors.append({"location": location, "detail": detail})
        elif isinstance(condition, dict):
            filters.append(_range(field, condition, location, errors))
        elif isinstance(condition, list):
            filters.append(_any_of(field, condition, location, errors))
        else:
            filters.append(_any_of(field, [condition], location, errors, single=True))
    return {"bool": {"filter": filters}} if filters else {"match_all": {}}


def _any_of(
    field: Field, values: list[Any], location: str, errors: list[Error], single: bool = False
) -> dict[str, Any]:
    if not 0 < len(values) <= MAX_VALUES:
        detail = f"a list has 1 to {MAX_VALUES} values, this one {len(values)}"
        errors.append({"location": location, "detail": detail})
        return {}
    checked: dict[Any, None] = {}
    for position, value in enumerate(values):
        try:
            checked[check(field, value)] = None
        except WrongValueError as error:
            if len(errors) < MAX_ERRORS:
                errors.append(error.at(location if single else f"{location}.{position}"))
    if field.type in DATES:
        ranges = [_between(field, {"gte": first, "lte": last}) for first, last in checked]
        return ranges[0] if len(ranges) == 1 else {"bool": {"should": ranges}}
    if len(checked) == 1:
        return {"term": {field.exact: next(iter(checked))}}
    return {"terms": {field.exact: list(checked)}}


def _range(
    field: Field, condition: Mapping[str, Any], location: str, errors: list[Error]
) -> dict[str, Any]:
    if field.type in {"boolean", "flattened"}:
        detail = f"a {field.type} field has no ranges; give a value or a list of values"
        errors.append({"location": location, "detail": detail})
        return {}
    if not condition or condition.keys() - {"gte", "lte"}:
        detail = 'a range is {"gte": from, "lte": to}, or one of the two'
        errors.append({"location": location, "detail": detail})
        return {}
    bounds: dict[str, Any] = {}
    order: dict[str, Any] = {}
    for name, value in condition.items():
        try:
            bounds[name], order[name] = check_bound(field, value, name)
        except WrongValueError as error:
            errors.append(error.at(f"{location}.{name}"))
    if len(order) == 2 and order["gte"] > order["lte"]:
        errors.append({"location": location, "detail": "gte is above lte; swap them"})
    return _between(field, bounds)


def _between(field: Field, bounds: dict[str, Any]) -> dict[str, Any]:
    if field.type in DATES:
        bounds = {**bounds, "format": DATE_FORMAT}
    return {"range": {field.exact: bounds}}


def _sort(directions: Mapping[str, str], index: Index, errors: list[Error]) -> list[dict[str, Any]]:
    sort: list[dict[str, Any]] = []
    for name, direction in directions.items():
        field = index.fields.find(name)
        if field is None:
            if len(errors) < MAX_ERRORS:
                errors.append(_unknown(index.fields, name, "sort_by"))
        elif not field.sortable:
            detail = f"a {field.type} field cannot be sorted by"
            errors.append({"location": f"sort_by.{name[:255]}", "detail": detail})
        else:
            sort.append({field.exact: {"order": direction, "missing": "_last"}})
    key = _key(index)
    sort += [{field.exact: {"order": "asc"}} for field in key if field.path not in directions]
    if any(field.type in _COARSE for field in key):
        sort.append({"_seq_no": {"order": "asc"}})
    return sort


def _key(index: Index) -> list[Field]:
    return [field for path in index.key if (field := index.fields.ordering(path))]


def _check_after(index: Index, after: Sequence[Any]) -> list[Any]:
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
