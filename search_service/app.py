"""The application: one way to Elasticsearch and one catalog for its lifetime."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from search_service import middleware, openapi, page, probes
from search_service.access.callers import Callers
from search_service.caps import Caps
from search_service.cursors import Seal
from search_service.elastic import Elastic
from search_service.errors import install_handlers
from search_service.freshness import FreshnessCache
from search_service.gate import Gate
from search_service.indices import Catalog
from search_service.limits import Limiter, parse_rates
from search_service.metrics import Metrics
from search_service.overload import Breaker, Lane
from search_service.points import Points, Slots
from search_service.routes import router
from search_service.routes.router import Direct
from search_service.settings import Settings, secrets_of
from search_service.tracing import tracer

API_VERSION = "1.0.0"
"""Of the interface: its first part changes when a caller has to."""

COMPRESSED = 1024  # bytes from which an answer is compressed, for who takes that
EXPORTS = 8  # a process has one lane for exports for so many searches at once

DESCRIPTION = """Search over the PostgreSQL tables that pg-es-pipeline keeps in step with
Elasticsearch. `GET /indices` lists what can be searched, `GET /indices/{index}/fields` the fields.
Every error is a problem as in RFC 9457 (`application/problem+json`) that says what to do."""


def create_app(settings: Settings) -> FastAPI:
    """The service for these settings. It starts, and answers 503, when Elasticsearch is away.

    Raises:
        search_service.access.rules.RulesError: the file of SEARCH_ACCESS cannot be used.
        search_service.tracing.TracingError: traces are asked for, and cannot be made.
    """
    callers = Callers(settings.search_access, Caps(page_size=settings.search_max_page_size))
    redis = settings.search_redis_url
    limiter = Limiter(
        parse_rates(settings.search_rate_limit) if settings.search_rate_limit else (),
        redis.get_secret_value() if redis else None,
    )
    metrics = Metrics()
    traces = tracer()
    width = settings.search_max_concurrency
    lane = Lane(width)
    gate = Gate(lane, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Gate]]:
        breaker = Breaker()
        async with Elastic(settings, breaker) as elastic:
            catalog = Catalog(elastic)
            slots = Slots(settings.search_max_walks)
            points = Points(elastic, slots, settings.search_cursor_ttl)
            app.state.settings = settings
            app.state.catalog = catalog
            app.state.elastic = elastic
            app.state.points = points
            app.state.seal = Seal(secrets_of(settings), settings.search_cursor_ttl)
            app.state.breaker = breaker
            app.state.metrics = metrics
            app.state.freshness = FreshnessCache(elastic, catalog, metrics, settings.search_timeout)
            watching = asyncio.create_task(gate.watch())
            # For Protocol.
            yield {"gate": gate}
            watching.cancel()
            await points.closed()
        await limiter.close()
        metrics.close()
        if traces is not None:
            traces.close()

    app = FastAPIOffline(
        redoc_url=None,
        static_url="/docs/assets",
        title="pg-es-pipeline search",
        description=DESCRIPTION,
        version=API_VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
        # Spans and metrics are the service's own; to find out that there are no others costs time.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Names for the functions of generated clients.
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(router)
    app.include_router(probes.router)
    app.include_router(page.router)
    install_handlers(app)
    openapi.complete(app, closed=callers.closed)
    # The last is the outermost.
    app.add_middleware(Direct, handlers=app.exception_handlers)
    app.add_middleware(middleware.Compress, minimum_size=COMPRESSED, compresslevel=4)
    app.add_middleware(
        middleware.Admit,
        lane=lane,
        exports=Lane(max(1, width // EXPORTS)),
        patience=settings.search_timeout,
        metrics=metrics,
    )
    app.add_middleware(middleware.Access, callers=callers, limiter=limiter, metrics=metrics)
    app.add_middleware(middleware.Observe, metrics=metrics, tracer=traces)
    return app
