"""Roles put into effect: what of an index exists for a caller, and how much it may ask for.

Within a role every entry whose pattern names the index holds: a field must be shown by all of them
and a row pass all of them. Several roles add up, but never to a value that none of them shows:
roles with the same rows add up their fields; roles with different rows add up their rows, and only
the fields that all of these show are left.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import structlog

from search_service.access.rules import Role, Sight
from search_service.caps import Caps
from search_service.conditions import Clause, Compiler
from search_service.errors import Error
from search_service.fields import OPEN, Fields
from search_service.indices import Index
from search_service.limits import Rate

log = structlog.get_logger(__name__)

NOTHING: dict[str, Any] = {"match_none": {}}
_CACHED = 4096  # indexes as policies show them

Conditions = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """An index as a policy shows it, before it is known who asks.

    `rows` are alternatives, each a list of conditions that all hold; none: every row. `whole` are
    the index's own fields, which rows may be chosen by although they are hidden.
    """

    index: Index
    whole: Fields
    rows: tuple[tuple[Conditions, ...], ...]


class Policy:
    """The roles of a caller, taken together."""

    def __init__(self, roles: Sequence[Role], caps: Caps) -> None:
        self._grants = [Grants(role) for role in roles]
        self.caps = _together([_caps(role, caps) for role in roles]) if roles else caps
        self.rates = _most(role.rates for role in roles)
        self.metrics = any(role.metrics for role in roles)
        self.nothing = not roles
        self._view = lru_cache(_CACHED)(self._make_view)

    def view(self, index: Index, claims: Mapping[str, Any]) -> Index | None:
        """The index as it is for a caller with these claims; None: there is none such for it."""
        view = self._view(index)
        if view is None:
            return None
        if not view.rows:
            return view.index
        return replace(view.index, filters=(*index.filters, _clause(view, claims)))

    def _make_view(self, index: Index) -> View | None:
        grants = [grant for grants in self._grants if (grant := grants.on(index))]
        if not grants:
            return None
        groups: dict[str, tuple[tuple[Conditions, ...], set[str]]] = {}
        for rows, seen in grants:
            text = json.dumps(rows, sort_keys=True, default=str)
            groups.setdefault(text, (rows, set()))[1].update(seen)
        everything = next((seen for rows, seen in groups.values() if not rows), None)
        # What a role without rows shows of every row, another shows no more of some rows.
        kept = [
            (rows, seen)
            for rows, seen in groups.values()
            if not rows or everything is None or not seen <= everything
        ]
        shown = set.intersection(*(seen for _, seen in kept))
        if not shown:
            return None
        restricted = index.fields.restrict(shown.__contains__)
        alternatives = tuple(rows for rows, _ in kept)
        unlimited = not all(alternatives)
        return View(
            replace(index, fields=restricted), index.fields, () if unlimited else alternatives
        )


class Everything(Policy):
    """The policy of a service without rules."""

    def __init__(self, caps: Caps) -> None:
        super().__init__([], caps)
        self.metrics = True
        self.nothing = False

    def view(self, index: Index, claims: Mapping[str, Any]) -> Index | None:
        """The index itself."""
        return index


class Grants:
    """What one role shows of each index."""

    def __init__(self, role: Role) -> None:
        self._entries = [
            (_pattern([name]), sight, _shows(sight)) for name, sight in role.indices.items()
        ]

    def on(self, index: Index) -> tuple[tuple[Conditions, ...], set[str]] | None:
        """The conditions on its rows, and the paths of the fields that are shown."""
        found = [entry for entry in self._entries if entry[0].fullmatch(index.name)]
        if not found:
            return None
        leaves = index.fields.leaves
        seen = {
            path
            for path, leaf in leaves.items()
            if all(shows(path, leaf.type in OPEN) for _, _, shows in found)
        }
        return tuple(sight.rows for _, sight, _ in found if sight.rows), seen


def _shows(sight: Sight) -> Callable[[str, bool], bool]:
    allowed = None if sight.fields is None else _pattern(sight.fields, below=True)
    hidden = _pattern(sight.hide, below=True)

    def shows(path: str, is_open: bool) -> bool:
        if allowed is not None and not allowed.fullmatch(path):
            return False
        # Of an object that the mapping does not spell out, no part can be hidden: all of it is.
        return not hidden.fullmatch(path) and not (
            is_open and any(_reaches(pattern, f"{path}.") for pattern in sight.hide)
        )

    return shows


def _pattern(patterns: Iterable[str], below: bool = False) -> re.Pattern[str]:
    """Names with `*` for any text; with `below`, also whatever is inside of what they name."""
    texts = [".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns]
    either = "|".join(texts) if texts else "(?!)"
    return re.compile(f"(?:{either})" + (r"(?:\..*)?" if below else ""), re.DOTALL)


def _reaches(pattern: str, start: str) -> bool:
    """Whether some text that begins with `start` fits the pattern."""
    literal, star, _ = pattern.partition("*")
    return literal.startswith(start) or (star == "*" and start.startswith(literal))


def _clause(view: View, claims: Mapping[str, Any]) -> dict[str, Any]:
    """The rows that a caller with these claims sees, as Elasticsearch's query."""
    alternatives = []
    for rows in view.rows:
        try:
            clauses = [clause for one in rows for clause in _compiled(view, one, claims)]
        except _NoRowsError as reason:
            # Names, and no values: those may be claims of a person.
            log.warning("row_filter_finds_nothing", index=view.index.name, reason=str(reason))
        else:
            alternatives.append({"bool": {"filter": clauses}})
    if not alternatives:
        return NOTHING
    if len(alternatives) == 1:
        return alternatives[0]
    return {"bool": {"should": alternatives, "minimum_should_match": 1}}


