"""Pages with cursors, in a view of the index that does not change."""

import itertools
import random
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import AsyncClient

from tests.integration.search.test_query import answered

pytestmark = pytest.mark.anyio

FIELDS: dict[str, Any] = {
    "id": {"type": "long"},
    "name": {"type": "keyword"},
    "price": {"type": "double"},
    "at": {"type": "date_nanos"},
    "address": {"type": "ip"},
    "paid": {"type": "boolean"},
    "note": {"type": "text"},
    "several": {"type": "integer"},
    "lines": {"type": "nested", "properties": {"count": {"type": "integer"}}},
    "place": {"type": "geo_point"},
}


def documents() -> list[dict[str, Any]]:
    found = []
    for number in range(12):
        document = {
            "id": number,
            "name": "abc"[number % 3],
            "price": number % 4 / 7,
            "at": f"2020-01-01T00:00:00.00000000{number % 5}Z",
            "address": f"10.0.0.{number % 2}",
            "paid": number % 2 == 0,
            "note": "late" if number % 2 else "late late arrival",
            "several": [number % 5, 9 - number % 3],
            "lines": [{"count": number % 3}, {"count": 9 - number % 4}],
            "place": [{"lat": number % 5, "lon": 1}, {"lat": 20 - number, "lon": 1}],
        }
        # Some have no value, which has an order, too.
        del document[random.choice([name for name in document if name not in {"id", "note"}])]
        found.append(document)
    random.shuffle(found)
    return found


def ids(page: dict[str, Any]) -> list[int]:
    return [document["id"] for document in page["data"]]


def open_points(es: Elasticsearch, index: str) -> int:
    stats = es.indices.stats(index=index, metric="search")
    count: int = stats["indices"][f"{index}-000001"]["total"]["search"]["open_contexts"]
    return count


NEAREST = {"near": {"lat": 3.2, "lon": 1}}


@pytest.mark.parametrize(
    ("field", "order"),
    [
        *itertools.product(sorted(FIELDS.keys() - {"note", "place", "lines"}), ["asc", "desc"]),
        *itertools.product(["lines.count", "_score"], ["asc", "desc"]),
        ("place", NEAREST),
    ],
    ids=str,
)
async def test_walks_there_and_back_in_any_order(
    service: AsyncClient, make_index: Any, es: Elasticsearch, field: str, order: Any
) -> None:
    index = make_index("walk", FIELDS, documents(), key=["id"], settings={"number_of_shards": 2})
    query: dict[str, Any] = {"sort_by": {field: order}, "q": "late"}
    expected = ids(await answered(service, index, **query, page_size=100))
    page = await answered(service, index, **query, page_size=5, pagination="cursor")
    assert page["meta"]["previous_cursor"] is None
    pages = [page]
    while cursor := pages[-1]["meta"]["next_cursor"]:
        pages.append(await answered(service, index, **query, page_size=5, cursor=cursor))
    there = [number for page in pages for number in ids(page)]
    if field == "_score":  # equals may be in another order: it is not a shard's that counts
        assert sorted(there) == sorted(expected)
    else:
        assert there == expected
    assert {page["meta"]["total_records"] for page in pages} == {12}
    assert [page["meta"]["has_next"] for page in pages] == [True, True, False]
    back = [pages[-1]]
    while cursor := back[-1]["meta"]["previous_cursor"]:
        back.append(await answered(service, index, **query, page_size=5, cursor=cursor))
    assert [ids(page) for page in back[::-1]] == [ids(page) for page in pages]
    assert back[-1]["meta"]["has_previous"] is False
    assert back[-1]["meta"]["has_next"] is True


