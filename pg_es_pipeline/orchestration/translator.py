"""The one place where a table becomes asset specs: their keys, groups, owners, texts, links."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import dagster as dg

from pg_es_pipeline.errors import PipelineError
from pg_es_pipeline.orchestration.columns import column_lineage, column_schema, table_schema
from pg_es_pipeline.orchestration.names import index_key, table_key
from pg_es_pipeline.orchestration.partitions import partitions_definition
from pg_es_pipeline.sync.describe import Description
from pg_es_pipeline.tables import Table


@dataclass(frozen=True, slots=True)
class TableData:
    """What is known of a table when the definitions are made."""

    table: Table
    description: Description | None = None
    """None where PostgreSQL was not asked, or did not know the table."""
    database: str | None = None
    search_url: str | None = None
    reference: dg.LocalFileCodeReference | None = None
    """Its entry in the tables file."""

    @property
    def about(self) -> str | None:
        """What people say of the table, in the tables file or in its comment."""
        comment = self.description.source.comment if self.description else None
        return self.table.description or comment


@dataclass(frozen=True)
class Translator:
    """How tables and indices show in Dagster. A subclass may change any attribute of the specs, as
    in `super().index_spec(data).replace_attributes(…)`; what it gives them for a key is their key
    in every event."""

    key_prefix: Sequence[str] = ()
    """Before the keys that the tables file does not give itself."""
    group: str | None = None
    """Of the indices; after the database if it is not given, and so are the tables' groups."""
    owners: Sequence[str] = ()
    """Of what has no owners in the tables file."""
    tags: Mapping[str, str] | None = None
    """Beside those of the tables file."""

    def table_spec(self, data: TableData) -> dg.AssetSpec:
        """The source: not made here, but where the lineage begins."""
        table = data.table
        names = [table.schema_name, table.name]
        metadata: dict[str, Any] = {
            "dagster/table_name": ".".join(filter(None, [data.database, table.table]))
        }
        if data.description:
            metadata["dagster/column_schema"] = table_schema(data.description)
        return dg.AssetSpec(
            table.upstream or [*self.key_prefix, *names],
            group_name=_group(data.database, "tables"),
            owners=[*(table.owners or self.owners)],
            tags={**(self.tags or {}), **table.tags},
            kinds={"postgres", "table"},
            description=_text(data.about, f"The table `{table.table}` in PostgreSQL."),
            metadata=metadata | _reference(data),
        )

    def index_spec(self, data: TableData) -> dg.AssetSpec:
        """The index. Its upstream is the asset that stands for the table."""
        table = data.table
        metadata: dict[str, Any] = {"table": table.table, "index": table.index}
        if data.search_url:
            page = f"{data.search_url}/?{urlencode({'index': table.index})}"
            metadata["search"] = dg.MetadataValue.url(page)
        return dg.AssetSpec(
            table.asset_key or [*self.key_prefix, table.index],
            deps=[table_key(table)],
            partitions_def=partitions_definition(table),
            group_name=table.group or self.group or _group(data.database, "indices"),
            owners=[*(table.owners or self.owners)],
            tags={**(self.tags or {}), **table.tags},
            kinds={"postgres", "elasticsearch"},
            description=_text(
                data.about, f"The index `{table.index}`, loaded from the table `{table.table}`."
            ),
            metadata=metadata | _columns(data) | _reference(data),
        )


def translated(
    translator: Translator, data: TableData
) -> tuple[Table, dg.AssetSpec | None, dg.AssetSpec]:
    """The table with the keys that its assets have got, and their specs; none for the source where
    another asset stands for it."""
    source = translator.table_spec(data)
    table = data.table.model_copy(update={"upstream": tuple(source.key.path)})
    if described := data.description:
        described = replace(described, source=replace(described.source, table=table))
    index = translator.index_spec(replace(data, table=table, description=described))
    named = table.model_copy(update={"asset_key": tuple(index.key.path)})
    assert (table_key(named), index_key(named)) == (source.key, index.key)
    return named, None if data.table.upstream else source, index


def _group(database: str | None, what: str) -> str:
    if not database:
        return what
    return re.sub(r"\W", "_", f"{database}_{what}", flags=re.ASCII)


def _text(about: str | None, usual: str) -> str:
    return f"{about}\n\n{usual}" if about else usual


def _columns(data: TableData) -> dict[str, Any]:
    if data.description is None:
        return {}
    source = data.description.source
    try:
        return {
            "dagster/column_schema": column_schema(source),
            "dagster/column_lineage": column_lineage(source),
        }
    except PipelineError:  # the table's transform cannot be called; its loads say so
        return {}


def _reference(data: TableData) -> dict[str, Any]:
    if data.reference is None:
        return {}
    return {
        "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[data.reference])
    }
