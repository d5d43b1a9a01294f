"""Everything that can go wrong, as problems (RFC 9457): what happened and what to do about it."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import structlog
from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import ApiError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 1_048_576
MAX_ERRORS = 20  # more than a person reads, few enough to keep the answer small
_SHOWN_CHARACTERS = 60

Error = dict[str, Any]


class ServiceError(Exception):
    """An answer of 4xx or 5xx.

    `kind` names the problem's type (`urn:pg-es-search:<kind>`), `detail` says what to do, `errors`
    lists the single mistakes of a request.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        errors: Sequence[Error] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def within(self, place: str) -> "ServiceError":
        """The same of a part of the request."""
        errors = [{**one, "location": f"{place}.{one['location']}"} for one in self.errors]
        detail = f"{place}: {self.detail}"
        return ServiceError(self.status, self.kind, self.title, detail, errors, self.headers)


def invalid(errors: Sequence[Error]) -> ServiceError:
    """The request is understood but cannot be answered: one or more of its values are wrong."""
    first = f"{errors[0]['location']}: {errors[0]['detail']}"
    more = f" ({len(errors) - 1} more in errors)" if len(errors) > 1 else ""
    return ServiceError(
        422, "invalid-request", "Invalid request", first + more, errors[:MAX_ERRORS]
    )


def mistake(errors: list[Error], location: str, detail: str) -> None:
    """Note a mistake, unless there are enough of them."""
    if len(errors) < MAX_ERRORS:
        errors.append({"location": location, "detail": detail})


def unknown_index(name: str) -> ServiceError:
    """No index of that name is served, whatever Elasticsearch may hold."""
    detail = f"There is no index {shown(name)}. GET /indices lists the indexes there are."
    return ServiceError(404, "unknown-index", "Unknown index", detail)


def beyond_window(last: int, window: int) -> ServiceError:
    """The page ends after the last document that Elasticsearch can reach by counting."""
    detail = (
        f"The page ends at document {last:,}; pages reach the first {window:,} documents. Narrow "
        'the search, walk through it with "pagination": "cursor", or through the whole index with '
        "GET /search/{index}/scroll."
    )
    return ServiceError(422, "page-beyond-window", "Page out of reach", detail)


def bad_cursor(reason: str) -> ServiceError:
    """The cursor is not one that this index's last page gave out."""
    detail = (
        f"The cursor {reason}. Use next_cursor of the previous page as it is, or leave cursor out "
        "to start from the first document."
    )
    return ServiceError(400, "bad-cursor", "Bad cursor", detail)


def expired_cursor(reason: str) -> ServiceError:
    """The cursor was good once: what it points into is no longer kept."""
    detail = f"The cursor {reason}. Start from the first page again."
    return ServiceError(410, "cursor-expired", "Cursor expired", detail)


def too_many_walks(seconds: int) -> ServiceError:
    """As many walks and exports are under way as Elasticsearch is to keep views for."""
    detail = (
        "Too many walks with cursors and exports are under way. Try again later, or use page "
        "numbers."
    )
    headers = {"Retry-After": str(seconds)}
    return ServiceError(503, "too-many-walks", "Too many walks", detail, headers=headers)


def unknown_document(name: str) -> ServiceError:
    """No document of that id is in the index."""
    detail = f"The index has no document {shown(name)}."
    return ServiceError(404, "unknown-document", "Unknown document", detail)


def feature_denied(feature: str) -> ServiceError:
    """The caller's policy leaves this feature out."""
    detail = f"You may not use {feature}; ask the service's operator."
    return ServiceError(403, "feature-denied", "Not allowed", detail)


def client_left() -> ServiceError:
    """Nobody waits for the answer any more."""
    detail = "The client has closed the connection."
    return ServiceError(499, "client-left", "Client left", detail)


def body_too_large() -> ServiceError:
    """The body has more than `MAX_BODY_BYTES`."""
    detail = f"A request may have {MAX_BODY_BYTES:,} bytes. Split the lists of values over several."
    return ServiceError(413, "body-too-large", "Body too large", detail)


