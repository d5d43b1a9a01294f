"""What `pg-es init` makes of what the catalog tells, and that it reads as what was meant."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pg_es_pipeline.errors import SourceError, TablesError
from pg_es_pipeline.sync.catalog import Column
from pg_es_pipeline.sync.proposal.choices import Entry, propose
from pg_es_pipeline.sync.proposal.facts import ColumnFacts, TableFacts, Unlisted
from pg_es_pipeline.sync.proposal.names import index_names
from pg_es_pipeline.sync.proposal.proposal import Proposal, render, write
from pg_es_pipeline.sync.proposal.sensitive import looks_secret
from pg_es_pipeline.tables import read_tables

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MILLIONS = {"rows": 30_000_000, "bytes": 3_000_000_000}


def column(name: str, type_: str = "text", *, not_null: bool = False, **known: Any) -> ColumnFacts:
    return ColumnFacts(Column(name, type_, False, type_, not_null, None), **known)


ID = column("id", "int8", not_null=True)


def table(*columns: ColumnFacts, key: ColumnFacts = ID, **known: Any) -> TableFacts:
    every = (key, *(one for one in columns if one is not key))
    return TableFacts("public.orders", "orders", every, (key.column,), **known)


def entry(*columns: ColumnFacts, **known: Any) -> dict[str, Any]:
    found = propose(table(*columns, **known), NOW)
    assert isinstance(found, Entry), found
    return found.data


# How changes are found

TOUCHED = column("updated_at", "timestamptz", set_on_update=True, set_on_insert=True)
DEFAULTED = column("modifiedDate", "timestamp", not_null=True, set_on_insert=True)


def test_a_column_that_a_trigger_moves_is_the_cursor() -> None:
    found = entry(TOUCHED)
    assert (found["capture"], found["cursor"]) == ("cursor", {"column": "updated_at"})


def test_an_index_says_as_much_of_a_column_that_no_trigger_moves() -> None:
    assert entry(DEFAULTED, indexes=[("modifiedDate",)])["capture"] == "cursor"
    assert entry(DEFAULTED)["capture"] == "snapshot"


def test_the_column_that_a_trigger_moves_is_preferred() -> None:
    found = entry(DEFAULTED, TOUCHED, indexes=[("modifiedDate",)])
    assert found["cursor"] == {"column": "updated_at"}


@pytest.mark.parametrize(
    "other",
    [
        column("updated_at", "timestamptz", set_on_update=True),  # NULL in new rows
        column("updated_at", "date", set_on_update=True, set_on_insert=True),
        column("created_at", "timestamptz", set_on_update=True, set_on_insert=True),
        column("rental_date", "timestamptz", not_null=True),
        column("updated_by", "timestamptz", set_on_update=True, set_on_insert=True),
    ],
    ids=lambda one: f"{one.name} {one.column.type}",
)
def test_what_may_miss_a_change_is_no_cursor(other: ColumnFacts) -> None:
    found = entry(other, indexes=[(other.name,)])
    assert found["capture"] == "snapshot"
    assert "cursor" not in found


@pytest.mark.parametrize(
    ("deleted", "is_one"),
    [
        (column("deleted_at", "timestamptz"), True),
        (column("isDeleted", "bool", not_null=True), True),
        (column("deleted_at", "timestamptz", not_null=True), False),  # every row has a value
        (column("deleted", "int2"), False),
        (column("deleted_by", "timestamptz"), False),
    ],
)
def test_soft_deletes_are_seen_with_and_without_a_cursor(
    deleted: ColumnFacts, is_one: bool
) -> None:
    said = {"soft_delete": deleted.name} if is_one else {}
    assert entry(deleted).get("cursor", {}) == said
    assert entry(TOUCHED, deleted)["cursor"] == {"column": "updated_at"} | said


# Partitions

CREATED = column(
    "created_at",
    "timestamptz",
    not_null=True,
    lowest=date(2023, 2, 10),
    highest=date(2026, 5, 31),
)
BOUNDED_ID = column("id", "int8", not_null=True, lowest=-3, highest=99_999_999)


def partitions(*columns: ColumnFacts, **known: Any) -> Any:
    return entry(*columns, **{**MILLIONS, **known}).get("partitions")


def test_a_large_table_is_cut_by_the_time_that_its_rows_were_made() -> None:
    assert partitions(CREATED) == {
        "by": "month",
        "column": "created_at",
        "start": date(2023, 2, 1),
    }


def test_periods_are_no_longer_than_it_takes_for_a_million_rows() -> None:
    assert partitions(CREATED, rows=3_000_000)["by"] == "year"
    # 1,207 days are too many partitions: months, though they are larger.
    assert partitions(CREATED, rows=300_000_000)["by"] == "month"


@pytest.mark.parametrize(
    "unfit",
    [
        column("due_on", "date", not_null=True, lowest=date(2020, 1, 1), highest=date(9999, 1, 1)),
        column("born_on", "date", not_null=True, lowest=date(1, 1, 1), highest=date(2020, 1, 1)),
        column("read_at", "timestamptz"),  # may be NULL, and so has no bounds
        column("updated_at", "timestamptz", lowest=date(2020, 1, 1), highest=date(2025, 1, 1)),
    ],
    ids=lambda one: one.name,
)
def test_a_time_that_could_leave_rows_outside_is_not_cut_by(unfit: ColumnFacts) -> None:
    assert partitions(unfit, key=BOUNDED_ID)["by"] == "range"


def test_a_whole_number_key_is_cut_into_round_ranges() -> None:
    cut = partitions(key=BOUNDED_ID)
    assert cut == {"by": "range", "column": "id", "width": 5_000_000}


def test_what_has_neither_is_cut_by_hash() -> None:
    assert partitions(key=column("id", "uuid", not_null=True)) == {"by": "hash", "buckets": 16}


def test_a_table_of_a_million_rows_is_not_cut() -> None:
    assert partitions(CREATED, rows=1_000_000, bytes=10**9) is None
    assert partitions(CREATED, rows=1_000, bytes=3 * 10**9) is not None


def test_postgresqls_own_partitions_need_a_cursor() -> None:
    assert partitions(TOUCHED, CREATED, leaves=12) == {"by": "native"}
    assert partitions(CREATED, leaves=12)["by"] == "month"


# Secrets


@pytest.mark.parametrize(
    "name",
    [
        *("password", "PasswordHash", "passwd", "user_pwd", "passwordsalt", "api_key", "apiKey"),
        *("access_token", "refreshToken", "client_secret", "private_key", "ssn", "iban", "otp"),
        *("credit_card", "cardnumber", "cvv", "hash", "salt", "national_id", "tax_id"),
    ],
)
def test_what_looks_secret_is_left_out(name: str) -> None:
    assert entry(column(name))["exclude"] == [name]


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        *(("pinned", "text"), ("spinner", "text"), ("assistant", "text"), ("panel", "text")),
        *(("token_type", "text"), ("token_count", "int4"), ("password_changed_at", "timestamptz")),
        *(("has_password", "bool"), ("creditcardid", "int4"), ("basalt", "text")),
        *(("key", "text"), ("keyboard", "text"), ("discard", "text"), ("monkey", "text")),
    ],
)
def test_what_only_sounds_like_it_is_loaded(name: str, type_: str) -> None:
    assert not looks_secret(column(name, type_).column)


def test_a_table_that_goes_by_a_secret_is_left_out() -> None:
    found = propose(table(key=column("token", not_null=True)), NOW)
    assert isinstance(found, Unlisted)
    assert "token" in found.reason
    assert entry(key=column("sha_hash", not_null=True))["key"] == ["sha_hash"]


def test_columns_that_cannot_be_read_or_named_are_left_out() -> None:
    assert entry(column("wage", readable=False), unusable=("_id",))["exclude"] == ["_id", "wage"]


# Texts


@pytest.mark.parametrize(
    ("known", "mapping"),
    [
        ({"width": 300, "distinct": -1.0, "blanks": True, "letters": False}, "text"),
        ({"width": 18, "distinct": -1.0, "blanks": None}, "text"),
        ({"width": 8, "distinct": 12.0, "blanks": False, "letters": True}, "keyword"),
        ({"width": 14, "distinct": -1.0, "blanks": False, "letters": False}, "keyword"),
        ({"width": 8, "distinct": -0.9, "blanks": False, "letters": True}, None),
        ({"width": 40, "distinct": 12.0, "blanks": True, "letters": False}, None),
        ({}, None),
    ],
)
def test_the_values_tell_what_a_text_is_searched_by(
    known: dict[str, Any], mapping: str | None
) -> None:
    fields = entry(column("note", **known), rows=1000, bytes=8192).get("fields", {})
    assert fields.get("note", {}).get("type") == mapping


def test_a_few_rows_tell_nothing() -> None:
    code = column("code", width=4, distinct=3.0, blanks=False, letters=True)
    assert "fields" not in entry(code, rows=20, bytes=8192)


# Names of indices


def names(*tables: tuple[str, str]) -> list[str]:
    return list(index_names(tables).values())


def test_an_index_is_named_after_its_table() -> None:
    assert names(("public", "Orders"), ("sales", "orders")) == ["orders", "sales-orders"]


def test_no_two_indices_or_jobs_share_a_name() -> None:
    every = [
        *(("public", "orders"), ("public", "Orders"), ("public", "a-b"), ("a", "b")),
        *(("public", "a_b"), ("public", "注文"), ("public", "顧客"), ("public", "***")),
        *(("public", "..."), ("public", "pg-es-checkpoints"), ("public", "_x"), ("public", " x")),
    ]
    found = index_names(every)
    jobs = {name.replace("-", "_") for name in found.values()}
    assert len(jobs) == len(every)
    assert all(re.fullmatch("[a-z0-9_]+", job) for job in jobs)
    assert found["public", "orders"] == "orders"
    assert found["public", "Orders"].startswith("orders-")
    assert index_names(list(reversed(every))) == found


# The file

HOSTILE = "a: #'\"\n- b\u2028, [{%&*!|>"


def proposal(*names: str) -> Proposal:
    entries = []
    for number, name in enumerate(names):
        key = column(name, not_null=True)
        prose = column(f"{name}2", width=500, distinct=-1.0, blanks=True)
        facts = TableFacts(
            f"public.{name}", f"i{number}", (key, prose), (key.column,), rows=500, bytes=9999
        )
        entries.append(propose(facts, NOW))
    left_out = Unlisted(f"public.{HOSTILE}", "x", f"of {HOSTILE}", f"no {HOSTILE}", (HOSTILE,))
    return Proposal(f"db {HOSTILE}", (*entries, left_out))


def test_any_name_is_read_back_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    strange = [HOSTILE, "on", "null", "1.0", "2024-01-01", "Größe", "x" * 63, "\x01" * 63, "a.b"]
    write(proposal(*strange), file, replace=False)
    found = read_tables(file).tables
    assert [one.name for one in found] == strange
    assert [one.key for one in found] == [(name,) for name in strange]


def test_a_file_that_is_there_is_only_replaced_when_asked(tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text("mine")
    with pytest.raises(TablesError, match=r"is there already: --force"):
        write(proposal("orders"), file, replace=False)
    assert file.read_text() == "mine"
    write(proposal("orders"), file, replace=True)
    assert file.read_text() == render(proposal("orders"))
    assert list(tmp_path.iterdir()) == [file]


def test_a_database_without_a_table_to_load_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no table that could be loaded"):
        write(Proposal("shop", ()), tmp_path / "tables.yaml", replace=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TablesError, match=r"cannot be written: No such file"):
        write(proposal("orders"), tmp_path / "no" / "tables.yaml", replace=False)
