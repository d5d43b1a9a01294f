"""`pg-es` as a user calls it: with a tables file and an environment."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from pg_es_pipeline.cli import app
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders


@dataclass
class Project:
    """A tables file and an environment, and `pg-es` over them."""

    orders: Orders
    environment: dict[str, str]
    file: Path
    tables: list[dict[str, Any]] = field(default_factory=list)

    def pg_es(self, *arguments: str) -> Result:
        self.file.write_text(yaml.safe_dump({"tables": self.tables}))
        return CliRunner().invoke(app, arguments, env=self.environment, catch_exceptions=False)

    def check(self, *tables: str) -> str:
        """What `pg-es check` says."""
        return self.pg_es("check", *tables).stdout

    def change(self, **entry: Any) -> None:
        """Changes the table's entry in the file, and the table that the test loads with it."""
        self.tables[0] |= entry
        self.orders.table = Table(**self.tables[0])