def elasticsearch_away(retry_after: int = 1) -> ServiceError:
    """Elasticsearch cannot be reached, or is left alone for so many seconds more."""
    return ServiceError(
        503,
        "elasticsearch-away",
        "Search is unavailable",
        "Elasticsearch cannot be reached. Try again later.",
        headers={"Retry-After": str(retry_after)},
    )


def shown(value: object) -> str:
    """A value from a request, for an error message: JSON, shortened; containers only by name."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def nearest(name: str, known: Sequence[str]) -> str:
    """` Did you mean "…"?` when a known name is similar, else nothing."""
    close = get_close_matches(name, known, n=1)
    return f" Did you mean {shown(close[0])}?" if close else ""


def install_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem."""
    app.add_exception_handler(ServiceError, _problem)
    app.add_exception_handler(RequestValidationError, _request_invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(TransportError, _elasticsearch_away)
    app.add_exception_handler(ApiError, _elasticsearch_refused)


def respond(scope: Scope, problem: ServiceError) -> Response:
    """The problem as the answer to a request."""
    content: dict[str, Any] = {
        "type": f"urn:pg-es-search:{problem.kind}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        content["errors"] = list(problem.errors)
    if request_id := scope.get("state", {}).get("request_id"):
        content["request_id"] = request_id
    # ASCII, because a request's half surrogate pairs, shown again, have no UTF-8 form.
    return Response(
        json.dumps(content, ensure_ascii=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return respond(request.scope, error)


async def _request_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if request.method == "POST":
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json":
            detail = "Send the body as JSON, with the header Content-Type: application/json."
            return respond(
                request.scope, ServiceError(415, "not-json", "Unsupported media type", detail)
            )
    errors: list[Error] = []
    for item in error.errors():
        source, *path = item["loc"]
        if item["type"] == "json_invalid":
            reason = item.get("ctx", {}).get("error", "it cannot be parsed")
            detail = f"The body is not valid JSON: {reason}."
            return respond(
                request.scope, ServiceError(400, "malformed-body", "Malformed body", detail)
            )
        location = ".".join(map(str, path)) or str(source)
        messages = {
            "extra_forbidden": "is not known here; see /docs for what is",
            "missing": "is required",
            "model_attributes_type": "must be a JSON object",
        }
        message = messages.get(item["type"], item["msg"].removeprefix("Value error, "))
        errors.append({"location": location, "detail": message})
    return respond(request.scope, invalid(errors))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kinds = {
        400: ("malformed-body", "Malformed body", "The body cannot be read as JSON."),
        404: ("unknown-path", "Not found", "There is nothing at this path; see /docs."),
        405: ("wrong-method", "Method not allowed", "See /docs for this path's methods."),
    }
    kind, title, detail = kinds.get(
        error.status_code, ("http-error", str(error.detail), "See /docs.")
    )
    return respond(
        request.scope, ServiceError(error.status_code, kind, title, detail, headers=error.headers)
    )


async def _elasticsearch_away(request: Request, error: Exception) -> Response:
    log.warning("elasticsearch_unreachable", reason=type(error).__name__)
    if isinstance(error, ConnectionTimeout):
        return respond(request.scope, _timed_out())
    return respond(request.scope, elasticsearch_away())


async def _elasticsearch_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    status = error.meta.status
    log.warning("elasticsearch_refused", status=status, reason=error.message)
    if status == 504:
        return respond(request.scope, _timed_out())
    if status in {401, 403}:
        kind = "elasticsearch-denied"
        detail = "Elasticsearch refuses this service's credentials; its operator must correct them."
    elif status == 429:
        kind = "elasticsearch-busy"
        detail = "Elasticsearch is overloaded. Try again later."
    else:
        kind = "elasticsearch-failed"
        detail = "Elasticsearch cannot answer this now. Try again later."
    return respond(request.scope, ServiceError(503, kind, "Search is unavailable", detail))


def _timed_out() -> ServiceError:
    detail = "Elasticsearch did not answer in time. Narrow the search, or try again later."
    return ServiceError(504, "elasticsearch-timeout", "Search timed out", detail)


def unexpected() -> ServiceError:
    """A defect of the service."""
    detail = "This is a defect of the service; its log has the details, by the request_id."
    return ServiceError(500, "internal", "Internal error", detail)
