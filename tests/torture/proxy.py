"""An HTTP proxy in front of Elasticsearch that goes wrong on purpose."""

import http.client
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

REFUSALS = {
    429: {"type": "es_rejected_execution_exception", "reason": "the proxy is full"},
    503: {"type": "unavailable_shards_exception", "reason": "the proxy has no shard"},
}

KINDS = ("429", "503", "late", "cut before", "cut after", "half an answer", "partial")
"""`late`: forwarded after the client's patience has ended, when others have gone on. `cut before`
and `cut after`: the connection ends before or after the request was forwarded. `partial`: some
items of a bulk request are held back and refused in their places of the answer."""


@dataclass
class Faults:
    """Which requests go wrong, and how."""

    random: random.Random
    shares: Mapping[str, float]
    """The share of requests that each kind hits, by kind."""
    late_seconds: tuple[float, float]
    injected: Counter[str] = field(default_factory=Counter)
    overloaded: bool = False
    """While it is, every bulk request is answered 429, and all else is as usual."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def draw(self, *, bulk: bool) -> str | None:
        """The fault of the next request; None where it goes well."""
        with self._lock:
            [kind] = self.random.choices(
                [*KINDS, None], [*(self.shares.get(kind, 0.0) for kind in KINDS), self._well()]
            )
            if self.overloaded and bulk:
                kind = "429"
            if kind is None or (kind == "partial" and not bulk):
                return None
            self.injected[kind] += 1
            return kind

    def lateness(self) -> float:
        """Seconds."""
        with self._lock:
            return self.random.uniform(*self.late_seconds)

    def held_back(self, items: int) -> dict[int, int]:
        """The status of each item that is not forwarded, by its position."""
        with self._lock:
            count = self.random.randint(1, items)
            positions = self.random.sample(range(items), count)
            return {position: self.random.choice([429, 503]) for position in positions}

    def calm(self) -> None:
        """From now on nothing goes wrong; what is under way does."""
        with self._lock:
            self.shares = {}

    def _well(self) -> float:
        return 1.0 - sum(self.shares.values())


class Proxy:
    """Listens on a free port of the loopback until the end of the `with` block.

    `upstream` tells host and port of Elasticsearch, which may come back on another port.
    """

    def __init__(self, upstream: Callable[[], tuple[str, int]], faults: Faults) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.upstream = upstream
        self._server.faults = faults
        self._thread = threading.Thread(target=self._server.serve_forever, name="proxy")
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def release(self) -> bool:
        """Forwards what is late, and waits until nothing more can reach Elasticsearch.

        Returns whether there was anything.
        """
        anything = self._server.is_busy()
        self._server.released.set()
        self._server.wait_until_idle()
        return anything


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    upstream: Callable[[], tuple[str, int]]
    faults: Faults

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.released = threading.Event()
        self._under_way = 0
        self._idle = threading.Condition()

    def count(self, change: int) -> None:
        with self._idle:
            self._under_way += change
            self._idle.notify_all()

    def is_busy(self) -> bool:
        with self._idle:
            return bool(self._under_way)

    def wait_until_idle(self) -> None:
        with self._idle:
            if not self._idle.wait_for(lambda: not self._under_way, timeout=60):
                raise TimeoutError("a request has been in the proxy for a minute")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or lose their patience are what it is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.count(1)
        try:
            self._go_wrong_or_well(body)
        finally:
            self.server.count(-1)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815

    def _go_wrong_or_well(self, body: bytes) -> None:
        faults = self.server.faults
        bulk = self.path.partition("?")[0].endswith("/_bulk")
        fault = faults.draw(bulk=bulk)
        match fault:
            case "429" | "503":
                refusal = {"error": REFUSALS[int(fault)], "status": int(fault)}
                self._answer(int(fault), "application/json", json.dumps(refusal).encode())
                return
            case "cut before":
                self._cut()
                return
            case "late":
                self.server.released.wait(faults.lateness())
            case "partial":
                self._partial(body)
                return
        try:
            status, kind, answer = self._forward(body)
        except (OSError, http.client.HTTPException):
            self._cut()
            return
        if fault == "cut after":
            self._cut()
        elif fault == "half an answer":
            self._answer(status, kind, answer[: len(answer) // 2], length=len(answer) + 1)
            self._cut()
        else:
            self._answer(status, kind, answer)

    def _partial(self, body: bytes) -> None:
        items = bulk_items(body)
        held_back = self.server.faults.held_back(len(items))
        kept = [item for at, item in enumerate(items) if at not in held_back]
        results: list[Any] = []
        if kept:
            try:
                status, kind, answer = self._forward(b"".join(kept))
            except (OSError, http.client.HTTPException):
                self._cut()
                return
            if status != 200:
                self._answer(status, kind, answer)
                return
            results = json.loads(answer)["items"]
        for at in sorted(held_back):
            action = next(iter(json.loads(items[at].partition(b"\n")[0])))
            status = held_back[at]
            results.insert(at, {action: {"status": status, "error": REFUSALS[status]}})
        answer = json.dumps({"errors": True, "items": results}).encode()
        self._answer(200, "application/json", answer)

    def _forward(self, body: bytes) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(*self.server.upstream(), timeout=60)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "connection", "content-length")
            }
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            kind = answer.getheader("content-type", "application/json")
            return answer.status, kind, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, kind: str, body: bytes, length: int | None = None) -> None:
        head = (
            f"HTTP/1.1 {status} {http.client.responses.get(status, '')}\r\n"
            f"content-type: {kind}\r\nx-elastic-product: Elasticsearch\r\n"
            f"content-length: {len(body) if length is None else length}\r\n\r\n"
        )
        self.wfile.write(head.encode() + (b"" if self.command == "HEAD" else body))

    def _cut(self) -> None:
        self.close_connection = True
        # Without this the socket stays open until the last of its two files is closed.
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *arguments: Any) -> None:
        """The log would be of every request."""


def bulk_items(body: bytes) -> list[bytes]:
    """A bulk request's items: an action's line, and the document's where there is one."""
    lines = iter(body.splitlines(keepends=True))
    return [line if line.startswith(b'{"delete"') else line + next(lines) for line in lines]