async def test_sees_nothing_of_what_is_written_meanwhile(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    rows = [{"id": number} for number in range(0, 12, 2)]
    index = make_index("still", {"id": {"type": "long"}}, rows, key=["id"])
    page = await answered(service, index, page_size=2, pagination="cursor")
    seen = ids(page)
    hits = es.search(index=index, query={"range": {"id": {"gte": 4}}})["hits"]["hits"]
    operations: list[dict[str, Any]] = [{"delete": {"_id": hit["_id"]}} for hit in hits]
    for number in range(1, 12, 2):
        operations += [{"index": {}}, {"id": number}]
    es.bulk(index=index, operations=operations, refresh=True)
    while cursor := page["meta"]["next_cursor"]:
        page = await answered(service, index, page_size=2, cursor=cursor)
        seen += ids(page)
        assert page["meta"]["total_records"] == 6
    assert seen == [0, 2, 4, 6, 8, 10]


async def test_what_elasticsearch_keeps_is_freed_at_the_end(
    start: Any, make_index: Any, es: Elasticsearch
) -> None:
    rows = [{"id": number} for number in range(3)]
    index = make_index("freed", {"id": {"type": "long"}}, rows, key=["id"])
    async with start() as service:
        page = await answered(service, index, page_size=2, pagination="cursor")
        assert open_points(es, index) == 1
        await answered(service, index, page_size=2, cursor=page["meta"]["next_cursor"])
        await answered(service, index, page_size=3, pagination="cursor")
    assert open_points(es, index) == 0


async def test_only_so_many_walks_at_once(start: Any, make_index: Any, es: Elasticsearch) -> None:
    rows = [{"id": number} for number in range(3)]
    index = make_index("few", {"id": {"type": "long"}}, rows, key=["id"])
    begin = {"index": index, "page_size": 1, "pagination": "cursor"}
    async with start(search_max_walks=2) as service:
        first = (await service.post("/search", json=begin)).json()
        await service.post("/search", json=begin)
        refused = await service.post("/search", json=begin)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:pg-es-search:too-many-walks"
        assert int(refused.headers["retry-after"]) > 0
        exported = await service.post(f"/search/{index}/export", json={})
        assert exported.status_code == 503
        # Who has begun goes on.
        cursor = first["meta"]["next_cursor"]
        await answered(service, index, page_size=1, cursor=cursor)
        assert open_points(es, index) == 2


async def test_refuses_cursors_of_others(service: AsyncClient, make_index: Any) -> None:
    rows = [{"id": number} for number in range(3)]
    index = make_index("own", {"id": {"type": "long"}}, rows, key=["id"])
    other = make_index("other", {"id": {"type": "long"}}, rows, key=["id"])
    begun = await answered(service, index, page_size=1, pagination="cursor")
    cursor = begun["meta"]["next_cursor"]
    scroll = (await service.get(f"/search/{index}/scroll", params={"size": 1})).json()
    for body, words in [
        ({"index": other, "cursor": cursor}, "another search"),
        ({"index": index, "query_fields": {"id": 1}, "cursor": cursor}, "another search"),
        ({"index": index, "sort_by": {"id": "desc"}, "cursor": cursor}, "another search"),
        ({"index": index, "cursor": cursor[:40] + "A" * 9 + cursor[49:]}, "damaged"),
        ({"index": index, "cursor": ""}, "damaged"),
        ({"index": index, "cursor": scroll["meta"]["next_cursor"]}, "another kind"),
    ]:
        answer = await service.post("/search", json=body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == "urn:pg-es-search:bad-cursor"
        assert words in answer.json()["detail"]
    page = await answered(service, index, page_size=2, fields=["id"], cursor=cursor)
    assert ids(page) == [1, 2], "the size and the fields may change"


async def test_a_cursor_whose_view_is_gone_has_expired(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    rows = [{"id": number} for number in range(3)]
    index = make_index("gone", {"id": {"type": "long"}}, rows, key=["id"])
    begun = await answered(service, index, page_size=1, pagination="cursor")
    es.indices.close(index=f"{index}-000001")
    es.indices.open(index=f"{index}-000001", wait_for_active_shards=1)
    body = {"index": index, "page_size": 1, "cursor": begun["meta"]["next_cursor"]}
    answer = await service.post("/search", json=body)
    assert answer.status_code == 410, answer.text
    assert answer.json()["type"] == "urn:pg-es-search:cursor-expired"
    assert "Start from the first page" in answer.json()["detail"]


async def test_an_address_walks_as_well(service: AsyncClient, make_index: Any) -> None:
    rows = [{"id": number} for number in range(3)]
    index = make_index("address", {"id": {"type": "long"}}, rows, key=["id"])
    parameters = {"page_size": 2, "sort": "-id", "filter": "id:>=0"}
    path = f"/search/{index}"
    page = (await service.get(path, params={**parameters, "pagination": "cursor"})).json()
    assert ids(page) == [2, 1]
    parameters["cursor"] = page["meta"]["next_cursor"]
    page = (await service.get(path, params=parameters)).json()
    assert ids(page) == [0]
