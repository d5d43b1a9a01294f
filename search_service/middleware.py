"""What every request passes on its way in, outermost first: it gets an id and is logged, its caller
is made out and its rate judged, its body read, and its turn awaited."""

import asyncio
import re
import secrets
import time
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

import structlog
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from search_service.access.callers import Caller, Callers, refuse
from search_service.errors import (
    MAX_BODY_BYTES,
    ServiceError,
    body_too_large,
    respond,
    unexpected,
)
from search_service.limits import Limiter, Rate, Verdict
from search_service.metrics import Metrics
from search_service.overload import Lane
from search_service.tracing import Tracer

log = structlog.get_logger("search_service.requests")

PUBLIC = frozenset({"/", "/docs", "/openapi.json", "/health"})
"""Paths that need no caller; they show nothing of any index to whom it is hidden."""

PROBES = frozenset({"/health/live", "/health/ready"})
"""Paths that are answered whatever else happens; they are public too."""

_PUBLIC_FOLDERS = ("/docs/", "/assets/")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=-]{1,128}")
_GONE = 499  # in the log: the client left before its answer


def is_public(path: str) -> bool:
    """Whether a path needs no caller."""
    return path in PUBLIC or path in PROBES or path.startswith(_PUBLIC_FOLDERS)


def is_export(path: str) -> bool:
    """Whether a path is that of an export, which have a lane of their own."""
    return path.endswith("/export")


class Observe:
    """Gives a request its id, logs and counts it, and answers what nothing else has caught."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer | None) -> None:
        self.app = app
        self.metrics = metrics
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.tracer is None:
            await self._observe(scope, receive, send)
            return
        with self.tracer.request(scope):
            await self._observe(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        named = state["request_id"] = request_id(scope["headers"])
        headers: dict[str, str] = state.setdefault("headers", {})
        structlog.contextvars.bind_contextvars(request_id=named)
        status = size = 0

        async def answer(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = state["status"] = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", named.encode()),
                    *((name.encode(), value.encode()) for name, value in headers.items()),
                ]
            else:
                size += len(message.get("body", b""))
            await send(message)

        self.metrics.under_way.inc()
        try:
            await self.app(scope, receive, answer)
        except Exception:
            log.exception("request_failed", route=_route(scope))
            if status == 0:
                await respond(scope, unexpected())(scope, receive, answer)
            # Otherwise the server ends the connection, since the answer is not complete.
        finally:
            self.metrics.under_way.dec()
            seconds = time.perf_counter() - started
            status = status or _GONE
            route, index = _route(scope), state.get("index", "")
            self.metrics.count(scope["method"], route, status, index, seconds)
            if scope["path"] not in PROBES:
                caller: Caller | None = state.get("caller")
                log.info(
                    "request",
                    method=scope["method"],
                    route=route,
                    status=status,
                    seconds=round(seconds, 6),
                    bytes=size,
                    caller=caller.name if caller else None,
                    index=index or None,
                )


class Access:
    """Makes out the caller of a request, and whether it keeps to its rate."""

    def __init__(self, app: ASGIApp, callers: Callers, limiter: Limiter, metrics: Metrics) -> None:
        self.app = app
        self.callers = callers
        self.limiter = limiter
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401, 403 or 429."""
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        try:
            scope["state"]["caller"] = await self._admit(scope)
        except ServiceError as problem:
            self.metrics.turned_away.labels(problem.kind).inc()
            await respond(scope, problem)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope) -> Caller:
        address = _counted(scope)
        try:
            caller = await self.callers.identify(_credentials(scope["headers"]), address)
            if caller.policy.nothing and not is_public(scope["path"]):
                _refuse_nobody(caller)
        except ServiceError:
            # Who has no rate of its own is counted by its address: guessing is work, too.
            await self._judge(scope, f"address {address}", None)
            raise
        await self._judge(scope, caller.counted_as, caller.rates)
        return caller

    async def _judge(self, scope: Scope, counted: str, rates: tuple[Rate, ...] | None) -> None:
        verdict = await self.limiter.judge(counted, rates)
        if verdict is None:
            return
        scope["state"]["headers"].update(verdict.headers())
        if not verdict.allowed:
            raise _too_many(verdict)


