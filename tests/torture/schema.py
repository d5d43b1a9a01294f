"""The tables of a seed: names, keys, columns, values, partitions, all drawn."""

import random
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

Draw = Callable[[random.Random], Any]

_FIRST_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_MONTHS_END = date(2024, 5, 1)
_REGIONS = ("eu", "us", "o'hara", 'quo"ted', "back\\slash", "ünïcode")

_TEXTS = (
    *("", " ", "plain words", "null", "0", "-1", "true", '{"a": 1}', '["a", "b"]', '["a","b"]'),
    *('quo"te', "apo'strophe", "back\\slash", "\\u0041", "\\n", "new\nline", "return\r\n", "tab\t"),
    *("é", "e\u0301", "\u2028\u2029", "😀 👩‍👩‍👧", "\x01\x1f", "\x7f", "日本語"),
    *("%s %(a)s %%", "{}", "a/b?c=d#e", "sha256:", "sha256:" + "0" * 64),
    *("_id", "_doc", ".", "..", "*", "-", "\ufeff", "x" * 511, "y" * 512, "z" * 513, "é" * 300),
)

_JSONS: tuple[Any, ...] = (
    *({}, {"a": 1}, {"a": {"b": [1, 2, {"c": None}]}}, {"text": 'new\nline \\ " 😀'}),
    *([], [1, "2", None], "scalar", 5, True, None, {"big": 12345678901234567890}),
)


@dataclass(frozen=True)
class Column:
    """A column beside its type, and how its values are drawn."""

    name: str
    type: str
    draw: Draw


