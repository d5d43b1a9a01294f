"""The service over a real Elasticsearch, with indexes made as the pipeline makes them."""

import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import ASGITransport, AsyncClient

from search_service import indices
from search_service.app import create_app
from search_service.settings import Settings

TEXT = {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 8191}}}

FLIGHT_FIELDS: dict[str, Any] = {
    "flight_id": {"type": "long"},
    "carrier": TEXT,
    "dep_delay": {"type": "integer"},
    "distance": {"type": "double"},
    "cancelled": {"type": "boolean"},
    "time_hour": {"type": "date"},
    "airline": {"properties": {"name": TEXT, "code": {"type": "keyword"}}},
    "labels": {"type": "flattened"},
    "gate": {"type": "ip"},
    "photo": {"type": "binary"},
}
FLIGHTS: list[dict[str, Any]] = [
    {
        "flight_id": 1,
        "carrier": "UA",
        "dep_delay": 10,
        "distance": 1400.5,
        "cancelled": False,
        "time_hour": "2013-01-01T10:00:00.123456Z",
        "airline": {"name": "United Air Lines", "code": "UA"},
        "labels": {"color": "red", "size": {"cm": 12}},
        "gate": "10.0.0.1",
        "photo": "AAEC",
    },
    {
        "flight_id": 2,
        "carrier": "AA",
        "dep_delay": None,
        "distance": 1089.0,
        "cancelled": True,
        "time_hour": "2013-01-31T23:30:00Z",
        "airline": {"name": "American Airlines", "code": "AA"},
        "labels": {"color": "blue"},
        "gate": "10.0.1.1",
    },
    {
        "flight_id": 3,
        "carrier": "UA and AA",
        "dep_delay": -5,
        "distance": 1089.0,
        "cancelled": False,
        "time_hour": "2013-02-01T00:00:00Z",
        "airline": None,
        "gate": "2001:db8::1",
    },
]

MakeIndex = Callable[..., str]
Start = Callable[..., AbstractAsyncContextManager[AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def create_index(
    es: Elasticsearch,
    alias: str,
    properties: dict[str, Any],
    documents: list[dict[str, Any]],
    *,
    key: list[str],
    generation: int = 1,
    alias_options: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> str:
    """Create a generation with its alias and documents, as the pipeline does; return its name."""
    index = f"{alias}-{generation:06}"
    made = {"pg_es_pipeline": {"format": 1, "table": "public.things", "key": key}}
    es.indices.create(
        index=index,
        aliases={alias: alias_options or {}},
        mappings={
            "dynamic": False,
            "_meta": made if meta is None else meta,
            "properties": properties,
        },
        settings={"number_of_replicas": 0, **(settings or {})},
    )
    operations: list[dict[str, Any]] = []
    for document in documents:
        operations += [{"index": {}}, document]
    if operations:
        answer = es.bulk(index=index, operations=operations, refresh=True)
        assert not answer["errors"], answer
    return index


@pytest.fixture
def make_index(es: Elasticsearch, prefix: str) -> MakeIndex:
    """`create_index` for this test alone: takes the index's name less the prefix, returns it."""

    def make(name: str, *arguments: Any, **options: Any) -> str:
        create_index(es, prefix + name, *arguments, **options)
        return prefix + name

    return make


@pytest.fixture(scope="session")
def flights(es: Elasticsearch) -> Iterator[str]:
    """An index of three flights, which no test changes."""
    alias = f"flights-{secrets.token_hex(3)}"
    index = create_index(es, alias, FLIGHT_FIELDS, FLIGHTS, key=["flight_id"])
    yield alias
    es.indices.delete(index=index)


@pytest.fixture
def start(es: Elasticsearch, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Start:
    """Start the application in this process, with settings, and return a client of it."""
    monkeypatch.chdir(tmp_path)  # no .env
    # Freshness records of other tests, and of the pipeline's own, stay out of sight.
    monkeypatch.setattr(indices, "CHECKPOINTS", f"{prefix}checkpoints")
    node = es.transport.node_pool.get()

    @asynccontextmanager
    async def service(**settings: Any) -> AsyncIterator[AsyncClient]:
        where = {"es_host": node.host, "es_port": node.port, **settings}
        app = create_app(Settings(**where))
        async with (
            app.router.lifespan_context(app),
            AsyncClient(
                transport=ASGITransport(app, raise_app_exceptions=False), base_url="http://test"
            ) as client,
        ):
            yield client

    return service


@pytest.fixture
async def service(start: Start) -> AsyncIterator[AsyncClient]:
    """The application with the default settings."""
    async with start() as client:
        yield client


@pytest.fixture
def freshness(es: Elasticsearch, prefix: str) -> Callable[[str, str], None]:
    """Record that an index is in step with its table at a time."""
    index = f"{prefix}checkpoints"

    def record(name: str, in_step_at: str) -> None:
        if not es.indices.exists(index=index):
            es.indices.create(
                index=index,
                mappings={
                    "dynamic": False,
                    "properties": {
                        "kind": {"type": "keyword"},
                        "index": {"type": "keyword"},
                        "in_step_at": {"type": "date"},
                    },
                },
                settings={"number_of_replicas": 0},
            )
        document = {"kind": "freshness", "index": name, "in_step_at": in_step_at}
        es.index(index=index, document=document, refresh=True)

    return record


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]
