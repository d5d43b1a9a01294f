"""A process under uvicorn that does nothing but pass searches on, which no service under it can
outdo."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send

from benchmarks.child import Child, ready
from benchmarks.servers import Servers
from dev.demo.services import free_port
from search_service.connections import Connections

_JSON = {"content-type": "application/json"}
_TIMEOUT = 60.0  # seconds


@contextmanager
def running(servers: Servers) -> Iterator[str]:
    """Its address, until the end of the block; it takes Elasticsearch's own requests."""
    port = free_port()
    child = Child("service.relay:serve", servers, port=port)
    try:
        child.wait_until_ready()
        yield f"http://127.0.0.1:{port}"
    finally:
        child.result()


def serve(servers: Servers, port: int) -> dict[str, Any]:
    """Until its input ends."""
    host, elasticsearch = servers.variables["ES_HOST"], int(servers.variables["ES_PORT"])
    connections = Connections(host, elasticsearch, {}, _TIMEOUT, None)

    async def pass_on(scope: Scope, receive: Receive, send: Send) -> None:
        target = f"{scope['path']}?{scope['query_string'].decode()}"
        body = (await receive())["body"]
        status, content = await connections.request(scope["method"], target, body, _JSON)
        size = b"%d" % len(content)
        headers = [(b"content-type", b"application/json"), (b"content-length", size)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    asyncio.run(_serve(pass_on, port))
    return {}


async def _serve(app: Any, port: int) -> None:
    config = uvicorn.Config(app, port=port, lifespan="off", access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    ready()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving
