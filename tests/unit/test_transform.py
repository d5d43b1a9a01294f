"""What a table's function is given, and what its answer becomes."""

import datetime
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pg_es_pipeline.sync.catalog import Column
from pg_es_pipeline.sync.frames import Layout, dtype, mapping, values
from pg_es_pipeline.sync.transform import Transform

TYPES = ("int2", "int4", "int8", "float4", "float8", "numeric", "bool", "text", "date", "timestamp")
TYPES += ("timestamptz", "jsonb", "uuid", "int4range")


def column(type_: str, *, array: bool = False) -> Column:
    return Column(type_, type_, array, type_, False, None)


def layout() -> Layout:
    return Layout({type_: dtype(column(type_), None) for type_ in TYPES})


def row(**values: Any) -> dict[str, Any]:
    return dict.fromkeys(TYPES) | values


def through(texts: list[str]) -> list[str]:
    """The documents after a function that changes nothing."""
    ours = [f'{text[:-1]},"_pg_es":{{"bucket":1}}}}'.encode() for text in texts]
    transform = Transform("identity", lambda frame: frame, layout(), "")
    transform.prepare([column(type_) for type_ in TYPES], {})
    written = transform.documents([str(number) for number in range(len(texts))], ours)
    return [one.decode(errors="surrogatepass") for one in written if isinstance(one, bytes)]


def exact(text: str) -> Any:
    """JSON with all digits."""
    return json.loads(text, parse_float=Decimal)


# Dtypes


def test_dtypes_follow_from_the_types_of_postgresql() -> None:
    found = {type_: dtype(column(type_), None) for type_ in TYPES}
    assert found == {
        "int2": "Int16",
        "int4": "Int32",
        "int8": "Int64",
        "float4": "Float32",
        "float8": "Float64",
        "numeric": "object of Decimal",
        "bool": "boolean",
        "text": "string",
        "date": "datetime64[s]",
        "timestamp": "datetime64[us]",
        "timestamptz": "datetime64[us, UTC]",
        "jsonb": "object",
        "uuid": "string",
        "int4range": "object",
    }
    assert dtype(column("int4", array=True), None) == "object"


@pytest.mark.parametrize("type_", ["numeric", "float8", "timestamptz", "jsonb", "int4range"])
def test_what_is_mapped_as_a_text_is_given_as_one(type_: str) -> None:
    assert dtype(column(type_), {"type": "keyword"}) == "string"


@pytest.mark.parametrize("documents", [[], [row()], [row(), row(int8=1, float8=0.5, bool=True)]])
def test_no_rows_and_nulls_change_no_dtype(documents: list[dict[str, Any]]) -> None:
    ids = [str(number) for number in range(len(documents))]
    frame = layout().frame(ids, documents)
    assert list(frame.index) == ids
    for name, kind in layout().dtypes.items():
        assert str(frame[name].dtype) == kind.partition(" of ")[0]


def test_integers_are_exact_beside_nulls() -> None:
    numbers = [2**63 - 1, None, 2**53 + 1, -(2**63)]
    frame = layout().frame(list("abcd"), [row(int8=number) for number in numbers])
    assert [None if one is pd.NA else int(one) for one in frame["int8"]] == numbers
    written = "9223372036854775807 null 9007199254740993 -9223372036854775808"
    assert values(frame["int8"]) == written.split()


def test_a_numeric_is_a_decimal_and_other_json_a_float_where_that_is_exact() -> None:
    found = layout().parse(
        [b'{"numeric":19.90,"jsonb":{"a":0.1,"b":1e500,"c":0.12345678901234567890}']
    )
    assert found == [
        {
            "numeric": 19.9,
            "jsonb": {"a": 0.1, "b": Decimal("1E+500"), "c": Decimal("0.12345678901234567890")},
        }
    ]
    [number] = layout().frame(["1"], [row(numeric=19.9)])["numeric"]
    assert (type(number), number) == (Decimal, Decimal("19.9"))


# Round trips

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def trimmed(moment: datetime.datetime) -> str:
    """As PostgreSQL writes it: without zeros at the end."""
    text = moment.isoformat()
    zone = text[-6:] if moment.tzinfo else ""
    text = text.removesuffix(zone)
    return (text.rstrip("0").rstrip(".") if "." in text else text) + zone


