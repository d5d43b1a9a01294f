"""From what is known of a table to its entry in the tables file, and the reason for each choice."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

from pg_es_pipeline.sync.checks.table import LARGE_BYTES
from pg_es_pipeline.sync.proposal.facts import ColumnFacts, TableFacts, Unlisted
from pg_es_pipeline.sync.proposal.sensitive import looks_secret
from pg_es_pipeline.sync.types import keyword

PARTITION_ROWS = 1_000_000
"""Rows of a partition, or as many kB: less than a minute of loading, so that little is lost with
one that fails. A table of no more is not cut."""

MAX_PARTITIONS = 500
"""Dagster takes half a minute to record a thousand in one run."""

MAX_BUCKETS = 16
"""No index leads to the rows of a bucket: the first load of each reads the whole table."""

MIN_SAMPLE = 100
"""Rows below which the statistics say little about the values to come."""

CODES = 100
"""Different values up to which words count as codes."""

CODE_BYTES, PROSE_BYTES = 32, 200
"""Average length up to which a value may be a code, and from which nobody searches for the exact
one."""

_MOVED = re.compile(
    "(last|row|date|time|gmt|record)?(updated?|modif(y|ied)|changed?|edited|written|write)"
    "(at|on|date|time|timestamp|datetime|utc|ts)?"
)
_CREATED = re.compile(
    "(date|time|gmt)?(created?|creation|insert(ed)?|added|placed|recorded|logged|received|ordered"
    "|occurred|happened|order|event|payment|rental|invoice)(at|on|date|time|timestamp|utc|ts)?"
)
_DELETED = re.compile("(is)?(soft)?(deleted|removed)(at|on|date|time|timestamp|utc|ts)?")
_TIMES = ("timestamptz", "timestamp")
_TEXTS = ("text", "varchar", "bpchar", "citext")
_SENTINEL = date(1900, 1, 1)
"""What is older is rather a made-up value than a time."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A key of an entry, its value, and why."""

    key: str
    value: Any
    why: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A table's entry; its fields are choices too, by column."""

    table: str
    about: str
    choices: tuple[Choice, ...]
    fields: tuple[Choice, ...] = ()
    hints: tuple[str, ...] = field(default=())
    """What somebody who knows the table may want to change."""

    @property
    def data(self) -> dict[str, Any]:
        """The entry without its reasons."""
        fields = {one.key: one.value for one in self.fields}
        entry = {"table": self.table} | {one.key: one.value for one in self.choices}
        return entry | ({"fields": fields} if fields else {})


def propose(facts: TableFacts, now: datetime) -> Entry | Unlisted:
    """The entry of a table, or why it has none."""
    for column in facts.columns:
        if column.column in facts.key and looks_secret(column.column) and not _is_hash(column):
            return Unlisted(
                facts.table,
                facts.index,
                f"its key {column.name} looks secret, and documents are named by their keys",
                "take the # away if it is none",
                tuple(one.name for one in facts.key),
            )
    cursor, reason, hint = _cursor(facts)
    deleted = next(filter(_is_soft_delete, facts.columns), None)
    excluded = list(_excluded(facts))
    left_out = {name for one in excluded for name in one.value}
    choices = [
        Choice("index", facts.index),
        Choice("key", [column.name for column in facts.key]),
        Choice("capture", "cursor" if cursor else "snapshot", reason),
    ]
    said = {"column": cursor.name} if cursor else {}
    if deleted:
        said["soft_delete"] = deleted.name
    if said:
        why = f"a row with {deleted.name} is taken for deleted" if deleted else ""
        choices.append(Choice("cursor", said, why))
    choices += _partitions(facts, cursor, left_out, now)
    if excluded:
        value = [name for one in excluded for name in one.value]
        choices.append(Choice("exclude", value, "; ".join(one.why for one in excluded)))
    fields = tuple(
        choice
        for column in facts.columns
        if column.name not in left_out and (choice := _field(facts, column))
    )
    size = f"about {facts.rows:,} rows, {_size(facts.bytes)}" if facts.bytes else "empty"
    return Entry(facts.table, size, tuple(choices), fields, (hint,) if hint else ())