@dataclass(frozen=True)
class TortureTable:
    """A table that is written to, and its entry in the tables file."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    cursor: Column | None
    """None: changes are found by comparing both sides."""
    soft_delete: Column | None
    partition: Column | None
    append_only: bool
    """Whether rows are only ever added, numbered by a sequence that is the cursor as well."""
    hidden: bool
    """Whether changes happen that no cursor can see: rows deleted for good, keys that change, and,
    where a reconcile compares the content, cursors set back."""
    ddl: tuple[sql.Composed, ...]
    entry: dict[str, Any] = field(default_factory=dict)

    @property
    def index(self) -> str:
        return str(self.entry["index"])

    @property
    def needs_reconcile(self) -> bool:
        """Whether loads alone need not bring both sides in step."""
        return self.hidden and self.cursor is not None

    @property
    def cursors_go_back(self) -> bool:
        return self.hidden and bool(self.entry.get("content_hash"))

    @property
    def relation(self) -> sql.Identifier:
        return sql.Identifier("public", self.name)


def draw_tables(chance: random.Random, prefix: str) -> list[TortureTable]:
    """Two or three tables, as different as one seed allows."""
    return [_draw_table(chance, prefix, number) for number in range(chance.choice([2, 2, 3]))]


def _draw_table(chance: random.Random, prefix: str, number: int) -> TortureTable:
    name = chance.choice(["orders", "Mixed Case", 'quo"ted', "select", "日本", "per%cent"])
    name = f"{name}{number}"
    append_only = chance.random() < 0.15
    key = (_SERIAL,) if append_only else _draw_key(chance)
    cursor = _SERIAL if append_only else chance.choice([*_CURSORS, None])
    soft_delete = None if append_only else chance.choice(_SOFT_DELETES)
    kinds = ["none", "month", "hash", "list", "range"]
    # PostgreSQL's own partitions need a cursor.
    kind = chance.choice([*kinds, "native"] if cursor else kinds)
    partition, partitions = _draw_partitions(chance, kind)
    columns = (
        *key,
        *(_PAYLOAD if chance.random() < 0.7 else chance.sample(_PAYLOAD, 4)),
        *(column for column in (partition, soft_delete, cursor) if column and column not in key),
    )
    hidden = not append_only and (cursor is None or chance.random() < 0.5)
    capture: dict[str, Any] = {"capture": "snapshot", "snapshot": {"every": "0s"}}
    if cursor:
        capture = {"capture": "cursor", "content_hash": hidden and chance.random() < 0.5}
    details = {
        **({"column": cursor.name} if cursor else {}),
        **({"lookback_ids": _CACHE * 10_000} if append_only else {}),
        **({"soft_delete": soft_delete.name} if soft_delete else {}),
    }
    return TortureTable(
        name=name,
        columns=columns,
        key=key,
        cursor=cursor,
        soft_delete=soft_delete,
        partition=partition,
        append_only=append_only,
        hidden=hidden,
        ddl=(
            *_ddl(name, columns, key, native=kind == "native"),
            *(_touch(chance, name, key, cursor) if cursor and not append_only else ()),
        ),
        entry={
            "table": f"public.{name}",
            "index": f"{prefix}{number}",
            "max_deletes": "100%",
            **capture,
            **({"cursor": details} if details else {}),
            **({"partitions": partitions} if partitions else {}),
        },
    )


def _draw_key(chance: random.Random) -> tuple[Column, ...]:
    number = Column("id", chance.choice(["bigint", "integer"]), lambda r: r.randint(-50, 20_000))
    words = Column('the "key"', "text", _hostile_key)
    day = Column("day", "date", lambda r: date(2024, 1, 1) + timedelta(r.randrange(400)))
    uuid = Column("uuid", "uuid", lambda r: UUID(int=r.getrandbits(128)))
    return chance.choice([(number,), (number,), (words,), (words, number), (day, words), (uuid,)])


def _hostile_key(chance: random.Random) -> str:
    return chance.choice(_TEXTS) + chance.choice(["", str(chance.randrange(2_000))])


def _draw_partitions(
    chance: random.Random, kind: str
) -> tuple[Column | None, dict[str, Any] | None]:
    match kind:
        case "month":
            type_name = chance.choice(["timestamptz", "timestamp", "date"])
            zone = chance.choice(["UTC", "America/New_York"])
            entry = {"by": "month", "column": "placed", "start": _FIRST_DAY.date()}
            entry |= {"end": _MONTHS_END, "time_zone": zone}
            return Column("placed", type_name, lambda r: _in_months(r, type_name)), entry
        case "hash":
            return None, {"by": "hash", "buckets": chance.randint(2, 5)}
        case "list":
            values = chance.sample(_REGIONS, 3)
            entry = {"by": "list", "column": "region", "values": values}
            return Column("region", "text", lambda r: r.choice(values)), entry
        case "range":
            entry = {"by": "range", "column": "shelf", "width": chance.choice([100, 400])}
            return Column("shelf", "integer", lambda r: r.randrange(-200, 1_000)), entry
        case "native":
            return None, {"by": "native"}
    return None, None


def _in_months(chance: random.Random, type_name: str) -> Any:
    # A day away from the bounds of the whole: rows outside every partition are not loaded.
    seconds = ((_MONTHS_END - _FIRST_DAY.date()).days - 2) * 86_400
    moment = _FIRST_DAY + timedelta(1, chance.randrange(seconds), chance.randrange(10**6))
    return moment if type_name == "timestamptz" else moment.replace(tzinfo=None)


def _moment(chance: random.Random) -> datetime:
    days, seconds = chance.randrange(-30_000, 30_000), chance.randrange(86_400)
    return _FIRST_DAY + timedelta(days, seconds, chance.randrange(10**6))


def _sometimes_null(draw: Draw) -> Draw:
    return lambda chance: None if chance.random() < 0.15 else draw(chance)


def _text(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return chance.choice(_TEXTS)
    return "".join(chance.choices(string.printable, k=chance.randrange(80)))


def _numeric(chance: random.Random) -> Decimal:
    digits = chance.choice([3, 18, 40])
    number = Decimal(chance.randrange(10**digits)).scaleb(-chance.randrange(digits))
    return chance.choice([number, -number, Decimal("NaN"), Decimal("1.500")])


_PAYLOAD = tuple(
    Column(name, type_name, _sometimes_null(draw))
    for name, type_name, draw in (
        ("Title", "text", _text),
        ("small", "smallint", lambda r: r.choice([-32768, 32767, r.randrange(100)])),
        ("big", "bigint", lambda r: r.choice([2**63 - 1, -(2**63), 2**53 + 1, r.getrandbits(40)])),
        ("price", "numeric", _numeric),
        ("ratio", "float8", lambda r: r.choice([1e300, -5e-324, 0.1, r.random(), float("inf")])),
        ("at", "timestamptz", _moment),
        ("local", "timestamp", lambda r: _moment(r).replace(tzinfo=None)),
        ("flag", "boolean", lambda r: r.random() < 0.5),
        ("tags", "text[]", lambda r: r.choices([*_TEXTS, None], k=r.randrange(4))),
        ("numbers", "integer[]", lambda r: [r.randrange(10**6) for _ in range(r.randrange(4))]),
        ("doc", "jsonb", lambda r: Jsonb(r.choice(_JSONS))),
        ("it's", "varchar(700)", lambda r: _text(r)[:700]),
    )
)


_CURSORS = tuple(
    Column(name, type_name, lambda _: None)
    for name, type_name in (
        ("updated_at", "timestamptz"),
        ("Updated At", "timestamptz"),
        ("order", "timestamp"),
    )
)
_CACHE = 10
"""Numbers that a session draws from a sequence at once: they appear long after higher ones."""

_SERIAL = Column(
    "id",
    f"bigint GENERATED BY DEFAULT AS IDENTITY (CACHE {_CACHE})",
    lambda _: sql.SQL("DEFAULT"),
)
_SOFT_DELETES = (
    None,
    Column("deleted_at", "timestamptz", lambda _: None),
    Column("is deleted", "boolean", lambda _: False),
)


def _ddl(
    name: str, columns: tuple[Column, ...], key: tuple[Column, ...], *, native: bool
) -> Iterator[sql.Composed]:
    table = sql.Identifier("public", name)
    definitions = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type))
        for column in columns
    )
    create = sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
        table, definitions, names(key)
    )
    if not native:
        yield create
        return
    yield sql.SQL("{} PARTITION BY HASH ({})").format(create, names(key[:1]))
    for rest in range(3):
        yield sql.SQL(
            "CREATE TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS 3, REMAINDER {})"
        ).format(sql.Identifier("public", f"{name} {rest}"), table, sql.Literal(rest))


def _touch(
    chance: random.Random, name: str, key: tuple[Column, ...], cursor: Column
) -> Iterator[sql.Composed]:
    """Keeps the cursor; one that a statement sets by hand stays."""
    table, stamp = sql.Identifier("public", name), sql.Identifier(cursor.name)
    touch = sql.Identifier("public", f"touch {name}")
    yield sql.SQL(
        "CREATE FUNCTION {touch}() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN "
        "IF TG_OP = 'INSERT' THEN NEW.{stamp} := coalesce(NEW.{stamp}, {now}); "
        "ELSIF NEW.{stamp} IS NOT DISTINCT FROM OLD.{stamp} THEN NEW.{stamp} := {now}; "
        "END IF; RETURN NEW; END $body$"
    ).format(
        touch=touch,
        stamp=stamp,
        now=sql.SQL(chance.choice(["now()", "now()", "clock_timestamp()"])),
    )
    yield sql.SQL(
        "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION {}()"
    ).format(table, touch)
    if chance.random() < 0.5:
        yield sql.SQL("CREATE INDEX ON {} ({}, {})").format(table, stamp, names(key))


def names(columns: Iterable[Column]) -> sql.Composed:
    """The columns' names, for a list in a statement."""
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
