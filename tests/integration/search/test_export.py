"""POST /search/{index}/export: all that matches, as a stream."""

import asyncio
import csv
import io
import json
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import AsyncClient

from search_service import export as exporting
from tests.integration.search.test_walks import open_points

pytestmark = pytest.mark.anyio

FIELDS: dict[str, Any] = {
    "id": {"type": "long"},
    "name": {"type": "keyword"},
    "price": {"type": "double"},
    "tags": {"type": "keyword"},
    "owner": {"properties": {"code": {"type": "keyword"}}},
    "note": {"type": "flattened"},
}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts of a few documents."""
    monkeypatch.setattr("search_service.routes.export.PART", 3)


async def exported(service: AsyncClient, index: str, **body: Any) -> str:
    answer = await service.post(f"/search/{index}/export", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.usefixtures("small_parts")
async def test_every_document_is_a_line(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    rows = [{"id": number, "name": f'é\n"{number}'} for number in range(10)]
    index = make_index("lines", FIELDS, rows, key=["id"], settings={"number_of_shards": 2})
    lines = (await exported(service, index)).splitlines()
    assert sorted(map(json.loads, lines), key=lambda row: row["id"]) == rows
    body = {"sort_by": {"id": "desc"}, "fields": ["id"], "query_fields": {"id": {"gt": 2}}}
    lines = (await exported(service, index, **body)).splitlines()
    assert [json.loads(line) for line in lines] == [{"id": n} for n in range(9, 2, -1)]
    lines = (await exported(service, index, limit=4, sort_by={"id": "asc"})).splitlines()
    assert [json.loads(line)["id"] for line in lines] == [0, 1, 2, 3]
    assert await exported(service, index, query_fields={"id": 99}) == ""


@pytest.mark.usefixtures("small_parts")
async def test_a_table_has_a_column_for_each_field(service: AsyncClient, make_index: Any) -> None:
    row = {"id": 2**53 + 1, "name": 'a,"b"\n', "tags": ["x", "y"], "owner": {"code": "k"}}
    rows = [row, {"id": 2, "name": None, "note": {"deep": [1.50]}}]
    index = make_index("table", FIELDS, rows, key=["id"])
    text = await exported(service, index, format="csv", sort_by={"id": "desc"})
    fields = ["id", "name", "note", "owner.code", "price", "tags"]
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        fields,
        ["9007199254740993", 'a,"b"\n', "", "k", "", '["x","y"]'],
        ["2", "", '{"deep":[1.5]}', "", "", ""],
    ]
    some = await exported(service, index, format="csv", fields=["owner", "id"], limit=1)
    assert some.splitlines()[0] == "owner.code,id"


async def test_numbers_have_all_their_digits(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    index = make_index("exact", FIELDS, [], key=["id"])
    document = b'{"id": 1, "price": 12345678901234567890.123456789, "note": {"huge": 1e999}}'
    es.bulk(index=index, operations=[b'{"index": {}}', document], refresh=True)
    assert "12345678901234567890.123456789" in await exported(service, index, format="csv")
    assert '"huge": null' in await exported(service, index)


@pytest.mark.usefixtures("small_parts")
async def test_what_elasticsearch_keeps_is_freed(
    start: Any, make_index: Any, es: Elasticsearch
) -> None:
    rows = [{"id": number} for number in range(10)]
    index = make_index("freed", FIELDS, rows, key=["id"])
    async with start() as service:
        assert len((await exported(service, index)).splitlines()) == 10
    assert open_points(es, index) == 0


@pytest.mark.usefixtures("small_parts")
async def test_an_export_that_fails_half_way_does_not_look_whole(
    start: Any, make_index: Any, es: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"id": number} for number in range(10)]
    index = make_index("broken", FIELDS, rows, key=["id"])
    parts = 0
    decode = exporting.decode_walk

    def close_the_index_after_two(raw: bytes) -> Any:
        nonlocal parts
        parts += 1
        if parts == 2:
            es.indices.close(index=f"{index}-000001")
        return decode(raw)

    monkeypatch.setattr(exporting, "decode_walk", close_the_index_after_two)
    messages: list[Any] = []
    async with start() as service:
        app = service._transport.app  # type: ignore[attr-defined]
        body = [{"type": "http.request", "body": b"{}", "more_body": False}]

        async def receive() -> Any:
            if body:
                return body.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": f"/search/{index}/export",
            "raw_path": b"",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
        }
        await app(scope, receive, send)
    assert messages[0]["status"] == 200
    assert all(message["more_body"] for message in messages[1:])


async def test_says_before_it_begins_what_is_wrong(service: AsyncClient, flights: str) -> None:
    path = f"/search/{flights}/export"
    for body, status in [
        ({"fields": ["nope"]}, 422),
        ({"query_fields": {"dep_delay": "late"}}, 422),
        ({"format": "xml"}, 422),
        ({"limit": 0}, 422),
    ]:
        answer = await service.post(path, json=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await service.post("/search/unknown/export", json={})).status_code == 404
