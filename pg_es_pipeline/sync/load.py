"""Sends batches to Elasticsearch: byte strings as PostgreSQL built them, over several connections.

Requests go through the transport's node, past the client: its serializers would take every document
and every answer apart.

What may pass is sent again; what is about one row refuses that row; what is about the index, the
credentials or the server fails the load.
"""

import gzip
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, HttpHeaders, TransportError
from elasticsearch import ApiError, Elasticsearch

from pg_es_pipeline.errors import IndexRefused, ServerAway, SettingsError
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings
from pg_es_pipeline.sync import elastic, ndjson
from pg_es_pipeline.sync.extract import Batch, Refusal
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.throttle import MAX_REQUEST_BYTES

RETRY_SECONDS = 300.0
"""How long a request is tried again before the load gives up."""

USUAL_REQUEST_LIMIT = 100 * 1024 * 1024
"""Bytes: Elasticsearch's default for `http.max_content_length`, where the role may not ask."""

COMPRESSION = 1
"""zlib's level: the quickest. Already with it there is little left of most documents."""

# Positions map errors to rows, so that good items have to be in the answer too: by their status.
_FILTER = "filter_path=errors,items.*.status,items.*.error"


@dataclass(slots=True)
class Outcome:
    """What became of one batch."""

    batch: Batch
    superseded: int = 0
    """Rows for which the index had something newer already."""
    refused: list[Refusal] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    retries: int = 0
    why_again: str | None = None
    """Why it was tried again last, if it was."""


@dataclass(frozen=True, slots=True)
class _Request:
    """Rows that are sent at once."""

    body: bytes
    count: int

    @classmethod
    def of(cls, rows: Sequence[bytes]) -> "_Request":
        return cls(b"".join(rows), len(rows))

    @property
    def rows(self) -> list[bytes]:
        return list(ndjson.rows(self.body))


class _Answer(NamedTuple):
    """What to do after a request."""

    again: _Request | None = None
    """What to send again a little later."""
    why: str = ""
    whole: bool = False
    """Whether it was refused as a whole, for the sake of one row or because it is too large."""


