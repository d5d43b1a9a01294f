"""Reads `tables.yaml`. Errors name the file, the table and the key at fault."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pg_es_pipeline.errors import TablesError
from pg_es_pipeline.tables.models import PARTITION_KINDS, Table, Tables

# The one that is written in C, where PyYAML brings it, is ten times as fast.
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc,valid-type]
    """Refuses a key that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"line {key.start_mark.line + 1}: the key {key.value!r} is given twice"
                )
            seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def read_tables(path: Path) -> Tables:
    """Reads the tables file. Raises TablesError naming the file, the table and the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TablesError(
            f"{path}: no such file. It lists the tables to load; start from this:\n"
            "tables:\n  - table: public.orders\n    cursor: {column: updated_at}\n"
            "Another place for it is named by PG_ES_TABLES."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise TablesError(f"{path}: cannot be read: {error}") from None
    try:
        data, lines = _load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2013-02-30
        raise TablesError(f"{path}: is no YAML: {error}") from None
    if not isinstance(data, dict):
        raise TablesError(f"{path}: a mapping with the key 'tables' is expected at the top")
    try:
        tables = Tables.model_validate(data)
    except ValidationError as error:
        raise TablesError("\n".join(_explain(path, data, error))) from None
    indices = [table.index for table in tables.tables]
    return tables.read_from(dict(zip(indices, lines, strict=False)))


def gathered(tables: Iterable[Table]) -> Tables:
    """The same of tables that are made in code. Raises TablesError."""
    try:
        return Tables.model_validate({"tables": list(tables)})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise TablesError(
            "\n".join(f"tables: {_reason(one['type'], one['msg'])}" for one in problems)
        ) from None


def _load(text: str) -> tuple[Any, list[int]]:
    """The file's data, and the line that each entry of `tables` begins at."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        data = None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()
    lines: list[int] = []
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "tables" and isinstance(value, yaml.SequenceNode):
            lines = [entry.start_mark.line + 1 for entry in value.value]
    return data, lines


def _explain(path: Path, data: dict[str, Any], error: ValidationError) -> list[str]:
    problems = error.errors(include_url=False)
    return [
        f"{path}: {_place(data, problem['loc'])}{_reason(problem['type'], problem['msg'])}"
        for problem in problems
        # Entries that failed leave the list empty, which is not a mistake of its own.
        if len(problems) == 1 or (problem["type"], problem["loc"]) != ("too_short", ("tables",))
    ]


def _place(data: dict[str, Any], location: tuple[int | str, ...]) -> str:
    parts: list[str] = []
    if len(location) >= 2 and location[0] == "tables" and isinstance(location[1], int):
        entry = data["tables"][location[1]]
        named = isinstance(entry, dict) and entry.get("table")
        parts.append(f"table {named}" if named else f"entry {location[1] + 1} of tables")
        location = location[2:]
    # The name of the chosen kind of partitions is pydantic's, not a key of the file.
    keys = [
        str(part)
        for before, part in zip((None, *location), location, strict=False)
        if before != "partitions" or part not in PARTITION_KINDS
    ]
    if keys:
        parts.append(".".join(keys))
    return ": ".join([*parts, ""])


def _reason(kind: str, message: str) -> str:
    return _REASONS.get(kind) or message.removeprefix("Value error, ")


_REASONS = {
    "extra_forbidden": "no such key",
    "missing": "is missing",
    "tuple_type": "a list is expected",
    "too_short": "the list is empty",
    "model_type": "a mapping is expected: key, colon, value",
    "model_attributes_type": "a mapping is expected: key, colon, value",
    "dict_type": "a mapping is expected: key, colon, value",
    "string_type": "text is expected",
    "union_tag_not_found": f"`by` is missing; it is one of {', '.join(PARTITION_KINDS)}",
    "union_tag_invalid": f"`by` is one of {', '.join(PARTITION_KINDS)}",
}
