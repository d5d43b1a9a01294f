"""Operators, groups, full text, facets, suggestions: the same in a body and in an address."""

import hashlib
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import AsyncClient

from tests.integration.search.conftest import TEXT

pytestmark = pytest.mark.anyio

FIELDS: dict[str, Any] = {
    "id": {"type": "long"},
    "name": TEXT,
    "tags": TEXT,
    "body": {"type": "text"},
    "price": {"type": "double"},
    "amount": {"type": "integer"},
    "at": {"type": "date"},
    "paid": {"type": "boolean"},
    "address": {"type": "ip"},
    "place": {"type": "geo_point"},
    "labels": {"type": "flattened"},
    "owner": {"properties": {"code": {"type": "keyword"}}},
    "lines": {
        "type": "nested",
        "properties": {"sku": {"type": "keyword"}, "count": {"type": "integer"}},
    },
}
NAMES = ["United Air Lines", "American Air", "Delta", "united parcel", "Jet Blue"]
DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": number,
        "name": name,
        "tags": ["red", "blue"] if number % 2 else ["red"],
        "body": f"The quick <b>fox</b> number {number} jumped over lazy dogs",
        "price": None if number == 3 else number * 1.5,
        "amount": number * 10,
        "at": f"2020-0{number}-01T00:00:00Z",
        "paid": number % 2 == 0,
        "address": f"10.0.0.{number}",
        "place": {"lat": 52 + number, "lon": 13},
        "labels": {"color": f"shade {number % 3}"},
        "owner": {"code": f"k{number}"},
        "lines": [{"sku": "a", "count": number}, {"sku": "b", "count": 100}],
    }
    for number, name in enumerate(NAMES, 1)
]


@pytest.fixture(scope="module")
def things(es: Elasticsearch) -> Iterator[str]:
    """An index of five things, under their numbers, which no test changes."""
    alias = f"things-{secrets.token_hex(3)}"
    index = f"{alias}-000001"
    meta = {"pg_es_pipeline": {"format": 1, "table": "public.things", "key": ["id"]}}
    es.indices.create(
        index=index,
        aliases={alias: {}},
        mappings={"dynamic": False, "_meta": meta, "properties": FIELDS},
        settings={"number_of_replicas": 0, "number_of_shards": 2},
    )
    operations: list[dict[str, Any]] = []
    for document in DOCUMENTS:
        operations += [{"index": {"_id": str(document["id"])}}, document]
    assert not es.bulk(index=index, operations=operations, refresh=True)["errors"]
    yield alias
    es.indices.delete(index=index)


async def answered(service: AsyncClient, index: str, **query: Any) -> dict[str, Any]:
    answer = await service.post("/search", json={"index": index, **query})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def found(service: AsyncClient, index: str, **query: Any) -> list[int]:
    return [document["id"] for document in (await answered(service, index, **query))["data"]]