def _compiled(view: View, conditions: Conditions, claims: Mapping[str, Any]) -> list[Clause]:
    errors: list[Error] = []
    resolved = {name: _resolved(one, claims) for name, one in conditions.items()}
    clauses = Compiler(view.whole, Caps(), errors).conditions(resolved, "rows")
    if errors:
        places = ", ".join(sorted({error["location"] for error in errors}))
        raise _NoRowsError(f"{places} does not fit the index")
    return clauses


class _NoRowsError(Exception):
    """The caller lacks a claim, or a value does not fit the index: so no row is the caller's."""


def _resolved(condition: Any, claims: Mapping[str, Any]) -> Any:
    """The condition with the caller's claims in the place of `{claim: name}`."""
    if isinstance(condition, Mapping):
        if condition.keys() == {"claim"}:
            return _claim(claims, str(condition["claim"]))
        return {name: _resolved(value, claims) for name, value in condition.items()}
    if isinstance(condition, list):
        found: list[Any] = []
        for value in condition:
            one = _resolved(value, claims)
            found += one if isinstance(one, list) and isinstance(value, Mapping) else [one]
        return found
    return condition


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    found = claim_or_none(claims, name)
    if found is None or found in ("", []) or isinstance(found, Mapping):
        raise _NoRowsError(f"the caller has no claim {name}")
    return found


def claim_or_none(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name, or at that dotted path; None when there is nothing."""
    found: Any = claims
    for part in [name] if name in claims else name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _caps(role: Role, default: Caps) -> Caps:
    features = default.features if role.features is None else frozenset(role.features)
    return replace(default, **role.limits, features=features)


def _together(several: Sequence[Caps]) -> Caps:
    """The most that any of them allows."""
    most: dict[str, Any] = {}
    for field in fields(Caps):
        values = [getattr(caps, field.name) for caps in several]
        if field.name == "features":
            most[field.name] = frozenset().union(*values)
        else:
            most[field.name] = None if None in values else max(values)
    return Caps(**most)


def _most(several: Iterable[tuple[Rate, ...] | None]) -> tuple[Rate, ...] | None:
    """Of the rates that the roles name those that allow the most in the long run."""
    known = [rates for rates in several if rates]
    if not known:
        return None
    return max(known, key=lambda rates: min(rate.requests / rate.seconds for rate in rates))
