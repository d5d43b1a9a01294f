"""From documents to a pandas DataFrame and back, with integers, NULLs and time zones kept.

It imports pandas, which only a table with a `transform` needs: nothing else imports it at the top.
"""

import datetime
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from json.encoder import encode_basestring as _text
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from pg_es_pipeline.sync.catalog import Column
from pg_es_pipeline.sync.conversions import Mapping
from pg_es_pipeline.sync.types import is_written_as_text, keyword, text

DECIMAL = "object of Decimal"
OBJECT = "object"

_DTYPES = {
    "int2": "Int16",
    "int4": "Int32",
    "int8": "Int64",
    "oid": "Int64",
    "float4": "Float32",
    "float8": "Float64",
    "numeric": DECIMAL,
    "money": DECIMAL,
    "bool": "boolean",
    # A unit of its own tells a day from a time, and the result is written accordingly.
    "date": "datetime64[s]",
    "timestamp": "datetime64[us]",
    "timestamptz": "datetime64[us, UTC]",
}

# Whatever else is installed: pandas would take pyarrow's texts where it can.
_TEXT = pd.StringDtype("python")

_MICROSECONDS = 1_000_000
_LAST = (1 << 63) // 1000 - 1
"""Milliseconds since 1970 of the last moment that 64 bits of microseconds hold."""


def dtype(column: Column, given: Mapping | None) -> str:
    """The dtype of a column whose mapping may be given in the tables file."""
    if column.array:
        return OBJECT
    if is_written_as_text(column, given):
        return "string"
    return _DTYPES.get(column.type, OBJECT)


class Layout:
    """The columns of a table as those of a frame."""

    def __init__(self, dtypes: dict[str, str]) -> None:
        self.dtypes = dtypes
        self._decode = json.JSONDecoder(parse_float=_parser(set(dtypes.values()))).decode

    def parse(self, documents: Sequence[bytes]) -> list[dict[str, Any]]:
        """Documents as PostgreSQL writes them, less the last brace. Raises ValueError for what is
        no JSON, or no UTF-8."""
        found: list[dict[str, Any]] = self._decode(f"[{b'},'.join(documents).decode()}}}]")
        return found

    def frame(self, ids: Sequence[str], documents: Sequence[dict[str, Any]]) -> pd.DataFrame:
        """The documents as rows, under their `_id`."""
        columns = {
            name: _ARRAYS.get(kind, _objects)([document[name] for document in documents])
            for name, kind in self.dtypes.items()
        }
        return pd.DataFrame(columns, index=pd.Index(ids, dtype=object, name="_id"))

    def beyond(self, documents: Sequence[dict[str, Any]]) -> dict[str, dict[int, str]]:
        """The times after the year 294246, which PostgreSQL has and the frame has not: by column
        and row, as they are in the document."""
        found: dict[str, dict[int, str]] = {}
        for name, kind in self.dtypes.items():
            if kind.startswith("datetime64[us"):
                for row, document in enumerate(documents):
                    value = document[name]
                    if type(value) is int and value > _LAST:
                        found.setdefault(name, {})[row] = str(value)
        return found


def _parser(dtypes: set[str]) -> Callable[[str], Any]:
    """What makes a number with a point or an exponent of its text."""
    if OBJECT in dtypes:
        return _number
    return Decimal if DECIMAL in dtypes else float


def _number(text: str) -> float | Decimal:
    """A float, where that has all digits; else a Decimal."""
    exact, value = Decimal(text), float(text)
    return value if Decimal(repr(value)) == exact else exact


def _masked(
    kind: Callable[[Any, Any], Any], dtype: str, zero: Any
) -> Callable[[list[Any]], pd.api.extensions.ExtensionArray]:
    def make(values: list[Any]) -> pd.api.extensions.ExtensionArray:
        mask = np.fromiter((value is None for value in values), bool, len(values))
        if mask.any():
            values = [zero if value is None else value for value in values]
        return kind(np.array(values, dtype=dtype), mask)

    return make


