"""HTTP below the application: what cannot be read as a request is answered as a problem, too."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from search_service.errors import ServiceError, respond


class Protocol(HttpToolsProtocol):
    """Uvicorn's own, which answers with a text."""

    def send_400_response(self, msg: str) -> None:
        """Answer and close the connection, of which nothing further can be understood."""
        detail = "This is no request in HTTP/1.1, or its address and headers have more than 64 KiB."
        answer = respond({"type": "http"}, ServiceError(400, "not-http", "Not understood", detail))
        lines = [b"HTTP/1.1 400 Bad Request", b"connection: close"]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
