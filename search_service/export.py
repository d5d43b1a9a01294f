"""Exports: all that matches, as a stream of parts that never holds more than two of them."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from search_service.elastic import Elastic
from search_service.fields import Fields
from search_service.pages import SortedHit, decode_walk, finite
from search_service.points import Points
from search_service.surrogates import escaped, replaced

PART = 1000
"""Documents that are asked for at once."""


class Export:
    """The documents of a search in a point in time of their own, which is closed at the end,
    however it ends."""

    def __init__(
        self, elastic: Elastic, points: Points, body: dict[str, Any], limit: int | None, part: int
    ) -> None:
        self._elastic = elastic
        self._points = points
        self._body = {**body, "track_total_hits": False}
        self._body["sort"] = [*body["sort"], {"_shard_doc": {"order": "asc"}}]
        self._left = limit
        self._part = part
        self._after: msgspec.Raw | None = None
        self._walk = self._point = ""
        self._first: list[SortedHit] = []

    async def open(self, generation: str) -> None:
        """Take the first part, so that what can fail fails before the answer begins."""
        self._walk, self._point = await self._points.open(generation)
        try:
            self._first = await self._next()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free what Elasticsearch keeps for it."""
        if self._point:
            self._points.close(self._walk, self._point)
            self._point = ""

    async def parts(self) -> AsyncIterator[list[SortedHit]]:
        """The parts; while one is being sent, Elasticsearch looks for the next one."""
        ahead: asyncio.Task[list[SortedHit]] | None = None
        try:
            part = self._first
            self._first = []
            while part:
                ahead = asyncio.create_task(self._next())
                yield part
                part = await ahead
        finally:
            if ahead is not None and not ahead.done():
                ahead.cancel()
            self.close()

    async def _next(self) -> list[SortedHit]:
        size = self._part if self._left is None else min(self._part, self._left)
        if size == 0:
            return []
        pit = {"id": self._point, "keep_alive": self._points.keep_alive}
        body = {**self._body, "size": size, "pit": pit}
        if self._after is not None:
            body["search_after"] = self._after
        answer = decode_walk(await self._elastic.search_point(body))
        self._points.used(self._walk)
        self._point = answer.pit_id or self._point
        found = answer.hits.hits
        if self._left is not None:
            self._left -= len(found)
        if found:
            # A copy, or the whole answer would be kept for it.
            self._after = found[-1].sort.copy()
        return found


async def ndjson(export: Export, fields: Fields) -> AsyncIterator[bytes]:
    """A document in each line."""
    async for part in export.parts():
        lines = escaped(b"".join(b"%b\n" % _line(bytes(hit.source)) for hit in part))
        yield finite(lines) if fields.has_open else lines


async def table(export: Export, paths: Sequence[str]) -> AsyncIterator[bytes]:
    """CSV as in RFC 4180, with the paths of the fields as its head."""
    columns = [path.split(".") for path in paths]
    yield _rows([list(paths)])
    async for part in export.parts():
        sources = [msgspec.Raw(replaced(bytes(hit.source))) for hit in part]
        yield _rows([[_cell(source, names) for names in columns] for source in sources])


def _line(source: bytes) -> bytes:
    return source if b"\n" not in source else msgspec.json.format(source, indent=-1)


def _rows(rows: list[list[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode(errors="replace")


def _cell(source: msgspec.Raw, names: Sequence[str]) -> str:
    """The value at a path as text: a number with its digits, a container in JSON."""
    found = _value(source, names)
    if found is None:
        return ""
    text = bytes(found)
    if text[:1] == b'"':
        return str(msgspec.json.decode(text))
    return "" if text == b"null" else text.decode()


def _value(source: msgspec.Raw, names: Sequence[str]) -> msgspec.Raw | None:
    if bytes(source).lstrip()[:1] != b"{":
        return None
    members = msgspec.json.decode(source, type=dict[str, msgspec.Raw])
    # A column's name may have dots of its own.
    for end in range(len(names), 0, -1):
        if (name := ".".join(names[:end])) in members:
            if end == len(names):
                return members[name]
            found = _value(members[name], names[end:])
            if found is not None:
                return found
    return None