async def refused(service: AsyncClient, index: str, **query: Any) -> dict[str, Any]:
    answer = await service.post("/search", json={"index": index, **query})
    assert answer.status_code == 422, answer.text
    error: dict[str, Any] = answer.json()["errors"][0]
    return error


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"amount": {"gt": 10, "lt": 40}}, [2, 3]),
        ({"amount": {"not": 10}}, [2, 3, 4, 5]),
        ({"amount": {"not": {"gt": 20}, "gte": 20}}, [2]),
        ({"amount": {"not": [10, 20]}}, [3, 4, 5]),
        ({"price": {"exists": True}}, [1, 2, 4, 5]),
        ({"price": {"exists": False}}, [3]),
        ({"price": {"null": True}}, [3]),
        ({"price": {"not": {"null": True}}}, [1, 2, 4, 5]),
        ({"name": {"prefix": "Un"}}, [1]),
        ({"labels.color": {"prefix": "shade 1"}}, [1, 4]),
        ({"labels": {"exists": True}}, [1, 2, 3, 4, 5]),
        ({"tags": {"contains": "blue"}}, [1, 3, 5]),
        ({"tags": {"contains": {"all": ["red", "blue"]}}}, [1, 3, 5]),
        ({"tags": {"contains": {"any": ["blue", "green"]}}}, [1, 3, 5]),
        ({"name": {"words": "air"}}, [1, 2]),
        ({"name": {"words": {"any": "delta jet"}}}, [3, 5]),
        ({"name": {"words": {"phrase": "lines air"}}}, []),
        ({"body": {"words": "fox dogs"}}, [1, 2, 3, 4, 5]),
        ({"place": {"near": {"lat": 53, "lon": 13, "within": "120km"}}}, [1, 2]),
        (
            {
                "place": {
                    "box": {
                        "top_left": {"lat": 56.5, "lon": 12},
                        "bottom_right": {"lat": 54.5, "lon": 14},
                    }
                }
            },
            [3, 4],
        ),
        ({"at": {"gt": "2020-02", "lt": "2020-04"}}, [3]),
        ({"at": {"gte": "now-100y/y"}}, [1, 2, 3, 4, 5]),
        ({"at": {"gte": "now+1d"}}, []),
        ({"lines.sku": "a"}, [1, 2, 3, 4, 5]),
        ({"lines.sku": {"not": "a"}}, []),
        ({"lines.sku": {"contains": {"all": ["a", "b"]}}}, [1, 2, 3, 4, 5]),
        ({"lines": {"element": {"sku": "b", "count": {"lt": 50}}}}, []),
        ({"lines": {"element": {"sku": "a", "count": {"lt": 3}}}}, [1, 2]),
    ],
    ids=str,
)
async def test_finds_by(
    service: AsyncClient, things: str, condition: dict[str, Any], expected: list[int]
) -> None:
    assert await found(service, things, query_fields=condition) == expected
    # In a group, a condition means the same.
    assert await found(service, things, filter={"all": [condition]}) == expected


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ({"any": [{"amount": 10}, {"amount": 20}]}, [1, 2]),
        ({"none": [{"amount": 10}, {"amount": 20}]}, [3, 4, 5]),
        ({"all": [{"any": [{"amount": 10}, {"amount": 20}]}, {"paid": True}]}, [2]),
        ({"amount": [10, 20], "paid": False}, [1]),
    ],
    ids=str,
)
async def test_groups_combine_conditions(
    service: AsyncClient, things: str, group: dict[str, Any], expected: list[int]
) -> None:
    assert await found(service, things, filter=group) == expected


