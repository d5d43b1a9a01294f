"""The short form of conditions, without a server."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_service.errors import ServiceError
from search_service.fields import Fields
from search_service.grammar import as_group, parse

FIELDS = Fields(
    {"properties": {"name": {"type": "keyword"}, "n": {"type": "long"}, "ok": {"type": "boolean"}}}
)


def group(text: str) -> Any:
    return as_group(parse(text, "filter.0"), FIELDS)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("n:1", {"n": "1"}),
        ("n:1,2", {"n": ["1", "2"]}),
        ("n:>1", {"n": {"gt": "1"}}),
        ("n:<=1", {"n": {"lte": "1"}}),
        ("n:1..2", {"n": {"gte": "1", "lte": "2"}}),
        ("n:1..", {"n": {"gte": "1"}}),
        ("n:-5..-1", {"n": {"gte": "-5", "lte": "-1"}}),
        ("n:*", {"n": {"exists": True}}),
        ("-n:*", {"n": {"exists": False}}),
        ("-n:1", {"n": {"not": "1"}}),
        ("-n:>1", {"n": {"not": {"gt": "1"}}}),
        ("name:U*", {"name": {"prefix": "U"}}),
        ('name:"*"', {"name": "*"}),
        ('name:"a..b"', {"name": "a..b"}),
        ('name:""', {"name": ""}),
        (r'name:"a \"b\" \\ c"', {"name": r'a "b" \ c'}),
        ('name:"a,b",c', {"name": ["a,b", "c"]}),
        ("name:12:30", {"name": "12:30"}),
        ("ok:true", {"ok": True}),
        ("-ok:true,false", {"ok": {"not": [True, False]}}),
        ("ok:maybe", {"ok": "maybe"}),
        ("nope:1", {"nope": "1"}),
    ],
)
def test_a_condition_is_that_of_a_body(text: str, wanted: dict[str, Any]) -> None:
    assert group(text) == {"all": [wanted]}


def test_conditions_have_blanks_between() -> None:
    assert group("  n:1   -ok:true ") == {"all": [{"n": "1"}, {"ok": {"not": True}}]}


@pytest.mark.parametrize(
    ("text", "character"),
    [
        *[("", 1), ("n", 2), ("n:", 3), (":1", 1), ('n:"a', 3), ('n:"a"b', 6), (r'n:"\a"', 5)],
        *[("n:1,", 5), ("n:a,b*", 5), ("n:..", 3), ("n:1 m", 6), ("n:>", 4)],
    ],
)
def test_a_mistake_says_at_which_character(text: str, character: int) -> None:
    with pytest.raises(ServiceError) as refused:
        parse(text, "filter.0")
    assert refused.value.errors[0]["location"] == "filter.0"
    assert f"(character {character} of " in refused.value.detail


@given(st.text(alphabet='ab:"\\,.*<>=- é\ud800', max_size=20))
def test_whatever_is_written_is_a_group_or_a_clear_no(text: str) -> None:
    try:
        found = group(text)
    except ServiceError as error:
        refused = error
    else:
        assert found["all"]
        return
    assert refused.status == 422


@given(st.text(max_size=20))
def test_any_value_can_be_quoted(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    assert group(f'name:"{quoted}"') == {"all": [{"name": value}]}
