"""This project's engine by itself."""

from dataclasses import asdict
from typing import Any

from benchmarks.child import measured
from benchmarks.servers import Servers
from benchmarks.tables import table as described


def load(servers: Servers, table: str, *, full: bool = True) -> dict[str, Any]:
    """Loads a whole table, with the making of its index; if not `full`, what has changed in it.

    That it can be searched afterwards is not a part of what is measured.
    """
    with servers.engine() as engine:
        source = engine.source(described(table))
        with measured() as cost:
            report = engine.sync(source, "all", full=full)
        engine.refresh()
    return {**asdict(cost), "rows": report.rows}


def load_all(servers: Servers, tables: list[str]) -> dict[str, Any]:
    """Loads many tables, one after the other."""
    with servers.engine() as engine:
        for name in tables:
            engine.sync(engine.source(described(name)), "all")
    return {}
