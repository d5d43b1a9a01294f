"""What `tables.yaml` says, as models."""

import re
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from pg_es_pipeline.asset_options import AssetOptions

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d{1,6})\s*([smhd])", str(value).strip())
    if match is None:
        raise ValueError("a duration is a whole number and a unit: 30s, 5m, 2h or 1d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


Duration = Annotated[timedelta, BeforeValidator(_duration, json_schema_input_type=str)]


def share(value: Any) -> float:
    """A percentage as a fraction. Raises ValueError."""
    if isinstance(value, float) and 0 <= value <= 1:
        return value
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", str(value).strip())
    if match is None or float(match[1]) > 100:
        raise ValueError("a share is a percentage: 0%, 2.5%, 10%, up to 100%")
    return float(match[1]) / 100


Share = Annotated[float, BeforeValidator(share, json_schema_input_type=str)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cursor(_Model):
    """How changed rows are found: by a column that every insert and update moves forward."""

    column: str = "updated_at"
    soft_delete: str | None = None
    """A column that is not NULL in a deleted row (a boolean column: true)."""
    lookback: Duration = timedelta(minutes=5)
    """How long a transaction may stay open unseen, where the role may not see other sessions."""
    lookback_ids: int = Field(default=0, ge=0)
    """Of a whole-number cursor: how far behind the highest number a lower one may still appear,
    for a sequence with CACHE, or an application that draws its numbers ahead."""


class Snapshot(_Model):
    """How changed rows are found without a cursor: by comparing both sides."""

    every: Duration = timedelta(minutes=5)
    """The least time between two comparisons."""


class Checks(_Model):
    """What the asset checks ask for."""

    max_lag: Duration = timedelta(minutes=15)
    """How long a change may wait."""
    sample: int = Field(default=100, ge=0, le=10_000)
    """Documents, and as many rows, drawn at random and compared as a whole."""
    full: bool = False
    """Whether all documents are compared as a whole instead."""


class TimePartitions(_Model):
    """One partition for each hour, day, week (from Monday), month or year of a date or time."""

    by: Literal["hour", "day", "week", "month", "year"]
    column: str
    start: date
    end: date | None = None
    """The first day that is no longer covered; without it the current period is the last."""
    end_offset: int = Field(default=0, ge=0, le=1000)
    """So many periods after the current one are covered too, for rows that lie ahead of now."""
    time_zone: str = "UTC"

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone {value!r}: use a name such as Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> Self:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end}) is not after start ({self.start})")
        if self.end is not None and self.end_offset:
            raise ValueError("end_offset counts from now, and end is a day: give one of them")
        if self.by == "hour" and self.time_zone != "UTC":
            raise ValueError("hours are counted in UTC (a local hour repeats when clocks go back)")
        for name, day in (("start", self.start), ("end", self.end)):
            if day is not None and not _is_first_day(self.by, day):
                raise ValueError(f"{name} ({day}) is not the first day of a {self.by}")
        return self


def _is_first_day(by: str, day: date) -> bool:
    match by:
        case "week":
            return day.weekday() == 0
        case "month":
            return day.day == 1
        case "year":
            return (day.month, day.day) == (1, 1)
        case _:
            return True


class HashPartitions(_Model):
    """A fixed number of partitions of about the same size, by a hash of the key."""

    by: Literal["hash"]
    buckets: int = Field(ge=2, le=1024)


