"""The local stack as a whole."""

import fcntl
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from rich.console import Console

from dev.stack.elasticsearch import Elasticsearch
from dev.stack.errors import StackError
from dev.stack.ports import Ports
from dev.stack.postgres import Postgres

_ROOT = Path(__file__).parents[2]
DEFAULT_FOLDER = _ROOT / ".stack"

_NAMES: dict[str, tuple[str, ...]] = {
    "PG": ("PG_HOST", "PG_PORT", "PG_DATABASE", "PG_USER", "PG_PASSWORD", "PG_SSLMODE"),
    "ES": (
        "ES_HOST",
        "ES_PORT",
        "ES_USE_SSL",
        "ES_USER",
        "ES_PASSWORD",
        "ES_API_KEY",
        "ES_CA_CERTS",
    ),
}
_DEFAULTS = {"PG_PORT": "5432", "ES_PORT": "9200", "ES_USE_SSL": "false"}


@dataclass(frozen=True)
class ServerStatus:
    """One server as it is now."""

    name: str
    state: Literal["running", "stopped", "named by the environment"]
    address: str | None = None
    pid: int | None = None
    log: Path | None = None


class Stack:
    """PostgreSQL and Elasticsearch with their data and logs below `folder`.

    A server that `environment` names (PG_HOST, ES_HOST) is used as it is, never started or stopped;
    without one, the process's and what `.env` in the checkout adds to it.
    What the stack itself printed for `eval` does not count as such a name.
    """

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        environment: Mapping[str, str] | None = None,
        console: Console | None = None,
        *,
        ports: Ports = "usual",
    ) -> None:
        self.folder = folder.resolve()
        environment = surroundings() if environment is None else environment
        self._environment = environment
        console = console or Console(stderr=True)
        self._console = console
        logs = self.folder / "logs"
        self._postgres = Postgres(self.folder / "postgres", logs, ports=ports, console=console)
        self._elasticsearch = Elasticsearch(
            self.folder / "elasticsearch",
            logs,
            ports=ports,
            environment=environment,
            console=console,
        )

    def up(self) -> dict[str, str]:
        """Starts what is missing and returns the variables that name the servers.

        The servers are ready when it returns. Raises StackError.
        """
        with self._alone():
            for server in self._servers:
                if self._is_named(server):
                    self._require_reachable(server)
                else:
                    server.start()
        return self.environment()

    def down(self) -> None:
        """Stops the servers and leaves no process; the data stay. Raises StackError."""
        with self._alone():
            for server in self._servers:
                stopped = server.stop()
                self._say(server, "stopped" if stopped else "was not running")

    def status(self) -> list[ServerStatus]:
        """Both servers as they are now."""
        return [self._status(server) for server in self._servers]

    def environment(self) -> dict[str, str]:
        """The variables that name the servers. Raises StackError when one is not running."""
        variables: dict[str, str] = {}
        for server in self._servers:
            if self._is_named(server):
                variables |= self._named(server)
            elif server.pid is None:
                raise StackError(
                    f"{server.name} is not running in {self.folder}.\n"
                    "Start it with `pg-es stack up`."
                )
            else:
                variables |= server.environment()
        return variables

    @property
    def _servers(self) -> tuple[Postgres | Elasticsearch, ...]:
        return self._postgres, self._elasticsearch

    def _status(self, server: Postgres | Elasticsearch) -> ServerStatus:
        if self._is_named(server):
            return ServerStatus(
                server.name, "named by the environment", _address(server, self._named(server))
            )
        pid = server.pid
        if pid is None:
            return ServerStatus(server.name, "stopped")
        address = _address(server, server.environment())
        return ServerStatus(server.name, "running", address, pid, server.log)

    def _is_named(self, server: Postgres | Elasticsearch) -> bool:
        prefix = _prefix(server)
        if not self._environment.get(f"{prefix}_HOST"):
            return False
        if server.port is None:
            return True
        return _address(server, self._named(server)) != _address(server, server.environment())

    def _named(self, server: Postgres | Elasticsearch) -> dict[str, str]:
        given = {name: self._environment.get(name) for name in _NAMES[_prefix(server)]}
        return {
            name: found
            for name, value in given.items()
            if (found := value or _DEFAULTS.get(name)) is not None
        }

    def _require_reachable(self, server: Postgres | Elasticsearch) -> None:
        prefix = _prefix(server)
        named = self._named(server)
        host, port = named[f"{prefix}_HOST"], named[f"{prefix}_PORT"]
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError) as reason:
            raise StackError(
                f"{server.name} on {host}:{port}, named by {prefix}_HOST, cannot be reached: "
                f"{reason}.\nStart it, or unset {prefix}_HOST and the stack starts one of its own."
            ) from reason
        self._say(server, f"{host}:{port}, named by {prefix}_HOST, is used")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps a second `up` or `down` of the same folder waiting."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as reason:
            raise StackError(
                f"The stack's folder {self.folder} cannot be used: {reason}.\n"
                "Give it back to your user, delete it, or choose another with --folder."
            ) from reason

    def _say(self, server: Postgres | Elasticsearch, text: str) -> None:
        self._console.print(
            f"{server.name} · {text}", highlight=False, markup=False, soft_wrap=True
        )


def _address(server: Postgres | Elasticsearch, variables: Mapping[str, str]) -> str:
    prefix = _prefix(server)
    return f"{variables[f'{prefix}_HOST']}:{variables[f'{prefix}_PORT']}"


def _prefix(server: Postgres | Elasticsearch) -> str:
    return "PG" if isinstance(server, Postgres) else "ES"


def surroundings() -> dict[str, str]:
    """The environment, with what `.env` says of what is not set there."""
    in_file = {name: value for name, value in dotenv_values(_ROOT / ".env").items() if value}
    return {**in_file, **os.environ}
