"""Cursors: places in a walk as opaque texts, sealed so that only this service can make and read
them.

A scroll keeps nothing on the server: its place is the sort values of a document. Where the index's
types are coarser than the key's, the next document can have the same ones; then the place is before
all of these, and the cursor names those that have been given out. A walk is in a point in time of
Elasticsearch, and its cursors expire with it.
"""

import base64
import binascii
import hashlib
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from search_service.errors import bad_cursor, expired_cursor

_MAX_GIVEN = 1024  # equals differ in their shard, and Elasticsearch allows that many


class Place(msgspec.Struct, frozen=True):
    """After the sort values `after` (None: at the start), less the documents with ids `given`."""

    after: list[Any] | None = None
    given: tuple[str, ...] = ()


class Scroll(msgspec.Struct, frozen=True, tag="scroll/1", array_like=True):
    """The content of a scroll's cursor."""

    index: str
    key: tuple[str, ...]
    after: list[Any] | None
    given: tuple[str, ...]


_START = msgspec.Raw(b"null")


class Step(msgspec.Struct, frozen=True, tag="walk/1", array_like=True):
    """Where a page of a walk begins: the content of its cursor.

    `search` is a digest of what is asked, `walk` the walk's own name. Without a `point`, the page
    is looked for in a new one. `after` are sort values as Elasticsearch wrote them; `total` is
    known from the first page on.
    """

    search: str = ""
    walk: str = ""
    generation: str = ""
    point: str | None = None
    after: msgspec.Raw = _START
    backwards: bool = False
    total: int | None = None

    @property
    def begins(self) -> bool:
        """Whether it is the first page."""
        return bytes(self.after) == b"null"


Content = TypeVar("Content", Scroll, Step)


class Seal:
    """Makes cursors of contents and back, with keys made of the secrets: the first one seals, and
    all of them open."""

    def __init__(self, secrets: Sequence[str], ttl: int) -> None:
        keys = [hashlib.sha256(f"pg-es-search cursor {one}".encode()).digest() for one in secrets]
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])
        self._ttl = ttl

    def close(self, content: Scroll | Step) -> str:
        """The cursor with this content."""
        return self._fernet.encrypt(msgspec.json.encode(content)).decode().rstrip("=")

    def open(self, cursor: str, kind: type[Content], *, expires: bool = False) -> Content:
        """The content of a cursor.

        Raises:
            search_service.errors.ServiceError: this service has not made it, or made it for
                something else, or it is too old.
        """
        try:
            token = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            # What base64 skips, or has no use for, would be read as the same cursor.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(token)) != token:
                raise InvalidToken
            content = self._fernet.decrypt(token)
            if expires and time.time() - self._fernet.extract_timestamp(token) > self._ttl:
                raise expired_cursor("has expired")
            return msgspec.json.decode(content, type=kind)
        except (InvalidToken, UnicodeEncodeError, binascii.Error):
            raise bad_cursor("is damaged, or from before the service's secret changed") from None
        except msgspec.DecodeError:
            raise bad_cursor("belongs to another kind of pages") from None


def digest(*parts: Any) -> str:
    """A short name for what a walk asks, by which its cursors are told from those of others."""
    encoded = msgspec.json.encode(parts, order="deterministic")
    return hashlib.blake2b(encoded, digest_size=12).hexdigest()


def advance(place: Place, page: Sequence[Any], following: Any) -> Place:
    """The place after a page that began at `place` and whose next hit is `following`."""
    last = page[-1].sort
    if following.sort != last:
        return Place(last)
    equal = tuple(hit.id for hit in page if hit.sort == last)
    before = [hit.sort for hit in page if hit.sort != last]
    return Place(before[-1], equal) if before else Place(place.after, place.given + equal)


def encode(seal: Seal, index: str, key: Sequence[str], place: Place) -> str:
    """The cursor for a place in an index with this key."""
    return seal.close(Scroll(index, tuple(key), place.after, place.given))


def decode(seal: Seal, cursor: str, index: str, key: Sequence[str]) -> Place:
    """The place in a cursor; whether its sort values suit the key is for the caller to check.

    Raises:
        search_service.errors.ServiceError: not a cursor, or one of another index or another key.
    """
    content = seal.open(cursor, Scroll)
    if content.index != index:
        raise bad_cursor("belongs to another index")
    if content.key != tuple(key):
        raise bad_cursor("is older than the index's present key")
    if len(content.given) > _MAX_GIVEN:
        raise bad_cursor("is among too many documents that are alike")
    return Place(content.after, content.given)
