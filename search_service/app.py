"""The application: one Elasticsearch client and one catalog for its lifetime."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from search_service.caps import Caps
from search_service.cursors import Seal
from search_service.elastic import Elastic
from search_service.errors import BodyLimit, install_handlers
from search_service.indices import Catalog
from search_service.points import Points, Slots
from search_service.routes import router
from search_service.settings import Settings, connect, secrets_of

API_VERSION = "1.0.0"
"""Of the interface: its first part changes when a caller has to."""

COMPRESSED = 1024  # bytes from which an answer is compressed, for who takes that

DESCRIPTION = """Search over the PostgreSQL tables that pg-es-pipeline keeps in step with
Elasticsearch. `GET /indices` lists what can be searched, `GET /indices/{index}/fields` the fields.
Every error is a problem as in RFC 9457 (`application/problem+json`) that says what to do."""


def create_app(settings: Settings) -> FastAPI:
    """The service for these settings. It starts, and answers 503, when Elasticsearch is away."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with connect(settings) as client, Elastic(settings) as elastic:
            slots = Slots(settings.search_max_walks)
            points = Points(elastic, slots, settings.search_cursor_ttl)
            app.state.settings = settings
            app.state.client = client
            app.state.catalog = Catalog(client)
            app.state.elastic = elastic
            app.state.points = points
            app.state.caps = Caps(page_size=settings.search_max_page_size)
            app.state.seal = Seal(secrets_of(settings), settings.search_cursor_ttl)
            yield
            await points.closed()

    app = FastAPI(
        title="pg-es-pipeline search",
        description=DESCRIPTION,
        version=API_VERSION,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.add_middleware(GZipMiddleware, minimum_size=COMPRESSED, compresslevel=4)
    app.add_middleware(BodyLimit)
    app.include_router(router)
    install_handlers(app)
    _document_problems(app)
    return app


def _document_problems(app: FastAPI) -> None:
    """Give the error answers their real media type; FastAPI can only say `application/json`."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            for path in generate()["paths"].values():
                for operation in path.values():
                    for status, answer in operation["responses"].items():
                        if int(status) >= 400:
                            content = answer["content"]
                            content["application/problem+json"] = content.pop("application/json")
        return generate()

    app.openapi = openapi  # type: ignore[method-assign]
