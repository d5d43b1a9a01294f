"""Whether an index can be trusted: one verdict for each question that a person on call would ask.

Nothing is written. Rows that wait for a load, and dead letters, are allowed for: neither is a
difference that nobody knows of.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from psycopg import sql

from pg_es_pipeline.errors import PipelineError, ServerAway
from pg_es_pipeline.sync import elastic, postgres
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.checkpoints import Checkpoints
from pg_es_pipeline.sync.checks import index, rows, table
from pg_es_pipeline.sync.checks.finding import Finding
from pg_es_pipeline.sync.checks.table import Facts
from pg_es_pipeline.sync.compare import Level
from pg_es_pipeline.sync.documents import Document, relation
from pg_es_pipeline.sync.documents import field as column_field
from pg_es_pipeline.sync.engine import Engine
from pg_es_pipeline.sync.fitting import fitting
from pg_es_pipeline.sync.partitions import predicate
from pg_es_pipeline.sync.scope import whole_table
from pg_es_pipeline.sync.snapshot import Present
from pg_es_pipeline.sync.survey import Survey
from pg_es_pipeline.tables import Table

LOOKS = 2
"""How often both sides are counted, or compared, before a difference is believed: a load may have
written between the two."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to one question."""

    passed: bool
    description: str
    """What was found; where it did not pass, with the remedy."""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    is_error: bool = True
    """Where it did not pass: whether searches are served wrong or old data; else, a warning."""


def audit(
    engine: Engine, tables: Sequence[Table], asked: Mapping[str, Collection[str]]
) -> Iterator[tuple[Table, dict[str, Verdict]]]:
    """The verdicts on each table, by question; `asked` are the questions, by index.

    What keeps one table from being looked at is the verdict on all its questions. Raises
    PipelineError where a server cannot be asked.
    """
    indices = [one.index for one in tables]
    sources = engine.sources(tables)
    with elastic.speaking("counting dead letters"):
        letters = index.dead_letters(engine.client, indices)
    in_step_at = Checkpoints(engine.client).in_step_at(indices)
    for one in tables:
        wanted = [name for name in QUESTIONS if name in asked[one.index]]
        what = f"checking {one.table}"
        try:
            source = sources[one.index]
            if isinstance(source, PipelineError):
                raise source
            subject = _Subject(
                engine, source, letters.get(one.index, {}), in_step_at.get(one.index)
            )
            with postgres.speaking(what), elastic.speaking(what):
                found = {name: _ANSWERS[name](subject) for name in wanted}
        except ServerAway:
            raise
        except PipelineError as error:
            found = dict.fromkeys(wanted, Verdict(False, str(error)))
        yield one, found


@dataclass
class _Subject:
    """A table and its index, and what of them more than one question needs."""

    engine: Engine
    source: Source
    letters: Mapping[str, int]
    """Dead letters by partition."""
    in_step_at: str | None

    @property
    def table(self) -> Table:
        return self.source.table

    @property
    def dead(self) -> int:
        return sum(self.letters.values())

    @cached_property
    def facts(self) -> Facts:
        return table.facts(self.engine.connection, self.source)

    def survey(self) -> Survey:
        """What waits for a load now."""
        [found] = self.engine.survey([self.source]).values()
        if isinstance(found, PipelineError):
            raise found
        return found


def _row_parity(one: _Subject) -> Verdict:
    def count(survey: Survey) -> tuple[int, dict[str, float]]:
        assert survey.generation is not None
        document = Document(fitting(one.source, survey.generation))
        one.engine.client.indices.refresh(index=survey.generation.name)
        answer = one.engine.client.count(index=survey.generation.name)
        found = rows.bounded(
            one.engine.connection,
            sql.SQL("SELECT count(*) FROM {} WHERE {}").format(
                relation(one.source), whole_table(document).rows
            ),
        )
        if found is None:
            raise TimeoutError
        [[in_table]], documents = found, int(answer["count"])
        missing = in_table - documents
        if document.transform is not None:  # It may leave rows out.
            missing = min(missing, 0)
        return abs(missing), {"rows": in_table, "documents": documents, "difference": missing}

    return _parity(one, count, "{rows:,} rows, {documents:,} documents")


