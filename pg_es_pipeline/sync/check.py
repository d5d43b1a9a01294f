"""Looks for what keeps an index from being in step with its table, before a user finds it.

It only reads, and says of each finding what fixes it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from elasticsearch import AuthorizationException

from pg_es_pipeline.errors import PipelineError, ServerAway, SettingsError, SourceError
from pg_es_pipeline.sync import elastic, postgres
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.checkpoints import INDEX as CHECKPOINTS
from pg_es_pipeline.sync.checkpoints import Checkpoints
from pg_es_pipeline.sync.checks import cluster, database, index, rows, table
from pg_es_pipeline.sync.checks.finding import ELASTICSEARCH, POSTGRESQL, Finding
from pg_es_pipeline.sync.documents import Document
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.snapshot import Present
from pg_es_pipeline.tables import Table


def check(engine: Engine, tables: Sequence[Table]) -> list[Finding]:
    """All findings: of the servers first, then table by table.

    Raises PipelineError where a server cannot be asked; of both, if neither can.
    """
    _require_servers(engine)
    found: list[Finding] = []
    with postgres.speaking(f"checking {POSTGRESQL}"):
        found += database.findings(engine.connection)
    with elastic.speaking(f"checking {ELASTICSEARCH}"):
        found += cluster.findings(engine.client, tables)
    sources = engine.sources(tables)
    for one in tables:
        source = sources[one.index]
        if isinstance(source, SourceError):
            found.append(_refusal(one, source))
            continue
        for part in (_table, _index):
            found += _or_finding(part, engine, source)
    return found


def _require_servers(engine: Engine) -> None:
    away = []
    for ask in (lambda: engine.connection, lambda: _reach_elasticsearch(engine)):
        try:
            ask()
        except PipelineError as error:
            away.append(error)
    if away:
        raise away[0] if len(away) == 1 else ServerAway("\n".join(map(str, away)))


def _reach_elasticsearch(engine: Engine) -> None:
    # Any answer to known credentials will do; which privileges are lacking is told later.
    with elastic.speaking(f"checking {ELASTICSEARCH}"), suppress(AuthorizationException):
        engine.client.indices.exists(index=CHECKPOINTS)


def _or_finding(
    part: Callable[[Engine, Source], Iterator[Finding]], engine: Engine, source: Source
) -> list[Finding]:
    """What was found; a refusal of this one table is a finding too."""
    found: list[Finding] = []
    what = f"checking {source.table.table}"
    try:
        with postgres.speaking(what), elastic.speaking(what):
            found.extend(part(engine, source))
    except (SourceError, SettingsError) as error:
        found.append(_refusal(source.table, error))
    return found


def _refusal(table: Table, error: PipelineError) -> Finding:
    problem = str(error).removeprefix(f"{table.table}: ")
    return Finding("error", table.table, problem, "The table is not loaded.")


def _table(engine: Engine, source: Source) -> Iterator[Finding]:
    connection = engine.connection
    known = table.facts(connection, source)
    yield from table.privileges(source, known)
    yield from table.cursor(connection, source, known)
    yield from table.partition_column(source, known)
    if known.readable:
        yield from rows.findings(connection, source, engine.partitions(source), known)


def _index(engine: Engine, source: Source) -> Iterator[Finding]:
    document = Document(source)
    generation, found = index.conflicts(engine.client, document)
    yield from found
    if generation is not None:
        checkpoints = Checkpoints(engine.client).read(generation, engine.partitions(source))
        yield from index.set_back(document, checkpoints, Present.of(engine.connection))
    letters = index.dead_letters(engine.client, [source.table.index])
    yield from index.refused(document, sum(letters.get(source.table.index, {}).values()))
