"""Requests to Elasticsearch. Answers to searches stay bytes: what its own client would do to each
costs more than all the rest of a small search."""

import base64
import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

import certifi
import msgspec
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig, SerializationError
from elasticsearch import ApiError
from elasticsearch.exceptions import HTTP_EXCEPTIONS

from search_service.connections import Answer, Connections
from search_service.overload import Breaker
from search_service.settings import Settings
from search_service.surrogates import decoder

_JSON = {"accept": "application/json", "content-type": "application/json"}
_NDJSON = {"accept": "application/json", "content-type": "application/x-ndjson"}

Searches = Sequence[tuple[str, Mapping[str, Any]]]
"""Each a generation and a body."""


class Elastic:
    """One node, over connections that are kept."""

    def __init__(self, settings: Settings, breaker: Breaker) -> None:
        headers = {"user-agent": "pg-es-search"}
        if settings.es_api_key:
            headers["authorization"] = f"ApiKey {settings.es_api_key.get_secret_value()}"
        elif settings.es_user and settings.es_password:
            pair = f"{settings.es_user}:{settings.es_password.get_secret_value()}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self.timeout = settings.search_timeout
        self._breaker = breaker
        self._connections = Connections(
            settings.es_host, settings.es_port, headers, settings.search_timeout, _tls(settings)
        )
        scheme = "https" if settings.es_use_ssl else "http"
        self._node = NodeConfig(scheme, settings.es_host, settings.es_port)

    async def __aenter__(self) -> "Elastic":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.close()

    async def search(self, generation: str, body: dict[str, Any]) -> bytes:
        """Elasticsearch's answer to a search: whole, or an error."""
        # Half an answer would look like a whole one.
        target = f"/{quote(generation)}/_search?allow_partial_search_results=false"
        return await self.request("POST", target, self._timed(body))

    async def search_point(self, body: dict[str, Any]) -> bytes:
        """The same in a point in time, which the body names."""
        target = "/_search?allow_partial_search_results=false"
        return await self.request("POST", target, self._timed(body))

    async def search_many(self, searches: Searches) -> list[msgspec.Raw]:
        """The answers to several searches; all whole, or an error."""
        found = await self.answers(searches)
        for one in found:
            if (status := status_of(one)) >= 400:
                raise self._refusal(status, bytes(one))
        return found

    async def answers(self, searches: Searches) -> list[msgspec.Raw]:
        """The answers to several searches, each of which may be an error."""
        lines: list[bytes] = []
        for generation, body in searches:
            head = {"index": generation, "allow_partial_search_results": False}
            lines += [msgspec.json.encode(head), b"\n", self._timed(body), b"\n"]
        _, raw = await self._perform("POST", "/_msearch", b"".join(lines), _NDJSON)
        return _decode_many(raw).responses

    async def open_point(self, generation: str, keep_alive: str) -> str:
        """The id of a new point in time: what the index holds now, until it is closed."""
        target = f"/{quote(generation)}/_pit?keep_alive={keep_alive}"
        opened: str = (await self.ask("POST", target))["id"]
        return opened

    async def close_point(self, point: str) -> None:
        """Free what Elasticsearch keeps for a point in time; one that is gone is no error."""
        try:
            await self.request("DELETE", "/_pit", msgspec.json.encode({"id": point}))
        except ApiError as error:
            if error.meta.status != 404:
                raise

    async def ask(
        self,
        method: str,
        target: str,
        body: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """What is in an answer; raises as `request` does. `timeout` in seconds."""
        sent = msgspec.json.encode(body) if body else b""
        raw = await self.request(method, target, sent, timeout)
        try:
            return msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise SerializationError("the answer is no JSON", errors=(error,)) from None

    async def request(
        self, method: str, target: str, body: bytes = b"", timeout: float | None = None
    ) -> bytes:
        """The bytes of an answer.

        Raises:
            elastic_transport.TransportError: Elasticsearch cannot be reached, or is too slow.
            elasticsearch.ApiError: it answers with an error.
        """
        return (await self._perform(method, target, body, _JSON, timeout))[1]

    async def _perform(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: dict[str, str],
        timeout: float | None = None,
    ) -> Answer:
        with self._breaker.request():
            status, raw = await self._connections.request(method, target, body, headers, timeout)
            if status >= 400:
                raise self._refusal(status, raw)
        return status, raw

    def _timed(self, body: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode({**body, "timeout": f"{round(self.timeout * 1000)}ms"})

    def _refusal(self, status: int, raw: bytes) -> ApiError:
        try:
            content = msgspec.json.decode(raw)
            message = str(content["error"]["type"])
        except (msgspec.DecodeError, KeyError, TypeError):
            content, message = None, "no reason given"
        meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, self._node)
        return HTTP_EXCEPTIONS.get(status, ApiError)(message, meta, content)


class _Many(msgspec.Struct):
    responses: list[msgspec.Raw]


_decode_many = decoder(_Many)


class _Status(msgspec.Struct):
    status: int = 200


def status_of(answer: msgspec.Raw) -> int:
    """Of one of several answers."""
    return msgspec.json.decode(answer, type=_Status).status


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """Of an address no name is looked for in the certificate, as Elasticsearch's client does it."""
    if not settings.es_use_ssl:
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(settings.es_ca_certs or certifi.where())
    try:
        ip_address(settings.es_host)
    except ValueError:
        return context
    context.check_hostname = False
    return context
