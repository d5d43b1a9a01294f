"""A hot standby as the source: whoever writes is elsewhere, so the lookback counts."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dev.stack.account import account_for
from dev.stack.postgres import find_programs
from dev.stack.processes import wait_until
from pg_es_pipeline.sync.snapshot import Present
from tests.integration.orders import Orders

pytestmark = pytest.mark.slow


@pytest.fixture
def standby(orders: Orders, free_port: Callable[[], int]) -> Iterator[Orders]:
    """The orders, read from a standby of the server that they are written to."""
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="pg-es-standby-"))
    folder.chmod(0o755)
    account = account_for(folder, programs)
    account.own(folder)
    database, port = orders.database, free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": database.user,
        "PGPASSWORD": database.password,
    }

    def run(*command: str) -> None:
        program, *arguments = command
        subprocess.run(
            account.command([str(programs / program), *arguments]),
            cwd="/",
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    data = str(folder / "data")
    # -R makes it a standby that knows how to reach its primary.
    run("pg_basebackup", "-D", data, "-R", "-c", "fast", "--no-sync")
    # A standby has to have room for as much as its primary.
    room = orders.pg.execute(
        "SELECT name, setting FROM pg_settings "
        "WHERE name IN ('max_connections', 'max_prepared_transactions')"
    )
    settings = " ".join(
        [f"-h 127.0.0.1 -p {port} -k '' -c fsync=off", *(f"-c {n}={value}" for n, value in room)]
    )
    run("pg_ctl", "start", "-w", "-D", data, "-l", f"{folder}/log", "-o", settings)
    try:
        yield replace(orders, database=replace(database, port=port))
    finally:
        run("pg_ctl", "stop", "-m", "immediate", "-D", data)
        shutil.rmtree(folder)


def replay(standby: Orders) -> None:
    """Returns when the standby shows all that was committed."""
    row = standby.pg.execute("SELECT pg_current_wal_lsn()").fetchone()
    with psycopg.connect(standby.database.conninfo, autocommit=True) as connection:
        query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        assert wait_until(lambda: connection.execute(query, row).fetchone() == (True,), 60)


def test_late_commits_on_the_primary_are_found_within_the_lookback(
    orders: Orders, standby: Orders
) -> None:
    standby.insert(range(1, 101), age="2 minutes")
    with orders.connect() as late:
        late.execute("INSERT INTO orders (id, note) VALUES (500, 'late')")
        standby.insert(range(101, 111), age="0 s")
        replay(standby)
        standby.sync()
        standby.sync()
        assert len(standby.documents()) == 110
        late.commit()
    replay(standby)

    assert standby.stale() != {}
    standby.sync()

    assert standby.is_in_step()
    assert standby.stale() == {}


def test_changes_and_differences_are_found_there(standby: Orders) -> None:
    standby.insert(range(1, 31))
    replay(standby)
    standby.sync()
    standby.pg.execute("UPDATE orders SET note = 'changed' WHERE id <= 3")
    standby.pg.execute("DELETE FROM orders WHERE id = 30")
    replay(standby)
    standby.sync()
    with standby.engine() as engine:
        found = engine.reconcile(engine.source(standby.table))
    assert found.deleted == 1
    assert standby.is_in_step()


def test_a_standby_that_takes_over_is_another_origin(standby: Orders) -> None:
    def present(orders: Any) -> Present:
        with orders.engine() as engine:
            return Present.of(engine.connection)

    before = present(standby)
    with psycopg.connect(standby.database.conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_promote()")
        # The timeline is told with the first checkpoint after it.
        connection.execute("CHECKPOINT")
    assert present(standby).origin != before.origin