@pytest.mark.parametrize(
    ("query", "location", "words"),
    [
        ({"query_fields": {"amount": {"gt": "much"}}}, "query_fields.amount.gt", '"much"'),
        ({"query_fields": {"amount": {"gt": 1, "gte": 1}}}, "query_fields.amount", "not both"),
        ({"query_fields": {"amount": {"prefix": "1"}}}, "query_fields.amount", '"prefix"'),
        ({"query_fields": {"name": {"prefix": ""}}}, "query_fields.name.prefix", "at least one"),
        ({"query_fields": {"price": {"exists": 1}}}, "query_fields.price.exists", "true or false"),
        ({"query_fields": {"at": {"gte": "now-7x"}}}, "query_fields.at.gte", "now-7d"),
        ({"query_fields": {"at": "now"}}, "query_fields.at", "ISO 8601"),
        ({"query_fields": {"place": "x"}}, "query_fields.place", "near"),
        (
            {"query_fields": {"place": {"near": {"lat": 91, "lon": 0, "within": "1km"}}}},
            "query_fields.place.near",
            "-90 to 90",
        ),
        ({"query_fields": {"lines": {"sku": "a"}}}, "query_fields.lines", "lines.count"),
        ({"query_fields": {"body": "fox"}}, "query_fields.body", "words"),
        ({"filter": {"any": []}}, "filter.any", "at least one"),
        ({"filter": {"any": [{"amount": "x"}]}}, "filter.any.0.amount", "integer"),
        ({"filter": [1]}, "filter", "conditions by field"),
        ({"q": {"text": "a", "fields": ["amount"]}}, "q.fields.amount", "text field"),
        ({"q": "x " * 51}, "q", "50 words"),
        ({"q": {"text": "a", "minimum_match": 2}}, "q", "operator any"),
        ({"highlight": True}, "body", "give q"),
        ({"facets": {"labels": {"type": "terms"}}}, "facets.labels", "flattened"),
        ({"facets": {"place": {"type": "terms"}}}, "facets.place", "geo_point"),
        ({"sort_by": {"amount": "up"}}, "sort_by.amount", '"asc" or "desc", got "up"'),
        ({"sort_by": {"amount": {"near": {"lat": 1, "lon": 1}}}}, "sort_by.amount", '"asc"'),
        ({"sort_by": {"place": "asc"}}, "sort_by.place", '{"near": {"lat"'),
        ({"sort_by": {"place": {"near": {"lat": 91, "lon": 1}}}}, "sort_by.place.near", "to 90"),
        ({"facets": {"nam": {"type": "terms"}}}, "facets.nam.nam", '"name"'),
        ({"pagination": "cursor", "page": 2}, "body", "leave page out"),
    ],
    ids=str,
)
async def test_refuses_and_says_where(
    service: AsyncClient, things: str, query: dict[str, Any], location: str, words: str
) -> None:
    error = await refused(service, things, **query)
    assert error["location"] == location
    assert words in error["detail"]


async def test_bounds_what_a_search_may_cost(service: AsyncClient, things: str) -> None:
    deep: dict[str, Any] = {"amount": 1}
    for _ in range(6):
        deep = {"all": [deep]}
    assert "5 deep" in (await refused(service, things, filter=deep))["detail"]
    turned: dict[str, Any] = {"gt": 1}
    for _ in range(6):
        turned = {"not": turned}
    assert "5 deep" in (await refused(service, things, query_fields={"amount": turned}))["detail"]
    many = {"any": [{"amount": number} for number in range(300)]}
    assert "200 conditions" in (await refused(service, things, filter=many))["detail"]
    facets = {f"f{number}": {"type": "terms", "field": "amount"} for number in range(21)}
    assert "20 facets" in (await refused(service, things, facets=facets))["detail"]
    facets = {"amount": {"type": "terms", "size": 1001}}
    assert "1,000 buckets" in (await refused(service, things, facets=facets))["detail"]


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("UNITED", {1, 4}),
        ("united air", {1}),
        ("air fox", {1, 2}),  # each word in a field of its own
        ("united nothing", set()),
        ({"text": "air delta", "operator": "any"}, {1, 2, 3}),
        ({"text": "air lines delta", "operator": "any", "minimum_match": 2}, {1}),
        ({"text": "air lines", "phrase": True}, {1}),
        ({"text": "lines air", "phrase": True}, set()),
        ({"text": "unitd", "fuzziness": "auto"}, {1, 4}),
        ({"text": "fox", "fields": ["name"]}, set()),
        ({"text": "united AND -parcel *", "operator": "any"}, {1, 4}),
    ],
    ids=str,
)
async def test_finds_words(service: AsyncClient, things: str, q: Any, expected: set[int]) -> None:
    assert set(await found(service, things, q=q)) == expected


