"""What a value costs Elasticsearch to index, by the kind of its field.

    python -m benchmarks.fields [DOCUMENTS [REPETITIONS]]

Documents with several values of one kind are loaded twice: into an index that maps them, and into
one that only stores them. The difference in the node's CPU time, refresh and flush included, is the
price of the mapping. Repetitions go through all kinds in turn; the median and the range are shown.
"""

import json
import random
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

from elastic_transport import HttpHeaders
from elasticsearch import Elasticsearch

from benchmarks.child import cpu
from benchmarks.report import draw
from benchmarks.servers import started
from pg_es_pipeline.sync import types

FIELDS = 4
"""Values of one document."""

DOCUMENTS, REPETITIONS = 20_000, 5
VECTORS = 10
"""So many times fewer documents have vectors: one costs as much as hundreds of numbers."""

PER_REQUEST = 2_000

WORDS = [f"{stem}{end}" for stem in ("run", "ship", "order", "blue", "city") for end in range(400)]


def _words(count: int) -> str:
    return " ".join(random.choices(WORDS, k=count))  # noqa: S311


def _number(below: int) -> int:
    return random.randrange(below)  # noqa: S311


KINDS: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "boolean": ({"type": "boolean"}, lambda: _number(2) == 1),
    "integer": ({"type": "integer"}, lambda: _number(1 << 31)),
    "long": ({"type": "long"}, lambda: _number(1 << 60)),
    "long, doc values alone": ({"type": "long", "index": False}, lambda: _number(1 << 60)),
    "double": ({"type": "double"}, lambda: _number(1 << 40) / 100),
    "date": (
        {"type": "date"},
        lambda: f"2024-03-{1 + _number(28):02}T10:11:12.{_number(10**6):06}",
    ),
    "keyword, 100 values": (types.keyword(), lambda: f"value {_number(100)}"),
    "keyword, all different": (types.keyword(), lambda: f"{_number(1 << 62):x}"),
    "text without raw, 8 words": ({"type": "text"}, lambda: _words(8)),
    "text with raw, 8 words": (types.text(), lambda: _words(8)),
    "text with raw, 40 words": (types.text(), lambda: _words(40)),
    "ip": ({"type": "ip"}, lambda: f"10.{_number(256)}.{_number(256)}.{_number(256)}"),
    "integer_range": ({"type": "integer_range"}, lambda: {"gte": _number(1000), "lt": 2000}),
    "geo_point": (
        {"type": "geo_point"},
        lambda: {"lat": _number(18_000) / 100 - 90, "lon": _number(36_000) / 100 - 180},
    ),
    "flattened, 3 leaves": (
        types.flattened(),
        lambda: {"a": f"x{_number(100)}", "b": {"c": f"{_number(10_000)}", "d": _words(2)}},
    ),
    "dense_vector, 64 dimensions": (
        {"type": "dense_vector", "dims": 64, "similarity": "l2_norm"},
        lambda: [_number(1000) / 1000 for _ in range(64)],
    ),
}


class Node:
    """An Elasticsearch node whose CPU time can be told."""

    def __init__(self, client: Elasticsearch, pid: int) -> None:
        self._client = client
        self._pid = pid

    def cpu(self) -> float:
        """Seconds so far."""
        return cpu(self._pid)

    def load(self, properties: dict[str, Any], bodies: list[bytes]) -> float:
        """Loads into a new index; the seconds of CPU that it took."""
        client, index = self._client, "priced"
        client.indices.delete(index=index, ignore_unavailable=True)
        client.indices.create(
            index=index,
            mappings={"dynamic": False, "properties": properties},
            settings={"number_of_replicas": 0, "refresh_interval": -1},
        )
        headers = HttpHeaders({"content-type": "application/x-ndjson"})
        began = self.cpu()
        for body in bodies:
            answer = client.transport.node_pool.get().perform_request(
                "POST",
                f"/{index}/_bulk?filter_path=errors",
                body=body,
                headers=headers,
                request_timeout=300,
            )
            assert answer.body == b'{"errors":false}', answer.body[:500]
        client.indices.refresh(index=index)
        client.indices.flush(index=index)
        return self.cpu() - began


def main() -> None:
    """Measures, and prints a table."""
    given = [int(number) for number in sys.argv[1:]]
    documents, repetitions = (*given, *(DOCUMENTS, REPETITIONS)[len(given) :])
    random.seed(1)
    with started() as servers, servers.client() as client:
        prices = _prices(Node(client, servers.elasticsearch_pid), documents, repetitions)
    title = f"µs of CPU a value: {documents:,} documents, {repetitions} repetitions"
    rows = (
        ([kind, f"{statistics.median(found):.1f}", f"{min(found):.1f} to {max(found):.1f}"], None)
        for kind, found in prices.items()
    )
    draw(title, ("field", "median >", "range >"), rows)


def _prices(node: Node, documents: int, repetitions: int) -> dict[str, list[float]]:
    """µs a value of each kind, of each repetition."""
    prices: dict[str, list[float]] = {kind: [] for kind in KINDS}
    # The first time through, Java compiles.
    for repetition in range(repetitions + 1):
        for kind, (mapping, value) in KINDS.items():
            count = documents // (VECTORS if mapping["type"] == "dense_vector" else 1)
            bodies = list(_bodies(value, count))
            mapped = node.load({f"f{number}": mapping for number in range(FIELDS)}, bodies)
            stored = node.load({}, bodies)
            if repetition:
                prices[kind].append((mapped - stored) / count / FIELDS * 1e6)
    return prices


def _bodies(value: Callable[[], Any], documents: int) -> Iterator[bytes]:
    for start in range(0, documents, PER_REQUEST):
        yield b"".join(
            b'{"index":{"_id":"%d"}}\n%s\n'
            % (number, json.dumps({f"f{field}": value() for field in range(FIELDS)}).encode())
            for number in range(start, min(start + PER_REQUEST, documents))
        )


if __name__ == "__main__":
    main()
