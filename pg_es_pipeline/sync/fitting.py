"""A table as a generation takes it that was made before the table, or its entry, changed."""

from dataclasses import replace

from pg_es_pipeline.errors import IndexRefused
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Generation


def fitting(source: Source, generation: Generation) -> Source:
    """The source, but where its rows do not fit into the generation, with the generation's mappings
    and key: so the live one is kept in step while the next one is loaded.

    Raises IndexRefused where the table lacks a column of the generation's key.
    """
    found = generation.differences(Document(source))
    if not found:
        return source
    fields = {one.field.partition(".")[0]: one.field for one in found if one.field}
    columns = {column.name: column for column in source.columns}
    # A field may be called by a column with a dot in its name.
    given = {
        name: generation.properties[name]
        for name in {*fields, *fields.values()}
        if (name in columns or source.table.transform) and name in generation.properties
    }
    key = [str(name) for name in generation.about.get("key", ())]
    if missing := [name for name in key if name not in columns]:
        raise IndexRefused(
            f"{generation.index}: the documents of {generation.name} go by the column "
            f"{missing[0]!r}, which is not there any more. Load a new generation beside it: "
            f"`pg-es reindex {generation.index}`."
        )
    dots = generation.mappings.get("subobjects") is False
    table = source.table
    return replace(
        source,
        table=table.model_copy(update={"fields": {**table.fields, **given}}),
        columns=tuple(one for one in source.columns if dots or "." not in one.name),
        key=tuple(columns[name] for name in key),
    )