class Compress(GZipMiddleware):
    """Compresses answers for who takes that, and takes no time of others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and not any(
            name == b"accept-encoding" and b"gzip" in value for name, value in scope["headers"]
        ):
            # Who keeps the answer must not give it to those who do.
            scope["state"]["headers"]["Vary"] = "Accept-Encoding"
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Admit:
    """Reads the body and awaits the request's turn, which a slow client cannot take from others."""

    def __init__(
        self, app: ASGIApp, lane: Lane, exports: Lane, patience: float, metrics: Metrics
    ) -> None:
        """`patience`: seconds that a client has to send its body."""
        self.app = app
        self.lane = lane
        self.exports = exports
        self.patience = patience
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 408, 413 or 503."""
        if scope["type"] != "http" or is_public(scope["path"]):
            await self.app(scope, receive, send)
            return
        unread: Message | None = None

        async def replay() -> Message:
            nonlocal unread
            if unread is None:
                return await receive()
            message, unread = unread, None
            return message

        lane = self.exports if is_export(scope["path"]) else self.lane
        try:
            body = await _body(scope, receive, self.patience)
            if body is None:
                return
            unread = {"type": "http.request", "body": body, "more_body": False}
            async with lane:
                await self.app(scope, replay, send)
        except ServiceError as problem:
            self.metrics.turned_away.labels(problem.kind).inc()
            await respond(scope, problem)(scope, receive, send)


async def _body(scope: Scope, receive: Receive, patience: float) -> bytes | None:
    """The request's body; None: the client has left.

    Raises:
        ServiceError: it is too large, or takes too long.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and len(value) < 20 and int(value) > MAX_BODY_BYTES:
            raise body_too_large()
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(patience):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                size += len(part)
                # A chunked body announces no length.
                if size > MAX_BODY_BYTES:
                    raise body_too_large()
                parts.append(part)
                more = message.get("more_body", False)
    except TimeoutError:
        detail = f"The body was not complete within {patience:g} s."
        raise ServiceError(408, "body-too-slow", "Request timed out", detail) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """A request's id: the client's own, unless it could break a log or a header."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(16)


def _credentials(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The text in `Authorization: Bearer …` or in `X-API-Key`.

    Raises:
        ServiceError: the header has another scheme.
    """
    for name, value in headers:
        if name == b"authorization":
            scheme, _, text = value.decode("latin-1").partition(" ")
            if scheme.lower() not in {"bearer", "apikey"}:
                refuse("The scheme of Authorization is not known here. Send Bearer and the key.")
            return text.strip()
        if name == b"x-api-key":
            return value.decode("latin-1").strip()
    return None


def _counted(scope: Scope) -> str:
    """Whose requests without credentials are counted together: an IPv6 client has a whole /64."""
    client: Any = scope.get("client")
    host = client[0] if client else "unknown"
    if ":" not in host:
        return str(host)
    try:
        address = ip_address(host)
    except ValueError:
        return str(host)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or ip_network((int(address) >> 64 << 64, 64)))


def _refuse_nobody(caller: Caller) -> None:
    if caller.name == "anonymous":
        refuse("Send an API key or a token: Authorization: Bearer …")
    detail = "The credentials are right, but give no role here. Ask the operator for one."
    raise ServiceError(403, "no-role", "No role", detail)


def _too_many(verdict: Verdict) -> ServiceError:
    rate = verdict.rate
    seconds = verdict.headers()["Retry-After"]
    detail = (
        f"More than {rate.requests:,} requests in {rate.seconds:,} s. Try again in {seconds} s."
    )
    return ServiceError(429, "too-many-requests", "Too many requests", detail)


def _route(scope: Scope) -> str:
    """The template of the path, which has none of its values."""
    return getattr(scope.get("route"), "path", None) or "none"
