"""Whether the service can answer."""

from fastapi import Request

from search_service.answers import ElasticsearchHealth, Health, IndexHealth
from search_service.context import elastic, settings, visible
from search_service.indices import freshness
from search_service.routes.indices import freshness_of
from search_service.routes.problems import problems
from search_service.routes.router import router

HEALTH_TIMEOUT = 2.0  # seconds, below the usual patience of a probe


@router.get("/health", summary="Health", responses=problems())
async def health(request: Request) -> Health:
    """Elasticsearch's status and the sync lag of each index; 503 when Elasticsearch is away.

    Of the indexes those that the caller may see; without credentials that may be none.
    With SEARCH_MAX_LAG set, an index that lags more, or whose lag is unknown, is `degraded`.
    """
    given = settings(request)
    timeout = min(HEALTH_TIMEOUT, given.search_timeout)
    # That the node answers is not enough: a search needs the cluster.
    cluster = await elastic(request).ask("GET", "/_cluster/health", timeout=timeout)
    found = await visible(request)
    fresh = await freshness(elastic(request), found, timeout)
    lags = []
    for index in found:
        known = fresh.get(index.name)
        limit = given.search_max_lag
        late = limit is not None and (known is None or known.lag > limit)
        lags.append(
            IndexHealth(
                index=index.name, status="degraded" if late else "ok", **freshness_of(known)
            )
        )
    degraded = cluster["status"] == "red" or any(lag.status == "degraded" for lag in lags)
    return Health(
        status="degraded" if degraded else "ok",
        elasticsearch=ElasticsearchHealth(status=cluster["status"]),
        max_lag_seconds=given.search_max_lag,
        indices=lags,
    )
