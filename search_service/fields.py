"""The fields of an index, read from its mapping: what can be returned, filtered, and sorted by."""

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
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
WORDS = frozenset({"text", "match_only_text"})
"""Types that are found by the words in them."""
POINTS = frozenset({"geo_point"})
OPEN = frozenset({"flattened", "object"})
"""Types whose values are JSON that the mapping does not spell out."""
COMPARABLE = frozenset({*INTEGERS, *FLOATS, *STRINGS, *DATES, *WORDS, "boolean", "ip"})


@dataclass(frozen=True, slots=True)
class Field:
    """One leaf of the mapping.

    `exact` is the name under which Elasticsearch compares whole values: `title.raw` for a text
    field `title`, elsewhere the path. Where it cannot, the field is not `filterable`. `searched` is
    whether Elasticsearch has an index of it at all, `located` whether documents can be put in order
    by their distance from a place, `nested` the path of the nested documents that it is in,
    `copied_to` the fields that its values are found in as well.
    """

    path: str
    type: str
    exact: str
    ignore_above: int | None = None
    filterable: bool = True
    sortable: bool = True
    searched: bool = True
    located: bool = False
    nested: str | None = None
    copied_to: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The type as it is spoken of."""
        return f"{'an' if self.type[:1] in 'aeiou' else 'a'} {self.type} field"


class Fields:
    """The leaves of a mapping by dotted path, in the mapping's order."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        properties = dict(mapping.get("properties", {}))
        own = properties.pop(OWN, None)
        self.leaves = {field.path: field for field in _leaves(properties)}
        self.excluded: tuple[str, ...] = (OWN,) if own else ()
        """What documents have beside the leaves, and nobody is shown."""
        self.restricted = False
        """Whether some leaves are hidden: then only what `leaves` names may be asked for."""
        self._all = {**self.leaves, **{f.path: f for f in _leaves({OWN: own} if own else {})}}
        self.has_open = any(leaf.type in OPEN for leaf in self._all.values())
        """Whether documents may hold JSON whose values Elasticsearch has not checked."""

    def restrict(self, visible: Callable[[str], bool]) -> "Fields":
        """The fields without those whose path is not visible: to its user they do not exist.

        The keys in a `flattened` field are seen and hidden together with it. A field with copies
        of a hidden one is hidden, too.
        """
        # In the list of fields that Elasticsearch is to return, an asterisk is a pattern.
        seen = {p: leaf for p, leaf in self.leaves.items() if visible(p) and "*" not in p}
        hidden = [leaf for path, leaf in self.leaves.items() if path not in seen]
        for copies in {path for leaf in hidden for path in leaf.copied_to}:
            seen.pop(copies, None)
        if len(seen) == len(self.leaves):
            return self
        restricted = copy(self)
        restricted.leaves = seen
        restricted.restricted = True
        # A name that is asked for stands for all names below it, too.
        below = [p for p in self.leaves if p not in seen and any(_parents(p, seen))]
        restricted.excluded = (*self.excluded, *below)
        return restricted

    def hides(self, path: str) -> bool:
        """Whether a restriction has taken this leaf away."""
        return path in self._all and path not in self.leaves and not path.startswith(f"{OWN}.")

    def words(self) -> list[Field]:
        """The leaves that full text looks in when none are named."""
        leaves = self.leaves.values()
        return [leaf for leaf in leaves if leaf.type in WORDS and leaf.searched and not leaf.nested]

    def find(self, path: str) -> Field | None:
        """The leaf at this path, or a key inside a `flattened` one; None when there is none."""
        if path in self.leaves:
            return self.leaves[path]
        parent = self._open_parent(path)
        if parent is None or parent.type != "flattened":
            return None
        return replace(parent, path=path, exact=path, filterable=parent.searched, sortable=False)

    def ordering(self, path: str) -> Field | None:
        """The leaf that documents are put in order by; it may be hidden."""
        return self._all.get(path)

    def under(self, path: str) -> list[str]:
        """The leaf paths that a name in a list of fields stands for: itself, or its children."""
        if path in self.leaves or self._open_parent(path):
            return [path]
        return [leaf for leaf in self.leaves if leaf.startswith(f"{path}.")]

    def nested(self, path: str) -> list[Field]:
        """The leaves in the nested documents of this path; none when there are no such."""
        return [leaf for leaf in self.leaves.values() if leaf.nested == path]

    def _open_parent(self, path: str) -> Field | None:
        """The leaf whose values are JSON objects that the mapping does not spell out."""
        if not _is_text(path) or "\0" in path or "*" in path or ".." in path or path.endswith("."):
            return None
        names = path.split(".")
        for end in range(1, len(names)):
            leaf = self.leaves.get(".".join(names[:end]))
            if leaf is not None and leaf.type in OPEN:
                return leaf
        return None


def _leaves(
    properties: Mapping[str, Any], prefix: str = "", nested: str | None = None
) -> Iterator[Field]:
    for name, node in properties.items():
        path = prefix + name
        kind = node.get("type", "object")
        if node.get("properties"):
            within = path if kind == "nested" else nested
            yield from _leaves(node["properties"], f"{path}.", within)
        elif kind != "alias":  # another name of a field; no document has it
            yield _leaf(path, kind, node, nested)


def _leaf(path: str, kind: str, node: Mapping[str, Any], nested: str | None) -> Field:
    exact, whole = path, node
    comparable = kind in COMPARABLE
    if kind in WORDS:
        exact, whole = f"{path}.raw", node.get("fields", {}).get("raw", {})
        comparable = whole.get("type") == "keyword"
    copied_to = node.get("copy_to", [])
    return Field(
        path,
        kind,
        exact,
        whole.get("ignore_above"),
        filterable=comparable and whole.get("index", True),
        sortable=comparable and whole.get("doc_values", True),
        searched=kind not in {"binary", "object", "nested"} and node.get("index", True),
        located=kind in POINTS and node.get("doc_values", True),
        nested=nested,
        copied_to=(copied_to,) if isinstance(copied_to, str) else tuple(copied_to),
    )


def _parents(path: str, of: Mapping[str, Field]) -> Iterator[bool]:
    names = path.split(".")
    return (".".join(names[:end]) in of for end in range(1, len(names)))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