class ListPartitions(_Model):
    """One partition for each of the listed values of a column."""

    by: Literal["list"]
    column: str
    values: tuple[str, ...] = Field(min_length=1)

    @field_validator("values", mode="before", json_schema_input_type=list[str | int | float | date])
    @classmethod
    def _values_are_text(cls, value: Any) -> Any:
        if isinstance(value, list):
            for item in value:
                if isinstance(item, bool):
                    raise ValueError(f"YAML reads {item} as a boolean: put it in quotes")
                if not isinstance(item, str | int | float | date):
                    raise ValueError(f"{item!r} is not one value")
            return tuple(str(item) for item in value)
        return value

    @field_validator("values")
    @classmethod
    def _values_differ(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a value is listed twice")
        return values


class RangePartitions(_Model):
    """One partition for every `width` numbers of a column, as many as the table has come to need.

    A partition is known by its lowest number, a multiple of the width.
    """

    by: Literal["range"]
    column: str
    width: int = Field(ge=1)


class NativePartitions(_Model):
    """PostgreSQL's own partitions of the table, each by its name."""

    by: Literal["native"]


Partitions = Annotated[
    TimePartitions | HashPartitions | ListPartitions | RangePartitions | NativePartitions,
    Field(discriminator="by"),
]


PARTITION_KINDS = ("hour", "day", "week", "month", "year", "hash", "list", "range", "native")


class Table(_Model, AssetOptions):
    """One table and the index that it is loaded into."""

    table: str
    index: str = ""
    key: tuple[str, ...] = ()
    capture: Literal["auto", "cursor", "snapshot"] = "auto"
    """How changes are found; `auto`: by the cursor column where the table has it, else by comparing
    both sides."""
    cursor: Cursor = Cursor()
    snapshot: Snapshot = Snapshot()
    partitions: Partitions | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    fields: dict[str, dict[str, Any]] = {}
    """Mappings that replace the ones derived from the columns' types, by column."""
    transform: str | None = None
    """A function over pandas DataFrames that makes other documents of the rows, as
    `module:function`."""
    content_hash: bool = False
    """Whether each document carries a hash of its content, so that whole documents can be compared.
    `snapshot` always keeps one."""
    max_dead_letters: int = Field(default=1000, ge=0)
    """Refused rows that the index may have before its runs fail."""
    max_deletes: Share = 0.1
    """The share of the documents that a reconcile may delete."""
    reindex: Literal["auto", "manual"] = "auto"
    """Whether a new generation is loaded by itself where the live one cannot take the table's rows
    as they have come to be."""
    keep_generations: Duration = timedelta(days=3)
    """How long a generation that was live is kept to go back to."""
    bootstrap: Literal["auto", "manual"] = "auto"
    """Whether the first load is requested by itself, or waited for."""
    max_partitions_per_run: int | None = Field(default=None, ge=1)
    """Partitions that a run takes at most of a backfill, a first load, or much that has changed."""
    checks: Checks = Checks()

    @model_validator(mode="before")
    @classmethod
    def _index_defaults_to_the_tables_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("index") and isinstance(data.get("table"), str):
            return {**data, "index": data["table"].rpartition(".")[2].lower()}
        return data

    @field_validator("table")
    @classmethod
    def _schema_and_name(cls, value: str) -> str:
        schema, dot, name = value.partition(".")
        if not dot:
            schema, name = "public", value
        if not schema or not name:
            raise ValueError("a table is named schema.table, for example public.orders")
        return f"{schema}.{name}"

    @field_validator("index")
    @classmethod
    def _allowed_by_elasticsearch(cls, value: str) -> str:
        # https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-indices-create
        if problem := index_name_problem(value):
            raise ValueError(f"Elasticsearch allows no index named {value!r}: {problem}")
        return value

    @field_validator("transform")
    @classmethod
    def _module_and_function(cls, value: str | None) -> str | None:
        if value is not None:
            module, _, function = value.partition(":")
            if not all(part.isidentifier() for part in (*module.split("."), function)):
                raise ValueError(
                    f"{value!r} is not module:function, such as my_package.transforms:clean"
                )
        return value

    @field_validator("key", "include", "exclude")
    @classmethod
    def _columns_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for column in value:
            if value.count(column) > 1:
                raise ValueError(f"the column {column!r} is listed twice")
        return value

    @model_validator(mode="after")
    def _either_include_or_exclude(self) -> Self:
        if self.include and self.exclude:
            raise ValueError("give include or exclude, not both")
        return self

    @property
    def schema_name(self) -> str:
        return self.table.partition(".")[0]

    @property
    def name(self) -> str:
        return self.table.partition(".")[2]


_DEFAULTS = {
    *("capture", "cursor", "snapshot", "content_hash", "max_dead_letters", "max_deletes"),
    *("reindex", "keep_generations", "bootstrap", "max_partitions_per_run", "checks"),
    *("group", "owners", "tags"),
}


class Tables(_Model):
    """The whole file."""

    defaults: dict[str, Any] = {}
    tables: tuple[Table, ...] = Field(min_length=1)
    _lines: dict[str, int] = PrivateAttr(default={})

    @model_validator(mode="before")
    @classmethod
    def _defaults_apply(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        defaults, tables = data.get("defaults") or {}, data.get("tables")
        if not isinstance(defaults, dict) or not isinstance(tables, list):
            return data
        if unknown := set(defaults) - _DEFAULTS:
            takes = ", ".join(sorted(_DEFAULTS))
            raise ValueError(f"defaults has no key {sorted(unknown)[0]!r}: it takes {takes}")
        merged = [{**defaults, **table} if isinstance(table, dict) else table for table in tables]
        return {**data, "defaults": defaults, "tables": merged}

    @field_validator("tables")
    @classmethod
    def _indices_differ(cls, tables: tuple[Table, ...]) -> tuple[Table, ...]:
        seen: dict[str, str] = {}
        for table in tables:
            if table.index in seen:
                raise ValueError(
                    f"{seen[table.index]} and {table.table} would both go to the index "
                    f"{table.index!r}: give one of them another index"
                )
            seen[table.index] = table.table
        return tables

    def __getitem__(self, index: str) -> Table:
        """The table that goes to that index."""
        for table in self.tables:
            if table.index == index:
                return table
        raise KeyError(index)

    def read_from(self, lines: dict[str, int]) -> Self:
        """Notes where the entries begin in the file, by index."""
        self._lines = lines
        return self

    def line(self, index: str) -> int | None:
        """Where the entry of the table that goes to that index begins, in a file that was read."""
        return self._lines.get(index)


def index_name_problem(name: str) -> str | None:
    """Why Elasticsearch would refuse an index of that name; None when it would not."""
    if not name or name in {".", ".."}:
        return "it is empty or made of dots alone"
    if name != name.lower():
        return "it has upper-case letters"
    if bad := sorted(set(name) & set('\\/*?"<>| ,#:')):
        return f"it contains {bad[0]!r}"
    if name[0] in "-_+.":
        return f"it begins with {name[0]!r}"
    if len(name.encode()) > 200:  # Elasticsearch's 255, less room for the generation's number
        return "it is longer than 200 bytes"
    return None
