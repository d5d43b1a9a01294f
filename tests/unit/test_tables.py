"""The tables file: what it may say, and how a mistake in it is told."""

import os
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from elasticsearch import BadRequestError, Elasticsearch

from pg_es_pipeline.errors import TablesError
from pg_es_pipeline.orchestration.names import require_distinct
from pg_es_pipeline.tables import (
    HashPartitions,
    ListPartitions,
    Table,
    Tables,
    index_name_problem,
    read_tables,
)

REPOSITORY = Path(__file__).parents[2]
PYDANTIC = ("Value error", "valid tuple", "Tuple should", "instance of", "Input tag", "tag using")
"""Words of pydantic's messages that mean nothing to the file's author."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tables.yaml"


def tables_of(file: Path, text: str) -> Tables:
    file.write_text(text, encoding="utf-8")
    return read_tables(file)


def only(file: Path, entry: str) -> Table:
    [table] = tables_of(file, f"tables: [{{table: public.orders, {entry}}}]").tables
    return table


def refusal(file: Path, text: str) -> str:
    with pytest.raises(TablesError) as caught:
        tables_of(file, text)
    return str(caught.value)


# The file as a whole


def test_a_missing_file_is_answered_with_an_example_that_works(file: Path) -> None:
    with pytest.raises(TablesError, match="no such file") as caught:
        read_tables(file)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith(f"{file}: ")
    assert "PG_ES_TABLES" in lines[-1]
    assert [table.table for table in tables_of(file, "\n".join(lines[:-1])).tables] == [
        "public.orders"
    ]


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(TablesError, match="cannot be read"):
        read_tables(tmp_path)


def test_a_file_in_another_encoding_is_not_read(file: Path) -> None:
    file.write_bytes("tables: [{table: Größe}]".encode("latin-1"))
    with pytest.raises(TablesError, match="cannot be read"):
        read_tables(file)


@pytest.mark.parametrize(
    "text",
    [
        "tables: [",
        "tables: !!python/object/apply:os.getcwd []",
        "tables: [{table: a, partitions: {by: day, column: c, start: 2013-02-30}}]",
    ],
)
def test_what_is_no_yaml_is_named_so(file: Path, text: str) -> None:
    assert refusal(file, text).startswith(f"{file}: is no YAML: ")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "- table: public.orders", "orders"])
def test_a_file_without_the_key_tables_at_the_top_is_refused(file: Path, text: str) -> None:
    assert "'tables' is expected at the top" in refusal(file, text)


# Mistakes in it


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("tabels: []", "tabels", "no such key"),
        ("defaults: {}", "tables", "is missing"),
        ("tables: []", "tables", ""),
        ("tables:", "tables", ""),
        ("tables: {table: orders}", "tables", ""),
        ("{1: x, tables: [{table: orders}]}", "1", ""),
        ("tables: [public.orders]", "entry 1 of tables", ""),
        ("tables: [{table: a}, {index: orders}]", "entry 2 of tables: table", "is missing"),
        ("defaults: [cursor]\ntables: [{table: a}]", "defaults", ""),
    ],
)
def test_a_mistake_outside_the_entries_names_the_file_and_the_place(
    file: Path, text: str, place: str, reason: str
) -> None:
    lines = refusal(file, text).splitlines()
    assert any(line.startswith(f"{file}: {place}: {reason}") for line in lines), lines
    assert not any(words in line for words in PYDANTIC for line in lines)


@pytest.mark.parametrize(
    ("entry", "key", "reason"),
    [
        ("indx: a", "indx", "no such key"),
        ("cursor: {colum: a}", "cursor.colum", "no such key"),
        ("partitions: {by: hash, bucket: 4}", "partitions.buckets", "is missing"),
        ("partitions: {by: hash, buckets: 4, column: a}", "partitions.column", "no such key"),
        ("partitions: {by: month, start: 2013-01-01}", "partitions.column", "is missing"),
        (
            "partitions: {by: month, column: c, start: 2013-01-01, month: 1}",
            "partitions.month",
            "no such key",
        ),
        ("capture: wal", "capture", ""),
        ("key: id", "key", ""),
        ("key: [1]", "key.0", ""),
        ("exclude: {a: b}", "exclude", ""),
        ("fields: [a]", "fields", ""),
        ("transform: shop.transforms", "transform", "'shop.transforms' is not module:function"),
        ("transform: 'shop.transforms:'", "transform", "'shop.transforms:' is not module:"),
        ("transform: 'shop/a.py:clean'", "transform", "'shop/a.py:clean' is not module:"),
        ("transform: {module: shop}", "transform", "text is expected"),
        ("fields: {a: keyword}", "fields.a", ""),
        ("index: 5", "index", ""),
        ("cursor: updated_at", "cursor", ""),
        ("cursor: {column: 5}", "cursor.column", ""),
        ("cursor: {lookback: soon}", "cursor.lookback", "a duration is a whole number and a unit"),
        ("cursor: {lookback: 5 minutes}", "cursor.lookback", "a duration is"),
        ("cursor: {lookback: 5}", "cursor.lookback", "a duration is"),
        ("cursor: {lookback: true}", "cursor.lookback", "a duration is"),
        ("cursor: {lookback: 99999999999d}", "cursor.lookback", ""),
        ("index: Orders", "index", "Elasticsearch allows no index named 'Orders'"),
        ("partitions: month", "partitions", ""),
        (
            "partitions: {by: day, column: c, start: 2013-01-01, end: 2014-01-01, end_offset: 1}",
            "partitions",
            "end_offset counts from now, and end is a day",
        ),
        ("bootstrap: later", "bootstrap", ""),
        ("max_partitions_per_run: 0", "max_partitions_per_run", ""),
        ("partitions: {column: c, start: 2013-01-01}", "partitions", ""),
        ("partitions: {by: fortnight, column: c}", "partitions", ""),
        ("partitions: {by: hash, buckets: 1}", "partitions.buckets", ""),
        ("partitions: {by: hash, buckets: 1025}", "partitions.buckets", ""),
        ("partitions: {by: list, column: c, values: []}", "partitions.values", ""),
        ("partitions: {by: list, column: c, values: eu}", "partitions.values", ""),
        (
            "partitions: {by: list, column: c, values: [de, no]}",
            "partitions.values",
            "YAML reads False as a boolean: put it in quotes",
        ),
        ("partitions: {by: list, column: c, values: [a, ~]}", "partitions.values", ""),
        ("partitions: {by: list, column: c, values: [{a: b}]}", "partitions.values", ""),
        ("partitions: {by: list, column: c, values: [1, '1']}", "partitions.values", "a value is"),
        ("partitions: {by: day, column: c, start: soon}", "partitions.start", ""),
        ("partitions: {by: month, column: c, start: 2013-01-02}", "partitions", "start (2013-01-"),
        ("partitions: {by: year, column: c, start: 2013-02-01}", "partitions", "start (2013-02-"),
        ("partitions: {by: week, column: c, start: 2013-01-01}", "partitions", "start (2013-01-"),
        (
            "partitions: {by: day, column: c, start: 2013-01-02, end: 2013-01-02}",
            "partitions",
            "end (2013-01-02) is not after start (2013-01-02)",
        ),
        (
            "partitions: {by: month, column: c, start: 2013-01-01, end: 2013-03-15}",
            "partitions",
            "end (2013-03-15) is not the first day of a month",
        ),
        (
            "partitions: {by: hour, column: c, start: 2013-01-01, time_zone: Europe/Berlin}",
            "partitions",
            "hours are counted in UTC",
        ),
        *(
            (
                f"partitions: {{by: day, column: c, start: 2013-01-01, time_zone: {zone}}}",
                "partitions.time_zone",
                "no time zone",
            )
            for zone in ("Berlin", "Europe", "../etc/passwd", "''")
        ),
    ],
)
def test_a_mistake_in_an_entry_names_the_file_the_table_and_the_key(
    file: Path, entry: str, key: str, reason: str
) -> None:
    text = f"tables: [{{table: public.a}}, {{table: public.orders, {entry}}}]"
    lines = refusal(file, text).splitlines()
    expected = f"{file}: table public.orders: {key}: {reason}"
    assert any(line.startswith(expected) for line in lines), lines
    assert not any(words in line for words in PYDANTIC for line in lines)


def test_include_and_exclude_exclude_each_other(file: Path) -> None:
    message = refusal(file, "tables: [{table: orders, include: [a], exclude: [b]}]")
    assert message == f"{file}: table orders: give include or exclude, not both"


def test_a_single_mistake_is_a_single_line(file: Path) -> None:
    text = "tables: [{table: public.orders, cursor: {colum: a}}]"
    assert refusal(file, text) == f"{file}: table public.orders: cursor.colum: no such key"


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    message = refusal(file, "tables: [{table: a, indx: b}, {table: b, key: 1}, {table: c}]")
    assert f"{file}: table a: indx: no such key" in message
    assert f"{file}: table b: key: " in message
    assert "table c" not in message


@pytest.mark.parametrize("name", [".orders", "public.", "."])
def test_a_table_needs_a_schema_and_a_name(file: Path, name: str) -> None:
    assert "a table is named schema.table" in refusal(file, f"tables: [{{table: '{name}'}}]")


def test_two_tables_do_not_share_an_index(file: Path) -> None:
    message = refusal(file, "tables: [{table: sales.orders}, {table: archive.orders}]")
    assert "sales.orders and archive.orders would both go to the index 'orders'" in message


def test_two_indices_whose_jobs_would_share_a_name_are_refused(file: Path) -> None:
    tables = tables_of(file, "tables: [{table: a, index: x-y}, {table: b, index: x.y}]").tables
    with pytest.raises(TablesError, match=r"'x-y' and 'x\.y'"):
        require_distinct(tables)


# What it means


def test_a_short_entry_has_the_documented_defaults(file: Path) -> None:
    [table] = tables_of(file, "tables: [{table: Orders}]").tables
    assert (table.table, table.schema_name, table.name) == ("public.Orders", "public", "Orders")
    assert table.index == "orders"
    assert table.cursor.column == "updated_at"
    assert table.cursor.soft_delete is None
    assert table.cursor.lookback == timedelta(minutes=5)
    assert table.partitions is None
    assert table.key == table.include == table.exclude == ()
    assert table.fields == {}


def test_a_name_may_contain_dots(file: Path) -> None:
    [table] = tables_of(file, "tables: [{table: sales.orders.2024}]").tables
    assert (table.schema_name, table.name, table.index) == ("sales", "orders.2024", "2024")


def test_defaults_hold_where_a_table_does_not_say_otherwise(file: Path) -> None:
    tables = tables_of(
        file,
        """
        defaults: {capture: cursor, cursor: {column: changed, soft_delete: gone}}
        tables:
          - table: public.a
          - {table: public.b, cursor: {column: modified}}
        """,
    )
    assert (tables["a"].cursor.column, tables["a"].cursor.soft_delete) == ("changed", "gone")
    # A table's own cursor replaces the default one as a whole.
    assert (tables["b"].cursor.column, tables["b"].cursor.soft_delete) == ("modified", None)


def test_empty_defaults_are_none(file: Path) -> None:
    assert tables_of(file, "defaults:\ntables: [{table: a}]")["a"].cursor.column == "updated_at"


def test_defaults_take_no_other_keys(file: Path) -> None:
    message = refusal(file, "defaults: {key: [id]}\ntables: [{table: a}]")
    assert message.startswith(
        f"{file}: defaults has no key 'key': it takes bootstrap, capture, checks"
    )


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("2 h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_a_number_and_a_unit(file: Path, text: str, meaning: timedelta) -> None:
    assert only(file, f"cursor: {{lookback: {text}}}").cursor.lookback == meaning


def test_listed_values_become_text(file: Path) -> None:
    table = only(file, "partitions: {by: list, column: c, values: [1, eu, 'no', 2024-01-01]}")
    assert isinstance(table.partitions, ListPartitions)
    assert table.partitions.values == ("1", "eu", "no", "2024-01-01")


@pytest.mark.parametrize("buckets", [2, 1024])
def test_the_number_of_buckets_has_bounds(file: Path, buckets: int) -> None:
    table = only(file, f"partitions: {{by: hash, buckets: {buckets}}}")
    assert table.partitions == HashPartitions(by="hash", buckets=buckets)


@pytest.mark.parametrize(
    ("by", "start", "end"),
    [
        ("hour", "2013-01-02", "2013-01-05"),
        ("day", "2013-01-02", "2013-01-05"),
        ("week", "2013-01-07", "2013-01-14"),
        ("month", "2013-02-01", "2014-01-01"),
        ("year", "2013-01-01", "2015-01-01"),
    ],
)
def test_periods_start_and_end_at_first_days(file: Path, by: str, start: str, end: str) -> None:
    only(file, f"partitions: {{by: {by}, column: c, start: {start}}}")
    only(file, f"partitions: {{by: {by}, column: c, start: {start}, end: {end}}}")


# Index names, held against a real node. `{}` is a prefix of the test's own.

ALLOWED = [
    "{}a.b..c_d-e+f=g&h;i'j(k)[l]@!$%20~^`\t\n\x7f\xa0.",
    "{}größe-ß-日本語-🙂",
    "{}".ljust(202 - len("t123456-"), "x"),
]
REFUSED = [
    *("{}Orders", "{}ÄRGER", "{}a b", "{}a,b", "{}a#b", "{}a:b", "{}a/b", "{}a\\b", "{}a*b"),
    *("{}a?b", '{}a"b', "{}a<b", "{}a>b", "{}a|b", "-{}", "_{}", "+{}", ".", ".."),
    "{}".ljust(260, "x"),
    "{}".ljust(140, "é"),
]


def test_every_allowed_index_name_is_allowed_by_elasticsearch(
    es: Elasticsearch, prefix: str
) -> None:
    for template in ALLOWED:
        name = template.format(prefix)
        assert index_name_problem(name) is None, name
        es.indices.create(
            index=f"{name}-000001",
            aliases={name: {}, f"{name}-000001.WRITE": {}},
            wait_for_active_shards=0,
        )
    assert len(es.indices.get_alias(index=f"{prefix}*")) == len(ALLOWED)


@pytest.mark.parametrize("template", REFUSED)
def test_names_that_elasticsearch_refuses_are_refused(
    es: Elasticsearch, prefix: str, template: str
) -> None:
    name = template.format(prefix)
    assert index_name_problem(name)
    if set(name) & set("/,:*"):  # these are taken apart in the address, before they are a name
        return
    with pytest.raises(BadRequestError):
        es.indices.create(index=name)


@pytest.mark.parametrize("name", ["", ".hidden"])
def test_names_with_a_meaning_of_their_own_are_refused(name: str) -> None:
    assert index_name_problem(name)


# The definitions


def test_the_definitions_load_without_environment_and_network() -> None:
    program = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from pg_es_pipeline.definitions import defs\n"
        "print(*sorted(job.name for job in defs.jobs))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"sync_all", "sync_flights"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tables: [{table: public.orders, indx: a}]", "table public.orders: indx: no such key"),
        ("tables: [{table: a, index: x-y}, {table: b, index: x_y}]", "'x-y' and 'x_y'"),
        (None, "no such file"),
    ],
)
def test_the_definitions_name_what_is_wrong_with_the_tables_file(
    monkeypatch: pytest.MonkeyPatch, file: Path, text: str | None, reason: str
) -> None:
    if text is not None:
        file.write_text(text)
    monkeypatch.chdir(file.parent)
    monkeypatch.delenv("PG_ES_TABLES", raising=False)
    with pytest.raises(TablesError, match=reason):
        runpy.run_module("pg_es_pipeline.definitions")


def test_another_file_is_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    other = file.with_name("other.yaml")
    monkeypatch.setitem(os.environ, "PG_ES_TABLES", str(other))
    with pytest.raises(TablesError, match=r"other\.yaml: no such file"):
        runpy.run_module("pg_es_pipeline.definitions")


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("2.5 %", 0.025), ("100%", 1.0)])
def test_a_share_is_a_percentage(text: str, share: float) -> None:
    assert Table(table="a", max_deletes=text).max_deletes == share


@pytest.mark.parametrize("text", ["10", "101%", "-1%", "ten", "%", ""])
def test_other_shares_are_refused(file: Path, text: str) -> None:
    message = refusal(file, f"tables: [{{table: a, max_deletes: {text!r}}}]")
    assert "max_deletes: a share is a percentage: 0%, 2.5%, 10%, up to 100%" in message


def test_a_key_that_is_given_twice_is_refused(file: Path) -> None:
    message = refusal(file, "tables:\n  - table: a\n    index: b\n    index: c\n")
    assert "line 4: the key 'index' is given twice" in message


@pytest.mark.parametrize("key", ["key", "include", "exclude"])
def test_a_column_that_is_listed_twice_is_refused(file: Path, key: str) -> None:
    message = refusal(file, f"tables: [{{table: a, {key}: [id, id]}}]")
    assert message == f"{file}: table a: {key}: the column 'id' is listed twice"
