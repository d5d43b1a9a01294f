"""The errors of the endpoints, for the OpenAPI document."""

from typing import Any

from search_service.answers import ProblemDetails

_COMMON = {
    "s500": "A defect of the service.",
    "s503": "Elasticsearch is away, overloaded, or refuses the service.",
    "s504": "Elasticsearch did not answer in time.",
}
NOT_CHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not changed since the answer with this ETag."}
}
BODY = {
    "s400": "The body is not JSON.",
    "s413": "The body has more than 1 MiB.",
    "s415": "The body is not declared as JSON.",
}


def problems(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """An endpoint's `responses`: each status, as in `s404`, with its meaning."""
    return {
        int(status[1:]): {"model": ProblemDetails, "description": meaning}
        for status, meaning in {**meanings, **_COMMON}.items()
    }