DOCUMENTS = st.fixed_dictionaries(
    {
        "int2": st.none() | st.integers(-(2**15), 2**15 - 1),
        "int4": st.none() | st.integers(-(2**31), 2**31 - 1),
        "int8": st.none() | st.integers(-(2**63), 2**63 - 1),
        "float4": st.none()
        | st.floats(allow_nan=False, allow_infinity=False, width=32).map(
            lambda one: float(str(np.float32(one)))
        ),
        "float8": st.none() | FINITE,
        "numeric": st.none() | st.decimals(allow_nan=False, allow_infinity=False).map(str),
        "bool": st.none() | st.booleans(),
        "text": st.none() | TEXTS,
        "date": st.none() | st.dates().map(str) | st.integers(-2 * 10**14, -62_135_596_800_001),
        "timestamp": st.none() | st.datetimes().map(trimmed),
        "timestamptz": st.none()
        | st.datetimes(timezones=st.just(datetime.UTC)).map(trimmed)
        | st.integers(253_402_300_800_000, 9_224_318_016_000_000),
        "jsonb": st.none() | JSON,
        "uuid": st.none() | st.uuids().map(str),
        "int4range": st.none() | st.just({"gte": 1, "lt": 5}) | st.just({}),
    }
)


@given(st.lists(DOCUMENTS, max_size=5))
def test_what_the_function_leaves_as_it_is_is_the_same_in_the_document(
    documents: list[dict[str, Any]],
) -> None:
    for document in documents:
        if isinstance(document["date"], int):  # a day, as PostgreSQL gives it: before the year 1
            document["date"] -= document["date"] % 86_400_000
    texts = []
    for document in documents:
        number = document["numeric"]
        text = json.dumps({**document, "numeric": None}, ensure_ascii=False)
        texts.append(text.replace('"numeric": null', f'"numeric": {number or "null"}'))
    for before, after in zip(texts, through(texts), strict=True):
        assert exact(after) == exact(before) | {"_pg_es": {"bucket": 1}}


def test_half_a_pair_of_surrogates_in_json_comes_out_as_it_went_in() -> None:
    text = json.dumps(row(jsonb={"\ud800": "\udc00x"}))
    [written] = through([text])
    assert json.loads(written)["jsonb"] == {"\ud800": "\udc00x"}


def test_texts_that_look_like_our_own_part_change_nothing() -> None:
    text = json.dumps(row(text=',"_pg_es":{}}', jsonb={"_pg_es": [1], "%s": "%"}))
    [written] = through([text])
    assert json.loads(written) == json.loads(text) | {"_pg_es": {"bucket": 1}}


# What the function makes

MOMENT = datetime.datetime(2024, 2, 29, 10, 11, 12, 500_000, datetime.UTC)
BERLIN = pd.Timestamp("2024-02-29 10:11:12.5+00:00").tz_convert("Europe/Berlin")


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series([1, 2**63 - 1]), ["1", "9223372036854775807"]),
        (pd.Series([2**64 - 1], dtype="uint64"), ["18446744073709551615"]),
        (
            pd.Series([1.5, float("nan"), float("inf"), 2.0, 1e16]),
            ["1.5", "null", "null", "2", "1e+16"],
        ),
        (pd.Series([0.1, 16777216.0], dtype="float32"), ["0.1", "1.6777216e+07"]),
        (pd.Series([True, False]), ["true", "false"]),
        (pd.Series(["a", None]), ['"a"', "null"]),
        (pd.Series(["a", None, "a"], dtype="category"), ['"a"', "null", '"a"']),
        (pd.Series(pd.to_datetime(["2024-02-29"])).astype("M8[us]"), ['"2024-02-29T00:00:00"']),
        (pd.Series(pd.to_datetime(["2024-02-29"])).astype("M8[s]"), ['"2024-02-29"']),
        (pd.Series([np.datetime64("2024-02-29T10:00", "s")]), ['"2024-02-29T10:00:00"']),
        (
            pd.Series([np.datetime64("2024-02-29T10:00:00.123456789")]),
            ['"2024-02-29T10:00:00.123456789"'],
        ),
        (pd.Series([BERLIN, pd.NaT]), ['"2024-02-29T11:11:12.500000+01:00"', "null"]),
        (
            pd.Series([Decimal("1.10"), Decimal("NaN"), None, 5, float("nan")], dtype=object),
            ["1.10", "null", "null", "5", "null"],
        ),
        (
            pd.Series([[1, Decimal("1.10"), pd.NA], {"a": float("inf"), "b": (MOMENT,)}]),
            ["[1,1.10,null]", '{"a":null,"b":["2024-02-29T10:11:12.500000+00:00"]}'],
        ),
        (
            pd.Series([np.int64(5), np.array([1.5]), pd.NaT, UUID(int=1), MOMENT.date()]),
            ["5", "[1.5]", "null", '"00000000-0000-0000-0000-000000000001"', '"2024-02-29"'],
        ),
    ],
)
def test_values_are_written_as_postgresql_would_write_them(
    series: pd.Series, expected: list[str]
) -> None:
    assert values(series) == expected


