"""Values from a request, checked against the type of their field before Elasticsearch sees them."""

import calendar
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from typing import Any

from search_service.errors import Error, shown
from search_service.fields import DATES, FLOATS, INTEGERS, STRINGS, Field

DATE_FORMAT = "strict_date_optional_time_nanos"

_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r" ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?)?)?)?"
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]+)?")
_RELATIVE = re.compile(r"now((?:[+-][0-9]{1,5}[yMwdhHms])*)(/[yMwdhHms])?")
_STEP = re.compile(r"([+-])([0-9]+)([a-zA-Z])")
_SECONDS = {"y": 31_622_400, "M": 2_678_400, "w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_NANOS_REACH = 1_700_000_000  # seconds before and after now that `date_nanos` can hold
_MAX_STEPS = 5
_DISTANCE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(m|km|mi|nmi|yd|ft)")
# The integers up to here have a double of their own; above, 2.0**53 + 1 is another number.
_EXACT_IN_DOUBLE = 2**53
# What 64 bits of nanoseconds since 1970 can count, which is how `date_nanos` is stored.
_NANOS = ("1970-01-01T00:00:00.000000000Z", "2262-04-11T23:47:16.854775807Z")


class WrongValueError(ValueError):
    """A value that its field cannot hold: what was expected, what was given, a remedy if any."""

    def __init__(self, expected: str, given: object, remedy: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.given = shown(given)
        self.remedy = remedy

    def at(self, location: str) -> Error:
        """As one of a problem's `errors`."""
        detail = f"expected {self.expected}, got {self.given}{self.remedy}"
        return {
            "location": location,
            "detail": detail,
            "expected": self.expected,
            "given": self.given,
        }


def check(field: Field, value: object) -> Any:
    """The value as its field stores it; a date becomes a (first, last) pair of instants.

    Raises:
        WrongValueError: the field cannot hold it, so that no document can match.
    """
    if value is None:
        raise WrongValueError(_expected(field), None, "; leave the field out to not filter by it")
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongValueError(_expected(field), str(value))
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise WrongValueError(_expected(field), value, ", which is not valid Unicode") from None
    return _CHECKS[field.type](field, value)


def check_bound(field: Field, value: object, name: str) -> tuple[Any, Any]:
    """A range's bound: what to send to Elasticsearch, and a key by which bounds compare.

    A date without a time stands for its whole day, month, or year: `gte` and `lt` take its first
    instant, `lte` and `gt` its last. A date relative to now compares with nothing: its key is None.

    Raises:
        WrongValueError: as for `check`.
    """
    if field.type in DATES and isinstance(value, str) and value.startswith("now"):
        return _relative(field, value), None
    checked = check(field, value)
    if field.type in DATES:
        instant = checked[0 if name in {"gte", "lt"} else 1]
        return instant, instant
    if field.type == "ip":
        if "/" in checked:
            raise WrongValueError("an IP address", value, "; a network is a value, not a bound")
        return checked, int(_as_ipv6(ip_address(checked)))
    if isinstance(checked, str):
        return checked, checked.encode()  # the order of keywords is that of their UTF-8 bytes
    return checked, checked


def point(value: object) -> dict[str, float]:
    """A place on the globe, from `{"lat": 52.5, "lon": 13.4}` in degrees.

    Raises:
        WrongValueError: it is not one.
    """
    expected = "a point: lat from -90 to 90 and lon from -180 to 180"
    if not isinstance(value, dict) or value.keys() != {"lat", "lon"}:
        raise WrongValueError(expected, value)
    for name, limit in (("lat", 90), ("lon", 180)):
        number = value[name]
        if type(number) not in {int, float} or not -limit <= number <= limit:
            raise WrongValueError(expected, number)
    return {"lat": value["lat"], "lon": value["lon"]}


def distance(value: object) -> str:
    """A distance with its unit, such as `5km`.

    Raises:
        WrongValueError: it is not one.
    """
    match = _DISTANCE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        raise WrongValueError("a distance such as 5km, 300 m or 2.5mi, above 0", value)
    return match[1] + match[2]


def utf16_length(text: str) -> int:
    """The length as Elasticsearch's `ignore_above` counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _expected(field: Field) -> str:
    kind = field.type
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return f"{kind}: an integer from {low} to {high}"
    if kind in FLOATS:
        return f"{kind}: a finite number within its range"
    if kind in DATES:
        return f"{kind}: ISO 8601 such as 2013-01-31 or 2013-01-31T09:30:00.123456+01:00"
    names = {"boolean": "boolean: true or false", "ip": "ip: an IPv4 or IPv6 address"}
    return names.get(kind, f"{kind}: a text")


def _integer(field: Field, value: object) -> int:
    low, high = INTEGERS[field.type]
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_IN_DOUBLE:
        number = int(value)
    elif isinstance(value, str) and _INTEGER.fullmatch(value):
        # JavaScript cannot write a long above 2^53 as a JSON number, so it may come quoted.
        number = int(value)
    if number is None or not low <= number <= high:
        raise WrongValueError(_expected(field), value)
    return number


def _float(field: Field, value: object) -> float | int:
    number: float | int | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
    try:
        fits = number is not None and abs(float(number)) < FLOATS[field.type]
    except OverflowError:
        fits = False
    if number is None or not fits:
        raise WrongValueError(_expected(field), value)
    return number


def _boolean(field: Field, value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError(_expected(field), value)
    return value


def _text(field: Field, value: object) -> str:
    if not isinstance(value, str):
        raise WrongValueError(_expected(field), value, '; write it in quotes, as "…"')
    if field.ignore_above is not None and utf16_length(value) > field.ignore_above:
        expected = f"{field.type}: a text of at most {field.ignore_above} characters"
        raise WrongValueError(expected, value, "; longer ones are not indexed as a whole")
    return value


def _flattened(field: Field, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        value = str(value)  # every leaf of a flattened field is indexed as its text
    return _text(field, value)


def _ip(field: Field, value: object) -> str:
    if isinstance(value, str) and "%" not in value:
        try:
            return str(ip_interface(value).network if "/" in value else ip_address(value))
        except ValueError:
            pass
    raise WrongValueError(_expected(field), value)


def _as_ipv6(address: IPv4Address | IPv6Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{address}") if isinstance(address, IPv4Address) else address


def _date(field: Field, value: object) -> tuple[str, str]:
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError(_expected(field), value)
    try:
        first, last = _period(match)
    except (ValueError, OverflowError):  # no such day or hour, or outside the years 1 to 9999
        raise WrongValueError(_expected(field), value) from None
    if field.type == "date_nanos" and not _NANOS[0] <= first <= last <= _NANOS[1]:
        raise WrongValueError("date_nanos: a time from 1970 to 2262-04-11", value)
    return first, last


def _relative(field: Field, value: str) -> str:
    """Date math on the present time, as Elasticsearch takes it: `now-7d/d`."""
    match = _RELATIVE.fullmatch(value)
    expected = f"{_expected(field)}, or relative to now, such as now-7d, now+1M or now-1y/y"
    if match is None:
        raise WrongValueError(expected, value)
    steps = _STEP.findall(match[1])
    if len(steps) > _MAX_STEPS:
        raise WrongValueError(f"{expected}, of at most {_MAX_STEPS} steps", value)
    if field.type == "date_nanos":
        reach = sum(int(count) * _SECONDS[unit.replace("H", "h")] for _, count, unit in steps)
        if reach > _NANOS_REACH:
            raise WrongValueError("date_nanos: a time from 1970 to 2262-04-11", value)
    return value


def _period(match: re.Match[str]) -> tuple[str, str]:
    """The first and last instant of what the date names, in UTC, with nine decimals."""
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if hour is None:
        last_month = int(month or 12)
        last_day = int(day or calendar.monthrange(int(year), last_month)[1])
        first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        last = datetime(int(year), last_month, last_day, 23, 59, 59, tzinfo=UTC)
        return _instant(first, "0"), _instant(last, "999999999")
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    written = f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}{zone}"
    instant = _instant(datetime.fromisoformat(written).astimezone(UTC), fraction or "0")
    return instant, instant


def _instant(moment: datetime, fraction: str) -> str:
    return f"{moment.replace(tzinfo=None).isoformat()}.{fraction.ljust(9, '0')}Z"


_CHECKS: dict[str, Callable[[Field, object], Any]] = {
    **dict.fromkeys(INTEGERS, _integer),
    **dict.fromkeys(FLOATS, _float),
    **dict.fromkeys({*STRINGS, "text"}, _text),
    **dict.fromkeys(DATES, _date),
    "boolean": _boolean,
    "flattened": _flattened,
    "ip": _ip,
}
