"""PostgreSQL and Elasticsearch for a torture run, which are restarted while it goes on."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from dev.stack import Stack
from dev.stack.processes import wait_until


class Servers:
    """A stack that nobody else uses, whose servers may be down for a while."""

    def __init__(self, stack: Stack, variables: dict[str, str]) -> None:
        self._stack = stack
        self.variables = variables

    def connect(self, database: str, **options: Any) -> psycopg.Connection[Any]:
        """As the superuser."""
        return psycopg.connect(
            host=self.variables["PG_HOST"],
            port=self.variables["PG_PORT"],
            user=self.variables["PG_USER"],
            password=self.variables["PG_PASSWORD"],
            dbname=database,
            **options,
        )

    def elasticsearch(self) -> tuple[str, int]:
        """Its host and port."""
        return self.variables["ES_HOST"], int(self.variables["ES_PORT"])

    def restart(self, name: str, how: signal.Signals) -> None:
        """Ends a server by a signal and starts it again, with the port and the data that it had."""
        for server in self._stack.status():
            if server.name == name and server.pid is not None:
                os.kill(server.pid, how)
        stopped = wait_until(
            lambda: all(one.pid is None for one in self._stack.status() if one.name == name), 60
        )
        assert stopped, f"{name} did not end within a minute"
        self.variables = self._stack.up()


@contextlib.contextmanager
def started() -> Iterator[Servers]:
    """Servers in a folder of their own; stopped and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pg-es-torture-servers-"))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG_", "ES_", "PG", "DAGSTER_PG_"))
    }
    # What the second compiler makes does not pay within minutes.
    environment["ES_JAVA_OPTS"] = "-XX:TieredStopAtLevel=1"
    stack = Stack(folder, environment, Console(quiet=True), ports="free")
    try:
        yield Servers(stack, stack.up())
    finally:
        stack.down()
        shutil.rmtree(folder)