@pytest.mark.parametrize("value", [{1}, pd.Timedelta("1h"), b"x", {(1,): 2}])
def test_what_json_cannot_write_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        values(pd.Series([value], dtype=object))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("int8", "short"),
        ("Int16", "short"),
        ("int32", "integer"),
        ("Int64", "long"),
        ("uint8", "short"),
        ("UInt32", "long"),
        ("uint64", "unsigned_long"),
        ("float32", "float"),
        ("Float64", "double"),
        ("bool", "boolean"),
        ("boolean", "boolean"),
        ("string", "text"),
        ("str", "text"),
        ("category", "keyword"),
        ("datetime64[us]", "date"),
        ("datetime64[ns, Europe/Berlin]", "date"),
    ],
)
def test_a_new_column_is_mapped_by_its_dtype(kind: str, expected: str) -> None:
    found = mapping(pd.Series([], dtype=kind))
    assert found is not None
    assert found["type"] == expected


@pytest.mark.parametrize("kind", ["object", "timedelta64[ns]", "complex128"])
def test_a_dtype_that_does_not_tell_gives_no_mapping(kind: str) -> None:
    assert mapping(pd.Series([], dtype=kind)) is None


# Around it


def test_an_interrupt_is_no_failure_of_a_row() -> None:
    def interrupted(frame: pd.DataFrame) -> pd.DataFrame:
        raise KeyboardInterrupt

    transform = Transform("interrupted", interrupted, layout(), "")
    document = json.dumps(row(_pg_es={}), separators=(",", ":")).encode()
    with pytest.raises(KeyboardInterrupt):
        transform.documents(["1", "2"], [document] * 2)


def test_pandas_is_imported_for_a_transform_alone() -> None:
    code = (
        "import sys, pg_es_pipeline.cli, pg_es_pipeline.sync.engine, pg_es_pipeline.orchestration."
        "jobs; print(*{'pandas', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_example_of_the_page_does_what_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs/transforms.md").read_text(encoding="utf-8")
    [code] = re.findall(r"<!-- tested -->\n```python\n(.*?)```", page, re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)  # noqa: S102
    types = {
        "order_id": "Int64",
        "status": "string",
        "customer": "string",
        "phone": "string",
        "price": "object of Decimal",
        "quantity": "Int32",
        "note": "string",
    }
    rows: list[dict[str, Any]] = [
        {"order_id": 1, "status": "test"},
        {"order_id": 2, "customer": "Ada Lovelace", "phone": "+44 1", "quantity": 2, "note": "x"},
    ]
    rows[1]["price"] = Decimal("1.50")
    layout = Layout(types)
    empty = module["clean"](layout.frame([], []))
    [found] = module["clean"](
        layout.frame(["1", "2"], [dict.fromkeys(types) | row for row in rows])
    ).to_dict("records")
    assert list(empty.columns) == list(found)
    assert found.pop("status") is None
    assert found.pop("price") == Decimal("1.50")
    assert found == {
        "order_id": 2,
        "quantity": 2,
        "description": "x",
        "first": "Ada",
        "last": "Lovelace",
        "total": 3.0,
        "country": "+44",
    }
