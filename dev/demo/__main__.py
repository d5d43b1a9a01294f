"""`make demo`: from nothing to tables that can be searched, and stay in step.

DEMO_EXIT=1 ends after the searches. The exit status is 0 when both sides have the same number of
rows in every table, 130 when the demo was interrupted before it could tell.
"""

import fcntl
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import make_conninfo
from rich.console import Console

from dev.demo import counts, data, farewell
from dev.demo.dagster import Dagster
from dev.demo.errors import DemoError
from dev.demo.interrupts import Terminal, ignore_interrupts, raise_interrupts
from dev.demo.loading import follow
from dev.demo.searches import SearchService
from dev.demo.services import ROOT, Services
from dev.stack import Stack, StackError, surroundings
from pg_es_pipeline.errors import PipelineError
from pg_es_pipeline.settings import PostgresSettings, read
from pg_es_pipeline.tables import Table, read_tables

FOLDER = ROOT / ".stack"
HOME = ROOT / ".dagster"
TABLES = ROOT / "tables.yaml"
SYNC_INTERVAL = "10"
"""Seconds between two looks for changes, so that they are seen soon; the environment may differ."""


def main() -> int:
    """Runs the demo; returns the exit status."""
    raise_interrupts()
    console = Terminal(highlight=False)
    began = time.monotonic()
    try:
        with _alone(), _servers(console) as servers:
            return _demo(servers, console, began)
    except (DemoError, StackError, PipelineError, psycopg.Error) as error:
        console.print(f"Error: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        return 130


def _demo(servers: Mapping[str, str], console: Console, began: float) -> int:
    tables = _tables()
    postgres = _postgres(servers)
    conninfo = _conninfo(postgres)
    services = Services(_environment(servers), FOLDER / "logs")
    # Left over from a demo that was killed.
    services.stop()
    dagster, search = Dagster(services), SearchService(services)
    try:
        # It imports while the rows are copied.
        dagster.start_code_server()
        rows = data.load(conninfo)
        console.print(f"PostgreSQL · {sum(rows.values()):,} rows in {len(rows)} tables")
        search.start()
        dagster.start()
        console.print(f"Dagster · {dagster.url} looks for changes and loads them")
        expected = {table.index: rows[table.name] for table in tables}
        loaded = follow(dagster, services, expected, console)
        already = "" if loaded else " already, these were the last loads"
        console.print(f"Dagster · every table is loaded{already}")
        search.wait()
        found = counts.count(tables, conninfo, search.url)
        counts.show_loads(tables, dagster.last_loads(list(expected)), console)
        counts.show_counts(found, console)
        search.show(console)
        status = 0 if all(one.agree for one in found.values()) else 1
        console.print(f"\nDone in {time.monotonic() - began:.0f} s.")
        if os.environ.get("DEMO_EXIT", "0") in ("", "0"):
            farewell.show(postgres, dagster.url, search.url, console)
            _wait(services)
        return status
    finally:
        ignore_interrupts()
        dagster.stop()
        services.stop()


def _wait(services: Services) -> None:
    """Returns at Ctrl-C. Raises DemoError when a service ends."""
    try:
        while True:
            services.check()
            time.sleep(1)
    except KeyboardInterrupt:
        pass


@contextmanager
def _alone() -> Iterator[None]:
    """Keeps a second demo of the same checkout away."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("the demo of this checkout is running already") from None
        yield


# What the second compiler makes pays after minutes; until then it takes processors from the load.
QUICK_NODE = {"ES_JAVA_OPTS": "-XX:TieredStopAtLevel=1"}


@contextmanager
def _servers(console: Console) -> Iterator[dict[str, str]]:
    """The variables that name the servers. What was started for it is stopped in the end."""
    stack = Stack(FOLDER, {**QUICK_NODE, **surroundings()}, console=console)
    before = {server.state for server in stack.status()}
    try:
        yield stack.up()
    finally:
        ignore_interrupts()
        if "running" in before:
            console.print("What ran before goes on running: `pg-es stack down` stops it.")
        elif "stopped" in before:
            stack.down()


def _tables() -> list[Table]:
    tables = list(read_tables(TABLES).tables)
    wanted = {f"public.{name}" for name in data.TABLES}
    if {table.table for table in tables} != wanted:
        raise DemoError(
            f"{TABLES} has to list the demo's tables, {', '.join(sorted(wanted))}, and no other. "
            "Keep your own in another file, named by PG_ES_TABLES, which the demo does not read"
        )
    return tables


def _postgres(servers: Mapping[str, str]) -> PostgresSettings:
    """Raises SettingsError where the environment names a server, but no database or user."""
    given = {name.removeprefix("PG_").lower(): value for name, value in servers.items()}
    fields = PostgresSettings.model_fields
    return read(PostgresSettings, **{name: given[name] for name in fields if name in given})


def _conninfo(settings: PostgresSettings) -> str:
    return make_conninfo(
        host=settings.host,
        port=settings.port,
        dbname=settings.database,
        user=settings.user,
        password=settings.password.get_secret_value() if settings.password else None,
        sslmode=settings.sslmode,
    )


def _environment(servers: Mapping[str, str]) -> dict[str, str]:
    """Of the services. Makes Dagster's home, whose settings are the checkout's."""
    HOME.mkdir(exist_ok=True)
    settings = HOME / "dagster.yaml"
    if not settings.exists():
        settings.unlink(missing_ok=True)
        settings.symlink_to("../dagster.yaml")
    return {
        "SYNC_INTERVAL": SYNC_INTERVAL,
        **os.environ,
        **servers,
        "DAGSTER_HOME": str(HOME),
        "PG_ES_TABLES": str(TABLES),
        "PYTHONPATH": str(ROOT),
    }


if __name__ == "__main__":
    sys.exit(main())