def _objects(values: list[Any]) -> Any:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _decimals(values: list[Any]) -> Any:
    return _objects(
        [
            value if value is None or type(value) is Decimal else Decimal(repr(value))
            for value in values
        ]
    )


def _texts(values: list[Any]) -> Any:
    return pd.array(_objects(values), dtype=_TEXT)


def _days(values: list[Any]) -> Any:
    return _moments(values, "s")


def _times(values: list[Any]) -> Any:
    kept = [None if type(value) is int and value > _LAST else value for value in values]
    return _moments(kept, "us")


def _zoned(values: list[Any]) -> Any:
    texts = [value[:-6] if type(value) is str else value for value in values]  # less its +00:00
    return pd.Series(_times(texts)).dt.tz_localize("UTC").array


def _moments(values: list[Any], unit: str) -> Any:
    """ISO 8601, or milliseconds since 1970, as datetime64 of this unit."""
    kind = f"M8[{unit}]"
    if not any(type(value) is int for value in values):
        return np.array(["NaT" if value is None else value for value in values], kind)
    found = np.empty(len(values), kind)
    for row, value in enumerate(values):
        found[row] = (
            np.datetime64(value, "ms")
            if type(value) is int
            else np.datetime64("NaT" if value is None else value)
        )
    return found


_ARRAYS: dict[str, Callable[[list[Any]], Any]] = {
    "Int16": _masked(pd.arrays.IntegerArray, "int16", 0),
    "Int32": _masked(pd.arrays.IntegerArray, "int32", 0),
    "Int64": _masked(pd.arrays.IntegerArray, "int64", 0),
    "Float32": _masked(pd.arrays.FloatingArray, "float32", 0.0),
    "Float64": _masked(pd.arrays.FloatingArray, "float64", 0.0),
    "boolean": _masked(pd.arrays.BooleanArray, "bool", False),
    "string": _texts,
    "datetime64[s]": _days,
    "datetime64[us]": _times,
    "datetime64[us, UTC]": _zoned,
    DECIMAL: _decimals,
}


# Back


def mapping(series: pd.Series) -> Mapping | None:
    """The mapping of a column that only the function makes; None where its dtype does not tell."""
    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return keyword()
    if pd.api.types.is_bool_dtype(kind):
        return {"type": "boolean"}
    if pd.api.types.is_integer_dtype(kind):
        unsigned = pd.api.types.is_unsigned_integer_dtype(kind)
        return {"type": _INTEGERS[kind.itemsize * (2 if unsigned else 1)]}
    if pd.api.types.is_float_dtype(kind):
        return {"type": "float" if kind.itemsize <= 4 else "double"}
    if pd.api.types.is_datetime64_any_dtype(kind):
        return {"type": "date"}
    return text() if isinstance(kind, pd.StringDtype) else None


_INTEGERS = {1: "short", 2: "short", 4: "integer", 8: "long", 16: "unsigned_long"}
"""By bytes; an unsigned one needs twice as many."""


def values(series: pd.Series) -> list[str]:
    """A column's values as JSON. Raises TypeError for one that JSON cannot write."""
    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return values(series.astype(kind.categories.dtype))
    if pd.api.types.is_object_dtype(kind):
        return list(map(_value, series.to_numpy()))
    if pd.api.types.is_bool_dtype(kind):
        plain = series.to_numpy(dtype=bool, na_value=False).tolist()
        return _or_null(series, ["true" if value else "false" for value in plain])
    if pd.api.types.is_integer_dtype(kind):
        whole = "uint64" if pd.api.types.is_unsigned_integer_dtype(kind) else "int64"
        plain = series.to_numpy(dtype=whole, na_value=0).tolist()
        return _or_null(series, list(map(str, plain)))
    if pd.api.types.is_float_dtype(kind):
        return _floats(series)
    if pd.api.types.is_datetime64_any_dtype(kind):
        return _dates(series)
    if isinstance(kind, pd.StringDtype):
        plain = series.to_numpy(dtype=object, na_value=None)
        return ["null" if value is None else _text(value) for value in plain]
    return list(map(_value, series.array))


