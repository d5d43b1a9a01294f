"""Connections to Elasticsearch, and its errors in our words."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from elastic_transport.client_utils import DEFAULT, basic_auth_to_header
from elasticsearch import ApiError, AuthenticationException, AuthorizationException, Elasticsearch
from elasticsearch import TransportError as ElasticsearchTransportError

from pg_es_pipeline.errors import IndexRefused, PipelineError, ServerAway, SettingsError
from pg_es_pipeline.settings import ElasticsearchSettings

REQUEST_TIMEOUT = 60.0
"""Seconds that one request may take."""

PASSING = frozenset({429, 500, 502, 503, 504})
"""HTTP statuses after which the same request may succeed a little later."""


def connect(settings: ElasticsearchSettings, connections: int) -> Elasticsearch:
    """A client with up to that many connections; it does not touch the network yet."""
    return Elasticsearch(
        settings.url,
        ca_certs=str(settings.ca_certs) if settings.ca_certs else DEFAULT,
        headers=authorization(settings),
        connections_per_node=connections,
        request_timeout=REQUEST_TIMEOUT,
        max_retries=3,
        retry_on_timeout=True,
    )


def authorization(settings: ElasticsearchSettings) -> dict[str, str]:
    """The header that every request carries, also those that go past the client."""
    if settings.api_key:
        return {"authorization": f"ApiKey {settings.api_key.get_secret_value()}"}
    if settings.user and settings.password:
        credentials = (settings.user, settings.password.get_secret_value())
        return {"authorization": basic_auth_to_header(credentials)}
    return {}


PAGE = 1_000
"""Hits of one request."""


def all_hits(
    client: Elasticsearch, index: str, query: Mapping[str, Any], sort: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Every hit of a search, page after page; none where there is no such index.

    No two documents may have the same values of the fields in `sort`.
    """
    after = None
    while True:
        hits = client.search(
            index=index,
            ignore_unavailable=True,
            query=query,
            size=PAGE,
            sort=list(sort),
            search_after=after,
        )["hits"]["hits"]
        yield from hits
        if len(hits) < PAGE:
            return
        after = hits[-1]["sort"]


@contextmanager
def speaking(what: str) -> Iterator[None]:
    """Turns the client's errors into ours; `what` says what was being done."""
    try:
        yield
    except (AuthenticationException, AuthorizationException) as error:
        raise SettingsError(
            f"{what}: Elasticsearch refuses these credentials ({reason(error)}). "
            "Check ES_USER and ES_PASSWORD or ES_API_KEY, and the role's privileges."
        ) from None
    except ApiError as error:
        kind: type[PipelineError] = ServerAway if error.meta.status in PASSING else IndexRefused
        raise kind(f"{what}: Elasticsearch answered {error.meta.status}: {reason(error)}") from None
    except ElasticsearchTransportError as error:
        raise ServerAway(
            f"{what}: Elasticsearch cannot be reached ({type(error).__name__}: {error}). "
            "Check ES_HOST, ES_PORT and ES_USE_SSL, and that it is running."
        ) from None


def reason(error: ApiError) -> str:
    """The server's own words, of the innermost cause."""
    body = error.body
    cause = body.get("error", body) if isinstance(body, dict) else body
    while isinstance(cause, dict):
        # Of a search, "all shards failed" comes with the reason of each of them.
        shards = cause.get("failed_shards")
        inner = shards[0].get("reason") if shards else cause.get("caused_by")
        if not isinstance(inner, dict):
            break
        cause = inner
    if isinstance(cause, dict):
        return str(cause.get("reason") or cause.get("type") or cause)
    return str(cause or error)
