"""An HTTP proxy before Elasticsearch whose answers a test chooses."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Answer = tuple[int, bytes] | str
"""Status and body; or `cut`: the connection ends without an answer, `late cut`: it ends after the
request was forwarded, `half`: with half of the true answer."""

Choose = Callable[[str, bytes], Answer | None]
"""From a request's path and body; None: forward it."""


@contextmanager
def proxy(port: int, choose: Choose) -> Iterator[int]:
    """Listens before Elasticsearch's port on this machine; yields its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            answer = choose(self.path, body)
            if answer == "cut":
                self.close_connection = True
                return
            headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
            if isinstance(answer, tuple):
                status, content = answer
            else:
                upstream = http.client.HTTPConnection("127.0.0.1", port)
                passed = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                upstream.request(self.command, self.path, body, passed)
                response = upstream.getresponse()
                status, content = response.status, response.read()
                headers["content-type"] = response.headers.get("content-type", "text/plain")
                if encoding := response.headers.get("content-encoding"):
                    headers["content-encoding"] = encoding
                upstream.close()
            if answer == "late cut":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if answer == "half":
                content = content[: len(content) // 2]
                self.close_connection = True
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
