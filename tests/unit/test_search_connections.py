"""The connections to Elasticsearch, over a server that behaves as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from elastic_transport import ConnectionError, ConnectionTimeout

from search_service.connections import Connections

pytestmark = pytest.mark.anyio

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
JSON = {"content-type": "application/json"}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def server(behave: Behave, timeout: float = 5.0) -> AsyncIterator[Connections]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behave(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connections = Connections("127.0.0.1", port, {"user-agent": "test"}, timeout, None)
    async with listening:
        yield connections
        await connections.close()


async def asked(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def ask(connections: Connections) -> tuple[int, bytes]:
    return await connections.request("POST", "/things/_search", b'{"size":1}', JSON)


async def test_a_connection_is_kept_for_the_next_request() -> None:
    requests: list[bytes] = []
    opened = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        while True:
            requests.append(await asked(reader))
            writer.write(OK)

    async with server(behave) as connections:
        assert [await ask(connections) for _ in range(3)] == [(200, b"{}")] * 3
    assert opened == 1
    assert requests[0].startswith(b"POST /things/_search HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nuser-agent: test\r\n" in requests[0]
    assert requests[2].endswith(b'\r\n\r\n{"size":1}')


async def test_many_at_once_have_an_answer_each() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await asked(reader)
            writer.write(OK)

    async def several(connections: Connections) -> None:
        for _ in range(50):
            assert await ask(connections) == (200, b"{}")

    async with server(behave) as connections:
        await asyncio.gather(*(several(connections) for _ in range(8)))


async def test_an_answer_may_come_in_pieces() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        whole = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n"
        for byte in whole + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n":
            writer.write(bytes([byte]))
            await writer.drain()

    async with server(behave) as connections:
        assert await ask(connections) == (404, b"abcde")


async def test_a_kept_connection_that_has_been_closed_is_no_error() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)
        await asked(reader)  # and closes it without an answer

    async with server(behave) as connections:
        assert await ask(connections) == (200, b"{}")
        assert await ask(connections) == (200, b"{}")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", b"SSH-2.0\r\n\r\n"]
)
async def test_what_is_no_whole_answer_is_an_error(answer: bytes) -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(answer)

    async with server(behave) as connections:
        with pytest.raises(ConnectionError):
            await ask(connections)


async def test_an_answer_that_does_not_come_in_time_ends_its_connection() -> None:
    ended = asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        assert await reader.read() == b""
        ended.set()

    async with server(behave, timeout=0.05) as connections:
        with pytest.raises(ConnectionTimeout):
            await ask(connections)
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_request_that_nobody_waits_for_ends_its_connection() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        begun.set()
        assert await reader.read() == b""
        ended.set()

    async with server(behave) as connections:
        waiting = asyncio.create_task(ask(connections))
        await asyncio.wait_for(begun.wait(), 10)
        waiting.cancel()
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_server_that_is_away_is_an_error() -> None:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    async with server(behave) as connections:
        pass
    with pytest.raises(ConnectionError):
        await ask(connections)
