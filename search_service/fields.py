"""The fields of an index, read from its mapping: what can be returned, filtered, and sorted by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

INTEGERS: Mapping[str, tuple[int, int]] = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned_long": (0, 2**64 - 1),
}
# The first magnitude that rounds to infinity in each type, where Elasticsearch refuses it.
FLOATS: Mapping[str, float] = {
    "half_float": 65520.0,
    "float": float.fromhex("0x1.ffffffp127"),
    "double": float("inf"),
    "scaled_float": float("inf"),
}
OWN = "_pg_es"
"""The pipeline's own part of a document, by which it is compared with its row."""

STRINGS = frozenset({"keyword", "constant_keyword", "wildcard"})
DATES = frozenset({"date", "date_nanos"})
COMPARABLE = frozenset({*INTEGERS, *FLOATS, *STRINGS, *DATES, "text", "boolean", "ip"})


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf of the mapping.

    `exact` is the name under which Elasticsearch compares whole values: `title.raw` for a text
    field `title`, elsewhere the path. Where it cannot, the field is not `filterable`.
    """

    path: str
    type: str
    exact: str
    ignore_above: int | None = None
    filterable: bool = True
    sortable: bool = True


class Fields:
    """The leaves of a mapping by dotted path, in the mapping's order."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        properties = dict(mapping.get("properties", {}))
        own = properties.pop(OWN, None)
        self.hidden = [OWN] if own else []
        """What documents have beside the columns, and nobody is shown."""
        self.leaves = {field.path: field for field in _leaves(properties)}
        self._own = {field.path: field for field in _leaves({OWN: own} if own else {})}

    def find(self, path: str) -> Field | None:
        """The leaf at this path, or a key inside a `flattened` one; None when there is none."""
        if path in self.leaves:
            return self.leaves[path]
        parent = self._open_parent(path)
        if parent is None or parent.type != "flattened":
            return None
        return Field(path, "flattened", path, parent.ignore_above, sortable=False)

    def ordering(self, path: str) -> Field | None:
        """The leaf that documents are put in order by; it may be the pipeline's own."""
        return self.leaves.get(path) or self._own.get(path)

    def under(self, path: str) -> list[str]:
        """The leaf paths that a name in a list of fields stands for: itself, or its children."""
        if path in self.leaves or self._open_parent(path):
            return [path]
        return [leaf for leaf in self.leaves if leaf.startswith(f"{path}.")]

    def _open_parent(self, path: str) -> Field | None:
        """The leaf whose values are JSON objects that the mapping does not spell out."""
        if not _is_text(path) or "\0" in path or "*" in path or ".." in path or path.endswith("."):
            return None
        names = path.split(".")
        for end in range(1, len(names)):
            leaf = self.leaves.get(".".join(names[:end]))
            if leaf is not None and leaf.type in {"flattened", "object"}:
                return leaf
        return None


def _leaves(
    properties: Mapping[str, Any], prefix: str = "", nested: bool = False
) -> Iterator[Field]:
    for name, node in properties.items():
        path = prefix + name
        kind = node.get("type", "object")
        if node.get("properties"):
            yield from _leaves(node["properties"], f"{path}.", nested or kind == "nested")
        elif kind != "alias":  # another name of a field; no document has it
            yield _leaf(path, kind, node, nested)


def _leaf(path: str, kind: str, node: Mapping[str, Any], nested: bool) -> Field:
    exact = path
    comparable = kind in COMPARABLE
    if kind == "text":
        exact, node = f"{path}.raw", node.get("fields", {}).get("raw", {})
        comparable = node.get("type") == "keyword"
    # Nested documents are matched and sorted by queries of another form.
    comparable = comparable and not nested
    return Field(
        path,
        kind,
        exact,
        node.get("ignore_above"),
        filterable=comparable and node.get("index", True),
        sortable=comparable and node.get("doc_values", True),
    )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
