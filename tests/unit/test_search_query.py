"""Requests compiled to the query DSL, without a server."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_service import conditions
from search_service.cursors import Place
from search_service.errors import ServiceError
from search_service.indices import Index, served
from search_service.models import SearchRequest
from search_service.query import scroll_body, search_body, select

TEXT = {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 8191}}}
PROPERTIES: dict[str, Any] = {
    "id": {"type": "long"},
    "title": TEXT,
    "notes": {"type": "text"},
    "price": {"type": "double"},
    "active": {"type": "boolean"},
    "at": {"type": "date"},
    "from": {"type": "ip"},
    "labels": {"type": "flattened"},
    "owner": {"properties": {"name": {"type": "keyword"}, "age": {"type": "short"}}},
    "lines": {"type": "nested", "properties": {"sku": {"type": "keyword"}}},
    "hidden": {"type": "keyword", "index": False, "doc_values": False},
    "other": {"type": "alias", "path": "id"},
    "extra": {"type": "object", "enabled": False},
}


def index_of(properties: dict[str, Any] = PROPERTIES, key: tuple[str, ...] = ("id",)) -> Index:
    meta = {"pg_es_pipeline": {"format": 1, "table": "public.things", "key": list(key)}}
    info = {
        "aliases": {"things": {}},
        "mappings": {"_meta": meta, "properties": properties},
        "settings": {"index": {"max_result_window": "100"}},
    }
    return served({"things-000001": info})["things"]


def compiled(**request: Any) -> dict[str, Any]:
    return search_body(SearchRequest(index="things", **request), index_of(), 10)


def filters(**conditions: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = compiled(query_fields=conditions)["query"]["bool"]["filter"]
    return found


def mistake(**request: Any) -> str:
    with pytest.raises(ServiceError) as refused:
        compiled(**request)
    assert refused.value.status == 422
    return refused.value.detail


def test_no_condition_matches_everything_in_the_order_of_the_key() -> None:
    assert compiled() == {
        "query": {"match_all": {}},
        "sort": [{"id": {"order": "asc"}}],
        "from": 0,
        "size": 10,
        "_source": True,
        "track_total_hits": True,
    }


def test_conditions_compile_to_filters_on_exact_values() -> None:
    assert filters(title="a", price=1) == [{"term": {"title.raw": "a"}}, {"term": {"price": 1}}]
    assert filters(title=["a", "b", "a"]) == [{"terms": {"title.raw": ["a", "b"]}}]
    assert filters(title=["a"]) == [{"term": {"title.raw": "a"}}]
    assert filters(price={"gte": 1}) == [{"range": {"price": {"gte": 1}}}]
    assert filters(title={"gte": "a", "lte": "b"}) == [
        {"range": {"title.raw": {"gte": "a", "lte": "b"}}}
    ]
    assert filters(**{"owner.name": "x"}) == [{"term": {"owner.name": "x"}}]
    assert filters(**{"labels.a.b": 1}) == [{"term": {"labels.a.b": "1"}}]
    assert filters(**{"labels.on": True}) == [{"term": {"labels.on": "true"}}]


def test_dates_compile_to_ranges_with_a_format_of_their_own() -> None:
    format_ = "strict_date_optional_time_nanos"
    assert filters(at="2020-02") == [
        {
            "range": {
                "at": {
                    "gte": "2020-02-01T00:00:00.000000000Z",
                    "lte": "2020-02-29T23:59:59.999999999Z",
                    "format": format_,
                }
            }
        }
    ]
    (either,) = filters(at=["2020-01-01T00:00Z", "2020-01-02T00:00Z"])
    assert len(either["bool"]["should"]) == 2


def test_sort_keeps_the_order_of_its_keys_and_ends_with_the_tables_key() -> None:
    assert compiled(sort_by={"title": "desc", "price": "asc"})["sort"] == [
        {"title.raw": {"order": "desc", "missing": "_last"}},
        {"price": {"order": "asc", "missing": "_last"}},
        {"id": {"order": "asc"}},
    ]
    assert compiled(sort_by={"id": "desc"})["sort"] == [
        {"id": {"order": "desc", "missing": "_last"}}
    ]


@pytest.mark.parametrize(
    ("kind", "coarse"), [("date", True), ("double", True), ("date_nanos", False), ("long", False)]
)
def test_a_key_that_is_indexed_coarsely_has_one_more_tie_breaker(kind: str, coarse: bool) -> None:
    index = index_of({"id": {"type": kind}})
    sort = scroll_body(index, [], Place(), 10)["sort"]
    assert sort == [{"id": {"order": "asc"}}] + [{"_seq_no": {"order": "asc"}}] * coarse


def test_a_scroll_looks_one_document_ahead_and_asks_again_for_those_given() -> None:
    body = scroll_body(index_of(), ["title"], Place([7], ("a", "b")), 10)
    assert body["size"] == 13
    assert body["search_after"] == [7]
    assert body["_source"] == {"includes": ["title"]}
    assert "search_after" not in scroll_body(index_of(), [], Place(), 10)


def test_fields_are_leaves_of_the_mapping() -> None:
    fields = index_of().fields
    assert list(fields.leaves) == [
        *("id", "title", "notes", "price", "active", "at", "from", "labels"),
        *("owner.name", "owner.age", "lines.sku", "hidden", "extra"),
    ]
    assert select(fields, ["owner", "id", "owner.name"]).paths == ["owner.name", "owner.age", "id"]
    assert select(fields, ["extra.deep.key", "labels.a"]).paths == ["extra.deep.key", "labels.a"]
    assert select(fields, None).source is True
    left = select(fields, None, ["owner", "title"])
    assert left.source == {"excludes": ["owner.age", "owner.name", "title"]}
    assert "owner.name" not in left.paths


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"query_fields": {"notes": "x"}}, "cannot be filtered"),
        ({"query_fields": {"lines": {"sku": "x"}}}, "lines.sku"),
        ({"query_fields": {"hidden": "x"}}, "cannot be filtered"),
        ({"query_fields": {"other": 1}}, "unknown field"),
        ({"query_fields": {"owner": 1}}, "owner.name"),
        ({"query_fields": {"labels.": 1}}, "unknown field"),
        ({"query_fields": {"labels.a\0b": 1}}, "unknown field"),
        ({"query_fields": {"labels.*": 1}}, "unknown field"),
        ({"query_fields": {"title.raw": "x"}}, 'Did you mean "title"'),
        ({"fields": ["labels.*"]}, "unknown field"),
        ({"fields": ["*"]}, "unknown field"),
        ({"exclude_fields": ["nope"]}, "unknown field"),
        ({"sort_by": {"notes": "asc"}}, "cannot be sorted"),
        ({"sort_by": {"_score": "asc"}}, "unknown field"),
        ({"sort_by": {"hidden": "asc"}}, "cannot be sorted"),
        ({"page": 11}, "scroll"),
    ],
)
def test_mistakes_are_named(request_: dict[str, Any], words: str) -> None:
    assert words in mistake(**request_)


def test_a_scroll_of_a_coarse_key_takes_a_sequence_number_too() -> None:
    index = index_of({"id": {"type": "date"}})
    assert scroll_body(index, [], Place([1, 2]), 1)["search_after"] == [1, 2]
    with pytest.raises(ServiceError):
        scroll_body(index, [], Place([1]), 1)


OPERATORS = [
    *("gt", "gte", "lt", "lte", "not", "exists", "null", "prefix", "contains", "words", "near"),
    *("box", "element", "any", "all", "phrase", "lat", "lon", "within", "query", "script", "$x"),
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("2020-01")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(OPERATORS), inner, max_size=3)
    ),
    max_leaves=6,
)
names = (
    st.sampled_from([*PROPERTIES, "owner.name", "labels.a", "title.raw", "_id", "*"]) | st.text()
)


def outcome(function: Any, *arguments: Any) -> dict[str, Any] | ServiceError:
    try:
        found: dict[str, Any] = function(*arguments)
    except ServiceError as refused:
        return refused
    return found


@given(conditions=st.dictionaries(names, values, max_size=4))
def test_whatever_is_asked_becomes_a_term_a_range_or_a_clear_no(
    conditions: dict[str, Any],
) -> None:
    request = SearchRequest(index="things", query_fields=conditions, filter={"none": [conditions]})
    body = outcome(search_body, request, index_of(), 10)
    if isinstance(body, ServiceError):
        assert body.status == 422
        assert body.errors
    else:
        json.dumps(body, allow_nan=False).encode()
        assert set(kinds(body["query"])) <= ALLOWED


ALLOWED = {
    *("match_all", "bool", "term", "terms", "range", "exists", "prefix", "match", "match_phrase"),
    *("multi_match", "nested", "geo_distance", "geo_bounding_box", "ids"),
}


def kinds(query: dict[str, Any]) -> list[str]:
    (kind,) = query
    inner = [query[kind]["query"]] if kind == "nested" else []
    if kind == "bool":
        inner = [part for parts in query[kind].values() for part in parts]
    return [kind, *(name for part in inner for name in kinds(part))]


@given(after=st.lists(scalars, max_size=3), kind=st.sampled_from(["long", "text", "ip", "date"]))
def test_whatever_a_cursor_holds_is_a_place_or_a_clear_no(after: list[Any], kind: str) -> None:
    properties = {"id": TEXT if kind == "text" else {"type": kind}}
    body = outcome(scroll_body, index_of(properties), [], Place(after), 10)
    if isinstance(body, ServiceError):
        assert body.status == 400
    else:
        assert body["search_after"] == after
        expected = str if kind in {"text", "ip"} else int
        assert all(type(value) is expected for value in after)


def test_nearest_names_are_looked_for_only_as_often_as_they_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def nearest(name: str, known: list[str]) -> str:
        asked.append(name)
        return ""

    monkeypatch.setattr(conditions, "nearest", nearest)
    mistake(fields=[f"x{number}" for number in range(1000)], sort_by={"y": "asc"})
    assert len(asked) <= 21
