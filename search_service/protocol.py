"""HTTP below the application: what is no request, and requests for which there is no room."""

from http import HTTPStatus
from typing import cast

from starlette.responses import Response
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from search_service.errors import ServiceError, respond
from search_service.gate import Gate
from search_service.middleware import request_id
from search_service.overload import overloaded


def _head(answer: Response) -> bytes:
    """Its status and headers."""
    status = HTTPStatus(answer.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in answer.raw_headers)])


# The refusal of every request, but for the id: to write the same one anew costs as much again.
_ID = b"0" * 32
_REFUSAL = respond({"state": {"request_id": _ID.decode()}}, overloaded())
_REFUSAL_BODY = bytes(_REFUSAL.body)
del _REFUSAL.headers["content-length"]
_REFUSAL_HEAD = _head(_REFUSAL)


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, which answers with a text, and hands every request on."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Hand a request on, or turn it away, which is a tenth of the work here."""
        gate: Gate | None = self.app_state.get("gate")
        # After another answer than 100 it is open whether a body follows.
        if (
            gate is None
            or not cycle.keep_alive
            or cycle.waiting_for_100_continue
            or not gate.refuses(cast("Scope", cycle.scope))
        ):
            super()._start_asgi_task(cycle, app)
            return
        named = request_id(cycle.scope["headers"]).encode()
        body = _REFUSAL_BODY.replace(_ID, named)
        size = b"%d" % len(body)
        self._write(
            _REFUSAL_HEAD + b"\r\ncontent-length: " + size + b"\r\nx-request-id: " + named, body
        )
        cycle.response_complete = True
        self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection, of which nothing further can be understood."""
        detail = "This is no request in HTTP/1.1, or its address and headers have more than 64 KiB."
        answer = respond({"type": "http"}, ServiceError(400, "not-http", "Not understood", detail))
        answer.headers["connection"] = "close"
        self._write(_head(answer), bytes(answer.body))
        self.transport.close()

    def _write(self, head: bytes, body: bytes) -> None:
        added = [name + b": " + value for name, value in self.server_state.default_headers]
        self.transport.write(b"\r\n".join([head, *added, b"", body]))