def _content_parity(one: _Subject) -> Verdict:
    asked = one.table.checks
    if not asked.sample and not asked.full:
        return Verdict(True, "Not compared: `checks.sample` is 0.")

    def compare(_survey: Survey) -> tuple[int, dict[str, float]]:
        found = one.engine.reconcile(
            one.source,
            level=Level.FULL if asked.full else None,
            sample=0 if asked.full else asked.sample,
            repair=False,
        )
        return found.differences, {
            "compared": found.documents,
            "missing": found.missing,
            "extra": found.extra,
            "changed": found.changed,
            "seconds": round(found.seconds, 3),
        }

    return _parity(
        one,
        compare,
        "{compared:,} compared: {missing:,} missing, {extra:,} extra, {changed:,} changed",
    )


def _parity(
    one: _Subject, compare: Callable[[Survey], tuple[int, dict[str, float]]], said: str
) -> Verdict:
    """Whether both sides differ by no more than waits for a load, or is a dead letter."""
    survey = one.survey()
    if survey.generation is None:
        return _not_loaded(one)
    for _ in range(LOOKS):
        try:
            differences, figures = compare(survey)
        except TimeoutError:
            seconds = rows.STATEMENT_TIMEOUT / 1000
            return Verdict(True, f"Not counted, for want of time ({seconds:g} s).")
        # What has changed until now waits, or was loaded before this.
        survey = one.survey()
        waiting = sum(stale.rows or 0 for stale in survey.stale)
        allowed = waiting + one.dead
        if differences <= allowed:
            break
    figures |= {"rows_waiting": waiting, "dead_letters": one.dead}
    shown = said.format_map(figures)
    if waiting:
        shown += f"; {waiting:,} rows wait for a load"
    if one.dead:
        shown += f"; {one.dead:,} dead letters"
    if differences <= allowed:
        return Verdict(True, f"{shown}.", figures)
    unknown = [stale.partition for stale in survey.stale if stale.rows is None]
    if unknown or one.source.cursor is None:
        why = f"{_listed(unknown)} {'waits' if len(unknown) == 1 else 'wait'} for a load as a whole"
        return Verdict(
            False,
            f"{one.table.table}: {shown}. "
            + (f"Of it {why}." if unknown else "Changes since the last comparison are among it."),
            figures,
            is_error=False,
        )
    return Verdict(
        False,
        f"{one.table.table}: {shown}. See which: pg-es verify {one.table.index}; repair: "
        f"pg-es verify --repair {one.table.index}, or the job reconcile_all.",
        figures,
    )


def _not_loaded(one: _Subject) -> Verdict:
    return Verdict(
        False,
        f"{one.table.table}: there is no index yet. It comes with the first load.",
        is_error=False,
    )


def _dead_letters(one: _Subject) -> Verdict:
    figures = {"dead_letters": one.dead, "max_dead_letters": one.table.max_dead_letters}
    [*found] = index.refused(Document(one.source), one.dead)
    if not found:
        return Verdict(True, "None.", figures)
    where = f" In {_listed(sorted(one.letters))}." if one.letters else ""
    return Verdict(False, _told(found) + where, figures, is_error=found[0].severity == "error")


def _freshness(one: _Subject) -> Verdict:
    survey = one.survey()
    if survey.generation is None:
        return _not_loaded(one)
    clock = datetime.fromisoformat(Present.of(one.engine.connection).clock)
    whole = [stale.partition for stale in survey.stale if _is_unread(survey, stale.partition)]
    late = {
        stale.partition: (clock - since).total_seconds()
        for stale in survey.stale
        if stale.partition not in whole and (since := _waits_since(one, survey, stale.partition))
    }
    lag = max(late.values(), default=0.0)
    figures = {
        "lag_seconds": round(lag, 3),
        "max_lag_seconds": one.table.checks.max_lag.total_seconds(),
        "partitions_waiting": len(survey.stale),
        "rows_waiting": sum(stale.rows or 0 for stale in survey.stale),
    }
    if lag > figures["max_lag_seconds"]:
        overdue = sorted(late, key=lambda partition: -late[partition])
        return Verdict(
            False,
            f"{one.table.table}: a change waits for {timedelta(seconds=round(lag))} in "
            f"{_listed(overdue)}, and `checks.max_lag` is {one.table.checks.max_lag}. See whether "
            "the sensor sync_changes runs, what it says, and whether runs wait in the queue.",
            figures,
        )
    if whole:
        return Verdict(
            False,
            f"{one.table.table}: {_listed(whole)} of {len(survey.partitions):,} partitions "
            f"{'waits' if len(whole) == 1 else 'wait'} for a load as a whole.",
            figures,
            is_error=False,
        )
    return Verdict(True, f"{len(survey.stale):,} partitions have changes.", figures)