def _is_hash(column: ColumnFacts) -> bool:
    """Content that goes by its hash is told apart by it; nothing else is named `hash` in a key."""
    return "hash" in column.name.lower() and "pass" not in column.name.lower()


def _cursor(facts: TableFacts) -> tuple[ColumnFacts | None, str, str]:
    """The column that finds changes, if any may be trusted to; why; and what may be better."""
    moved = [
        column
        for column in facts.columns
        if column.readable
        and column.column.type in _TIMES
        and not column.column.array
        and _MOVED.fullmatch(_squashed(column.name))
        # Without a value a new row would not be found.
        and (column.set_on_insert or column.column.not_null)
    ]
    moved.sort(key=lambda one: (not one.set_on_update, not facts.has_index_on(one.name)))
    for column in moved:
        name, indexed = column.name, facts.has_index_on(column.name)
        if column.set_on_update:
            slow = not indexed and facts.bytes >= LARGE_BYTES
            hint = f"an index on ({_order(facts, name)}) would make looks quick" if slow else ""
            return column, f"a trigger sets {name}", hint
        if indexed:
            return column, f"{name} is indexed; an UPDATE that does not set it is missed", ""
        hint = f"if every UPDATE sets {name}, index it, and take `cursor: {{column: {name}}}`"
        return None, f"no trigger and no index shows that UPDATEs set {name}", hint
    [key, *others] = facts.key
    if facts.only_grows and not others and key.type in ("int4", "int8") and not key.array:
        hint = f"if rows never change, `cursor: {{column: {key.name}}}` reads the new ones alone"
        return None, "no column tells when a row was changed", hint
    return None, "no column tells when a row was changed", ""


def _order(facts: TableFacts, cursor: str) -> str:
    return ", ".join([cursor, *(one.name for one in facts.key if one.name != cursor)])


def _is_soft_delete(column: ColumnFacts) -> bool:
    """A time that is NULL while the row is there, or a boolean."""
    one = column.column
    if one.array or not column.readable or not _DELETED.fullmatch(_squashed(one.name)):
        return False
    return one.type == "bool" or (one.type in ("date", *_TIMES) and not one.not_null)


def _excluded(facts: TableFacts) -> Iterator[Choice]:
    key = {column.name for column in facts.key}
    groups = {
        "no names for a field": list(facts.unusable),
        "the role may not read them": [one.name for one in facts.columns if not one.readable],
        "looks secret": [
            one.name
            for one in facts.columns
            if one.readable and one.name not in key and looks_secret(one.column)
        ],
    }
    for why, names in groups.items():
        if names:
            yield Choice("exclude", names, why)


def _partitions(
    facts: TableFacts, cursor: ColumnFacts | None, left_out: set[str], now: datetime
) -> Iterator[Choice]:
    if 0 < facts.leaves <= MAX_PARTITIONS and cursor:
        yield Choice("partitions", {"by": "native"}, "as PostgreSQL has cut it")
        return
    wanted = min(ceil(max(facts.rows, facts.bytes / 1000) / PARTITION_ROWS), MAX_PARTITIONS)
    if wanted < 2:
        return
    usable = [one for one in facts.columns if one.lowest is not None and one.name not in left_out]
    # A row would move from partition to partition with its cursor.
    usable = [one for one in usable if not _MOVED.fullmatch(_squashed(one.name))]
    yield (
        _by_time(facts, usable, wanted, now)
        or _by_range(facts, usable, wanted)
        or _by_hash(facts, wanted)
    )


