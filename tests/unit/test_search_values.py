"""Values of a request against the types of their fields."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_service.fields import FLOATS, INTEGERS, Field
from search_service.values import WrongValueError, check, check_bound, utf16_length


def field(kind: str, ignore_above: int | None = None) -> Field:
    return Field("it", kind, "it", ignore_above)


@pytest.mark.parametrize(
    ("written", "first", "last"),
    [
        ("2020", "2020-01-01T00:00:00.000000000Z", "2020-12-31T23:59:59.999999999Z"),
        ("2020-02", "2020-02-01T00:00:00.000000000Z", "2020-02-29T23:59:59.999999999Z"),
        ("2020-02-03", "2020-02-03T00:00:00.000000000Z", "2020-02-03T23:59:59.999999999Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000000000Z", "0001-01-01T23:59:59.999999999Z"),
        ("9999", "9999-01-01T00:00:00.000000000Z", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_a_date_without_a_time_is_its_whole_period(written: str, first: str, last: str) -> None:
    assert check(field("date"), written) == (first, last)
    assert check_bound(field("date"), written, "gte")[0] == first
    assert check_bound(field("date"), written, "lte")[0] == last


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2020-02-03T04:05", "2020-02-03T04:05:00.000000000Z"),
        ("2020-02-03T04:05:06", "2020-02-03T04:05:06.000000000Z"),
        ("2020-02-03T04:05:06Z", "2020-02-03T04:05:06.000000000Z"),
        ("2020-02-03t04:05:06z", "2020-02-03T04:05:06.000000000Z"),
        ("2020-02-03 04:05:06.5", "2020-02-03T04:05:06.500000000Z"),
        ("2020-02-03T04:05:06,123456789", "2020-02-03T04:05:06.123456789Z"),
        ("2020-02-03T04:05:06.123456+05:30", "2020-02-02T22:35:06.123456000Z"),
        ("2020-02-03T04:05:06-0100", "2020-02-03T05:05:06.000000000Z"),
        ("2020-02-03 04:05:06+00", "2020-02-03T04:05:06.000000000Z"),
    ],
)
def test_a_date_with_a_time_is_an_instant_in_utc(written: str, instant: str) -> None:
    assert check(field("date"), written) == (instant, instant)


@pytest.mark.parametrize(
    "written",
    [
        *("", "now", "2020-13", "2020-02-30", "2019-02-29", "0000-01-01", "20200101", "2020-W01"),
        *("2020-02-03T", "2020-02-03T25:00", "2020-02-03T04:60", "2020-02-03T04:05:60"),
        *("2020-02-03T04:05:06.1234567890", "2020-02-03T04:05+25:00", "2020-02-03Z", "12020-01-01"),
        *("0001-01-01T00:00+01:00", "9999-12-31T23:59-01:00", "2020-01-01\n", "２０２０-01-01"),
        *("2020-01-01||/d", "-0044-03-15", "2020-1-1", "01/02/2020", "infinity"),
    ],
)
def test_what_is_no_date_is_refused(written: str) -> None:
    with pytest.raises(WrongValueError, match="ISO 8601"):
        check(field("date"), written)


@given(st.sampled_from(list(INTEGERS)), st.integers(-(2**70), 2**70))
def test_integers_are_taken_within_their_types_range(kind: str, number: int) -> None:
    low, high = INTEGERS[kind]
    for given_ in (number, str(number)):
        if low <= number <= high:
            assert check(field(kind), given_) == number
        else:
            with pytest.raises(WrongValueError, match=kind):
                check(field(kind), given_)


@pytest.mark.parametrize(
    "value",
    [
        *(1.5, float("nan"), float("inf"), 2.0**54, True, "1.0", "0x10", "1_000", " 1", "", "１"),
        *("9" * 5000, [], {}, None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_integer_is_refused(value: Any) -> None:
    with pytest.raises(WrongValueError):
        check(field("long"), value)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "NaN", "inf", "", "1e999", 10**400, True, "1,5", "far", [], None],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_finite_number_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(WrongValueError, match=kind):
        check(field(kind), value)


def test_numbers_may_be_quoted() -> None:
    assert check(field("double"), "-1.5e3") == -1500
    assert check(field("long"), "9007199254740993") == 9007199254740993


def test_a_text_may_be_as_long_as_elasticsearch_indexes() -> None:
    assert utf16_length("a😀") == 3  # as Java counts
    assert check(field("text", 4), "a😀b") == "a😀b"
    with pytest.raises(WrongValueError, match="at most 4"):
        check(field("text", 4), "a😀bc")
    assert check(field("keyword"), "x" * 10_000)


@pytest.mark.parametrize("kind", ["text", "keyword", "flattened"])
def test_half_a_surrogate_pair_is_refused(kind: str) -> None:
    with pytest.raises(WrongValueError) as refused:
        check(field(kind), "a\ud800")
    assert "Unicode" in refused.value.at("x")["detail"]


@pytest.mark.parametrize(
    ("low", "high"),
    [("9.0.0.0", "10.0.0.0"), ("255.255.255.255", "::1:0:0:0"), ("::1", "1.2.3.4")],
)
def test_addresses_compare_as_numbers_and_ipv4_as_mapped(low: str, high: str) -> None:
    assert check_bound(field("ip"), low, "gte")[1] < check_bound(field("ip"), high, "lte")[1]


@pytest.mark.parametrize("value", ["", "1.2.3", "1.2.3.4/33", "fe80::1%eth0", "::/x", 1, None])
def test_what_is_no_address_is_refused(value: Any) -> None:
    with pytest.raises(WrongValueError, match="ip"):
        check(field("ip"), value)


def test_a_message_shows_a_long_value_in_short() -> None:
    with pytest.raises(WrongValueError) as refused:
        check(field("long"), "x" * 100_000)
    assert len(refused.value.at("it")["detail"]) < 200