async def test_the_most_relevant_come_first_unless_an_order_is_given(
    service: AsyncClient, make_index: Any
) -> None:
    documents = [
        {"id": 1, "title": "storms", "body": "a late late arrival"},
        {"id": 2, "title": "late", "body": "storms of all kinds and many more words"},
    ]
    fields = {"id": {"type": "long"}, "title": {"type": "text"}, "body": {"type": "text"}}
    index = make_index("relevance", fields, documents, key=["id"])
    assert await found(service, index, q={"text": "late", "fields": {"title": 9, "body": 1}}) == [
        2,
        1,
    ]
    assert await found(service, index, q={"text": "late", "fields": {"title": 0.1, "body": 9}}) == [
        1,
        2,
    ]
    assert await found(service, index, q="late", sort_by={"id": "desc"}) == [2, 1]


async def test_shows_found_words_in_their_surroundings(service: AsyncClient, things: str) -> None:
    answer = await answered(service, things, q="air fox", highlight=True, fields=["id"])
    by_document = dict(
        zip([one["id"] for one in answer["data"]], answer["highlights"], strict=True)
    )
    assert by_document[2]["name"] == ["American <em>Air</em>"]
    # What a document says is no markup.
    assert "&lt;b&gt;<em>fox</em>&lt;" in by_document[2]["body"][0]
    highlight = {"fields": ["name"], "before": "[", "after": "]"}
    answer = await answered(service, things, q="delta", highlight=highlight)
    assert answer["highlights"] == [{"name": ["[Delta]"]}]


async def test_counts_by_facets(service: AsyncClient, things: str) -> None:
    answer = await answered(
        service,
        things,
        query_fields={"amount": {"gt": 10}},
        facets={
            "tags": {"type": "terms"},
            "paid": {"type": "terms", "order": "value"},
            "few": {"type": "terms", "field": "amount", "size": 1, "order": "value"},
            "sizes": {
                "type": "ranges",
                "field": "amount",
                "ranges": [{"key": "large", "from": 30}, {"to": 30}],
            },
            "spring": {"type": "ranges", "field": "at", "ranges": [{"from": "2020-03"}]},
            "near": {"type": "ranges", "field": "address", "ranges": [{"to": "10.0.0.3"}]},
            "prices": {"type": "histogram", "field": "price", "interval": 5},
            "quarters": {"type": "dates", "field": "at", "every": "quarter"},
        },
    )
    assert answer["facets"] == {
        "tags": {
            "buckets": [{"value": "red", "count": 4}, {"value": "blue", "count": 2}],
            "others": 0,
        },
        "paid": {
            "buckets": [{"value": False, "count": 2}, {"value": True, "count": 2}],
            "others": 0,
        },
        "few": {"buckets": [{"value": 20, "count": 1}], "others": 3},
        "sizes": {
            "buckets": [{"key": "large", "from": 30, "count": 3}, {"to": 30, "count": 1}],
        },
        "spring": {"buckets": [{"from": "2020-03-01T00:00:00.000Z", "count": 3}]},
        "near": {"buckets": [{"to": "10.0.0.3", "count": 1}]},
        "prices": {"buckets": [{"value": 0, "count": 1}, {"value": 5, "count": 2}]},
        "quarters": {
            "buckets": [
                {"value": "2020-01-01T00:00:00.000Z", "count": 2},
                {"value": "2020-04-01T00:00:00.000Z", "count": 2},
            ]
        },
    }


async def test_counts_documents_by_what_is_nested_in_them(
    service: AsyncClient, make_index: Any
) -> None:
    documents = [
        {"id": 1, "lines": [{"sku": "a", "count": 1}] * 5},
        {"id": 2, "lines": [{"sku": "b", "count": 2}, {"sku": "c", "count": 12}]},
        {"id": 3, "lines": [{"sku": "b", "count": 3}]},
        {"id": 4},
    ]
    fields = {"id": FIELDS["id"], "lines": FIELDS["lines"]}
    index = make_index("nested", fields, documents, key=["id"])
    answer = await answered(
        service,
        index,
        facets={
            "lines.sku": {"type": "terms", "size": 2},
            "sizes": {"type": "histogram", "field": "lines.count", "interval": 10},
            "large": {"type": "ranges", "field": "lines.count", "ranges": [{"from": 3}]},
        },
    )
    assert answer["facets"] == {
        # By documents, however many lines these have.
        "lines.sku": {
            "buckets": [{"value": "b", "count": 2}, {"value": "a", "count": 1}],
            "others": 1,
        },
        "sizes": {"buckets": [{"value": 0, "count": 3}, {"value": 10, "count": 1}]},
        "large": {"buckets": [{"from": 3, "count": 2}]},
    }
    parameters = {"field": "lines.sku", "prefix": "A"}
    answer = await service.get(f"/search/{index}/suggest", params=parameters)
    assert answer.json() == {"suggestions": [{"value": "a", "count": 1}]}


