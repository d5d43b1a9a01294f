"""How hard Elasticsearch's nodes are pressed, by what they say of themselves."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from pg_es_pipeline.sync import elastic

LOOK_SECONDS = 2.0
"""How often the nodes are asked."""

PATIENCE_SECONDS = 2.0
"""A node that does not say within this time how it is has too much to do."""

FULL_HEAP_PERCENT = 92
"""Above it a node soon does nothing but collect garbage, or breaks requests off."""

BUSY_CPU_PERCENT = 90
"""Above it, of the node or of all that runs beside it, more at once brings no more."""

QUEUED_SEARCHES = 10
"""A node on which so many searches wait for their turn has no time for them."""

INDEXING_SHARE = 0.8
"""Of the memory that a node gives to requests like ours; at the whole of it, it refuses them."""

_FIELDS = ",".join(
    f"nodes.*.{one}"
    for one in (
        "os.cpu.percent",
        "process.cpu.percent",
        "jvm.mem.heap_used_percent",
        "thread_pool.write.queue",
        "thread_pool.write.rejected",
        "thread_pool.search.queue",
        "indexing_pressure.memory.current.combined_coordinating_and_primary_in_bytes",
        "indexing_pressure.memory.limit_in_bytes",
    )
)


@dataclass(frozen=True, slots=True)
class Signs:
    """What the nodes show."""

    busy: bool = False
    """Whether a node has no time for more at once."""
    trouble: str | None = None
    """Why less should be sent."""


class Pressure:
    """Asks the nodes every now and then."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client.options(
            request_timeout=PATIENCE_SECONDS, max_retries=0, retry_on_timeout=False
        )
        self._looked = time.monotonic()
        self._rejected: dict[str, int] = {}
        self._may_ask = True
        self._has_asked = False

    def look(self) -> Signs | None:
        """What the nodes show now; None while it is too early to ask again. Where the role may not
        ask, no signs once, and None ever after."""
        if not self._may_ask or time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        try:
            answer = self._client.nodes.stats(
                metric=["os", "process", "jvm", "thread_pool", "indexing_pressure"],
                filter_path=_FIELDS,
            )
        except ApiError as error:
            self._may_ask = error.meta.status in elastic.PASSING
            return None if self._may_ask else Signs()
        except TransportError:
            return Signs(busy=True, trouble=f"no word from it within {PATIENCE_SECONDS:.0f} s")
        finally:
            self._looked = time.monotonic()
        nodes: Mapping[str, Any] = answer.get("nodes", {})
        # A node tells of its processors since it was asked for them last, which may be long ago.
        busy = not self._has_asked or any(map(_is_busy, nodes.values()))
        self._has_asked = True
        return Signs(busy, next(self._troubles(nodes), None))

    def _troubles(self, nodes: Mapping[str, Any]) -> Iterator[str]:
        known, self._rejected = (
            self._rejected,
            {name: _at(node, "thread_pool", "write", "rejected") for name, node in nodes.items()},
        )
        for name, node in nodes.items():
            if self._rejected[name] > known.get(name, self._rejected[name]):
                yield "it rejects writes"
            if _at(node, "jvm", "mem", "heap_used_percent") >= FULL_HEAP_PERCENT:
                yield "its heap is nearly full"
            memory = node.get("indexing_pressure", {}).get("memory", {})
            used = _at(memory, "current", "combined_coordinating_and_primary_in_bytes")
            if used > INDEXING_SHARE * _at(memory, "limit_in_bytes") > 0:
                yield "its memory for writes is nearly full"
            if _at(node, "thread_pool", "search", "queue") >= QUEUED_SEARCHES:
                yield "searches wait for their turn"


def _is_busy(node: Mapping[str, Any]) -> bool:
    cpu = max(_at(node, part, "cpu", "percent") for part in ("os", "process"))
    return cpu >= BUSY_CPU_PERCENT or _at(node, "thread_pool", "write", "queue") > 0


def _at(node: Mapping[str, Any], *path: str) -> int:
    for name in path[:-1]:
        node = node.get(name, {})
    return int(node.get(path[-1], 0))
