"""Cursors, without a server."""

import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_service.cursors import Place, Scroll, Seal, Step, advance, decode, encode
from search_service.errors import ServiceError
from search_service.pages import KeyedHit

KEY = ("id", "at")
ALPHABET = string.ascii_letters + string.digits + "-_"
SEAL = Seal(["a secret of the tests"], 60)


def hit(name: str, *sort: Any) -> KeyedHit:
    return KeyedHit(id=name, sort=list(sort))


sort_values = st.text() | st.integers(-(2**63), 2**64 - 1) | st.booleans()


@given(after=st.none() | st.lists(sort_values), given_=st.lists(st.text(), max_size=5))
def test_a_cursor_comes_back_as_it_was(after: list[Any] | None, given_: list[str]) -> None:
    place = Place(after, tuple(given_))
    cursor = encode(SEAL, "things", KEY, place)
    assert decode(SEAL, cursor, "things", KEY) == place
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?# ")


def test_a_cursor_tells_nothing_of_what_is_in_it() -> None:
    cursor = encode(SEAL, "things", KEY, Place(["a secret key"]))
    assert cursor != encode(SEAL, "things", KEY, Place(["a secret key"]))
    assert "c2VjcmV0" not in cursor


@given(st.text() | st.binary(max_size=200).map(lambda raw: raw.hex()))
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ServiceError) as refused:
        decode(SEAL, cursor, "things", KEY)
    assert refused.value.status == 400


@given(st.integers(0, 119), st.sampled_from("Aa0_-"))
def test_a_cursor_with_one_other_character_is_refused(position: int, character: str) -> None:
    cursor = encode(SEAL, "things", KEY, Place([1, 2]))
    changed = cursor[:position] + character + cursor[position + 1 :]
    if changed != cursor:
        with pytest.raises(ServiceError, match="damaged"):
            decode(SEAL, changed, "things", KEY)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Scroll("others", KEY, [1, 2], ()), "another index"),
        (Scroll("things", ("id",), [1, 2], ()), "present key"),
        (Scroll("things", ("at", "id"), [1, 2], ()), "present key"),
        (Scroll("things", KEY, [1, 2], ("x",) * 1025), "alike"),
        (Step(), "another kind"),
    ],
    ids=["of another index", "of another key", "of a longer key", "of too many", "of a walk"],
)
def test_a_cursor_of_something_else_is_refused_with_a_reason(
    content: Scroll | Step, reason: str
) -> None:
    with pytest.raises(ServiceError, match=reason):
        decode(SEAL, SEAL.close(content), "things", KEY)


def test_a_cursor_of_a_walk_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = SEAL.close(Step("what", "name"))
    assert SEAL.open(cursor, Step, expires=True).search == "what"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 62)
    with pytest.raises(ServiceError, match="has expired") as refused:
        SEAL.open(cursor, Step, expires=True)
    assert refused.value.status == 410


@pytest.mark.parametrize("length", range(48))
def test_a_cursor_has_one_spelling(length: int) -> None:
    """Base64 skips other characters, and the last one may have bits that it does not use."""
    cursor = SEAL.close(Step("s" * length))
    spellings = [cursor[:-1] + other for other in ALPHABET if other != cursor[-1]]
    for other in (*spellings, f"{cursor[:9]}.{cursor[9:]}", f"{cursor[:9]}...={cursor[9:]}"):
        with pytest.raises(ServiceError) as refused:
            SEAL.open(other, Step)
        assert refused.value.status == 400


def test_a_secret_is_changed_without_losing_cursors() -> None:
    cursor = SEAL.close(Step("what"))
    both = Seal(["a new secret of the tests", "a secret of the tests"], 60)
    assert both.open(cursor, Step).search == "what"
    with pytest.raises(ServiceError, match="secret"):
        Seal(["a new secret of the tests"], 60).open(cursor, Step)


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