def _or_null(series: pd.Series, written: list[str]) -> list[str]:
    for row in np.flatnonzero(series.isna().to_numpy()).tolist():
        written[row] = "null"
    return written


def _floats(series: pd.Series) -> list[str]:
    if series.dtype.itemsize <= 4:  # shorter ones are written with as many digits as they have
        plain = series.to_numpy(dtype="float32", na_value=np.nan)
        written = [str(value).removesuffix(".0") for value in plain]
    else:
        plain = series.to_numpy(dtype="float64", na_value=np.nan)
        written = [repr(value).removesuffix(".0") for value in plain.tolist()]
    for row in np.flatnonzero(~np.isfinite(plain)).tolist():
        written[row] = "null"
    return written


def _dates(series: pd.Series) -> list[str]:
    """As PostgreSQL writes them: ISO 8601, beyond the years 1 to 9999 milliseconds since 1970."""
    zone = series.dt.tz
    moments = (series.dt.tz_convert(None) if zone else series).to_numpy()
    seconds = moments.astype("M8[s]")
    usual = (seconds >= _FIRST_USUAL) & (seconds < _END_OF_USUAL)
    if zone is not None and str(zone) != "UTC":
        offsets = [
            f'"{value.isoformat()}"' if is_usual else ""
            for value, is_usual in zip(series, usual, strict=True)
        ]
        return _unusual(moments, usual, offsets)
    end = '+00:00"' if zone else '"'
    texts = np.datetime_as_string(np.where(usual, moments, np.datetime64(0, "s"))).tolist()
    unit, _ = np.datetime_data(moments.dtype)
    if unit == "s":
        short = len("YYYY-MM-DD")
        written = [
            f'"{one[:short] if not zone and one.endswith("T00:00:00") else one}{end}'
            for one in texts
        ]
    else:
        written = [f'"{one.rstrip("0").rstrip(".")}{end}' for one in texts]
    return _unusual(moments, usual, written)


_FIRST_USUAL, _END_OF_USUAL = np.datetime64("0001-01-01", "s"), np.datetime64("10000-01-01", "s")


def _unusual(moments: Any, usual: Any, written: list[str]) -> list[str]:
    for row in np.flatnonzero(~usual).tolist():
        moment = moments[row]
        written[row] = "null" if np.isnat(moment) else str(moment.astype("M8[ms]").astype("int64"))
    return written


def _refuse(value: Any) -> Any:
    raise TypeError(type(value).__name__)


_plain = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_refuse
).encode


def _value(value: Any) -> str:
    """A value of a column of objects."""
    if value is None:
        return "null"
    if type(value) is str:
        return _text(value)
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else "null"
    if type(value) in (dict, list):
        try:
            return _plain(value)
        except (TypeError, ValueError):  # something in it is no plain JSON
            return _nested(value)
    return _nested(value)


def _nested(value: Any) -> str:
    match value:
        case bool():
            return _plain(value)
        case str():
            return _text(value)
        case dict():
            # Less the value: JSON's own rules for what may be a name.
            inner = (f"{_plain({name: 0})[1:-2]}{_value(one)}" for name, one in value.items())
            return f"{{{','.join(inner)}}}"
        case list() | tuple():
            return f"[{','.join(map(_value, value))}]"
        case np.generic():
            return _value(value.item())
        case np.ndarray():
            return _value(value.tolist())
        case int():
            return str(int(value))
        case float():
            return repr(float(value)).removesuffix(".0") if np.isfinite(value) else "null"
        case UUID():
            return f'"{value}"'
    if value is pd.NA or value is pd.NaT:
        return "null"
    if isinstance(value, datetime.date | datetime.time):
        return f'"{value.isoformat()}"'
    raise TypeError(
        f"a value of type {type(value).__name__} cannot be written as JSON: make it a text, a "
        "number, a time, a list or a dict"
    )
