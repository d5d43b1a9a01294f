"""The tables file that is proposed for a database, with its reasons as comments."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pg_es_pipeline.errors import SourceError, TablesError
from pg_es_pipeline.sync.catalog import introspect
from pg_es_pipeline.sync.postgres import Connection
from pg_es_pipeline.sync.proposal.choices import PARTITION_ROWS, Choice, Entry, propose
from pg_es_pipeline.sync.proposal.facts import Unlisted, read_facts, relations
from pg_es_pipeline.tables import Table, read_tables


@dataclass(frozen=True, slots=True)
class Proposal:
    """An entry for each table that can be loaded as it is, and why others cannot."""

    database: str
    tables: tuple[Entry | Unlisted, ...]

    @property
    def listed(self) -> list[Entry]:
        return [one for one in self.tables if isinstance(one, Entry)]

    @property
    def unlisted(self) -> list[Unlisted]:
        return [one for one in self.tables if isinstance(one, Unlisted)]


def propose_tables(connection: Connection, schemas: Sequence[str] | None = None) -> Proposal:
    """Looks at all tables and views, or those of these schemas. Raises SourceError."""
    now = datetime.now(UTC)
    found = read_facts(connection, relations(connection, schemas), PARTITION_ROWS)
    tables = [one if isinstance(one, Unlisted) else propose(one, now) for one in found]
    listed = {one.table: Table(**one.data) for one in tables if isinstance(one, Entry)}
    # The same look as a load's has the last word.
    sources = introspect(connection, list(listed.values()))
    for number, one in enumerate(tables):
        source = sources[listed[one.table].index] if one.table in listed else None
        if isinstance(source, SourceError):
            reason = str(source).removeprefix(f"{one.table}: ").rstrip(".")
            tables[number] = Unlisted(one.table, listed[one.table].index, reason)
    return Proposal(connection.info.dbname, tuple(tables))


def write(proposal: Proposal, path: Path, *, replace: bool) -> None:
    """Writes the file as a whole or not at all. Raises TablesError, or SourceError where there is
    nothing to list."""
    if not proposal.listed:
        reasons = "".join(f"\n  {one.table}: {one.reason}" for one in proposal.unlisted)
        raise SourceError(
            f"the database {proposal.database} has no table that could be loaded"
            f"{':' + reasons if reasons else '; is it the right one (PG_DATABASE)?'}"
        )
    if path.exists() and not replace:
        raise TablesError(f"{path} is there already: --force replaces it, --output names another.")
    path = path.resolve()
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            new.write_text(render(proposal), encoding="utf-8")
            _require_the_same(proposal, new)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise TablesError(f"{path}: cannot be written: {error.strerror}.") from None


def _require_the_same(proposal: Proposal, path: Path) -> None:
    wanted = tuple(Table(**one.data) for one in proposal.listed)
    assert read_tables(path).tables == wanted, "what was written reads as something else"


def render(proposal: Proposal) -> str:
    """The file's text."""
    return "\n".join(_lines(proposal)) + "\n"


def _lines(proposal: Proposal) -> Iterator[str]:
    yield from _comment(
        f"What is loaded from the database {proposal.database}, as `pg-es init` proposes it: it "
        "loads as it is. Correct what you know better; docs/tables.md explains every key."
    )
    yield "tables:"
    for one in proposal.tables:
        yield ""
        yield from map("  {}".format, _entry(one) if isinstance(one, Entry) else _left_out(one))


def _entry(entry: Entry) -> Iterator[str]:
    yield f"- {_line(Choice('table', entry.table, entry.about))}"
    yield from (f"  {_line(choice)}" for choice in entry.choices)
    if entry.fields:
        yield "  fields:"
        yield from (f"    {_line(choice)}" for choice in entry.fields)
    for hint in entry.hints:
        yield from map("  {}".format, _comment(hint))


def _left_out(one: Unlisted) -> Iterator[str]:
    yield from _comment(f"{one.table} is left out: {one.reason}.")
    if one.remedy:
        yield f"# To load it: {_plain(one.remedy)}"  # in one line, to be pasted
    yield f"# - {_dumped({'table': one.table})}"
    yield f"#   {_dumped({'index': one.index})}"
    if one.key is not None:
        yield f"#   {_dumped({'key': list(one.key)})}"


def _line(choice: Choice) -> str:
    reason = f"  # {_plain(choice.why)}" if choice.why else ""
    return f"{_dumped({choice.key: choice.value})}{reason}"


def _comment(text: str) -> list[str]:
    """Lines of at most 98 characters."""
    lines = [""]
    for word in _plain(text).split():
        if lines[-1] and len(lines[-1]) + len(word) > 95:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [f"# {line}" for line in lines]


def _plain(text: str) -> str:
    """Names may hold line ends, behind which a comment would be none."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _dumped(data: dict[str, Any]) -> str:
    """A mapping of one key as a line of a block."""
    # Line ends are escaped in double quotes alone, and used where they are needed alone.
    style = '"' if any(map(_has_line_ends, data.values())) else None
    flow = yaml.safe_dump(
        data,
        default_flow_style=True,
        default_style=style,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf"),
    )
    return flow.strip().removeprefix("{").removesuffix("}")


def _has_line_ends(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_line_ends, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and not value.isprintable()
