"""Elasticsearch's answers to ours: documents go through as the bytes that they are."""

import hashlib
import math
import re
from typing import Any

import msgspec
from fastapi import Request
from starlette.responses import Response

from search_service.fields import Fields
from search_service.surrogates import decoder, escaped

# A json column may hold numbers such as 1e999, which no double has and most parsers make infinite.
_HUGE = re.compile(rb"[:,\[]\s*-?[0-9]+(?:\.[0-9]+)?[eE]\+?[0-9]{2}")
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?[eE]\+?[0-9]{2,}')


class Hit(msgspec.Struct):
    """A document that was found."""

    id: str = msgspec.field(name="_id", default="")
    source: msgspec.Raw = msgspec.field(name="_source", default=msgspec.Raw(b"{}"))
    highlight: msgspec.Raw = msgspec.Raw(b"{}")


class SortedHit(Hit):
    """The same with its sort values, as they are."""

    sort: msgspec.Raw = msgspec.Raw(b"[]")


class KeyedHit(Hit):
    """The same with its sort values, to compare them."""

    sort: list[Any] = []


class Total(msgspec.Struct, frozen=True):
    """How many match."""

    value: int


class Hits(msgspec.Struct):
    """The documents of a page."""

    hits: list[Hit]
    total: Total = Total(0)


class SortedHits(msgspec.Struct):
    """The same with sort values."""

    hits: list[SortedHit]
    total: Total | None = None


class KeyedHits(msgspec.Struct):
    """The same with sort values to compare."""

    hits: list[KeyedHit]
    total: Total = Total(0)


class Answer(msgspec.Struct):
    """An answer to a search."""

    hits: Hits
    aggregations: dict[str, Any] = {}


class WalkAnswer(msgspec.Struct):
    """An answer to a search in a point in time, whose id may change."""

    hits: SortedHits
    pit_id: str = ""
    aggregations: dict[str, Any] = {}


class ScrollAnswer(msgspec.Struct):
    """An answer to a search in the order of the key."""

    hits: KeyedHits


decode_answer = decoder(Answer)
decode_walk = decoder(WalkAnswer)
decode_scroll = decoder(ScrollAnswer)
_encode = msgspec.json.Encoder().encode


def respond(content: Any, fields: Fields | None = None) -> Response:
    """An answer in JSON; with documents, of an index with these fields."""
    return Response(encoded(content, fields), media_type="application/json")


def respond_unless_known(request: Request, content: Any, fields: Fields | None = None) -> Response:
    """The same to a GET: without a body when the caller has just this answer already."""
    body = encoded(content, fields)
    # Weak, for the same answer may be compressed.
    tag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    known = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
    if known != [""] and ("*" in known or tag in known or tag[2:] in known):
        return Response(status_code=304, headers={"etag": tag})
    return Response(body, headers={"etag": tag}, media_type="application/json")


def encoded(content: Any, fields: Fields | None = None) -> bytes:
    """JSON of a content whose documents are `msgspec.Raw`."""
    body = escaped(_encode(content))
    if fields is not None and fields.has_open:
        return finite(body)
    return body


def finite(raw: bytes) -> bytes:
    """The JSON with null in place of numbers that no double can hold."""
    return _TOKEN.sub(_finite, raw) if _HUGE.search(raw) else raw


def _finite(match: re.Match[bytes]) -> bytes:
    token = match[0]
    return b"null" if token[:1] != b'"' and math.isinf(float(token)) else token
