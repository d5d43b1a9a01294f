"""What goes wrong is a problem that says what to do, and tells nothing of the inside."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import AsyncClient

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}


def problem(answer: Any, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    assert content["type"] == f"urn:pg-es-search:{kind}"
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    return content


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"index": ' + b"9" * 5000 + b"}",
        b"{'index': 'a'}",
    ],
    ids=["cut off", "not UTF-8", "deep", "endless number", "single quotes"],
)
async def test_a_body_that_is_not_json(service: AsyncClient, body: bytes) -> None:
    answer = await service.post("/search", content=body, headers=JSON)
    problem(answer, 400, "malformed-body")


@pytest.mark.parametrize("body", [b"", b"[]", b'"x"', b"null", b"1"], ids=str)
async def test_a_body_that_is_no_object(service: AsyncClient, body: bytes) -> None:
    problem(await service.post("/search", content=body, headers=JSON), 422, "invalid-request")


@pytest.mark.parametrize("depth", [5, 900])
async def test_a_value_in_containers_without_end(
    service: AsyncClient, flights: str, depth: int
) -> None:
    body = f'{{"index": "{flights}", "query_fields": {{"carrier": {"[" * depth}{"]" * depth}}}}}'
    answer = await service.post("/search", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers", [{"content-type": "application/x-www-form-urlencoded"}, {"content-type": ""}, {}]
)
async def test_a_body_that_is_not_declared_as_json(
    service: AsyncClient, flights: str, headers: dict[str, str]
) -> None:
    body = json.dumps({"index": flights}).encode()
    content = problem(await service.post("/search", content=body, headers=headers), 415, "not-json")
    assert "Content-Type: application/json" in content["detail"]


async def test_a_body_that_is_too_large(service: AsyncClient) -> None:
    body = b'{"index": "' + b"x" * 1_048_576 + b'"}'
    answer = await service.post("/search", content=body, headers=JSON)
    assert "1,048,576 bytes" in problem(answer, 413, "body-too-large")["detail"]


async def test_a_body_in_pieces_that_is_too_large(service: AsyncClient) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65_536
            yield b" " * 65_536

    answer = await service.post("/search", content=pieces(), headers=JSON)
    problem(answer, 413, "body-too-large")


async def test_many_unknown_fields_are_answered_briefly(service: AsyncClient, flights: str) -> None:
    query = {"index": flights, "fields": [f"{'x' * 300}{number}" for number in range(1000)]}
    content = problem(await service.post("/search", json=query), 422, "invalid-request")
    assert len(content["errors"]) == 20
    answer = await service.post("/search", json={"index": flights, "fields": ["c" * 500_000]})
    assert len(answer.content) < 5_000


@pytest.mark.parametrize("path", ["/nothing", "/search/", "/indices/", "/health/"])
async def test_an_unknown_path(service: AsyncClient, path: str) -> None:
    problem(await service.get(path), 404, "unknown-path")


async def test_a_wrong_method(service: AsyncClient) -> None:
    answer = await service.get("/search")
    problem(answer, 405, "wrong-method")
    assert answer.headers["allow"] == "POST"


async def test_a_name_that_is_too_long(service: AsyncClient) -> None:
    problem(await service.get(f"/indices/{'x' * 256}/fields"), 422, "invalid-request")


async def answers(service: AsyncClient) -> list[Any]:
    return [
        await service.post("/search", json={"index": "flights", "query_fields": {"a": "secret"}}),
        await service.get("/search/flights/scroll"),
        await service.get("/indices/flights/fields"),
        await service.get("/indices"),
        await service.get("/health"),
    ]


async def test_elasticsearch_away_is_503_everywhere_and_the_service_still_starts(
    start: Any, unused_port: int
) -> None:
    async with start(es_host="localhost", es_port=unused_port) as service:
        for answer in await answers(service):
            problem(answer, 503, "elasticsearch-away")
            for inside in ("localhost", str(unused_port), "secret", "Traceback", "aiohttp"):
                assert inside not in answer.text
        assert (await service.get("/openapi.json")).status_code == 200


async def test_elasticsearch_that_does_not_answer_is_504(start: Any, silent_port: int) -> None:
    async with start(es_host="127.0.0.1", es_port=silent_port, search_timeout=0.2) as service:
        for answer in await answers(service):
            problem(answer, 504, "elasticsearch-timeout")


async def test_every_error_in_the_openapi_document_is_a_problem(service: AsyncClient) -> None:
    document = (await service.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        *("/search", "/search/many", "/search/count", "/search/{index}", "/search/{index}/scroll"),
        *("/search/{index}/suggest", "/search/{index}/export", "/indices/{index}/documents/{id}"),
        *("/indices", "/indices/{index}/fields", "/health", "/health/live", "/health/ready"),
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["description"]
            if not path.startswith("/health/"):
                expected = {"200", "429", "500", "503", "504"}
                assert expected <= operation["responses"].keys()
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {"application/problem+json"}
    assert document["components"]["schemas"]["SearchRequest"]["examples"]
