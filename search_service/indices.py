"""The indexes that are served: the aliases whose one generation this project's pipeline made."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from search_service.elastic import Elastic, status_of
from search_service.errors import unknown_index
from search_service.fields import Fields

CHECKPOINTS = "pg-es-checkpoints"

_META = "pg_es_pipeline"
_FORMAT = 1
_DEFAULT_WINDOW = 10_000  # Elasticsearch's own index.max_result_window
_READ = "*.aliases,*.mappings,*.settings.index.max_result_window"
_MAX_AGE = 5.0  # seconds that a catalog is used
_MIN_AGE = 1.0  # seconds that it is used at least, however many unknown names are asked for


@dataclass(frozen=True, slots=True)
class Index:
    """A served index.

    `generation` is the physical index behind the alias `name`, `key` the fields that no two
    documents have the same of (the table's key, unless a transform has changed it), `window` how
    many documents can be reached by page numbers. `filters` are clauses of Elasticsearch's query
    language that every document has to meet to be found at all. `identity` are the table's columns
    whose text is the `_id`.
    """

    name: str
    generation: str
    table: str
    key: tuple[str, ...]
    fields: Fields
    window: int
    filters: tuple[dict[str, Any], ...] = ()
    identity: tuple[str, ...] = ()


View = Callable[[Index], Index | None]
"""How a caller sees an index; None: not at all."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """All changes committed before `in_step_at` are in the index; `lag` is its age in seconds."""

    in_step_at: str
    lag: float


class Catalog:
    """What Elasticsearch holds, read in one request and used for a few seconds.

    Names from outside are looked up here and never passed on, and searches go to the generation
    whose mapping they were checked against, not to the alias, which may move meanwhile.
    """

    def __init__(self, elastic: Elastic) -> None:
        self._elastic = elastic
        self._indices: Mapping[str, Index] = {}
        self._answer: Any = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def get(self, name: str, view: View = lambda index: index) -> Index:
        """The index of that name as the view shows it.

        Raises:
            search_service.errors.ServiceError: it is not served, or the view shows none such.
            elastic_transport.TransportError, elasticsearch.ApiError: Elasticsearch fails.
        """
        # What a view does not show takes the same way as what there is not: also as long.
        for max_age in (_MAX_AGE, _MIN_AGE):
            await self._refresh(max_age)
            index = self._indices.get(name)
            seen = view(index) if index else None
            if seen is not None:
                return seen
        raise unknown_index(name)

    async def all(self, view: View = lambda index: index) -> list[Index]:
        """The served indexes by name, as the view shows them; raises as `get` does."""
        await self._refresh(_MIN_AGE)
        seen = [shown for index in self._indices.values() if (shown := view(index)) is not None]
        return sorted(seen, key=lambda index: index.name)

    def known(self) -> list[Index]:
        """All indexes that were there when Elasticsearch was asked last."""
        return list(self._indices.values())

    def forget(self) -> None:
        """Read again at the next use: a generation was found to be gone."""
        self._read_at = float("-inf")

    async def _refresh(self, max_age: float) -> None:
        if time.monotonic() - self._read_at < max_age:
            return
        async with self._reading:
            asked_at = time.monotonic()
            if asked_at - self._read_at < max_age:  # another request has just read it
                return
            answer = await self._elastic.ask("GET", f"/*?filter_path={_READ}")
            # What has not changed stays the same object, by which callers' views are kept.
            if answer != self._answer:
                self._answer, self._indices = answer, served(answer)
            self._read_at = asked_at


def served(indices: Mapping[str, Any]) -> dict[str, Index]:
    """The served ones of a `GET /*` answer, by alias."""
    owners = Counter(alias for info in indices.values() for alias in info.get("aliases", {}))
    found: dict[str, Index] = {}
    for generation, info in indices.items():
        mapping = info.get("mappings", {})
        made = mapping.get("_meta", {}).get(_META)
        if not isinstance(made, dict) or made.get("format") != _FORMAT:
            continue
        fields = Fields(mapping)
        table, key = made.get("table"), _key(made.get("order", made.get("key")), fields)
        if not isinstance(table, str) or not key:
            continue
        columns = made.get("key")
        identity = tuple(map(str, columns)) if isinstance(columns, list) else ()
        settings = info.get("settings", {}).get("index", {})
        window = int(settings.get("max_result_window", _DEFAULT_WINDOW))
        for name, alias in info.get("aliases", {}).items():
            if owners[name] == 1 and not alias.keys() & _NOT_FOR_SEARCH:
                found[name] = Index(name, generation, table, key, fields, window, identity=identity)
    return found


def _key(names: Any, fields: Fields) -> tuple[str, ...]:
    if not isinstance(names, list):
        return ()
    found = [fields.ordering(name) for name in names]
    ordered = all(field and field.sortable and not field.nested for field in found)
    return tuple(names) if ordered else ()


# An alias with a filter or a routing shows a part of its generation only, and a search of the
# generation would show the rest. A hidden one is there for the pipeline to write through.
_NOT_FOR_SEARCH = {"filter", "index_routing", "search_routing", "is_hidden"}


async def freshness(
    elastic: Elastic, indices: Sequence[Index], timeout: float
) -> dict[str, Freshness]:
    """How fresh each index is; one without a record is left out. `timeout` in seconds."""
    wanted = [{"term": {"kind": "freshness"}}, {"terms": {"index": [one.name for one in indices]}}]
    answer = await elastic.ask(
        "POST",
        f"/{CHECKPOINTS}/_search?ignore_unavailable=true",
        {
            "query": {"bool": {"filter": wanted}},
            "_source": ["index", "in_step_at"],
            "size": _DEFAULT_WINDOW,
        },
        timeout,
    )
    now = datetime.now(UTC)
    found: dict[str, Freshness] = {}
    for hit in answer["hits"]["hits"]:
        name, in_step_at = hit["_source"]["index"], hit["_source"]["in_step_at"]
        lag = (now - datetime.fromisoformat(in_step_at)).total_seconds()
        # The pipeline's clock may be a little ahead of this one.
        found[name] = Freshness(in_step_at, round(max(lag, 0.0), 3))
    return found


async def count_documents(elastic: Elastic, indices: Sequence[Index]) -> dict[str, int | None]:
    """The documents of each index by name, None where Elasticsearch cannot count them.

    An index that has been removed since the catalog was read is left out.
    """
    if not indices:
        return {}
    searches = [
        (
            index.generation,
            {
                "size": 0,
                "track_total_hits": True,
                "query": {"bool": {"filter": list(index.filters)}},
            },
        )
        for index in indices
    ]
    counts: dict[str, int | None] = {}
    for index, answer in zip(indices, await elastic.answers(searches), strict=True):
        status = status_of(answer)
        if status == 200:
            counts[index.name] = msgspec.json.decode(answer)["hits"]["total"]["value"]
        elif status != 404:
            counts[index.name] = None
    return counts
