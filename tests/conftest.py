"""Servers, databases and index names for the tests.

The servers are always the session's own: they are never the ones that the environment names.
"""

import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch
from psycopg import sql
from psycopg.conninfo import make_conninfo

from dev.stack import Stack

pytest_plugins = ["tests.browser"]

_SEED = pytest.StashKey[int]()


@dataclass(frozen=True)
class Database:
    """A database that only one test has."""

    host: str
    port: int
    dbname: str
    user: str
    password: str
    environment: dict[str, str]
    """PG_* of this database and ES_* of the session's node."""

    @property
    def conninfo(self) -> str:
        return make_conninfo(
            host=self.host,
            port=self.port,
            dbname=self.dbname,
            user=self.user,
            password=self.password,
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pg-es-pipeline")
    group.addoption("--seed", type=int, help="seed of `random`; a random one if not given")
    group.addoption(
        "--stack-folder",
        type=Path,
        metavar="FOLDER",
        help="use the local stack in FOLDER, start it if needed, and leave it running",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A worker of pytest-xdist has the seed that is printed.
    workers = getattr(config, "workerinput", {})
    given = workers.get("seed", config.getoption("--seed"))
    seed = secrets.randbelow(2**32) if given is None else given
    config.stash[_SEED] = seed
    random.seed(seed)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["seed"] = node.config.stash[_SEED]


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.stash[_SEED]} (repeat with --seed {config.stash[_SEED]})"


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Each test draws the same numbers whatever ran before it."""
    random.seed(f"{request.config.stash[_SEED]} {request.node.nodeid}")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The PG_* and ES_* variables of the servers that this session runs."""
    kept: Path | None = request.config.getoption("--stack-folder")
    folder = kept or Path(tempfile.mkdtemp(prefix="pg-es-tests-"))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG_", "ES_", "PG", "DAGSTER_PG_"))
    }
    # What the second compiler makes does not pay within minutes.
    environment["ES_JAVA_OPTS"] = "-XX:TieredStopAtLevel=1"
    servers = Stack(folder, environment, ports="free")
    try:
        variables = servers.up()
        _report(
            request.config,
            f"servers: PostgreSQL {variables['PG_HOST']}:{variables['PG_PORT']}, "
            f"Elasticsearch {variables['ES_HOST']}:{variables['ES_PORT']}, folder {folder}",
        )
        yield variables
    finally:
        if kept is None:
            servers.down()
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def es(stack: dict[str, str]) -> Iterator[Elasticsearch]:
    """A client of the session's node."""
    with Elasticsearch(
        f"http://{stack['ES_HOST']}:{stack['ES_PORT']}", request_timeout=60
    ) as client:
        yield client


@pytest.fixture
def database(stack: dict[str, str]) -> Iterator[Database]:
    """A new, empty database in UTF-8, dropped after the test whoever is still connected to it."""
    with new_database(stack) as created:
        yield created


@pytest.fixture
def prefix(es: Elasticsearch) -> Iterator[str]:
    """A prefix for index names; every index whose name starts with it is deleted after the test."""
    with new_prefix(es) as value:
        yield value


@contextmanager
def new_database(stack: dict[str, str]) -> Iterator[Database]:
    """What `database` is, for a fixture of another scope."""
    name = f"test_{secrets.token_hex(6)}"
    server = make_conninfo(
        host=stack["PG_HOST"],
        port=stack["PG_PORT"],
        dbname=stack["PG_DATABASE"],
        user=stack["PG_USER"],
        password=stack["PG_PASSWORD"],
    )
    create = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'")
    _execute(server, create.format(sql.Identifier(name)))
    try:
        yield Database(
            host=stack["PG_HOST"],
            port=int(stack["PG_PORT"]),
            dbname=name,
            user=stack["PG_USER"],
            password=stack["PG_PASSWORD"],
            environment={**stack, "PG_DATABASE": name},
        )
    finally:
        _drop(server, name)


@contextmanager
def new_prefix(es: Elasticsearch) -> Iterator[str]:
    """What `prefix` is, for a fixture of another scope."""
    value = f"t{secrets.token_hex(3)}-"
    yield value
    found = list(es.indices.get(index=f"{value}*", expand_wildcards="all", features="settings"))
    if found:
        es.indices.delete(index=found)


def _execute(conninfo: str, *statements: sql.Composed) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def _drop(server: str, name: str) -> None:
    """Drops a database with what would keep it: prepared transactions, replication slots."""
    with psycopg.connect(server, autocommit=True) as connection:
        slots = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s"
        for slot, pid in connection.execute(slots, [name]).fetchall():
            if pid is not None:
                # Waits up to 10 s until the session has ended, and with it its hold on the slot.
                connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        prepared = connection.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]
        ).fetchall()
    if prepared:
        # Only a session in the same database may end them.
        rollbacks = [
            sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)) for (gid,) in prepared
        ]
        _execute(make_conninfo(server, dbname=name), *rollbacks)
    _execute(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _report(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter and capture:
        with capture.global_and_fixture_disabled():
            reporter.write_line("")
            reporter.write_line(line)
