"""The service on a port, for clients that are no Python objects."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from elasticsearch import Elasticsearch

from dev.stack.processes import wait_until
from search_service.app import create_app
from search_service.protocol import Protocol
from search_service.settings import Settings


@contextmanager
def serving(es: Elasticsearch, **settings: Any) -> Iterator[str]:
    """The service with these settings in a thread of this process; its address, without a slash."""
    node = es.transport.node_pool.get()
    app = create_app(Settings(**{"es_host": node.host, "es_port": node.port, **settings}))
    server = uvicorn.Server(
        uvicorn.Config(app, http=Protocol, port=0, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert wait_until(lambda: server.started or not thread.is_alive(), 30)
        assert server.started, "the service did not start"
        (listener,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
