"""What a check found."""

from dataclasses import dataclass
from typing import Literal

from psycopg import sql

Severity = Literal["error", "warning", "note"]
"""error: rows are not loaded, or wrong. warning: rows can be missed, or a load is slow. note: worth
knowing."""

POSTGRESQL, ELASTICSEARCH = "PostgreSQL", "Elasticsearch"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that needs action, or is worth knowing."""

    severity: Severity
    subject: str
    """The table, or the server."""
    problem: str
    consequence: str = ""
    remedy: str = ""
    """SQL, a request or a setting, ready to paste. Empty where the problem says it."""


def quoted(*name: str) -> str:
    """A name, or a schema and a name, as SQL has them: in quotes."""
    return sql.Identifier(*name).as_string()


def listed(columns: tuple[str, ...] | list[str]) -> str:
    """Columns as SQL has them, with commas."""
    return ", ".join(map(quoted, columns))
