"""The short form of conditions, for addresses: `carrier:UA,AA -origin:JFK dep_delay:>=60`.

conditions = condition (" " condition)*
condition  = ["-"] field ":" test
test       = "*" | (">" | ">=" | "<" | "<=") value | value ".." value | text "*"
           | value ("," value)*
value      = '"' (any character; \\" and \\\\ for these two) '"' | characters without blanks,
             quotes and commas
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_service.errors import ServiceError, invalid, shown
from search_service.fields import Fields

_COMPARISONS = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt"}
_ENDS_OF_NAME = frozenset(':" ')
_ENDS_OF_VALUE = frozenset(' ",')


@dataclass(frozen=True, slots=True)
class Test:
    """A condition as it is written; `wanted` as in a request's body, its values still texts."""

    field: str
    wanted: Any
    negated: bool


def parse(text: str, location: str) -> list[Test]:
    """The conditions in a text.

    Raises:
        search_service.errors.ServiceError: it is not in this form; with the place of the mistake.
    """
    return _Reader(text, location).conditions()


def as_group(tests: list[Test], fields: Fields) -> dict[str, Any] | None:
    """The conditions as a request's `filter`; None for none."""
    members = []
    for test in tests:
        leaf = fields.find(test.field)
        wanted = test.wanted
        if leaf is not None and leaf.type == "boolean":
            wanted = _typed(wanted)
        if test.negated:
            null = isinstance(wanted, dict) and wanted.keys() == {"exists"}
            wanted = {"exists": False} if null else {"not": wanted}
        members.append({test.field: wanted})
    return {"all": members} if members else None


def _typed(wanted: Any) -> Any:
    if isinstance(wanted, list):
        return [_typed(one) for one in wanted]
    if isinstance(wanted, Mapping):
        return wanted
    return {"true": True, "false": False}.get(wanted, wanted)


class _Reader:
    def __init__(self, text: str, location: str) -> None:
        self._text = text
        self._at = 0
        self._location = location

    def conditions(self) -> list[Test]:
        found = []
        self._skip_blanks()
        while self._at < len(self._text):
            found.append(self._condition())
            if self._at < len(self._text) and self._text[self._at] != " ":
                raise self._mistake("expected a blank before the next condition")
            self._skip_blanks()
        if not found:
            raise self._mistake("expected a condition, such as status:paid")
        return found

    def _condition(self) -> Test:
        negated = self._take("-")
        name = self._until(_ENDS_OF_NAME)
        if not name:
            raise self._mistake("expected the name of a field")
        if not self._take(":"):
            raise self._mistake(f"expected a colon after the field {shown(name)}")
        return Test(name, self._test(), negated)

    def _test(self) -> Any:
        for sign, name in _COMPARISONS.items():
            if self._take(sign):
                return {name: self._value()[0]}
        start = self._at
        first, quoted = self._value()
        if not quoted:
            if first == "*":
                return {"exists": True}
            if ".." in first:
                return self._range(first, start)
        # After a quoted value: "United Air"* and "2013-01-01".."2013-01-31".
        if quoted and self._take("*"):
            return {"prefix": first}
        if quoted and self._take(".."):
            return {"gte": first, "lte": self._value()[0]}
        if not quoted and first.endswith("*"):
            return {"prefix": first[:-1]}
        values = [first]
        while self._take(","):
            start = self._at
            value, quoted = self._value()
            if not quoted and value.endswith("*"):
                self._at = start
                raise self._mistake("a list has whole values; give a prefix alone, or quote it")
            values.append(value)
        return first if len(values) == 1 else values

    def _range(self, text: str, start: int) -> dict[str, str]:
        lower, _, upper = text.partition("..")
        if not upper and self._text[self._at : self._at + 1] == '"':
            upper = self._value()[0]
        if not lower and not upper:
            self._at = start
            raise self._mistake("expected a range such as 1..5, 1.. or ..5")
        bounds = {"gte": lower, "lte": upper}
        return {name: bound for name, bound in bounds.items() if bound}

    def _value(self) -> tuple[str, bool]:
        if not self._take('"'):
            value = self._until(_ENDS_OF_VALUE)
            if not value:
                raise self._mistake('expected a value; an empty one is ""')
            return value, False
        start = self._at - 1
        characters: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                return "".join(characters), True
            if character == "\\":
                character = self._text[self._at : self._at + 1]
                if character not in {'"', "\\"}:
                    raise self._mistake('after a backslash in quotes, expected " or \\')
                self._at += 1
            characters.append(character)
        self._at = start
        raise self._mistake("expected a closing quote for the one here")

    def _take(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _until(self, ends: frozenset[str]) -> str:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in ends:
            self._at += 1
        return self._text[start : self._at]

    def _skip_blanks(self) -> None:
        while self._take(" "):
            pass

    def _mistake(self, detail: str) -> ServiceError:
        place = f"{detail} (character {self._at + 1} of {shown(self._text)})"
        return invalid([{"location": self._location, "detail": place}])