class Loader:
    """Bulk requests over `POOL_SIZE` connections."""

    def __init__(
        self, client: Elasticsearch, settings: ElasticsearchSettings, batching: BatchingSettings
    ) -> None:
        self._client = client
        self._node = client.transport.node_pool.get()
        self._headers = HttpHeaders(elastic.authorization(settings))
        self._headers["content-type"] = "application/x-ndjson"
        self._headers["accept"] = "application/json"
        self._compresses = settings.compress
        if settings.compress:
            self._headers["content-encoding"] = self._headers["accept-encoding"] = "gzip"
        self._senders = ThreadPoolExecutor(batching.pool_size, thread_name_prefix="bulk")
        self._request_bytes = 2 * MAX_REQUEST_BYTES
        self._stopped = threading.Event()

    @cached_property
    def _limit(self) -> int:
        """Bytes of the largest request that every node takes."""
        return _request_limit(self._client)

    def submit(self, generation: Generation, batch: Batch) -> "Future[Outcome]":
        """Sends a batch in the background."""
        self._request_bytes = min(self._request_bytes, self._limit)
        return self._senders.submit(self._send, generation, batch)

    def stop(self) -> None:
        """Sends nothing any more: what waits to be tried again fails now."""
        self._stopped.set()

    def close(self) -> None:
        """Waits for the requests under way."""
        self.stop()
        self._senders.shutdown(cancel_futures=True)

    def _send(self, generation: Generation, batch: Batch) -> Outcome:
        outcome = Outcome(batch, refused=list(batch.unwritable))
        started = outcome.began
        waits = _waits(started + RETRY_SECONDS)
        pending = self._requests(batch, outcome)
        while pending:
            request = pending.pop()
            again, why, whole = self._try(generation, request, outcome)
            if whole:
                self._narrow_down(request, why, pending, outcome)
                continue
            if again is None:
                continue
            outcome.retries += 1
            outcome.why_again = why
            if (wait := next(waits, None)) is None or self._stopped.wait(wait):
                first = again.rows[0]
                if _is_huge(first) and not self._stopped.is_set() and self._server_answers():
                    outcome.refused.append(_refusal(first, why))
                    waits = _waits(time.monotonic() + RETRY_SECONDS)
                    continue
                left = again.count + sum(request.count for request in pending)
                raise ServerAway(
                    f"{generation.name}: Elasticsearch did not take {left} documents within "
                    f"{time.monotonic() - started:.0f} s ({why}).{_remedy(why)} Nothing is lost: "
                    "the next run goes on from the checkpoint."
                )
            # Less at once, in case that it was too much.
            pending += _halves(again)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _requests(self, batch: Batch, outcome: Outcome) -> list[_Request]:
        """The rows in requests that the server takes; the first one to send comes last."""
        if len(batch.body) <= min(self._request_bytes, MAX_REQUEST_BYTES):
            return [_Request(batch.body, batch.rows)] if batch.rows else []
        requests: list[list[bytes]] = []
        size = self._request_bytes
        for row in ndjson.rows(batch.body):
            if len(row) > self._limit:
                reason = (
                    f"its document has {len(row):,} bytes, and Elasticsearch takes no more than "
                    f"{self._limit:,} (http.max_content_length, indexing_pressure.memory.limit)"
                )
                outcome.refused.append(_refusal(row, reason))
                continue
            size += len(row)
            if size > self._request_bytes or _is_huge(row):
                requests.append([])
                size = len(row)
            requests[-1].append(row)
            if _is_huge(row):
                size = self._request_bytes
        return [_Request.of(rows) for rows in reversed(requests)]

    def _narrow_down(
        self, request: _Request, why: str, pending: list[_Request], outcome: Outcome
    ) -> None:
        """Of a request that was refused as a whole: its halves, or the one row at fault."""
        if request.count == 1:
            outcome.refused.append(_refusal(request.body, why))
        else:
            pending += _halves(request)

    def _server_answers(self) -> bool:
        try:
            self._client.cluster.health()
        except ApiError as error:
            return error.meta.status not in elastic.PASSING
        except TransportError:
            return False
        return True

    def _packed(self, body: bytes) -> bytes:
        return gzip.compress(body, COMPRESSION) if self._compresses else body

    def _try(self, generation: Generation, request: _Request, outcome: Outcome) -> _Answer:
        """Sends once."""
        try:
            answer = self._node.perform_request(
                "POST",
                f"/{quote(generation.write_alias, safe='')}/_bulk?require_alias=true&{_FILTER}",
                body=self._packed(request.body),
                headers=self._headers,
                request_timeout=elastic.REQUEST_TIMEOUT,
            )
        except (TransportConnectionError, ConnectionTimeout) as error:
            return _Answer(request, f"{type(error).__name__}: {error}")
        status, content = answer.meta.status, answer.body
        if status == 200 and content.startswith(b'{"errors":false'):
            return _Answer()
        if status == 413:
            if request.count > 1:
                self._request_bytes = min(self._request_bytes, len(request.body) // 2)
            return _Answer(
                request,
                f"a request of {len(request.body):,} bytes is more than the server, or a proxy "
                "before it, takes (status 413)",
                whole=True,
            )
        parsed = _parsed(content)
        if status == 200:
            if parsed is None or len(parsed.get("items", ())) != request.count:
                return _Answer(request, "an answer that is none to a bulk request")
            return _sort_out(generation, request.rows, parsed["items"], outcome)
        cause = (parsed or {}).get("error")
        if not isinstance(cause, dict):
            cause = {"reason": content[:300].decode(errors="replace")}
        why = _words(cause)
        if status in elastic.PASSING:
            return _Answer(request, f"status {status}: {why}")
        if status == 400:
            return _Answer(request, why, whole=True)
        if cause.get("type") == "cluster_block_exception":
            return _Answer(request, why)
        if status in (401, 403):
            raise _credentials_refused(generation, f"status {status}: {why}")
        raise IndexRefused(
            f"{generation.name}: Elasticsearch refused a bulk request of {request.count} rows "
            f"with status {status}: {why}"
        )


def _sort_out(
    generation: Generation, rows: list[bytes], items: list[dict[str, Any]], outcome: Outcome
) -> _Answer:
    """Items come in the order that they were sent in."""
    again: list[bytes] = []
    why = ""
    for row, item in zip(rows, items, strict=True):
        [result] = item.values()
        error, status = result.get("error"), result["status"]
        if not error:
            continue
        kind, words = error["type"], _words(error)
        if status == 409:
            outcome.superseded += 1
        elif status in elastic.PASSING or kind == "cluster_block_exception":
            again.append(row)
            why = words
        elif kind == "index_closed_exception":
            raise IndexRefused(
                f"{generation.name}: the index is closed. Open it "
                f"(POST /{generation.name}/_open), and run again."
            )
        elif (
            status == 404
            or kind == "invalid_index_name_exception"  # the write alias is gone
            or "no write index is defined" in words
        ):
            raise IndexRefused(
                f"{generation.name}: the index was deleted or closed while it was loaded, or its "
                f"alias {generation.write_alias} was changed ({words}). Run again: what is missing "
                "is loaded afresh."
            )
        elif kind == "security_exception" or status in (401, 403):
            raise _credentials_refused(generation, words)
        elif status in (400, 413):
            outcome.refused.append(_refusal(row, words))
        else:
            raise IndexRefused(
                f"{generation.name}: Elasticsearch answered {status} for a row, which is not "
                f"about the row: {words}"
            )
    return _Answer(_Request.of(again) if again else None, why)


def _credentials_refused(generation: Generation, words: str) -> SettingsError:
    return SettingsError(
        f"{generation.name}: Elasticsearch refuses to take documents from these credentials "
        f"({words}). Check ES_USER and ES_PASSWORD or ES_API_KEY, and the role's privileges."
    )


def _request_limit(client: Elasticsearch) -> int:
    """The least that a node says of how large a request may be."""
    http, pressure = "http.max_content_length_in_bytes", "indexing_pressure.memory.limit_in_bytes"
    try:
        info = client.nodes.info(metric="http", filter_path=f"nodes.*.{http}")
        stats = client.nodes.stats(metric="indexing_pressure", filter_path=f"nodes.*.{pressure}")
    except ApiError:
        return USUAL_REQUEST_LIMIT
    limits = [
        node["http"]["max_content_length_in_bytes"] for node in info.get("nodes", {}).values()
    ]
    # What a request takes in memory is somewhat more than its bytes.
    limits += [
        node["indexing_pressure"]["memory"]["limit_in_bytes"] * 9 // 10
        for node in stats.get("nodes", {}).values()
    ]
    return min(limits, default=USUAL_REQUEST_LIMIT)


def _is_huge(row: bytes) -> bool:
    """Whether a row alone is a whole request, and may be too much whatever else the server does."""
    return len(row) > MAX_REQUEST_BYTES


def _halves(request: _Request) -> list[_Request]:
    """The second half comes first: what is last is sent next."""
    rows, middle = request.rows, request.count // 2
    return [_Request.of(half) for half in (rows[middle:], rows[:middle]) if half]


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(content)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _words(error: dict[str, Any]) -> str:
    cause = error.get("caused_by")
    inner = f": {_words(cause)}" if cause else ""
    return f"{error.get('reason') or error.get('type')}{inner}"


def _remedy(why: str) -> str:
    if "flood-stage" in why:
        return " Free disk space on its nodes: the block goes away by itself."
    if "blocked by" in why:
        return " Take the block away (index.blocks.* or cluster.blocks.* in the settings)."
    return ""


def _refusal(row: bytes, reason: str) -> Refusal:
    head = action(row)
    return Refusal(str(head["_id"]), reason, head["version"])


def action(row: bytes) -> dict[str, Any]:
    """What a row's action says of its document: `_id` and version."""
    # A database in SQL_ASCII may hold what is no UTF-8.
    [head] = json.loads(row[: row.index(b"\n")].decode(errors="replace")).values()
    return dict(head)


def _waits(deadline: float) -> Iterator[float]:
    """Seconds to wait before each further try: doubling up to 30, jittered, until the deadline."""
    longest = 0.5
    while time.monotonic() < deadline:
        yield random.uniform(longest / 2, longest)  # noqa: S311
        longest = min(30.0, longest * 2)