def _is_unread(survey: Survey, partition: str) -> bool:
    """Whether the partition was never read as a whole."""
    checkpoint = survey.checkpoints.get(partition)
    return checkpoint is None or checkpoint.full_pass is not None


def _waits_since(one: _Subject, survey: Survey, partition: str) -> datetime | None:
    """When the oldest change of a partition was made that no load has seen."""
    checkpoint, cursor = survey.checkpoints[partition], one.source.cursor
    if cursor is not None and cursor.type == "timestamptz" and checkpoint.updated_at:
        # What is newer than the last load; what it has seen beyond the horizon is not.
        row = one.engine.connection.execute(
            sql.SQL("SELECT min({0}) FROM {1} WHERE ({2}) AND {0} > {3}").format(
                column_field(cursor),
                relation(one.source),
                predicate(one.source, partition),
                sql.Literal(checkpoint.updated_at),
            )
        ).fetchone()
        if row and row[0]:
            return datetime.fromisoformat(str(row[0]))
    known = [moment for moment in (checkpoint.horizon, one.in_step_at) if moment]
    return max(map(datetime.fromisoformat, known), default=None)


def _coverage(one: _Subject) -> Verdict:
    counts = rows.count(one.engine.connection, one.source, one.engine.partitions(one.source))
    figures = {f"rows_{name.replace(' ', '_')}": n for name, n in (counts or {}).items()}
    return _verdict(rows.strays(one.source, one.facts, counts), "Every row is found.", figures)


def _cursor_index(one: _Subject) -> Verdict:
    if one.source.cursor is None:
        return Verdict(True, "There is no cursor: both sides are compared.")
    found = [
        *table.cursor(one.engine.connection, one.source, one.facts),
        *table.partition_column(one.source, one.facts),
    ]
    return _verdict(
        found, "PostgreSQL's planner goes by an index.", {"table_bytes": one.facts.bytes}
    )


def _verdict(found: Iterable[Finding], good: str, figures: Mapping[str, float]) -> Verdict:
    """A warning where one of the findings is; notes are only told."""
    told = list(found)
    passed = not any(one.severity != "note" for one in told)
    return Verdict(passed, _told(told) or good, figures, is_error=False)


def _told(found: Iterable[Finding]) -> str:
    return "\n".join(
        " ".join(filter(None, (f"{one.subject}: {one.problem}", one.consequence, one.remedy)))
        for one in found
    )


def _listed(partitions: Sequence[str]) -> str:
    return ", ".join(partitions[:5]) + (
        f" and {len(partitions) - 5:,} more" if len(partitions) > 5 else ""
    )


_ANSWERS: dict[str, Callable[[_Subject], Verdict]] = {
    "row_parity": _row_parity,
    "content_parity": _content_parity,
    "dead_letters": _dead_letters,
    "freshness": _freshness,
    "coverage": _coverage,
    "cursor_index": _cursor_index,
}

QUESTIONS = {
    "row_parity": "The index has as many documents as the table has rows.",
    "content_parity": "Documents are what their rows would become: of a sample, or all of them.",
    "dead_letters": "Elasticsearch has refused no row.",
    "freshness": "No change waits for longer than `checks.max_lag`.",
    "coverage": "Every row is in a partition, and has a cursor value.",
    "cursor_index": "PostgreSQL finds changes by an index.",
}
"""What is asked of each index, by name."""
