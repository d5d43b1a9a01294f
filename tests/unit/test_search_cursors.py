"""Cursors, without a server."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_service.cursors import Place, advance, decode, encode
from search_service.errors import ServiceError

KEY = ("id", "at")


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def hit(name: str, *sort: Any) -> dict[str, Any]:
    return {"_id": name, "sort": list(sort)}


sort_values = st.text() | st.integers(-(2**63), 2**63 - 1) | st.booleans()


@given(after=st.none() | st.lists(sort_values), given_=st.lists(st.text(), max_size=5))
def test_a_cursor_comes_back_as_it_was(after: list[Any] | None, given_: list[str]) -> None:
    place = Place(after, tuple(given_))
    cursor = encode("things", KEY, place)
    assert decode(cursor, "things", KEY) == place
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# ")


@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ServiceError) as refused:
        decode(cursor, "things", KEY)
    assert refused.value.status == 400


GOOD = {"v": 1, "i": "things", "k": list(KEY), "a": [1, 2], "g": []}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, "another version"),
        ({"v": True}, "another version"),
        ({"v": 1.0}, "another version"),
        ({"i": "others"}, "another index"),
        ({"k": ["id"]}, "present key"),
        ({"k": ["at", "id"]}, "present key"),
        ({"a": "1"}, "damaged"),
        ({"a": {}}, "damaged"),
        ({"a": [float("nan"), 1]}, "damaged"),
        ({"g": None}, "damaged"),
        ({"g": [1]}, "damaged"),
        ({"g": ["x"] * 1025}, "damaged"),
        ({"more": 1}, "damaged"),
    ],
    ids=lambda change: str(change)[:30],
)
def test_a_changed_cursor_is_refused_with_a_reason(change: dict[str, Any], reason: str) -> None:
    assert decode(encoded(GOOD), "things", KEY) == Place([1, 2])
    with pytest.raises(ServiceError, match=reason):
        decode(encoded({**GOOD, **change}), "things", KEY)


def test_the_place_after_a_page_is_its_last_document() -> None:
    page = [hit("a", 1), hit("b", 2)]
    assert advance(Place(), page, hit("c", 3)) == Place([2])


def test_between_equals_the_place_is_before_them_and_names_those_given() -> None:
    page = [hit("a", 1), hit("b", 2), hit("c", 2)]
    assert advance(Place([0]), page, hit("d", 2)) == Place([1], ("b", "c"))


def test_a_page_of_equals_only_stays_where_it_was() -> None:
    first = advance(Place([0]), [hit("a", 1), hit("b", 1)], hit("c", 1))
    assert first == Place([0], ("a", "b"))
    assert advance(first, [hit("c", 1)], hit("d", 1)) == Place([0], ("a", "b", "c"))
    assert advance(first, [hit("c", 1)], hit("d", 2)) == Place([1])
