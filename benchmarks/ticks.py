"""A look for changes of many tables that have none."""

import re

from psycopg import sql

from benchmarks import indices, tables
from benchmarks.child import run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers

TABLES = 100
ROWS = 1_000

_STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]+):")


def measure(servers: Servers, plan: Plan) -> list[Record]:
    """Its time, and the statements that PostgreSQL has got in it."""
    names = [f"idle_{number}" for number in range(max(2, min(TABLES, round(TABLES * plan.scale))))]
    with servers.connect() as connection:
        for name in names:
            tables.make(connection, tables.NARROW, plan.rows(ROWS), name)
    run("engine:load_all", servers, tables=names)
    # The first one in a process makes more than the later ones.
    found = run("orchestration:ticks", servers, tables=names, repetitions=plan.rounds + 1)
    seconds = found["seconds"][1:]
    statements = _statements(servers, names)
    plan.say(f"a tick over {len(names)} tables: {min(seconds):.2f} s, {statements} statements")
    with servers.connect() as connection:
        for name in names:
            indices.delete(servers, name)
            tables.drop(connection, name)
    name = f"idle tick over {len(names)} tables"
    return [
        record(f"{name} · time", "s", seconds),
        record(f"{name} · queries", "queries/table", [statements / len(names)]),
    ]


def _statements(servers: Servers, names: list[str]) -> int:
    """Statements of one tick, its connections' own among them, by the server's log."""
    database = sql.Identifier(servers.variables["PG_DATABASE"])
    with servers.connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(database))
        try:
            before = servers.postgres_log.stat().st_size
            run("orchestration:ticks", servers, tables=names, repetitions=1)
            log = servers.postgres_log.read_bytes()[before:].decode(errors="replace")
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET log_statement").format(database))
    return len(_STATEMENT.findall(log))
