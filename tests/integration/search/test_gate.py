"""Requests for which there is no room, turned away before anything is done for them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from elasticsearch import Elasticsearch
from httpx import AsyncClient, Response

from search_service import gate, overload
from search_service.errors import MAX_BODY_BYTES
from search_service.metrics import Metrics
from search_service.overload import Lane
from tests.integration.search.live import serving

pytestmark = pytest.mark.anyio

SHED = "urn:pg-es-search:overloaded"
TOO_LARGE = b" " * (MAX_BODY_BYTES + 1)
"""A body that is refused before it takes a place, where its request is handled."""


@pytest.fixture
def address(es: Elasticsearch, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service with room for one search and one that waits; its Elasticsearch is silent."""
    monkeypatch.setattr(overload, "QUEUE_SECONDS", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with serving(
            es,
            es_host="127.0.0.1",
            es_port=port,
            search_timeout=60.0,
            search_max_concurrency=1,
        ) as address:
            yield address
            silent.close()  # ends the searches


@pytest.fixture
async def full(address: str) -> AsyncIterator[AsyncClient]:
    """A client of the service while one search is under way and one waits."""
    async with AsyncClient(base_url=address, timeout=60) as client:
        under_way = [asyncio.create_task(search(client)) for _ in range(2)]
        try:
            while (answer := await client.post("/search", content=TOO_LARGE)).status_code == 413:
                # Whoever comes in the same moment as the other two may have taken their room.
                under_way = [
                    asyncio.create_task(search(client)) if task.done() else task
                    for task in under_way
                ]
            assert answer.json()["type"] == SHED
            yield client
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def search(client: AsyncClient) -> Response:
    return await client.post("/search", json={"index": "flights"})


async def test_a_refusal_is_a_problem_with_its_request_s_id(full: AsyncClient) -> None:
    answer = await full.post("/search", json={}, headers={"x-request-id": "mine"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    assert "date" in answer.headers
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine"
    assert answer.json()["type"] == SHED
    assert len((await search(full)).headers["x-request-id"]) == 32


async def test_a_connection_goes_on_after_a_refusal_whatever_its_body(full: AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    for _ in range(3):
        answer = await full.post("/search", content=parts())
        assert answer.json()["type"] == SHED
    assert (await full.get("/health/live")).status_code == 200


async def test_requests_in_a_pipeline_are_all_answered(address: str, full: AsyncClient) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    one = b"POST /search HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"
    handled = b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n"
    last = b"GET /indices HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    writer.write(one + handled + one * 3 + last)
    answers = await reader.read()
    assert answers.count(b"HTTP/1.1 503 Service Unavailable\r\n") == 5
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert answers.count(b"connection: close\r\n") == 1
    writer.close()


@pytest.mark.usefixtures("full")
async def test_who_asks_before_it_sends_its_body_is_told_to_before_the_refusal(
    address: str,
) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /search HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n"
    writer.write(head + b"\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert await reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
    writer.close()


async def test_what_takes_no_place_is_answered_all_the_same(full: AsyncClient) -> None:
    assert (await full.get("/health/live")).status_code == 200
    assert (await full.get("/openapi.json")).status_code == 200
    assert (await full.post("/search/flights/export", content=TOO_LARGE)).status_code == 413


async def test_a_refusal_of_a_head_is_a_head(full: AsyncClient) -> None:
    assert (await full.head("/indices")).status_code == 503
    assert (await full.get("/health/live")).json() == {"status": "ok"}


async def test_refusals_are_counted_and_logged_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "_TICK", 0.001)
    metrics, lane = Metrics(), Lane(1)
    lane.under_way = 2
    before = gate.Gate(lane, metrics)
    with structlog.testing.capture_logs() as events:
        watching = asyncio.create_task(before.watch())
        for method in ("POST", "GET", "POST"):
            assert before.refuses({"path": "/search", "method": method})
        while not events:
            await asyncio.sleep(0)
        watching.cancel()
    assert [(one["event"], one["count"]) for one in events] == [("requests_shed", 3)]
    text = metrics.exposition("")[0].decode()
    assert 'turned_away_total{reason="overloaded"} 3.0' in text
    assert '{index="",method="POST",route="none",status="5xx"} 2.0' in text
