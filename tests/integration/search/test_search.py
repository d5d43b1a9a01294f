"""POST /search: the contract, field by field."""

import json
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import AsyncClient

from search_service.schemas import MAX_VALUES

pytestmark = pytest.mark.anyio


async def found(service: AsyncClient, index: str, **query: Any) -> list[int]:
    answer = await service.post("/search", json={"index": index, **query})
    assert answer.status_code == 200, answer.text
    return [document["flight_id"] for document in answer.json()["data"]]


async def refused(service: AsyncClient, index: str, **query: Any) -> dict[str, Any]:
    answer = await service.post("/search", json={"index": index, **query})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    return problem


async def test_answers_with_documents_and_where_the_page_is(
    service: AsyncClient, flights: str
) -> None:
    answer = await service.post(
        "/search",
        json={
            "index": flights,
            "query_fields": {"cancelled": False},
            "fields": ["flight_id", "carrier"],
            "sort_by": {"flight_id": "desc"},
            "page": 1,
            "page_size": 1,
        },
    )
    assert answer.json() == {
        "data": [{"flight_id": 3, "carrier": "UA and AA"}],
        "meta": {
            "total_records": 2,
            "page_size": 1,
            "current_page": 1,
            "total_pages": 2,
            "has_next": True,
            "has_previous": False,
            "selected_fields": ["flight_id", "carrier"],
        },
    }


async def test_returns_every_document_and_field_when_only_the_index_is_given(
    service: AsyncClient, flights: str
) -> None:
    answer = (await service.post("/search", json={"index": flights})).json()
    assert [document["flight_id"] for document in answer["data"]] == [1, 2, 3]
    assert answer["data"][0]["time_hour"] == "2013-01-01T10:00:00.123456Z"
    assert answer["data"][1]["dep_delay"] is None
    assert answer["meta"]["page_size"] == 10
    assert answer["meta"]["selected_fields"] == [
        *("airline.code", "airline.name", "cancelled", "carrier", "dep_delay", "distance"),
        *("flight_id", "gate", "labels", "photo", "time_hour"),
    ]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"carrier": "UA"}, [1]),
        ({"carrier": "ua"}, []),
        ({"carrier": ["UA", "AA"]}, [1, 2]),
        ({"carrier": {"gte": "UA"}}, [1, 3]),
        ({"flight_id": 2}, [2]),
        ({"flight_id": "2"}, [2]),
        ({"flight_id": 2.0}, [2]),
        ({"dep_delay": [-5, 10, -5]}, [1, 3]),
        ({"dep_delay": {"gte": 0}}, [1]),
        ({"dep_delay": {"lte": 0}}, [3]),
        ({"dep_delay": {"gte": -5, "lte": 10}}, [1, 3]),
        ({"distance": 1089}, [2, 3]),
        ({"distance": {"gte": 1400.5, "lte": 1400.5}}, [1]),
        ({"cancelled": True}, [2]),
        ({"cancelled": [True, False]}, [1, 2, 3]),
        ({"time_hour": "2013-01-31"}, [2]),
        ({"time_hour": "2013-01"}, [1, 2]),
        ({"time_hour": "2013"}, [1, 2, 3]),
        ({"time_hour": "2013-02-01T00:00:00Z"}, [3]),
        ({"time_hour": "2013-02-01T01:00+01:00"}, [3]),
        ({"time_hour": "2013-02-01 00:00:00"}, [3]),
        ({"time_hour": "2013-01-01T10:00:00.123456Z"}, [1]),
        ({"time_hour": "2013-01-01T10:00:00Z"}, []),
        ({"time_hour": ["2013-01-01", "2013-02-01"]}, [1, 3]),
        ({"time_hour": {"gte": "2013-01-01", "lte": "2013-01-31"}}, [1, 2]),
        ({"time_hour": {"gte": "2013-01-31T23:30:00Z"}}, [2, 3]),
        ({"airline.name": "United Air Lines"}, [1]),
        ({"airline.code": ["AA", "XX"]}, [2]),
        ({"labels.color": "red"}, [1]),
        ({"labels.color": ["red", "blue"]}, [1, 2]),
        ({"labels.size.cm": 12}, [1]),
        ({"gate": "10.0.0.1"}, [1]),
        ({"gate": "10.0.0.0/16"}, [1, 2]),
        ({"gate": ["10.0.0.0/24", "2001:0db8:0::1"]}, [1, 3]),
        ({"gate": {"gte": "10.0.0.2", "lte": "10.0.2.0"}}, [2]),
        ({"carrier": "UA", "cancelled": True}, []),
        ({"carrier": "\x00"}, []),
        ({}, [1, 2, 3]),
    ],
    ids=str,
)
async def test_finds_by(
    service: AsyncClient, flights: str, condition: dict[str, Any], expected: list[int]
) -> None:
    assert await found(service, flights, query_fields=condition) == expected


