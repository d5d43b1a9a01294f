"""What is to be done for many tables, found by a query a table and a few for them all."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from math import inf

from pg_es_pipeline.errors import PipelineError, ServerAway
from pg_es_pipeline.sync import postgres
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.checkpoints import Checkpoint, Checkpoints
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.fitting import fitting
from pg_es_pipeline.sync.indices import Generation, Indices
from pg_es_pipeline.sync.mappings import Difference
from pg_es_pipeline.sync.partitions import current_keys
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.snapshot import Present, horizon
from pg_es_pipeline.sync.staleness import Stale, stale_partitions
from pg_es_pipeline.tables import RangePartitions


@dataclass(frozen=True, slots=True)
class Survey:
    """What is to be done for one table."""

    partitions: Sequence[str]
    """All partition keys of the table as it is now, in order."""
    stale: Sequence[Stale]
    moment: str
    """The moment before which all changes were seen."""
    generation: Generation | None = None
    """The live one; None: there is no index yet."""
    checkpoints: Mapping[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    """By partition."""
    differences: tuple[Difference, ...] = ()
    """Why a new generation is needed; empty: none is."""
    declined: bool = False
    """Whether that new generation was tried, and rolled back."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a survey may take."""

    seconds: float
    """After these, no other table is looked at."""
    statement_seconds: float
    """For each table, PostgreSQL has so long for an answer."""


Connect = Callable[[], Connection]
"""Gives the connection: another one where the last has broken."""


def survey(
    connect: Connect,
    indices: Indices,
    checkpoints: Checkpoints,
    sources: Sequence[Source],
    patience: Patience | None = None,
) -> dict[str, Survey | PipelineError]:
    """By index: what was found, or why the table cannot be looked at.

    With `patience`, of as many of the first tables as there is time for, and of one at least.
    Raises PipelineError where a server cannot be asked.
    """
    if patience is None:
        return _survey(connect, indices, checkpoints, sources, inf)
    with (
        postgres.speaking("looking for changes"),
        postgres.statement_timeout(connect(), f"{patience.statement_seconds * 1000:.0f}ms"),
    ):
        return _survey(connect, indices, checkpoints, sources, patience.seconds)


def _survey(
    connect: Connect,
    indices: Indices,
    checkpoints: Checkpoints,
    sources: Sequence[Source],
    seconds: float,
) -> dict[str, Survey | PipelineError]:
    began = time.monotonic()
    found: dict[str, Survey | PipelineError] = {}
    generations: dict[str, Generation | None] = {}
    partitions: dict[str, list[str]] = {}
    with postgres.speaking("looking for changes"):
        # Before any of the tables is read.
        moments = {lookback: horizon(connect(), lookback, None) for lookback in _lookbacks(sources)}
        now = Present.of(connect())
    for index, generation in indices.find_all(list(map(Document, sources))).items():
        if isinstance(generation, PipelineError):
            found[index] = generation
        else:
            generations[index] = generation
    # Half of the time for the keys, which are a query of some tables alone.
    for source in _in_time(sources, began + seconds / 2):
        with _noting(found, source), postgres.speaking(f"looking at {source.table.table}"):
            index = source.table.index
            partitions[index] = current_keys(connect(), source)
            if generation := generations.get(index):
                partitions[index] = _with_emptied(
                    source, partitions[index], checkpoints, generation
                )
    stored = checkpoints.read_many(
        {
            generation: partitions[index]
            for index, generation in generations.items()
            if generation and index in partitions
        }
    )
    reached = [one for one in sources if one.table.index in partitions]
    for source in _in_time(reached, began + seconds):
        index = source.table.index
        if index not in found:
            with _noting(found, source), postgres.speaking(f"looking at {source.table.table}"):
                found[index] = _look(
                    connect(),
                    source,
                    generations[index],
                    partitions[index],
                    stored,
                    now,
                    moments[source.table.cursor.lookback],
                )
    return found


def _in_time(sources: Sequence[Source], deadline: float) -> Iterator[Source]:
    """The sources until then; the first one always."""
    for number, source in enumerate(sources):
        if number and time.monotonic() > deadline:
            return
        yield source


def _with_emptied(
    source: Source, current: list[str], checkpoints: Checkpoints, generation: Generation
) -> list[str]:
    """The partitions, with ranges beyond the table's ends of now: where both sides are compared,
    documents of rows that were there have to be found."""
    if source.cursor is not None or not isinstance(source.table.partitions, RangePartitions):
        return current
    return sorted({*current, *checkpoints.partitions(generation)}, key=int)


@contextmanager
def _noting(found: dict[str, Survey | PipelineError], source: Source) -> Iterator[None]:
    """What is wrong with one table does not keep the others from being looked at."""
    try:
        yield
    except ServerAway:
        raise
    except PipelineError as error:
        found.setdefault(source.table.index, error)


def _lookbacks(sources: Sequence[Source]) -> set[timedelta]:
    """All that the horizon depends on of a table."""
    return {source.table.cursor.lookback for source in sources}


def _look(
    connection: Connection,
    source: Source,
    generation: Generation | None,
    partitions: Sequence[str],
    stored: Mapping[Generation, Mapping[str, Checkpoint]],
    now: Present,
    moment: str,
) -> Survey:
    if generation is None:
        return Survey(partitions, [Stale(one, None) for one in partitions], moment)
    wanted = Document(source)
    differences = generation.differences(wanted)
    document = Document(fitting(source, generation)) if differences else wanted
    known = stored.get(generation, {})
    stale = stale_in(connection, document, partitions, known, now)
    return Survey(
        partitions=partitions,
        stale=stale,
        moment=moment,
        generation=generation,
        checkpoints=known,
        differences=differences,
        declined=bool(differences) and generation.declines(wanted),
    )


def stale_in(
    connection: Connection,
    document: Document,
    partitions: Sequence[str],
    checkpoints: Mapping[str, Checkpoint],
    now: Present,
) -> list[Stale]:
    """The partitions of a generation that need a load, by its checkpoints."""
    fingerprint = document.fingerprint
    valid = {
        partition: checkpoint
        for partition, checkpoint in checkpoints.items()
        if checkpoint.fingerprint == fingerprint
        and now.continues(checkpoint)
        and not checkpoint.unsure
    }
    return stale_partitions(connection, document.source, partitions, valid, now.clock)
