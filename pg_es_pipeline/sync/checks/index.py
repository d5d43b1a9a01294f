"""An index: whose it is, its mapping, its blocks, its checkpoints, its dead letters."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from elasticsearch import Elasticsearch, NotFoundError

from pg_es_pipeline.errors import IndexRefused
from pg_es_pipeline.sync.checkpoints import Checkpoint
from pg_es_pipeline.sync.checks.finding import Finding
from pg_es_pipeline.sync.dead_letters import INDEX as DEAD_LETTERS
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.snapshot import Present, is_before


def conflicts(client: Elasticsearch, document: Document) -> tuple[Generation | None, list[Finding]]:
    """The index's generation; and what keeps the next load from writing to it."""
    table = document.source.table
    try:
        generation = Indices(client).find(document)
    except IndexRefused as error:
        finding = Finding("error", table.table, str(error), "The table cannot be loaded.")
        return None, [finding]
    if generation is None:
        return None, []
    answer = client.indices.get_settings(index=generation.name, flat_settings=True)
    return generation, [
        *_layout(document, generation),
        *_blocks(document, generation, answer[generation.name]["settings"]),
    ]


def _layout(document: Document, generation: Generation) -> Iterator[Finding]:
    table = document.source.table
    found = generation.differences(document)
    if not found:
        return
    problem = "; ".join(map(str, found))
    if table.reindex == "auto" and not generation.declines(document):
        yield Finding(
            "note",
            table.table,
            f"The rows do not fit into {generation.name} any more: {problem}.",
            "The sensor requests a run that loads a new generation beside it. Until the alias "
            "is switched, the live one is loaded with the mappings that it has.",
        )
    else:
        yield Finding(
            "warning",
            table.table,
            f"The rows do not fit into {generation.name} any more: {problem}.",
            "The index is loaded with the mappings that it has.",
            f"pg-es reindex {table.index}  -- or put the mapping back under `fields` in the tables "
            "file",
        )


def _blocks(
    document: Document, generation: Generation, settings: Mapping[str, Any]
) -> Iterator[Finding]:
    for block in ("read_only_allow_delete", "read_only", "write"):
        setting = f"index.blocks.{block}"
        if str(settings.get(setting, "false")) == "true":
            why = (
                "Elasticsearch sets it when a disk is full (flood stage)"
                if block == "read_only_allow_delete"
                else "somebody has set it"
            )
            yield Finding(
                "error",
                document.source.table.table,
                f"The index {generation.name} takes no documents: {setting} is set.",
                f"Loads wait in vain; {why}.",
                f'PUT {generation.name}/_settings {{"{setting}": null}}',
            )


def set_back(
    document: Document, checkpoints: Mapping[str, Checkpoint], present: Present
) -> Iterator[Finding]:
    """Whether the database stands before what the checkpoints have seen of it."""
    table = document.source.table.table
    gone = [one for one in checkpoints.values() if not present.continues(one)]
    horizons = [one.horizon for one in gone if one.horizon]
    if not horizons:
        return
    newest = max(horizons, key=datetime.fromisoformat)
    reread = "The next load reads these partitions as a whole, and removes what is gone."
    shown = ", ".join(one.partition for one in gone[:5]) + (", …" if len(gone) > 5 else "")
    if is_before(present.clock, newest):
        yield Finding(
            "warning",
            table,
            f"PostgreSQL's clock ({present.clock[:19]} UTC) is behind the checkpoints of {shown} "
            f"({newest[:19]} UTC): it was set back, or another database is there.",
            f"What is written meanwhile may lie below the watermark. {reread}",
            "Put the clock right before anything is written: timedatectl set-ntp true",
        )
    else:
        yield Finding(
            "note",
            table,
            f"The checkpoints of {shown} speak of another database: a backup was restored, or a "
            "standby took over.",
            reread,
        )


def dead_letters(client: Elasticsearch, indices: Sequence[str]) -> dict[str, dict[str, int]]:
    """The refused rows that are kept, by index and partition."""
    try:
        answer = client.search(
            index=DEAD_LETTERS,
            size=0,
            query={"terms": {"index": list(indices)}},
            aggs={
                "index": {
                    "terms": {"field": "index", "size": max(1, len(indices))},
                    "aggs": {"partition": {"terms": {"field": "partition", "size": 10_000}}},
                }
            },
        )
    except NotFoundError:
        return {}
    return {
        index["key"]: {
            bucket["key"]: bucket["doc_count"] for bucket in index["partition"]["buckets"]
        }
        for index in answer["aggregations"]["index"]["buckets"]
    }


def refused(document: Document, letters: int) -> Iterator[Finding]:
    """Whether there are rows that Elasticsearch has refused."""
    table = document.source.table
    if not letters:
        return
    full = letters >= table.max_dead_letters
    yield Finding(
        "error" if full else "warning",
        table.table,
        f"Rows that Elasticsearch refused: {letters:,}.",
        "They are missing from the index."
        + (f" One more fails every run (max_dead_letters: {table.max_dead_letters})." * full),
        f"pg-es retry {table.index}  -- once the rows, or `fields` or `exclude` in the tables "
        "file, are corrected",
    )
