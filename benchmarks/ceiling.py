"""The ceiling: what PostgreSQL and Elasticsearch do together with as little as possible between.

Blocks of ready lines, made by PostgreSQL, are sent on over a few connections. There are no
versions and no checkpoints; one refused document ends it all.
"""

import http.client
import json
import queue
import random
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from benchmarks import indices
from benchmarks.child import measured
from benchmarks.servers import Servers
from benchmarks.tables import SHAPES

BLOCK = 250
"""Documents that PostgreSQL puts into one row. It is what sizes of requests are made of."""

# Of large texts Elasticsearch takes more over fewer: several threads make several segments, and
# those have to be merged.
CONNECTIONS = (1, 2, 3, 4)
FINALISTS = 3

_HEADER = 19  # bytes of COPY's binary header, which comes with the first row
_FIELD = 6  # bytes before the one field of a row: how many there are, and its length


@dataclass(frozen=True)
class Feeder:
    """How the ceiling is reached."""

    documents: int
    """Of a bulk request."""
    connections: int


def load(
    servers: Servers, table: str, rows: int, documents: int, connections: int
) -> dict[str, Any]:
    """Loads the first rows of a table into the index of its name, which is there and empty."""
    # The index of the key finds the rows of a block, for the keys are 1, 2, 3, …
    statement = sql.SQL(
        "COPY (SELECT block FROM generate_series(1, {rows}, {size}) AS s (first), LATERAL ("
        'SELECT string_agg(\'{{"index":{{"_id":"\' || id || E\'"}}}}\\n\' || row_to_json(t)::text'
        " || E'\\n', '') AS block FROM {table} t"
        " WHERE id >= first AND id < least(first + {size}, {rows} + 1)"
        ") b) TO STDOUT (FORMAT binary)"
    ).format(
        rows=sql.Literal(rows),
        size=sql.Literal(BLOCK),
        table=sql.Identifier("public", table),
    )
    with servers.connect() as connection:
        senders = _Senders(servers, table, connections)
        with measured() as cost:
            senders.start()
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                blocks: list[bytes] = []
                skip = _HEADER + _FIELD
                for row in copy:
                    if len(row) > _FIELD:
                        blocks.append(bytes(row[skip:]))
                        skip = _FIELD
                    if len(blocks) * BLOCK >= documents:
                        senders.send(blocks)
                        blocks = []
            senders.send(blocks)
            senders.finish()
    return asdict(cost)


class _Senders:
    """Threads with a connection each."""

    def __init__(self, servers: Servers, index: str, connections: int) -> None:
        self._address = servers.variables["ES_HOST"], int(servers.variables["ES_PORT"])
        self._path = f"/{index}/_bulk?filter_path=errors,items.*.error.type"
        self._waiting: queue.Queue[list[bytes]] = queue.Queue(maxsize=1)
        self._threads = [threading.Thread(target=self._work) for _ in range(connections)]
        self._failure: Exception | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def send(self, blocks: list[bytes]) -> None:
        if blocks:
            self._waiting.put(blocks)

    def finish(self) -> None:
        for _ in self._threads:
            self._waiting.put([])
        for thread in self._threads:
            thread.join()
        if self._failure:
            raise self._failure

    def _work(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=120)
        while blocks := self._waiting.get():
            # After a failure what waits is let pass, so that the reader does not.
            if not self._failure:
                try:
                    self._post(connection, b"".join(blocks))
                except Exception as failure:
                    self._failure = failure
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        while True:
            connection.request(
                "POST", self._path, body=body, headers={"content-type": "application/x-ndjson"}
            )
            answer = connection.getresponse()
            content = answer.read()
            if answer.status == 200 and content == b'{"errors":false}':
                return
            # A small heap that is full of garbage: again, as soon as it may do.
            if not _is_too_much_at_once(answer.status, content):
                raise RuntimeError(
                    f"a bulk request was not taken: {answer.status} {content[:500]!r}"
                )
            time.sleep(0.05)


def _is_too_much_at_once(status: int, content: bytes) -> bool:
    """Whether the server, or all that its answer tells of, has had too much to do."""
    if status != 200:
        return status == 429
    kinds = {
        result["error"]["type"] for item in json.loads(content)["items"] for result in item.values()
    }
    return kinds <= {"es_rejected_execution_exception", "circuit_breaking_exception"}


def best(servers: Servers, shape: str, rows: int, seed: int) -> dict[str, Any]:
    """The fastest way to feed a table, and all that was tried: each way once, then the fastest
    three twice more. The median decides."""
    rng = random.Random(seed)  # noqa: S311
    speeds: dict[Feeder, list[float]] = {
        Feeder(documents, connections): []
        for documents in SHAPES[shape].batches
        for connections in CONNECTIONS
    }
    for times, candidates in ((1, len(speeds)), (2, FINALISTS)):
        chosen = _fastest(speeds)[:candidates]
        for _ in range(times):
            for feeder in rng.sample(chosen, len(chosen)):
                indices.empty(servers, shape)
                cost = load(servers, shape, rows, **asdict(feeder))
                speeds[feeder].append(rows / cost["seconds"])
    return {
        "best": asdict(_fastest(speeds)[0]),
        "tried": [
            {**asdict(feeder), "docs/s": [round(one) for one in found]}
            for feeder, found in speeds.items()
        ],
    }


def _fastest(speeds: Mapping[Feeder, Sequence[float]]) -> list[Feeder]:
    """The fastest first; but those that were tried more often come before others."""

    def speed(feeder: Feeder) -> tuple[int, float]:
        found = speeds[feeder]
        return len(found), statistics.median(found) if found else 0.0

    return sorted(speeds, key=speed, reverse=True)