async def test_the_nearest_come_first(service: AsyncClient, make_index: Any) -> None:
    documents = [{"id": n, "place": {"lat": 50 + n, "lon": 13}} for n in range(5)] + [{"id": 5}]
    fields = {"id": FIELDS["id"], "place": FIELDS["place"]}
    index = make_index("near", fields, documents, key=["id"])
    nearest = {"place": {"near": {"lat": 52.1, "lon": 13}}}
    assert await found(service, index, sort_by=nearest) == [2, 3, 1, 4, 0, 5]


async def test_a_facet_that_is_too_fine_is_refused(service: AsyncClient, make_index: Any) -> None:
    documents = [{"id": number} for number in range(1001)]
    index = make_index("fine", {"id": {"type": "long"}}, documents, key=["id"])
    facets = {"ids": {"type": "histogram", "field": "id", "interval": 1}}
    answer = await service.post("/search", json={"index": index, "facets": facets})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:pg-es-search:too-many-buckets"
    assert "longer interval" in answer.json()["detail"]


async def test_counts_without_documents(service: AsyncClient, things: str) -> None:
    body = {"index": things, "q": "air", "filter": {"none": [{"amount": 10}]}}
    assert (await service.post("/search/count", json=body)).json() == {"count": 1}


async def test_suggests_values_by_their_beginning(service: AsyncClient, things: str) -> None:
    async def suggested(**parameters: Any) -> Any:
        answer = await service.get(f"/search/{things}/suggest", params=parameters)
        return answer.json().get("suggestions") or answer.json()["errors"]

    united = [{"value": "United Air Lines", "count": 1}, {"value": "united parcel", "count": 1}]
    assert await suggested(field="name", prefix="UNI") == united
    assert len(await suggested(field="name", prefix="uni", size=1)) == 1
    # The other values of the same documents do not begin with it.
    assert await suggested(field="tags", prefix="b") == [{"value": "blue", "count": 3}]
    assert "integer field" in (await suggested(field="amount", prefix="1"))[0]["detail"]
    assert '"name"' in (await suggested(field="nam", prefix="1"))[0]["detail"]


async def test_several_searches_in_one_request(
    service: AsyncClient, things: str, flights: str
) -> None:
    searches: list[dict[str, Any]] = [
        {"index": things, "q": "delta", "fields": ["id"], "facets": {"tags": {"type": "terms"}}},
        {"index": flights, "page_size": 1, "fields": ["flight_id"]},
    ]
    answer = await service.post("/search/many", json={"searches": searches})
    alone = [(await service.post("/search", json=one)).json() for one in searches]
    assert answer.json() == {"results": alone}
    searches[1]["fields"] = ["nope"]
    answer = await service.post("/search/many", json={"searches": searches})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == "searches.1.fields.nope"
    answer = await service.post("/search/many", json={"searches": [{"index": things}] * 11})
    assert "at most 10 searches" in answer.json()["detail"]


