"""Kept HTTP/1.1 connections to Elasticsearch, with no more to them than a search needs: what a
client for all purposes does to each request takes as long as all the rest of the service."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import cast

import httptools
from elastic_transport import ConnectionError, ConnectionTimeout, TlsError

Answer = tuple[int, bytes]
"""A status and a body."""


class Connections:
    """Connections to one server: as many as there are requests at once, which the limits before
    them bound."""

    def __init__(
        self,
        host: str,
        port: int,
        headers: Mapping[str, str],
        timeout: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        """`headers` go with every request, which has `timeout` seconds."""
        self._host, self._port = host, port
        self._timeout = timeout
        self._tls = tls
        address = f"[{host}]" if ":" in host else host
        lines = {"host": f"{address}:{port}", **headers}
        self._head = "".join(f"\r\n{name}: {value}" for name, value in lines.items())
        self._idle: list[_Connection] = []

    async def request(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float | None = None,
    ) -> Answer:
        """The answer to a request, which ends with its connection if nobody waits for it any more.
        `timeout`, in seconds, is the connections' own if it is not given.

        Raises:
            elastic_transport.ConnectionTimeout: there is no whole answer in time.
            elastic_transport.TlsError: there is no trust.
            elastic_transport.ConnectionError: all else that keeps it from coming.
        """
        own = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
        head = f"{method} {target} HTTP/1.1{self._head}{own}\r\ncontent-length: {len(body)}\r\n\r\n"
        data = head.encode("ascii") + body
        timeout = self._timeout if timeout is None else timeout
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                try:
                    return await connection.exchange(data, timeout)
                except _ClosedError:
                    # The other side has closed it in the same moment. A new one is no more to blame
                    # for that than the others.
                    self._idle.clear()
        return await (await self._connect(timeout)).exchange(data, timeout)

    async def close(self) -> None:
        """End the connections that wait for a request."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self, timeout: float) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._idle), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectionTimeout("Connection timed out", errors=(error,)) from None
        except ssl.SSLError as error:
            raise TlsError(str(error), errors=(error,)) from None
        except OSError as error:
            raise ConnectionError(str(error), errors=(error,)) from None
        return connection


class _ClosedError(ConnectionError):
    """The connection was closed before a byte of the answer had come."""


class _Connection(asyncio.Protocol):
    """One request and one answer at a time."""

    def __init__(self, idle: "list[_Connection]") -> None:
        self._idle = idle
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._begun = self._reusable = False
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def usable(self) -> bool:
        """Whether a request can be sent over it."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, data: bytes, timeout: float) -> Answer:
        """The answer to a request; raises as `Connections.request`."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._answer = answer
        self._begun = self._reusable = False
        timer = loop.call_later(timeout, self._fail, ConnectionTimeout("No answer in time"))
        self._transport.write(data)
        try:
            return await answer
        finally:
            timer.cancel()
            self._answer = None
            # Only now: nothing of this request is left that could meet the next one.
            if self._reusable:
                self._idle.append(self)
            else:
                self.close()

    def close(self) -> None:
        """End it, and in Elasticsearch whatever was asked over it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As `asyncio.Protocol`."""
        # uvloop's own kind is no asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol`."""
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(ConnectionError("The answer is no HTTP", errors=(error,)))

    def connection_lost(self, error: Exception | None) -> None:
        """As `asyncio.Protocol`."""
        kind = ConnectionError if self._begun else _ClosedError
        self._fail(kind("The connection was closed", errors=(error,) if error else ()))

    def on_body(self, body: bytes) -> None:
        """As httptools calls it."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """As httptools calls it."""
        parts, self._parts = self._parts, []
        answer = self._answer
        if answer is None or answer.done():
            self.close()
            return
        self._reusable = self._parser.should_keep_alive()
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        answer.set_result((self._parser.get_status_code(), whole))

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        if self in self._idle:
            self._idle.remove(self)
        self.close()
