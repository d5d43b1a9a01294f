"""The same definitions for a project's `defs.yaml`."""

from collections.abc import Sequence
from typing import Annotated, Any

import dagster as dg
from pydantic import Field

from pg_es_pipeline.orchestration.build import Part, build_defs
from pg_es_pipeline.orchestration.translator import Translator
from pg_es_pipeline.tables import Table


def _as_they_are(_context: dg.ResolutionContext, tables: list[Table]) -> list[Table]:
    return tables


class TablesComponent(dg.Component, dg.Model, dg.Resolvable):
    """PostgreSQL tables, kept searchable in Elasticsearch: an asset for each index, and the jobs,
    the sensor and the schedules that keep it in step. Servers are named by the environment."""

    file: str = Field(
        default="tables.yaml", description="A tables file, from the folder of this one."
    )
    # Dagster would take the models' fields apart; as they are, an error has its line.
    tables: Annotated[
        Any,
        dg.Resolver(_as_they_are, model_field_type=list[Table], inject_before_resolve=False),
    ] = Field(default=(), description="Tables, in place of the file.")
    key_prefix: Sequence[str] = Field(
        default=(), description="Before the keys of tables that are given no key."
    )
    group: str | None = Field(
        default=None, description="The indices' group; after the database if it is not given."
    )
    owners: Sequence[str] = Field(
        default=(), description="E-mail addresses or team:name, of tables that have none."
    )
    tags: dict[str, str] = Field(default={}, description="Beside the tables' own.")
    without: Sequence[Part] = Field(
        default=(), description="`sensors`, `schedules`: what would start runs by itself."
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Raises SettingsError and TablesError."""
        return build_defs(
            self.tables or context.path / self.file,
            translator=Translator(self.key_prefix, self.group, self.owners, self.tags),
            without=self.without,
        )
