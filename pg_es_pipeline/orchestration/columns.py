"""Column schemas of tables and indices, and which field comes from which column."""

import dagster as dg

from pg_es_pipeline.orchestration.names import table_key
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.describe import Constraint, Description
from pg_es_pipeline.sync.documents import Document

_OF_A_COLUMN = {"p": "primary key", "u": "unique"}


def table_schema(description: Description) -> dg.TableSchema:
    """The columns that are loaded, with PostgreSQL's types and constraints."""
    constraints = description.constraints
    columns = [
        dg.TableColumn(
            column.name,
            column.declared,
            description=column.comment,
            constraints=dg.TableColumnConstraints(
                nullable=not column.not_null,
                unique=any(
                    one.kind in _OF_A_COLUMN and one.columns == (column.name,)
                    for one in constraints
                ),
                other=[_short(one) for one in constraints if one.columns == (column.name,)],
            ),
        )
        for column in description.source.columns
    ]
    wider = [one.definition for one in constraints if len(one.columns) != 1]
    return dg.TableSchema(columns, constraints=dg.TableConstraints(other=wider))


def _short(constraint: Constraint) -> str:
    """Without the name of the one column that it is at already."""
    if constraint.kind == "f":
        return constraint.definition[constraint.definition.index("REFERENCES ") :]
    return _OF_A_COLUMN.get(constraint.kind, constraint.definition)


def column_schema(source: Source) -> dg.TableSchema:
    """The index's fields: PostgreSQL's type, and Elasticsearch's."""
    keys = {column.name for column in source.key}
    columns = {column.name: column for column in source.columns}
    described = []
    for name, mapping in Document(source).fields.items():
        kind, column = mapping.get("type", "object"), columns.get(name)
        if column is None:  # made by the table's transform
            described.append(dg.TableColumn(name, kind))
            continue
        constraints = dg.TableColumnConstraints(
            nullable=not column.not_null, other=["key"] if name in keys else []
        )
        type_ = f"{column.declared} → {kind}"
        described.append(
            dg.TableColumn(name, type_, description=column.comment, constraints=constraints)
        )
    return dg.TableSchema(columns=described)


def column_lineage(source: Source) -> dg.TableColumnLineage:
    """Which column a field comes from; what a transform makes may come from any of them."""
    key = table_key(source.table)
    names = [column.name for column in source.columns]
    return dg.TableColumnLineage(
        {
            field: [
                dg.TableColumnDep(asset_key=key, column_name=name)
                for name in ([field] if field in names else names)
            ]
            for field in Document(source).fields
        }
    )
