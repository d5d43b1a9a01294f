"""A table's `transform`: a function over pandas DataFrames that makes other documents of its rows.

PostgreSQL writes the documents as ever. They become a DataFrame, one row each under its `_id`; what
the function gives back becomes documents again. Our own part of a document passes it by.
"""

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pg_es_pipeline.errors import SourceError
from pg_es_pipeline.sync.catalog import FIELD, RESERVED, Column, Source
from pg_es_pipeline.sync.types import conversion

if TYPE_CHECKING:
    import pandas as pd

    from pg_es_pipeline.sync.frames import Layout

_OWN = f',"{FIELD}":'.encode()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no document of a row: the function fails at it."""

    reason: str


Written = bytes | Failure | None
"""A row's document; None: the function leaves the row out."""


class _WrongAnswer(Exception):
    """What the function gave back is none of what it may."""


class Transform:
    """The function of one table, over the columns that the table has."""

    def __init__(
        self,
        name: str,
        function: Callable[["pd.DataFrame"], Any],
        layout: "Layout",
        digest: str,
    ) -> None:
        self.name = name
        self._function = function
        self._layout = layout
        self.digest = digest
        """Of the source text of the function's module."""
        self.fields: Mapping[str, Any] = {}
        """The mapping of each column that the function gives back, once it is prepared."""

    def documents(self, ids: Sequence[str], documents: Sequence[bytes]) -> list[Written]:
        """What becomes of the documents that PostgreSQL has written, one by one.

        What the function fails at is tried again in halves, down to the row at fault.
        """
        if not documents:
            return []
        try:
            return self._together(ids, documents)
        except Exception as error:  # whatever somebody's function raises
            if len(ids) == 1:
                return [Failure(self._reason(error))]
        middle = len(ids) // 2
        return [
            *self.documents(ids[:middle], documents[:middle]),
            *self.documents(ids[middle:], documents[middle:]),
        ]

    def _reason(self, error: Exception) -> str:
        if isinstance(error, _WrongAnswer):
            return f"the transform {self.name} gave a wrong answer: {error}"
        return f"the transform {self.name} failed: {type(error).__name__}: {error}"

    def _together(self, ids: Sequence[str], documents: Sequence[bytes]) -> list[Written]:
        # Behind the columns; nothing in a text looks like it, where quotes are escaped.
        ends = [document.rindex(_OWN) for document in documents]
        own = [
            document[end + len(_OWN) :].decode()
            for document, end in zip(documents, ends, strict=True)
        ]
        parsed = self._layout.parse(
            [document[:end] for document, end in zip(documents, ends, strict=True)]
        )
        result = self._answer(self._layout.frame(ids, parsed))
        if result.columns.difference(list(self.fields)).size:
            [other, *_] = result.columns.difference(list(self.fields))
            raise _WrongAnswer(
                f"it has the column {other!r}, which an empty frame is not given: add it always"
            )
        rows = self._rows(ids, result)
        columns = self._columns(result, rows, self._layout.beyond(parsed))
        names = [json.dumps(name, ensure_ascii=False).replace("%", "%%") for name in result.columns]
        form = "{" + "".join(f"{name}:%s," for name in names) + f'"{FIELD}":%s'
        parts = zip(*columns, [own[row] for row in rows], strict=True)
        written: list[Written] = [None] * len(ids)
        for row, values in zip(rows, parts, strict=True):
            # A text from JSON may have half a pair of surrogates, which is no UTF-8.
            written[row] = (form % values).encode(errors="backslashreplace")
        return written

    def _columns(
        self, result: "pd.DataFrame", rows: Sequence[int], beyond: Mapping[str, Mapping[int, str]]
    ) -> list[list[str]]:
        from pg_es_pipeline.sync.frames import values

        columns = []
        for name, series in result.items():
            try:
                column = values(series)
            except TypeError as error:
                raise _WrongAnswer(f"the column {name!r}: {error}") from None
            if kept := beyond.get(name):
                column = [
                    kept.get(row, value) if value == "null" else value
                    for row, value in zip(rows, column, strict=True)
                ]
            columns.append(column)
        return columns

    @staticmethod
    def _rows(ids: Sequence[str], result: "pd.DataFrame") -> list[int]:
        """Which of the given rows each row of the answer is."""
        given = list(result.index)
        if given == list(ids):
            return list(range(len(given)))
        numbers = {id: number for number, id in enumerate(ids)}
        rows = []
        for id in given:
            number = numbers.pop(id, None) if isinstance(id, str) else None
            if number is None:
                known = isinstance(id, str) and id in ids
                raise _WrongAnswer(
                    f"two of its rows are {id!r}, and a row can have one document only: make "
                    "columns of what it is split into"
                    if known
                    else f"its index has {id!r}, which is not in the given one: keep the index, "
                    "which merge and reset_index do not"
                )
            rows.append(number)
        return rows

    def _answer(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """What the function makes of a frame. Raises whatever it raises, and _WrongAnswer."""
        import pandas as pd

        result = self._function(frame)
        if not isinstance(result, pd.DataFrame):
            raise _WrongAnswer(f"it is a {type(result).__name__}, not a DataFrame: return one")
        for name in result.columns:
            if not isinstance(name, str):
                raise _WrongAnswer(f"the column {name!r} has a name that is no text: rename it")
            if not name.strip() or name in RESERVED:
                raise _WrongAnswer(
                    f"the column {name!r} cannot be the name of a field: it is blank, or is one of "
                    "Elasticsearch's names or of this pipeline's. Rename it"
                )
        if not result.columns.is_unique:
            raise _WrongAnswer(
                f"it has the column {result.columns[result.columns.duplicated()][0]!r} twice"
            )
        return result

    def prepare(self, columns: Sequence[Column], given: Mapping[str, Any]) -> None:
        """Finds the fields of the documents. Raises SourceError."""
        from pg_es_pipeline.sync.frames import mapping

        types = {column.name: column for column in columns}
        try:
            result = self._answer(self._layout.frame([], []))
        except Exception as error:
            raise SourceError(
                f"{self._reason(error)}. It is first called with an empty frame, to see which "
                "columns it makes, and has to take that."
            ) from None
        if unknown := [name for name in given if name not in types and name not in result.columns]:
            raise SourceError(
                f"fields names {unknown[0]!r}, which is neither a column of the table nor one that "
                f"the transform {self.name} gives back. It gives back: "
                f"{', '.join(map(str, result.columns))}."
            )
        fields: dict[str, Any] = {}
        for name, series in result.items():
            if name in given:
                found = given[name]
            elif name in types:
                found = conversion(types[name]).mapping
            else:
                found = mapping(series)
            if found is None:
                raise SourceError(
                    f"the transform {self.name} makes the column {name!r} of dtype "
                    f"{series.dtype}, which does not tell what it holds. Give it a mapping under "
                    "`fields`, or another dtype, such as string."
                )
            fields[name] = found
        self.fields = fields


def transform_of(source: Source) -> Transform | None:
    """The transform of a table, None where it has none.

    The function is imported when it is first needed. Raises SourceError where that cannot be, or
    where it does not take an empty frame.
    """
    table = source.table
    if table.transform is None:
        return None
    try:
        return _prepared(table.transform, source.columns, json.dumps(table.fields))
    except SourceError as error:
        raise SourceError(f"{table.table}: transform: {error}") from None


def require_transform(source: Source) -> None:
    """Raises SourceError where the table has a transform that cannot be used.

    One whose file has changed since it was imported is not used for new work: other processes take
    the new one, and each would have the other's documents made anew, for ever.
    """
    transform = transform_of(source)
    if transform is None:
        return
    module = importlib.import_module(transform.name.partition(":")[0])
    if _digest(module) != transform.digest:
        raise SourceError(
            f"{source.table.table}: transform: the file of {module.__name__} has changed since "
            "this process imported it. Reload Dagster's code location, or start the process again."
        )


@lru_cache(maxsize=256)
def _prepared(name: str, columns: tuple[Column, ...], fields: str) -> Transform:
    function, digest = _function(name)
    from pg_es_pipeline.sync.frames import Layout, dtype

    given = json.loads(fields)
    layout = Layout({column.name: dtype(column, given.get(column.name)) for column in columns})
    transform = Transform(name, function, layout, digest)
    transform.prepare(columns, given)
    return transform


@lru_cache
def _function(name: str) -> tuple[Callable[["pd.DataFrame"], Any], str]:
    """The function, and a digest of its module's source text as it was when it was imported."""
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # where tables.yaml is, and `dagster dev` looks for modules too
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever somebody's module raises
        raise SourceError(
            f"the module {module_name!r} cannot be imported ({type(error).__name__}: {error}). "
            "Correct the name, or put the module into the working directory, on PYTHONPATH, or "
            "where this project is installed."
        ) from None
    function = getattr(module, attribute, None)
    if function is None:
        raise SourceError(
            f"the module {module_name!r} has no {attribute!r}. Correct the name, or define it."
        )
    if not callable(function):
        raise SourceError(
            f"{name} is of type {type(function).__name__}, and cannot be called. Name a function."
        )
    return function, _digest(module)


def _digest(module: ModuleType) -> str:
    """Of the module's file as it is now."""
    try:
        text = inspect.getsource(module)
    except (OSError, TypeError):
        text = ""  # a compiled module: its changes are not seen
    return hashlib.sha256(text.encode()).hexdigest()