@pytest.mark.parametrize(
    ("condition", "location", "words"),
    [
        ({"dep_delay": "late"}, "dep_delay", ["integer", '"late"']),
        ({"flight_id": 1.5}, "flight_id", ["long", "1.5"]),
        ({"flight_id": 2**63}, "flight_id", ["long", "9223372036854775808"]),
        ({"flight_id": float(2**60)}, "flight_id", ["long"]),
        ({"dep_delay": 2**31}, "dep_delay", ["integer", "2147483648"]),
        ({"dep_delay": True}, "dep_delay", ["integer", "true"]),
        ({"dep_delay": [1, "x"]}, "dep_delay.1", ["integer", '"x"']),
        ({"distance": "far"}, "distance", ["double", '"far"']),
        ({"distance": 10**400}, "distance", ["double"]),
        ({"cancelled": "yes"}, "cancelled", ["boolean", '"yes"']),
        ({"cancelled": 1}, "cancelled", ["boolean", "1"]),
        ({"cancelled": {"gte": False}}, "cancelled", ["boolean", "range"]),
        ({"carrier": 5}, "carrier", ["text", "5"]),
        ({"carrier": "x" * 8192}, "carrier", ["8191"]),
        ({"carrier": None}, "carrier", ["null"]),
        ({"carrier": [None]}, "carrier.0", ["null"]),
        ({"carrier": []}, "carrier", ["1 to 1024"]),
        ({"carrier": ["x"] * (MAX_VALUES + 1)}, "carrier", ["1 to 1024", "1025"]),
        ({"carrier": [["UA"]]}, "carrier.0", ["text", "a list"]),
        ({"carrier": {"gte": {}}}, "carrier.gte", ["text", "an object"]),
        ({"carrier": {}}, "carrier", ["gte", "lte"]),
        ({"carrier": {"above": "A"}}, "carrier", ["above", "gt, gte, lt, lte"]),
        ({"dep_delay": {"gte": 5, "lte": 1}}, "dep_delay", ["above"]),
        ({"dep_delay": {"gte": None}}, "dep_delay.gte", ["null"]),
        ({"carrier": {"gte": "b", "lte": "a"}}, "carrier", ["above"]),
        ({"time_hour": {"gte": "2013-02-02", "lte": "2013-02-01"}}, "time_hour", ["above"]),
        ({"time_hour": "yesterday"}, "time_hour", ["date", "ISO 8601", '"yesterday"']),
        ({"time_hour": "2013-02-30"}, "time_hour", ["date"]),
        ({"time_hour": "now-1d"}, "time_hour", ["date"]),
        ({"time_hour": 1357034400000}, "time_hour", ["date"]),
        ({"gate": "10.0.0"}, "gate", ["ip"]),
        ({"gate": {"gte": "10.0.0.0/8"}}, "gate.gte", ["network"]),
        ({"gate": {"gte": "10.0.0.10", "lte": "10.0.0.9"}}, "gate", ["above"]),
        ({"labels": "red"}, "labels", ["labels.key"]),
        ({"labels.color": {"gte": "a"}}, "labels.color", ["range"]),
        ({"airline": "UA"}, "airline", ["object", "airline."]),
        ({"photo": "AAEC"}, "photo", ["binary"]),
        ({"carier": "UA"}, "carier", ['"carrier"']),
        ({"carrier.raw": "UA"}, "carrier.raw", ['"carrier"']),
        ({"_id": "1"}, "_id", ["unknown"]),
        ({"__proto__": 1}, "__proto__", ["unknown"]),
        ({"*": 1}, "*", ["unknown"]),
        ({"": 1}, "", ["unknown"]),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_refuses_and_says_why(
    service: AsyncClient, flights: str, condition: dict[str, Any], location: str, words: list[str]
) -> None:
    problem = await refused(service, flights, query_fields=condition)
    (error,) = problem["errors"]
    assert error["location"] == f"query_fields.{location}"
    for word in words:
        assert word in error["detail"]
    assert error["detail"] in problem["detail"]


@pytest.mark.parametrize("field", ["distance", "flight_id", "labels.color", "carrier"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_refuses_numbers_that_json_does_not_have(
    service: AsyncClient, flights: str, field: str, number: str
) -> None:
    answer = await service.post(
        "/search",
        content=f'{{"index": "{flights}", "query_fields": {{"{field}": {number}}}}}',
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == f"query_fields.{field}"


@pytest.mark.parametrize(
    "body",
    [
        '{"index": "INDEX", "query_fields": {"carrier": "\\ud800"}}',
        '{"index": "INDEX", "query_fields": {"labels.color": "\\ud800"}}',
        '{"index": "INDEX", "query_fields": {"labels.\\ud800": "x"}}',
        '{"index": "INDEX", "fields": ["\\ud800"]}',
        '{"index": "INDEX", "sort_by": {"\\udfff": "asc"}}',
    ],
)
async def test_refuses_half_surrogate_pairs(service: AsyncClient, flights: str, body: str) -> None:
    answer = await service.post(
        "/search",
        content=body.replace("INDEX", flights),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"]


async def test_tells_all_mistakes_at_once(service: AsyncClient, flights: str) -> None:
    problem = await refused(
        service,
        flights,
        query_fields={"dep_delay": "late", "nope": 1},
        fields=["carier"],
        exclude_fields=["xyz"],
        sort_by={"labels": "asc"},
    )
    assert [error["location"] for error in problem["errors"]] == [
        "query_fields.dep_delay",
        "query_fields.nope",
        "sort_by.labels",
        "fields.carier",
        "exclude_fields.xyz",
    ]
    assert problem["errors"][0]["expected"].startswith("integer")
    assert problem["errors"][0]["given"] == '"late"'


@pytest.mark.parametrize(
    ("fields", "exclude", "selected", "document"),
    [
        (["carrier"], None, ["carrier"], {"carrier": "UA"}),
        (["carrier", "carrier"], None, ["carrier"], {"carrier": "UA"}),
        (["airline.code"], None, ["airline.code"], {"airline": {"code": "UA"}}),
        (
            ["airline"],
            None,
            ["airline.code", "airline.name"],
            {"airline": {"code": "UA", "name": "United Air Lines"}},
        ),
        (["airline"], ["airline.name"], ["airline.code"], {"airline": {"code": "UA"}}),
        (["labels.color"], None, ["labels.color"], {"labels": {"color": "red"}}),
        (["gate", "flight_id"], ["gate"], ["flight_id"], {"flight_id": 1}),
        (
            None,
            ["airline", "labels", "photo", "gate", "time_hour", "cancelled", "distance"],
            ["carrier", "dep_delay", "flight_id"],
            {"carrier": "UA", "dep_delay": 10, "flight_id": 1},
        ),
        (["carrier"], [], ["carrier"], {"carrier": "UA"}),
    ],
)
async def test_returns_only_selected_fields(
    service: AsyncClient,
    flights: str,
    fields: list[str] | None,
    exclude: list[str] | None,
    selected: list[str],
    document: dict[str, Any],
) -> None:
    query = {"index": flights, "fields": fields, "exclude_fields": exclude, "size": 1}
    answer = (await service.post("/search", json=query)).json()
    assert answer["meta"]["selected_fields"] == selected
    assert answer["data"] == [document]


@pytest.mark.parametrize(
    ("fields", "exclude"), [(["carrier"], ["carrier"]), ([], None), (["airline"], ["airline"])]
)
async def test_refuses_a_selection_of_nothing(
    service: AsyncClient, flights: str, fields: list[str], exclude: list[str] | None
) -> None:
    await refused(service, flights, fields=fields, exclude_fields=exclude)


async def test_a_document_without_the_selected_field_is_still_in_the_page(
    service: AsyncClient, flights: str
) -> None:
    answer = await service.post("/search", json={"index": flights, "fields": ["photo"]})
    assert answer.json()["data"] == [{"photo": "AAEC"}, {}, {}]


@pytest.mark.parametrize(
    ("sort_by", "expected"),
    [
        ({"flight_id": "desc"}, [3, 2, 1]),
        ({"distance": "asc"}, [2, 3, 1]),
        ({"distance": "asc", "flight_id": "desc"}, [3, 2, 1]),
        ({"distance": "desc", "carrier": "desc"}, [1, 3, 2]),
        ({"carrier": "desc", "distance": "desc"}, [3, 1, 2]),
        ({"dep_delay": "asc"}, [3, 1, 2]),
        ({"dep_delay": "desc"}, [1, 3, 2]),
        ({"airline.name": "asc"}, [2, 1, 3]),
        ({"gate": "desc"}, [3, 2, 1]),
        ({"cancelled": "desc"}, [2, 1, 3]),
        ({"time_hour": "desc"}, [3, 2, 1]),
        ({}, [1, 2, 3]),
    ],
    ids=str,
)
async def test_sorts_by(
    service: AsyncClient, flights: str, sort_by: dict[str, str], expected: list[int]
) -> None:
    assert await found(service, flights, sort_by=sort_by) == expected


@pytest.mark.parametrize("field", ["photo", "labels", "labels.color", "airline"])
async def test_refuses_to_sort_by_what_has_no_order(
    service: AsyncClient, flights: str, field: str
) -> None:
    problem = await refused(service, flights, sort_by={field: "asc"})
    assert problem["errors"][0]["location"] == f"sort_by.{field}"


async def test_pages_are_stable_when_the_sort_field_is_the_same_everywhere(
    service: AsyncClient, make_index: Any
) -> None:
    properties = {"flight_id": {"type": "long"}, "state": {"type": "keyword"}}
    # Loaded in reverse, so that the order of storage is not the order of keys.
    documents = [{"flight_id": number, "state": "on"} for number in reversed(range(30))]
    index = make_index("ties", properties, documents, key=["flight_id"])
    pages = [
        await found(service, index, sort_by={"state": "asc"}, page=page, page_size=7)
        for page in range(1, 6)
    ]
    assert [number for page in pages for number in page] == list(range(30))


async def test_numbers_pages(service: AsyncClient, flights: str) -> None:
    metas = []
    for page in (1, 2, 3):
        query = {"index": flights, "page": page, "size": 2}
        metas.append((await service.post("/search", json=query)).json()["meta"])
    assert [meta["current_page"] for meta in metas] == [1, 2, 3]
    assert [meta["has_next"] for meta in metas] == [True, False, False]
    assert [meta["has_previous"] for meta in metas] == [False, True, True]
    assert {meta["total_pages"] for meta in metas} == {2}
    assert {meta["total_records"] for meta in metas} == {3}


async def test_no_match_is_an_empty_page(service: AsyncClient, flights: str) -> None:
    query = {"index": flights, "query_fields": {"flight_id": 99}}
    answer = (await service.post("/search", json=query)).json()
    assert answer["data"] == []
    assert answer["meta"]["total_records"] == 0
    assert answer["meta"]["total_pages"] == 0
    assert answer["meta"]["has_next"] is False
    assert answer["meta"]["has_previous"] is False


async def test_counts_exactly_beyond_ten_thousand(service: AsyncClient, make_index: Any) -> None:
    documents = [{"flight_id": number} for number in range(10_050)]
    index = make_index("many", {"flight_id": {"type": "long"}}, documents, key=["flight_id"])
    query = {"index": index, "page": 100, "page_size": 100}
    answer = (await service.post("/search", json=query)).json()
    assert answer["meta"]["total_records"] == 10_050
    assert answer["meta"]["has_next"] is True
    assert answer["data"][-1] == {"flight_id": 9_999}
    problem = await refused(service, index, page=101, page_size=100)
    assert problem["type"] == "urn:pg-es-search:page-beyond-window"
    assert "scroll" in problem["detail"]
    assert "10,000" in problem["detail"]


async def test_knows_the_windows_own_setting(service: AsyncClient, make_index: Any) -> None:
    documents = [{"flight_id": number} for number in range(6)]
    index = make_index(
        "narrow",
        {"flight_id": {"type": "long"}},
        documents,
        key=["flight_id"],
        settings={"max_result_window": 4},
    )
    assert await found(service, index, page=2, page_size=2) == [2, 3]
    await refused(service, index, page=3, page_size=2)
    await refused(service, index, page=1, page_size=5)


@pytest.mark.parametrize(
    "query",
    [
        {"page": 0},
        {"page": -1},
        {"page": 1.5},
        {"page": True},
        {"page": "1"},
        {"page": 10**30},
        {"page": 2**53 + 1},
        {"page_size": 0},
        {"page_size": -1},
        {"size": -1},
        {"size": 1001},
        {"page_size": 10**30},
        {"size": 5, "page_size": 6},
        {"sort_by": {"carrier": "up"}},
        {"sort_by": ["carrier"]},
        {"fields": "carrier"},
        {"fields": [1]},
        {"fields": ["carrier"] * 1001},
        {"query_fields": []},
        {"query_fields": {f"f{n}": 1 for n in range(101)}},
        {"pagesize": 1},
        {"query": "x"},
        {"index": ""},
        {"index": None},
        {"index": ["a"]},
    ],
    ids=lambda query: str(query)[:50],
)
async def test_refuses_the_body(service: AsyncClient, flights: str, query: dict[str, Any]) -> None:
    problem = await refused(service, **{"index": flights, **query})
    assert problem["errors"]


async def test_size_is_page_sizes_other_name(service: AsyncClient, flights: str) -> None:
    assert await found(service, flights, size=2) == [1, 2]
    assert await found(service, flights, page_size=2) == [1, 2]
    assert await found(service, flights, size=2, page_size=2) == [1, 2]


async def test_the_cap_on_pages_is_a_setting(start: Any, flights: str) -> None:
    async with start(search_max_page_size=2) as service:
        assert await found(service, flights) == [1, 2]
        problem = await refused(service, flights, size=3)
        assert problem["errors"] == [
            {"location": "page_size", "detail": "a page has at most 2 documents"}
        ]


async def test_takes_as_many_values_as_it_says(service: AsyncClient, flights: str) -> None:
    numbers = list(range(2, 2 + MAX_VALUES))
    assert await found(service, flights, query_fields={"flight_id": numbers}) == [2, 3]
    days = [f"{year}-02-01" for year in range(2013, 2013 + MAX_VALUES)]
    assert await found(service, flights, query_fields={"time_hour": days}) == [3]


async def test_every_type_is_checked_at_its_limits(service: AsyncClient, make_index: Any) -> None:
    limits: dict[str, tuple[Any, Any]] = {
        "byte": (127, 128),
        "short": (-32768, -32769),
        "integer": (2147483647, 2147483648),
        "long": (-(2**63), -(2**63) - 1),
        "float": (3.4028234e38, 3.4028236e38),
        "half_float": (65504.0, 65520.0),
        "double": (1.7e308, "1e309"),
        "date_nanos": ("2262-04-11", "2262-04-12"),
    }
    properties = {kind: {"type": kind} for kind in limits}
    document: dict[str, Any] = {kind: good for kind, (good, _) in limits.items()}
    index = make_index(
        "limits",
        {"flight_id": {"type": "long"}, **properties},
        [{"flight_id": 1, **document}],
        key=["flight_id"],
    )
    for kind, (good, bad) in limits.items():
        expected = [1] if kind != "date_nanos" else None
        if expected:
            assert await found(service, index, query_fields={kind: good}) == expected, kind
        problem = await refused(service, index, query_fields={kind: bad})
        assert kind in problem["detail"]
    assert await found(service, index, query_fields={"date_nanos": "2262-04-11T00:00Z"}) == [1]
    problem = await refused(service, index, query_fields={"date_nanos": "1969-12-31"})
    assert "1970" in problem["detail"]


async def test_long_integers_come_back_exact(service: AsyncClient, make_index: Any) -> None:
    documents = [{"flight_id": 2**53 + number} for number in range(3)]
    index = make_index("longs", {"flight_id": {"type": "long"}}, documents, key=["flight_id"])
    assert await found(service, index, query_fields={"flight_id": 2**53 + 1}) == [2**53 + 1]
    assert await found(service, index, query_fields={"flight_id": str(2**53 + 1)}) == [2**53 + 1]


async def test_microseconds_are_told_apart_in_date_nanos(
    service: AsyncClient, make_index: Any
) -> None:
    documents = [
        {"flight_id": number, "at": f"2020-01-01T00:00:00.00000{number}Z"} for number in range(3)
    ]
    properties = {"flight_id": {"type": "long"}, "at": {"type": "date_nanos"}}
    index = make_index("nanos", properties, documents, key=["flight_id"])
    query: dict[str, Any] = {"at": "2020-01-01T00:00:00.000001Z"}
    assert await found(service, index, query_fields=query) == [1]
    query = {"at": {"gte": "2020-01-01T00:00:00.000001Z"}}
    assert await found(service, index, query_fields=query) == [1, 2]


async def test_dates_are_found_whatever_format_the_mapping_has(
    service: AsyncClient, make_index: Any
) -> None:
    properties = {
        "flight_id": {"type": "long"},
        "at": {"type": "date", "format": "yyyy/MM/dd HH:mm"},
    }
    documents = [{"flight_id": 1, "at": "2020/01/31 23:59"}]
    index = make_index("format", properties, documents, key=["flight_id"])
    assert await found(service, index, query_fields={"at": "2020-01-31"}) == [1]
    assert await found(service, index, query_fields={"at": {"gte": "2020-02-01"}}) == []


async def test_documents_with_unusual_text_come_back_as_they_are(
    service: AsyncClient, make_index: Any
) -> None:
    text = 'ß€😀\u2028"\\\x01</script>'
    index = make_index(
        "unusual",
        {"flight_id": {"type": "long"}, "note": {"type": "object", "enabled": False}},
        [{"flight_id": 1, "note": {"text": text}}],
        key=["flight_id"],
    )
    answer = await service.post("/search", json={"index": index})
    assert json.loads(answer.content)["data"] == [{"flight_id": 1, "note": {"text": text}}]


@pytest.mark.parametrize(
    ("stored", "answered"),
    [("1e999", None), ('"\\ud800"', "\ud800"), ('["Infinity", -1e999]', ["Infinity", None])],
)
async def test_what_json_columns_may_hold_is_still_answered_in_json(
    service: AsyncClient, make_index: Any, es: Elasticsearch, stored: str, answered: Any
) -> None:
    properties = {"flight_id": {"type": "long"}, "note": {"type": "object", "enabled": False}}
    index = make_index("odd", properties, [], key=["flight_id"])
    # Written as bytes, as the pipeline does; Python's own JSON has no such texts.
    document = f'{{"flight_id": 1, "note": {{"value": {stored}}}}}'.encode()
    es.bulk(index=index, operations=[b'{"index": {}}', document], refresh=True)
    answer = await service.post("/search", json={"index": index})
    assert answer.status_code == 200
    documents = json.loads(answer.content, parse_constant=pytest.fail)["data"]
    assert documents == [{"flight_id": 1, "note": {"value": answered}}]


async def test_the_pipelines_own_part_of_a_document_is_not_shown(
    service: AsyncClient, make_index: Any
) -> None:
    own = {"properties": {"bucket": {"type": "integer"}, "hash": {"type": "long"}}}
    fields = {"flight_id": {"type": "long"}, "_pg_es": own}
    document = {"flight_id": 1, "_pg_es": {"bucket": 7, "hash": 8}}
    index = make_index("owned", fields, [document], key=["flight_id"])

    whole = (await service.post("/search", json={"index": index})).json()
    assert whole["data"] == [{"flight_id": 1}]
    assert whole["meta"]["selected_fields"] == ["flight_id"]
    page = (await service.get(f"/search/{index}/scroll")).json()
    assert page["data"] == [{"flight_id": 1}]
    assert (await service.get(f"/indices/{index}/fields")).json()["fields"] == ["flight_id"]
    problem = await refused(service, index, query_fields={"_pg_es.bucket": 7})
    assert "unknown field" in problem["errors"][0]["detail"]
    await refused(service, index, fields=["_pg_es"])
