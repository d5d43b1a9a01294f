"""HTTP below the application: what is no request, and requests for which there is no room."""

from http import HTTPStatus
from typing import cast

from starlette.responses import Response
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from search_service.errors import ServiceError, respond
from search_service.gate import Gate


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, which answers with a text, and hands every request on."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Hand a request on, or turn it away, which is a tenth of the work here."""
        gate: Gate | None = self.app_state.get("gate")
        refusal = None
        # After another answer than 100 it is open whether a body follows.
        if gate is not None and cycle.keep_alive and not cycle.waiting_for_100_continue:
            refusal = gate.refusal(cast("Scope", cycle.scope))
        if refusal is None:
            super()._start_asgi_task(cycle, app)
            return
        self._write(refusal)
        cycle.response_complete = True
        self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection, of which nothing further can be understood."""
        detail = "This is no request in HTTP/1.1, or its address and headers have more than 64 KiB."
        answer = respond({"type": "http"}, ServiceError(400, "not-http", "Not understood", detail))
        answer.headers["connection"] = "close"
        self._write(answer)
        self.transport.close()

    def _write(self, answer: Response) -> None:
        status = HTTPStatus(answer.status_code)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
