"""Conditions and groups of them, compiled to filters of Elasticsearch's query DSL."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from search_service.caps import Caps
from search_service.errors import MAX_ERRORS, Error, mistake, nearest, shown
from search_service.fields import DATES, POINTS, STRINGS, WORDS, Field, Fields
from search_service.values import (
    DATE_FORMAT,
    WrongValueError,
    check,
    check_bound,
    distance,
    point,
)

Clause = dict[str, Any]

GROUPS = ("all", "any", "none")
_BOUNDS = ("gt", "gte", "lt", "lte")
_BOOLEAN_OF = {"all": "filter", "any": "should", "none": "must_not"}
_SHOWN = 255  # characters of a name in a location


@dataclass(slots=True)
class Compiler:
    """Compiles the conditions of one request, and gathers its mistakes in `errors`."""

    fields: Fields
    caps: Caps
    errors: list[Error]
    _clauses: int = field(default=0, init=False)

    def conditions(self, wanted: Mapping[str, Any], location: str, depth: int = 0) -> list[Clause]:
        """A filter for each condition, by field; all of them are to hold."""
        return [self._named(name, one, location, depth) for name, one in wanted.items()]

    def group(self, node: object, location: str, depth: int = 1) -> Clause:
        """A filter for a group, `{"all" | "any" | "none": […]}`, or for an object of conditions."""
        if not isinstance(node, dict) or not node:
            self._mistake(location, 'expected {"all": […]}, "any", "none", or conditions by field')
            return {}
        if depth > self.caps.depth:
            self._mistake(location, f"groups lie in one another at most {self.caps.depth} deep")
            return {}
        ((name, members),) = node.items() if len(node) == 1 else ((None, None),)
        if name not in GROUPS or not _are_groups(members):
            return _all_of(self.conditions(node, location, depth))
        if not members:
            self._mistake(f"{location}.{name}", "a group has at least one member")
            return {}
        self._count(location)
        clauses = [
            self.group(member, f"{location}.{name}.{position}", depth + 1)
            for position, member in enumerate(members[: self.caps.clauses + 1])
        ]
        return {"bool": {_BOOLEAN_OF[name]: clauses}}

    def _named(self, name: str, wanted: object, location: str, depth: int) -> Clause:
        self._count(location)
        leaf = self.fields.find(name)
        if leaf is None:
            if isinstance(wanted, dict) and self.fields.nested(name):
                return self._element(name, wanted, f"{location}.{name[:_SHOWN]}", depth)
            unknown_field(self.fields, name, location, self.errors)
            return {}
        return self._condition(leaf, wanted, f"{location}.{name[:_SHOWN]}", depth)

    def _condition(self, leaf: Field, wanted: object, location: str, depth: int) -> Clause:
        if not isinstance(wanted, dict):
            return within(leaf, self._values(leaf, wanted, location))
        operators = _operators(leaf)
        if unknown := [name for name in wanted if name not in operators]:
            if not operators:
                self._mistake(location, _unfiltered(leaf))
            else:
                known = ", ".join(operators)
                detail = f"{leaf.kind} has no {shown(unknown[0])}: it has {known}"
                if leaf.type in {"boolean", "flattened"} and set(unknown) <= set(_BOUNDS):
                    detail = f"{leaf.kind} has no ranges: it has a value, a list of values, "
                    detail += known
                self._mistake(location, detail)
            return {}
        if not wanted:
            self._mistake(location, f"an empty object is no condition: give {', '.join(operators)}")
            return {}
        clauses = []
        if bounds := {name: value for name, value in wanted.items() if name in _BOUNDS}:
            clauses.append(within(leaf, self._range(leaf, bounds, location)))
        for name, value in wanted.items():
            if name in _BOUNDS:
                continue
            if len(wanted) > 1:
                self._count(location)
            at = f"{location}.{name}"
            if name == "not":
                if depth >= self.caps.depth:
                    self._mistake(at, f"negations lie at most {self.caps.depth} deep")
                    continue
                inner = self._condition(leaf, value, at, depth + 1)
                clauses.append({"bool": {"must_not": [inner]}})
            elif name in {"exists", "null"}:
                clauses.append(self._exists(leaf, value, name, at))
            else:
                clauses.append(_OPERATORS[name](self, leaf, value, at))
        return _all_of(clauses)

    def _element(self, path: str, wanted: dict[str, Any], location: str, depth: int) -> Clause:
        """One nested document that meets all the conditions at once."""
        inner = wanted.get("element")
        if wanted.keys() != {"element"} or not isinstance(inner, dict) or not inner:
            name = self.fields.nested(path)[0].path
            detail = f'is nested: name a field in it, such as {name}, or give {{"element": {{…}}}}'
            self._mistake(location, detail)
            return {}
        clauses = []
        for name, one in inner.items():
            self._count(location)
            leaf = self.fields.find(f"{path}.{name}")
            at = f"{location}.element"
            if leaf is None:
                unknown_field(self.fields, f"{path}.{name}", at, self.errors)
            else:
                if leaf.nested == path:  # already there
                    leaf = replace(leaf, nested=None)
                clauses.append(self._condition(leaf, one, f"{at}.{name[:_SHOWN]}", depth + 1))
        return {"nested": {"path": path, "query": _all_of(clauses)}}

    def _values(self, leaf: Field, wanted: object, location: str) -> Clause:
        if not leaf.filterable:
            self._mistake(location, _unfiltered(leaf))
            return {}
        if isinstance(wanted, list):
            return self._any_of(leaf, wanted, location)
        return self._any_of(leaf, [wanted], location, single=True)

    def _any_of(
        self, leaf: Field, values: list[Any], location: str, single: bool = False
    ) -> Clause:
        checked = self._checked(leaf, values, location, single)
        if leaf.type in DATES:
            ranges = [_between(leaf, {"gte": first, "lte": last}) for first, last in checked]
            return ranges[0] if len(ranges) == 1 else {"bool": {"should": ranges}}
        if len(checked) == 1:
            return {"term": {leaf.exact: checked[0]}}
        return {"terms": {leaf.exact: checked}}

    def _checked(
        self, leaf: Field, values: list[Any], location: str, single: bool = False
    ) -> list[Any]:
        if not 0 < len(values) <= self.caps.values:
            detail = f"a list has 1 to {self.caps.values} values, this one {len(values)}"
            self._mistake(location, detail)
            return []
        checked: dict[Any, None] = {}
        for position, value in enumerate(values):
            try:
                checked[check(leaf, value)] = None
            except WrongValueError as error:
                if len(self.errors) < MAX_ERRORS:
                    at = location if single else f"{location}.{position}"
                    self.errors.append(error.at(at))
        return list(checked)

    def _range(self, leaf: Field, wanted: Mapping[str, Any], location: str) -> Clause:
        bounds: dict[str, Any] = {}
        order: dict[str, Any] = {}
        for name, value in wanted.items():
            try:
                bounds[name], order[name] = check_bound(leaf, value, name)
            except WrongValueError as error:
                self.errors.append(error.at(f"{location}.{name}"))
        for first, second in (("gt", "gte"), ("lt", "lte")):
            if first in wanted and second in wanted:
                self._mistake(location, f"give {first} or {second}, not both")
        lower = next((name for name in ("gte", "gt") if name in order), None)
        upper = next((name for name in ("lte", "lt") if name in order), None)
        ordered = [order[name] for name in (lower, upper) if name]
        if len(ordered) == 2 and None not in ordered and ordered[0] > ordered[1]:
            self._mistake(location, f"{lower} is above {upper}; swap them")
        return _between(leaf, bounds)

    def _exists(self, leaf: Field, value: object, name: str, location: str) -> Clause:
        if not isinstance(value, bool):
            self._mistake(location, f"expected true or false, got {shown(value)}")
        clause = within(leaf, {"exists": {"field": leaf.path}})
        return clause if value is (name == "exists") else {"bool": {"must_not": [clause]}}

    def _prefix(self, leaf: Field, value: object, location: str) -> Clause:
        if value == "":
            self._mistake(location, "a prefix has at least one character")
            return {}
        (checked,) = self._checked(leaf, [value], location, single=True) or [""]
        return {"prefix": {leaf.exact: {"value": checked}}}

    def _contains(self, leaf: Field, value: object, location: str) -> Clause:
        if not isinstance(value, dict):
            return self._values(leaf, value, location)
        if len(value) != 1 or not value.keys() <= {"any", "all"}:
            self._mistake(location, 'expected a value, {"any": […]} or {"all": […]}')
            return {}
        ((name, values),) = value.items()
        if not isinstance(values, list):
            self._mistake(f"{location}.{name}", f"expected a list of values, got {shown(values)}")
            return {}
        if name == "any":
            return self._any_of(leaf, values, f"{location}.any")
        self._count(location, len(values))
        clauses = []
        for position, one in enumerate(values[: self.caps.values + 1]):
            at = f"{location}.all.{position}"
            clauses.append(within(leaf, self._any_of(leaf, [one], at, single=True)))
        if not clauses or len(values) > self.caps.values:
            self._checked(leaf, values, f"{location}.all")
        # Each of them may be in another one of the nested documents.
        return {"bool": {"filter": clauses}}

    def _words(self, leaf: Field, value: object, location: str) -> Clause:
        how, text = ("all", value)
        if isinstance(value, dict) and len(value) == 1:
            ((how, text),) = value.items()
        if how not in {"all", "any", "phrase"}:
            self._mistake(location, 'expected words, {"all": words}, {"any": …} or {"phrase": …}')
            return {}
        if problem := text_problem(text, self.caps):
            self._mistake(location, problem)
            return {}
        if how == "phrase":
            return {"match_phrase": {leaf.path: {"query": text}}}
        operator = "and" if how == "all" else "or"
        return {"match": {leaf.path: {"query": text, "operator": operator}}}

    def _near(self, leaf: Field, value: object, location: str) -> Clause:
        if not isinstance(value, dict) or value.keys() != {"lat", "lon", "within"}:
            self._mistake(location, 'expected {"lat": 52.5, "lon": 13.4, "within": "5km"}')
            return {}
        try:
            centre = point({"lat": value["lat"], "lon": value["lon"]})
            radius = distance(value["within"])
        except WrongValueError as error:
            self.errors.append(error.at(location))
            return {}
        return {"geo_distance": {"distance": radius, leaf.path: centre}}

    def _box(self, leaf: Field, value: object, location: str) -> Clause:
        if not isinstance(value, dict) or value.keys() != {"top_left", "bottom_right"}:
            detail = 'expected {"top_left": {"lat": …, "lon": …}, "bottom_right": {…}}'
            self._mistake(location, detail)
            return {}
        try:
            corners = {name: point(corner) for name, corner in value.items()}
        except WrongValueError as error:
            self.errors.append(error.at(location))
            return {}
        if corners["top_left"]["lat"] < corners["bottom_right"]["lat"]:
            self._mistake(location, "top_left is south of bottom_right; swap their latitudes")
        return {"geo_bounding_box": {leaf.path: corners}}

    def _count(self, location: str, clauses: int = 1) -> None:
        before = self._clauses
        self._clauses += clauses
        if before <= self.caps.clauses < self._clauses:
            detail = f"a search has at most {self.caps.clauses} conditions and groups"
            self._mistake(location, detail)

    def _mistake(self, location: str, detail: str) -> None:
        mistake(self.errors, location, detail)


_OPERATORS: dict[str, Callable[[Compiler, Field, object, str], Clause]] = {
    "prefix": Compiler._prefix,
    "contains": Compiler._contains,
    "words": Compiler._words,
    "near": Compiler._near,
    "box": Compiler._box,
}


def unknown_field(fields: Fields, name: str, location: str, errors: list[Error]) -> None:
    """Tell of a name that is no field, and of the one that may be meant."""
    if len(errors) >= MAX_ERRORS:
        return
    if children := fields.under(name):
        detail = f"is an object; name a field in it, such as {children[0]}"
    else:
        detail = "unknown field." + nearest(name, list(fields.leaves))
    errors.append({"location": f"{location}.{name[:_SHOWN]}", "detail": detail})


def text_problem(text: object, caps: Caps) -> str | None:
    """What is wrong with a text whose words are to be found."""
    if not isinstance(text, str):
        return f"expected words as a text, got {shown(text)}"
    if not text.strip():
        return "expected at least one word"
    if len(text) > caps.text or len(text.split()) > caps.words:
        return f"a text has at most {caps.words} words and {caps.text:,} characters"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return None


def _operators(leaf: Field) -> list[str]:
    found: list[str] = []
    if leaf.filterable:
        if leaf.type not in {"boolean", "flattened"}:
            found += _BOUNDS
        found += ["not", "contains"]
        if leaf.type in {*STRINGS, *WORDS, "flattened"}:
            found.append("prefix")
    if leaf.type in WORDS and leaf.searched:
        found.append("words")
    if leaf.type in POINTS and leaf.searched:
        found += ["near", "box", "not"]
    if leaf.searched:
        found += ["exists", "null"] if "not" in found else ["not", "exists", "null"]
    return found


def _unfiltered(leaf: Field) -> str:
    detail = f"{leaf.kind} cannot be filtered by"
    if leaf.type == "flattened":
        return f"{detail}; name a key in it, as {leaf.path}.key"
    if operators := _operators(leaf):
        detail += f" a value; it has {', '.join(operators)}"
    return detail


def within(leaf: Field, clause: Clause) -> Clause:
    """The clause on a field, which may be in nested documents."""
    return {"nested": {"path": leaf.nested, "query": clause}} if leaf.nested else clause


def _between(leaf: Field, bounds: dict[str, Any]) -> Clause:
    if leaf.type in DATES:
        bounds = {**bounds, "format": DATE_FORMAT}
    return {"range": {leaf.exact: bounds}}


def _all_of(clauses: list[Clause]) -> Clause:
    return clauses[0] if len(clauses) == 1 else {"bool": {"filter": clauses}}


def _are_groups(members: object) -> bool:
    return isinstance(members, list) and all(isinstance(member, dict) for member in members)
