"""What operators see of requests, and what they do not: ids, logs, freshness, overload."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
import structlog
from elastic_transport import AsyncTransport
from httpx import ASGITransport, AsyncClient

from search_service import logs, overload
from search_service.freshness import IN_STEP_AT, LAG

pytestmark = pytest.mark.anyio

SECRET = "hushhush"


@pytest.mark.parametrize("given", ["abc-1", "0af7651916cd43dd8448eb211c80319c", "a" * 128])
async def test_a_request_keeps_its_own_id(service: AsyncClient, given: str) -> None:
    answer = await service.get("/nothing", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", 'a"b', "ä", "a" * 129])
async def test_a_request_without_a_sane_id_gets_one(service: AsyncClient, given: Any) -> None:
    headers = {} if given is None else {"x-request-id": given.encode()}
    first = await service.get("/nothing", headers=headers)
    second = await service.get("/nothing", headers=headers)
    made = first.headers["x-request-id"]
    assert len(made) == 32
    assert made == first.json()["request_id"] != second.headers["x-request-id"]


async def test_the_log_has_the_route_and_no_value(service: AsyncClient, flights: str) -> None:
    query = {"index": flights, "query_fields": {"carrier": SECRET}}
    with structlog.testing.capture_logs() as events:
        await service.post("/search", json=query, headers={"authorization": f"Bearer {SECRET}"})
        await service.post("/search", json={"index": flights, "query_fields": {SECRET: SECRET}})
        await service.get(f"/search/{flights}?q={SECRET}")
        await service.get(f"/indices/{flights}/documents/{SECRET}")
        await service.get("/health/live")
    assert SECRET not in json.dumps(events, default=str)
    assert [(event["route"], event["status"], event["index"]) for event in events] == [
        ("/search", 200, flights),
        ("/search", 422, flights),
        ("/search/{index}", 200, flights),
        ("/indices/{index}/documents/{id:path}", 404, flights),
    ]
    assert all(event["bytes"] > 0 and event["seconds"] > 0 for event in events)


async def test_a_defect_is_logged_by_its_place_and_answered_by_its_id(
    service: AsyncClient, flights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*given: Any) -> None:
        raise KeyError(SECRET)

    app = service._transport.app  # type: ignore[attr-defined]
    monkeypatch.setattr(app.state.catalog, "get", broken)
    with structlog.testing.capture_logs(processors=[logs.without_values]) as events:
        answer = await service.get(f"/indices/{flights}/fields")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    failed = next(event for event in events if event["event"] == "request_failed")
    assert failed["exception"] == "KeyError"
    assert "broken" in failed["raised_at"][-1]
    assert SECRET not in json.dumps(events) + answer.text


async def test_answers_of_one_index_tell_its_freshness(
    service: AsyncClient, flights: str, freshness: Callable[[str, str], None]
) -> None:
    in_step_at = (datetime.now(UTC) - timedelta(seconds=90)).isoformat()
    freshness(flights, in_step_at)
    first = await service.post("/search", json={"index": flights})
    assert IN_STEP_AT not in first.headers  # nobody waits for it
    app = service._transport.app  # type: ignore[attr-defined]
    await app.state.freshness._reading
    answer = await service.post("/search", json={"index": flights})
    assert answer.headers[IN_STEP_AT] == in_step_at
    assert float(answer.headers[LAG]) >= 90
    many = await service.post("/search/many", json={"searches": [{"index": flights}] * 2})
    assert many.headers[IN_STEP_AT] == in_step_at
    assert IN_STEP_AT not in (await service.get("/indices")).headers
    text = (await service.get("/metrics")).text
    assert f'pg_es_search_index_in_step_timestamp_seconds{{index="{flights}"}}' in text


async def test_probes_tell_a_process_that_is_there_from_one_that_can_work(
    start: Any, unused_port: int, service: AsyncClient
) -> None:
    assert (await service.get("/health/ready")).json() == {"status": "ok"}
    async with start(es_host="localhost", es_port=unused_port) as away:
        assert (await away.get("/health/live")).json() == {"status": "ok"}
        assert (await away.get("/health/ready")).status_code == 503


async def test_elasticsearch_that_is_away_is_left_alone_after_a_few_requests(
    start: Any, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overload, "PAUSE", 60.0)
    async with start(es_host="localhost", es_port=unused_port) as service:
        app = service._transport.app
        for _ in range(overload.FAILURES):
            answer = await service.post("/search", json={"index": "flights"})
            assert answer.json()["type"] == "urn:pg-es-search:elasticsearch-away"
        assert app.state.breaker.is_open
        monkeypatch.setattr(AsyncTransport, "perform_request", pytest.fail)
        answer = await service.post("/search", json={"index": "flights"})
        assert answer.json()["type"] == "urn:pg-es-search:elasticsearch-away"
        assert 30 < int(answer.headers["retry-after"]) <= 60
        assert "left_alone 1.0" in (await service.get("/metrics")).text


async def test_searches_beyond_what_can_be_done_at_once_are_shed(
    start: Any, flights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start(search_max_concurrency=1) as service:
        app = service._transport.app
        get, busy, release = app.state.catalog.get, asyncio.Event(), asyncio.Event()

        async def slow(*given: Any) -> Any:
            busy.set()
            await release.wait()
            return await get(*given)

        monkeypatch.setattr(app.state.catalog, "get", slow)
        first = asyncio.create_task(service.post("/search", json={"index": flights}))
        await busy.wait()
        shed = await service.post("/search", json={"index": flights})
        assert shed.status_code == 503
        assert shed.json()["type"] == "urn:pg-es-search:overloaded"
        assert shed.headers["retry-after"] == "1"
        assert (await service.get("/health/live")).status_code == 200
        release.set()
        assert (await first).status_code == 200
        assert (await service.post("/search", json={"index": flights})).status_code == 200


async def test_a_body_that_does_not_end_takes_nobody_s_place(start: Any, flights: str) -> None:
    async with start(search_timeout=0.2, search_max_concurrency=1) as service:
        sending = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield b"{"
            sending.set()
            await asyncio.Event().wait()

        headers = {"content-type": "application/json"}
        slow = asyncio.create_task(service.post("/search", content=endless(), headers=headers))
        await sending.wait()
        assert (await service.get("/indices")).status_code in {200, 504}
        answer = await slow
        assert answer.status_code == 408
        assert answer.json()["type"] == "urn:pg-es-search:body-too-slow"


async def test_addresses_without_credentials_are_counted_apart(start: Any, flights: str) -> None:
    async with start(search_rate_limit="2/day") as service:
        app = service._transport.app

        async def statuses(address: str, times: int) -> list[int]:
            transport = ASGITransport(app, client=(address, 1))
            async with AsyncClient(transport=transport, base_url="http://test") as client:
                return [
                    (await client.get(f"/indices/{flights}/fields")).status_code
                    for _ in range(times)
                ]

        assert await statuses("10.0.0.1", 3) == [200, 200, 429]
        assert await statuses("10.0.0.2", 1) == [200]
        assert await statuses("2001:db8::1", 1) == [200]
        assert await statuses("2001:db8::2", 2) == [200, 429]  # of the same network
        assert await statuses("2001:db8:0:1::1", 1) == [200]


class _Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


async def test_the_page_of_the_interface_needs_nothing_from_elsewhere(service: AsyncClient) -> None:
    page = await service.get("/docs")
    sources = _Sources()
    sources.feed(page.text)
    assert len(sources.found) >= 2
    for source in sources.found:
        assert source.startswith("/docs/assets/")
        assert (await service.get(source)).status_code == 200
    assert "https://" not in page.text
