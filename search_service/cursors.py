"""Cursors of a scroll: where the last page ended, as an opaque text that keeps no server state.

The place is the sort values of a document. Where the index's types are coarser than the key's, the
next document can have the same ones; then the place is before all of these, and the cursor names
those that have been given out.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from search_service.errors import bad_cursor

_VERSION = 1
_MAX_GIVEN = 1024  # equals differ in their shard, and Elasticsearch allows that many


@dataclass(frozen=True, slots=True)
class Place:
    """After the sort values `after` (None: at the start), less the documents with ids `given`."""

    after: list[Any] | None = None
    given: tuple[str, ...] = ()


def advance(place: Place, page: Sequence[Any], following: Any) -> Place:
    """The place after a page that began at `place` and whose next hit is `following`."""
    last = page[-1]["sort"]
    if following["sort"] != last:
        return Place(last)
    equal = tuple(hit["_id"] for hit in page if hit["sort"] == last)
    before = [hit["sort"] for hit in page if hit["sort"] != last]
    return Place(before[-1], equal) if before else Place(place.after, place.given + equal)


def encode(index: str, key: Sequence[str], place: Place) -> str:
    """The cursor for a place in an index with this key."""
    content = {"v": _VERSION, "i": index, "k": list(key), "a": place.after, "g": place.given}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, index: str, key: Sequence[str]) -> Place:
    """The place in a cursor; whether its sort values suit the key is for the caller to check.

    Raises:
        search_service.errors.ServiceError: not a cursor, or one of another index or another key.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        content = json.loads(
            base64.b64decode(padded, altchars=b"-_", validate=True), parse_constant=_refuse
        )
    except (ValueError, binascii.Error, RecursionError):
        raise bad_cursor("is damaged") from None
    if not isinstance(content, dict) or content.keys() != {"v", "i", "k", "a", "g"}:
        raise bad_cursor("is damaged")
    if type(content["v"]) is not int or content["v"] != _VERSION:
        raise bad_cursor("comes from another version of this service")
    if content["i"] != index:
        raise bad_cursor("belongs to another index")
    if content["k"] != list(key):
        raise bad_cursor("is older than the index's present key")
    after, given = content["a"], content["g"]
    if not (after is None or isinstance(after, list)) or not isinstance(given, list):
        raise bad_cursor("is damaged")
    if len(given) > _MAX_GIVEN or not all(isinstance(name, str) for name in given):
        raise bad_cursor("is damaged")
    return Place(after, tuple(given))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