def _by_time(
    facts: TableFacts, usable: Sequence[ColumnFacts], wanted: int, now: datetime
) -> Choice | None:
    times = [
        column
        for column in usable
        # There is no partition of the future.
        if isinstance(column.lowest, date)
        and isinstance(column.highest, date)
        and column.lowest >= _SENTINEL
        and column.highest <= now.astimezone(UTC).date()
    ]
    if not times:
        return None
    column = min(times, key=_how_late_it_may_come)
    assert isinstance(column.lowest, date)
    assert isinstance(column.highest, date)
    counts = {by: _periods(by, column.lowest, column.highest) for by in ("year", "month", "day")}
    fitting = [by for by, count in counts.items() if wanted <= count <= MAX_PARTITIONS]
    possible = [by for by, count in counts.items() if 2 <= count <= MAX_PARTITIONS]
    if not possible:
        return None
    by = (fitting or possible[-1:])[0]
    start = _first_day(by, column.lowest)
    return Choice(
        "partitions",
        {"by": by, "column": column.name, "start": start},
        f"of about {facts.rows // counts[by]:,} rows; {column.name} is indexed and never NULL",
    )


def _how_late_it_may_come(column: ColumnFacts) -> tuple[bool, int]:
    """A row that comes with an old time, before the first partition, would be in none."""
    named = bool(_CREATED.fullmatch(_squashed(column.name)))
    kind = ("timestamptz", "timestamp", "date").index(column.column.type)
    return not (named or column.set_on_insert), kind


def _periods(by: str, lowest: date, highest: date) -> int:
    match by:
        case "year":
            return highest.year - lowest.year + 1
        case "month":
            return (highest.year - lowest.year) * 12 + highest.month - lowest.month + 1
        case _:
            return (highest - lowest) // timedelta(days=1) + 1


def _first_day(by: str, day: date) -> date:
    return {"year": day.replace(month=1, day=1), "month": day.replace(day=1)}.get(by, day)


def _by_range(facts: TableFacts, usable: Sequence[ColumnFacts], wanted: int) -> Choice | None:
    numbers = {one.name: one for one in usable if isinstance(one.lowest, int)}
    column = next((numbers[one.name] for one in facts.key if one.name in numbers), None)
    if column is None:
        return None
    assert isinstance(column.lowest, int)
    assert isinstance(column.highest, int)
    width = _round_number(ceil((column.highest - column.lowest + 1) / wanted))
    count = column.highest // width - column.lowest // width + 1
    return Choice(
        "partitions",
        {"by": "range", "column": column.name, "width": width},
        f"of about {facts.rows // count:,} rows; {column.name} is indexed, and of the key",
    )


def _round_number(least: int) -> int:
    """1, 2 or 5 with as many zeros as it takes."""
    power = int("1".ljust(len(str(least)), "0"))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)


def _by_hash(facts: TableFacts, wanted: int) -> Choice:
    buckets = min(1 << (wanted - 1).bit_length(), MAX_BUCKETS)
    return Choice(
        "partitions",
        {"by": "hash", "buckets": buckets},
        f"of about {facts.rows // buckets:,} rows; no index suggests another cut",
    )


def _field(facts: TableFacts, facts_of: ColumnFacts) -> Choice | None:
    """The mapping of a text whose values show that text with `raw` is more than is needed."""
    column, width, distinct = facts_of.column, facts_of.width, facts_of.distinct
    if column.array or column.type not in _TEXTS or facts.rows < MIN_SAMPLE:
        return None
    if width is None or distinct is None or not column.name.isprintable():
        return None
    # ANALYZE keeps no value of more than 1 kB, and counts one that is stored apart as 18 bytes.
    if width >= PROSE_BYTES or (facts_of.blanks is None and distinct < 0):
        shown = f"{width} bytes on average" if width >= PROSE_BYTES else "long values"
        return Choice(column.name, {"type": "text"}, f"{shown}: found by words alone")
    if facts_of.blanks is not False or width > CODE_BYTES:
        return None
    if 0 < distinct <= CODES:
        return Choice(column.name, keyword(), f"{distinct:g} different values, none with a blank")
    if facts_of.letters is False:
        return Choice(column.name, keyword(), "no value has a blank, or is a word")
    return None


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _size(size: int) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"
