"""Sends batches to Elasticsearch: byte strings as PostgreSQL built them, over several connections.

Requests go through the transport's node, past the client: its serializers would take every document
and every answer apart.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, HttpHeaders
from elasticsearch import Elasticsearch

from pg_es_pipeline.errors import IndexRefused, ServerAway, SettingsError
from pg_es_pipeline.settings import BatchingSettings, ElasticsearchSettings
from pg_es_pipeline.sync import elastic
from pg_es_pipeline.sync.extract import Batch
from pg_es_pipeline.sync.indices import Generation

RETRY_SECONDS = 300.0
"""How long a request is tried again before the load gives up."""

# Positions map errors to rows, so that good items have to be in the answer too: by their status.
_FILTER = "filter_path=errors,items.*.status,items.*.error"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that Elasticsearch refused for good."""

    id: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What became of one batch."""

    batch: Batch
    deletes: int
    superseded: int = 0
    """Rows for which the index had something newer already."""
    refused: list[Refusal] = field(default_factory=list)
    seconds: float = 0.0
    retries: int = 0


class Loader:
    """Bulk requests over `POOL_SIZE` connections."""

    def __init__(
        self, client: Elasticsearch, settings: ElasticsearchSettings, batching: BatchingSettings
    ) -> None:
        self._node = client.transport.node_pool.get()
        self._headers = HttpHeaders(elastic.authorization(settings))
        self._headers["content-type"] = "application/x-ndjson"
        self._headers["accept"] = "application/json"
        self._senders = ThreadPoolExecutor(batching.pool_size, thread_name_prefix="bulk")
        self.connections = batching.pool_size
        self._stopped = threading.Event()

    def submit(self, generation: Generation, batch: Batch) -> "Future[Outcome]":
        """Sends a batch in the background."""
        return self._senders.submit(self._send, generation, batch)

    def stop(self) -> None:
        """Sends nothing any more: what waits to be tried again fails now."""
        self._stopped.set()

    def close(self) -> None:
        """Waits for the requests under way."""
        self.stop()
        self._senders.shutdown(cancel_futures=True)

    def _send(self, generation: Generation, batch: Batch) -> Outcome:
        outcome = Outcome(batch, deletes=sum(line.startswith(b'{"delete"') for line in batch.lines))
        started = time.monotonic()
        waits = _waits(started + RETRY_SECONDS)
        remaining = batch.lines
        while remaining:
            again, why = self._try(generation, remaining, outcome)
            if again:
                outcome.retries += 1
                if (wait := next(waits, None)) is None or self._stopped.wait(wait):
                    raise ServerAway(
                        f"{generation.name}: Elasticsearch did not take {len(again)} documents "
                        f"within {time.monotonic() - started:.0f} s ({why}). Nothing is lost: "
                        "the next run goes on from the checkpoint."
                    )
            remaining = again
        outcome.seconds = time.monotonic() - started
        return outcome

    def _try(
        self, generation: Generation, lines: list[bytes], outcome: Outcome
    ) -> tuple[list[bytes], str]:
        """Sends once; returns the lines to send again, and why."""
        try:
            answer = self._node.perform_request(
                "POST",
                f"/{quote(generation.write_alias, safe='')}/_bulk?require_alias=true&{_FILTER}",
                body=b"".join(lines),
                headers=self._headers,
                request_timeout=elastic.REQUEST_TIMEOUT,
            )
        except (TransportConnectionError, ConnectionTimeout) as error:
            return lines, f"{type(error).__name__}: {error}"
        status, body = answer.meta.status, answer.body
        if status in elastic.PASSING:
            return lines, f"status {status}"
        if status in (401, 403):
            raise SettingsError(
                f"{generation.name}: Elasticsearch refuses to take documents from these "
                f"credentials (status {status}). Check ES_USER and ES_PASSWORD or ES_API_KEY."
            )
        if status != 200:
            raise IndexRefused(
                f"{generation.name}: Elasticsearch refused a bulk request of {len(lines)} rows "
                f"with status {status}: {body[:300].decode(errors='replace')}"
            )
        if body.startswith(b'{"errors":false'):
            return [], ""
        return _sort_out(generation, lines, json.loads(body)["items"], outcome)


def _sort_out(
    generation: Generation, lines: list[bytes], items: list[dict[str, Any]], outcome: Outcome
) -> tuple[list[bytes], str]:
    """Items come in the order that they were sent in."""
    again, why = [], ""
    for line, item in zip(lines, items, strict=True):
        [result] = item.values()
        error = result.get("error")
        if not error:
            continue
        if result["status"] == 409:
            outcome.superseded += 1
        elif result["status"] in elastic.PASSING:
            again.append(line)
            why = _words(error)
        elif error["type"] in ("index_not_found_exception", "index_closed_exception"):
            raise IndexRefused(
                f"{generation.name}: the index was deleted or closed while it was loaded. Run "
                "again: what is missing is loaded afresh."
            )
        else:
            outcome.refused.append(Refusal(_identifier(line), _words(error)))
    return again, why


def _words(error: dict[str, Any]) -> str:
    cause = error.get("caused_by")
    inner = f": {_words(cause)}" if cause else ""
    return f"{error.get('reason') or error.get('type')}{inner}"


def _identifier(line: bytes) -> str:
    [action] = json.loads(line[: line.index(b"\n")]).values()
    return str(action["_id"])


def _waits(deadline: float) -> Iterator[float]:
    """Seconds to wait before each further try: doubling up to 30, jittered, until the deadline."""
    longest = 0.5
    while time.monotonic() < deadline:
        yield random.uniform(longest / 2, longest)  # noqa: S311
        longest = min(30.0, longest * 2)
