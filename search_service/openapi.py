"""The OpenAPI document, with what holds for all operations and FastAPI cannot know."""

from typing import Any

from fastapi import FastAPI

from search_service import schemas
from search_service.freshness import IN_STEP_AT, LAG
from search_service.middleware import PROBES, is_public

_REQUEST_ID = {
    "description": "The request's own `X-Request-ID`, or a new one; the log has it, too.",
    "schema": {"type": "string"},
}
_RETRY_AFTER = {"description": "Seconds.", "schema": {"type": "integer"}}
_FRESHNESS = {
    IN_STEP_AT: {
        "description": "Every change committed before this time is in the index.",
        "schema": {"type": "string", "format": "date-time"},
    },
    LAG: {"description": "Now less that, in seconds.", "schema": {"type": "number"}},
}
_COMMON = {
    "400": "The request's address and headers have more than 64 KiB.",
    "401": "No credentials, or they are not accepted.",
    "403": "The credentials give no role that may do this.",
    "408": "The body was sent too slowly.",
    "429": "More requests than the caller's rate allows; see Retry-After.",
}
_SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, or a JSON Web Token.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_INDEX = {"index": "$response.body#/indices/0/index"}
_SAME_INDEX = {"index": "$request.path.index"}
_LINKS: dict[str, dict[str, Any]] = {
    "indices": {
        "fields": {"operationId": "fields", "parameters": _INDEX},
        "search": {"operationId": "simple_search", "parameters": _INDEX},
        "scroll": {"operationId": "scroll", "parameters": _INDEX},
    },
    "simple_search": {
        "next page": {
            "operationId": "simple_search",
            "parameters": {**_SAME_INDEX, "cursor": "$response.body#/meta/next_cursor"},
        },
    },
    "scroll": {
        "next page": {
            "operationId": "scroll",
            "parameters": {**_SAME_INDEX, "cursor": "$response.body#/meta/next_cursor"},
        },
    },
}
"""By operation: what its answer is good for."""


def complete(app: FastAPI, *, closed: bool) -> None:
    """Have the application's document say what middleware does.

    Args:
        closed: whether callers need credentials.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas.place(document)
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(path, operation)
            if closed:
                document["components"]["securitySchemes"] = _SCHEMES
                document["security"] = [{name: []} for name in _SCHEMES]
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if path not in PROBES:
        for status, meaning in _COMMON.items():
            if status == "429" or not is_public(path):
                responses.setdefault(status, {"description": meaning})
    for status, answer in responses.items():
        headers = answer.setdefault("headers", {})
        headers["X-Request-ID"] = _REQUEST_ID
        if int(status) < 400:
            if path.startswith("/search"):
                headers |= _FRESHNESS
            continue
        if status in {"429", "503"}:
            headers["Retry-After"] = _RETRY_AFTER
        answer["content"] = {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
        }
    if links := _LINKS.get(operation["operationId"]):
        responses["200"]["links"] = links
    if is_public(path):
        operation["security"] = []