async def test_one_document_by_its_key(service: AsyncClient, things: str) -> None:
    path = f"/indices/{things}/documents"
    answer = await service.get(f"{path}/3", params={"fields": "id,owner"})
    assert answer.json() == {"data": {"id": 3, "owner": {"code": "k3"}}}
    for unknown in ("99", "%2F", "a/b", "sha256:00"):
        answer = await service.get(f"{path}/{unknown}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:pg-es-search:unknown-document"


async def test_a_document_with_a_long_key_goes_by_its_hash(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    index = make_index("long", {"id": {"type": "keyword"}}, [], key=["id"])
    key = "k" * 600
    hashed = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    es.index(index=index, id=hashed, document={"id": key}, refresh=True)
    assert (await service.get(f"/indices/{index}/documents/{key}")).json()["data"] == {"id": key}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"filter": "amount:>=40 -paid:true"}, [5]),
        ({"filter": ["amount:>=40", "paid:true"]}, [4]),
        ({"filter": 'name:"United Air Lines",Delta'}, [1, 3]),
        ({"filter": "amount:10..20"}, [1, 2]),
        ({"filter": "at:..2020-02"}, [1, 2]),
        ({"filter": 'at:"2020-01-01".."2020-02-01"'}, [1, 2]),
        ({"filter": "-price:*"}, [3]),
        ({"filter": "name:Uni*"}, [1]),
        ({"filter": 'name:"United Air"*'}, [1]),
        ({"q": "air", "sort": "-amount"}, [2, 1]),
        ({"sort": "paid,-id"}, [5, 3, 1, 4, 2]),
        ({"page": 2, "page_size": 2}, [3, 4]),
    ],
    ids=str,
)
async def test_searches_by_an_address(
    service: AsyncClient, things: str, parameters: dict[str, Any], expected: list[int]
) -> None:
    answer = await service.get(f"/search/{things}", params=parameters)
    assert answer.status_code == 200, answer.text
    assert [document["id"] for document in answer.json()["data"]] == expected


async def test_an_address_has_facets_fields_and_found_words(
    service: AsyncClient, things: str
) -> None:
    parameters = {"q": "delta", "facet": "tags", "highlight": "true", "fields": "id,name"}
    answer = (await service.get(f"/search/{things}", params=parameters)).json()
    assert answer["data"] == [{"id": 3, "name": "Delta"}]
    assert answer["highlights"] == [{"name": ["<em>Delta</em>"]}]
    assert answer["facets"]["tags"]["buckets"][0] == {"value": "blue", "count": 1}


@pytest.mark.parametrize(
    ("parameters", "location", "words"),
    [
        ({"filter": 'name:"x'}, "filter.0", "character 6"),
        ({"filter": ["paid:true", "paid"]}, "filter.1", "character 5"),
        ({"filter": "amount:x"}, "filter.all.0.amount", "integer"),
        ({"sort": "nope"}, "sort_by.nope", "unknown"),
        ({"highlight": "true"}, "query", "give q"),
        ({"unknown": "1"}, "unknown", "not known"),
    ],
    ids=str,
)
async def test_refuses_an_address_and_says_where(
    service: AsyncClient, things: str, parameters: dict[str, Any], location: str, words: str
) -> None:
    answer = await service.get(f"/search/{things}", params=parameters)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["location"] == location
    assert words in answer.json()["errors"][0]["detail"]


async def test_an_answer_that_has_not_changed_is_not_sent_again(
    service: AsyncClient, things: str
) -> None:
    for path in (f"/search/{things}?q=air", f"/indices/{things}/documents/1"):
        first = await service.get(path)
        tag = first.headers["etag"]
        again = await service.get(path, headers={"if-none-match": f'"other", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        changed = await service.get(path, headers={"if-none-match": '"other"'})
        assert changed.json() == first.json()


async def test_a_large_answer_is_compressed_for_who_asks(service: AsyncClient, things: str) -> None:
    headers = {"accept-encoding": "gzip"}
    answer = await service.post("/search", json={"index": things}, headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["data"]) == 5
    small = await service.post("/search/count", json={"index": things}, headers=headers)
    assert "content-encoding" not in small.headers
