"""Requests to Elasticsearch whose answers stay bytes: what the client would do to each costs more
than all the rest of a small search."""

import base64
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec
from elastic_transport import (
    AiohttpHttpNode,
    ApiResponseMeta,
    ConnectionError,
    HttpHeaders,
    NodeConfig,
)
from elasticsearch import ApiError
from elasticsearch.exceptions import HTTP_EXCEPTIONS

from search_service.overload import Breaker
from search_service.settings import Settings
from search_service.surrogates import decoder

_CONNECTIONS = 256  # more than Elasticsearch works on at once; waiting is for the limits before it
_JSON = HttpHeaders({"accept": "application/json", "content-type": "application/json"})
_NDJSON = HttpHeaders({"accept": "application/json", "content-type": "application/x-ndjson"})


class Elastic:
    """One node, over connections that are kept."""

    def __init__(self, settings: Settings, breaker: Breaker) -> None:
        headers = HttpHeaders({"user-agent": "pg-es-search"})
        if settings.es_api_key:
            headers["authorization"] = f"ApiKey {settings.es_api_key.get_secret_value()}"
        elif settings.es_user and settings.es_password:
            pair = f"{settings.es_user}:{settings.es_password.get_secret_value()}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self.timeout = settings.search_timeout
        self._breaker = breaker
        self._node = AiohttpHttpNode(
            NodeConfig(
                scheme="https" if settings.es_use_ssl else "http",
                host=settings.es_host,
                port=settings.es_port,
                headers=headers,
                connections_per_node=_CONNECTIONS,
                request_timeout=settings.search_timeout,
                ca_certs=str(settings.es_ca_certs) if settings.es_ca_certs else None,
            )
        )

    async def __aenter__(self) -> "Elastic":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._node.close()

    async def search(self, generation: str, body: dict[str, Any]) -> bytes:
        """Elasticsearch's answer to a search: whole, or an error."""
        # Half an answer would look like a whole one.
        target = f"/{quote(generation)}/_search?allow_partial_search_results=false"
        return await self.request("POST", target, self._timed(body))

    async def search_point(self, body: dict[str, Any]) -> bytes:
        """The same in a point in time, which the body names."""
        target = "/_search?allow_partial_search_results=false"
        return await self.request("POST", target, self._timed(body))

    async def search_many(self, searches: list[tuple[str, dict[str, Any]]]) -> list[msgspec.Raw]:
        """The answers to several searches, each a generation and a body; all whole, or an error."""
        lines: list[bytes] = []
        for generation, body in searches:
            head = {"index": generation, "allow_partial_search_results": False}
            lines += [msgspec.json.encode(head), b"\n", self._timed(body), b"\n"]
        meta, raw = await self._perform("POST", "/_msearch", b"".join(lines), _NDJSON)
        found = _decode_many(raw).responses
        for one in found:
            status = msgspec.json.decode(one, type=_Status).status
            if status >= 400:
                raise _refusal(replace(meta, status=status), bytes(one))
        return found

    async def open_point(self, generation: str, keep_alive: str) -> str:
        """The id of a new point in time: what the index holds now, until it is closed."""
        target = f"/{quote(generation)}/_pit?keep_alive={keep_alive}"
        answer = await self.request("POST", target)
        opened: str = msgspec.json.decode(answer)["id"]
        return opened

    async def close_point(self, point: str) -> None:
        """Free what Elasticsearch keeps for a point in time; one that is gone is no error."""
        try:
            await self.request("DELETE", "/_pit", msgspec.json.encode({"id": point}))
        except ApiError as error:
            if error.meta.status != 404:
                raise

    async def request(self, method: str, target: str, body: bytes | None = None) -> bytes:
        """The bytes of an answer.

        Raises:
            elastic_transport.TransportError: Elasticsearch cannot be reached, or is too slow.
            elasticsearch.ApiError: it answers with an error.
        """
        return (await self._perform(method, target, body, _JSON))[1]

    async def _perform(
        self, method: str, target: str, body: bytes | None, headers: HttpHeaders
    ) -> tuple[ApiResponseMeta, bytes]:
        with self._breaker.request():
            try:
                meta, raw = await self._node.perform_request(method, target, body, headers)
            except ConnectionError:
                # It may have closed a kept connection in the same moment; a second one is new.
                meta, raw = await self._node.perform_request(method, target, body, headers)
            if meta.status >= 400:
                raise _refusal(meta, raw)
        return meta, raw

    def _timed(self, body: dict[str, Any]) -> bytes:
        return msgspec.json.encode({**body, "timeout": f"{round(self.timeout * 1000)}ms"})


class _Many(msgspec.Struct):
    responses: list[msgspec.Raw]


_decode_many = decoder(_Many)


class _Status(msgspec.Struct):
    status: int = 200


def _refusal(meta: ApiResponseMeta, raw: bytes) -> ApiError:
    try:
        content = msgspec.json.decode(raw)
        message = str(content["error"]["type"])
    except (msgspec.DecodeError, KeyError, TypeError):
        content, message = None, "no reason given"
    return HTTP_EXCEPTIONS.get(meta.status, ApiError)(message, meta, content)
