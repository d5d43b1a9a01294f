"""What the benchmark takes for the service being back after a flood."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.indices import WrongAnswer
from benchmarks.service import overload
from benchmarks.service.asked import Asked
from benchmarks.service.plan import Bench
from benchmarks.service.quiet import TurnedAway


@contextmanager
def answering(*statuses: int) -> Iterator[Bench]:
    """A service that answers so, the last one again and again."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    # Where a test fails, its connection is still open: nothing waits for that.
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    with server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        service = SimpleNamespace(address=f"http://127.0.0.1:{server.server_address[1]}")
        searches = SimpleNamespace(of_service=[Asked("GET", "/")])
        bench: Any = SimpleNamespace(service=service, searches=searches)
        try:
            yield cast("Bench", bench)
        finally:
            server.shutdown()
            thread.join()


def test_who_is_turned_away_asks_again() -> None:
    with answering(503, 429, 200) as bench:
        assert overload._back(bench).value > 0


def test_an_error_after_the_flood_is_a_fault_at_once() -> None:
    with answering(503, 500, 200) as bench, pytest.raises(WrongAnswer, match=": 500 "):
        overload._back(bench)


def test_a_service_that_stays_shut_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "BACK_SECONDS", 0.0)
    with answering(503) as bench, pytest.raises(TurnedAway):
        overload._back(bench)
