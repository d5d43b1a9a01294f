"""Another try of the rows that were refused."""

from dataclasses import dataclass, field

from pg_es_pipeline.sync.dead_letters import DeadLetters, Letter
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.means import Means
from pg_es_pipeline.sync.reconcile import Repair


@dataclass(slots=True)
class Retry:
    """What became of an index's dead letters."""

    index: str
    tried: int = 0
    loaded: int = 0
    deleted: int = 0
    """Rows that are no more: their letters are gone, too."""
    remaining: list[Letter] = field(default_factory=list)


def retry(means: Means, document: Document, generation: Generation) -> Retry:
    """Reads the rows again by their keys, and writes them as they are now."""
    table = document.source.table
    dead_letters = DeadLetters(means.client, table, generation, unlimited=True)
    dead_letters.remove_orphans()
    letters = list(dead_letters.letters.values())
    result = Retry(generation.index, tried=len(letters))
    if not letters:
        return result
    repair = Repair(
        means,
        generation,
        document,
        version=max(
            means.checkpoints.highest_version(generation), *(one.version for one in letters)
        ),
        may_delete=len(letters),
        take=dead_letters.settle,
    )
    try:
        repair.write([one.key for one in letters])
    finally:
        means.checkpoints.record_version(generation, repair.version)
    result.remaining = list(dead_letters.letters.values())
    result.deleted = repair.deleted
    result.loaded = result.tried - result.deleted - len(result.remaining)
    return result
