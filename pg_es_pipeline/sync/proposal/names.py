"""Names for indices: what Elasticsearch and Dagster's assets allow, and no two alike."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from pg_es_pipeline.tables import index_name_problem

_OURS = "pg-es-"
"""How the pipeline's own indices begin."""


def index_names(tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """An index for each table, by schema and name: the table's name in lower case, behind that of
    its schema where it is not `public`. The same tables always have the same names."""
    plain = {table: _plain(*table) for table in tables}
    claims = Counter(map(_in_dagster, plain.values()))
    # The name goes to the table that is called so itself.
    exact = {_in_dagster(name): table for table, name in sorted(plain.items()) if name == table[1]}
    result = {}
    for table, name in plain.items():
        job = _in_dagster(name)
        shared = claims[job] > 1 and exact.get(job) != table
        result[table] = f"{name}-{_digest(*table)}" if shared else name
    return result


def _plain(schema: str, name: str) -> str:
    wanted = (name if schema == "public" else f"{schema}-{name}").lower()
    wanted = re.sub(r"[^a-z0-9_-]", "_", wanted).lstrip("-_")
    if not wanted or wanted.startswith(_OURS) or index_name_problem(wanted):
        return f"table-{_digest(schema, name)}"
    return wanted


def _in_dagster(name: str) -> str:
    """A job's name has no other characters, and no two jobs share one."""
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def _digest(schema: str, name: str) -> str:
    return hashlib.sha256(f"{schema}\0{name}".encode()).hexdigest()[:6]
