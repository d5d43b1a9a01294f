"""A way to Elasticsearch on which little passes while that is wanted."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.servers import Servers

NARROW_BYTES = 2_000_000
"""Bytes a second that pass the narrow way."""


class Way:
    """Passes bytes on to Elasticsearch: all at once, or no more than NARROW_BYTES a second."""

    def __init__(self, servers: Servers) -> None:
        way = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(way._address) as upstream:
                    back = threading.Thread(
                        target=way._pass, args=(upstream, self.request), daemon=True
                    )
                    back.start()
                    way._pass(self.request, upstream, counted=True)

        self._address = servers.variables["ES_HOST"], int(servers.variables["ES_PORT"])
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._is_narrow = False
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> "Way":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def narrowed(self) -> Iterator[None]:
        """While it lasts, little passes."""
        self._is_narrow = True
        try:
            yield
        finally:
            self._is_narrow = False

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool = False) -> None:
        try:
            while data := source.recv(1 << 16):
                if counted:
                    self._wait_for_turn(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()

    def _wait_for_turn(self, size: int) -> None:
        if not self._is_narrow:
            self._free_at = 0.0
            return
        with self._lock:
            turn = max(self._free_at, time.monotonic())
            self._free_at = turn + size / NARROW_BYTES
        while self._is_narrow and (wait := turn - time.monotonic()) > 0:
            time.sleep(min(wait, 0.05))
