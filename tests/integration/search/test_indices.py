"""What is served and how fresh it is: GET /indices, GET /indices/{index}/fields, GET /health."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import AsyncClient

pytestmark = pytest.mark.anyio

LONG = {"id": {"type": "long"}}


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


async def test_lists_the_fields_their_types_and_what_they_are_for(
    service: AsyncClient, flights: str
) -> None:
    answer = await service.get(f"/indices/{flights}/fields")
    types = {
        "airline.code": "keyword",
        "airline.name": "text",
        "cancelled": "boolean",
        "carrier": "text",
        "dep_delay": "integer",
        "distance": "double",
        "flight_id": "long",
        "gate": "ip",
        "labels": "flattened",
        "photo": "binary",
        "time_hour": "date",
    }
    comparable = [name for name in types if name not in {"labels", "photo"}]
    assert answer.json() == {
        "index": flights,
        "fields": list(types),
        "field_types": types,
        "key": ["flight_id"],
        "filterable": comparable,
        "sortable": comparable,
    }


async def test_lists_indexes_with_table_size_and_freshness(
    service: AsyncClient, make_index: Any, freshness: Callable[[str, str], None]
) -> None:
    index = make_index("things", LONG, [{"id": 1}, {"id": 2}], key=["id"])
    unknown = make_index("young", LONG, [], key=["id"])
    in_step_at = ago(90)
    freshness(index, in_step_at)
    listed = {entry["index"]: entry for entry in (await service.get("/indices")).json()["indices"]}
    lag = listed[index].pop("lag_seconds")
    assert 90 <= lag < 120
    assert listed[index] == {
        "index": index,
        "table": "public.things",
        "documents": 2,
        "in_step_at": in_step_at,
    }
    assert listed[unknown]["documents"] == 0
    assert listed[unknown]["in_step_at"] is None
    assert listed[unknown]["lag_seconds"] is None


async def test_a_clock_ahead_of_ours_is_no_negative_lag(
    service: AsyncClient, make_index: Any, freshness: Callable[[str, str], None]
) -> None:
    index = make_index("ahead", LONG, [], key=["id"])
    freshness(index, ago(-60))
    (entry,) = [
        entry
        for entry in (await service.get("/indices")).json()["indices"]
        if entry["index"] == index
    ]
    assert entry["lag_seconds"] == 0


async def test_health_reports_elasticsearch_and_lag(
    service: AsyncClient, make_index: Any, freshness: Callable[[str, str], None]
) -> None:
    index = make_index("late", LONG, [], key=["id"])
    freshness(index, ago(3600))
    answer = await service.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert health["status"] == "ok"
    assert health["elasticsearch"]["status"] in {"green", "yellow"}
    assert health["max_lag_seconds"] is None
    (entry,) = [entry for entry in health["indices"] if entry["index"] == index]
    assert entry["status"] == "ok"
    assert entry["lag_seconds"] >= 3600


async def test_health_is_degraded_beyond_the_lag_that_is_allowed(
    start: Any, make_index: Any, freshness: Callable[[str, str], None]
) -> None:
    late = make_index("late", LONG, [], key=["id"])
    fresh = make_index("fresh", LONG, [], key=["id"])
    unknown = make_index("unknown", LONG, [], key=["id"])
    freshness(late, ago(601))
    freshness(fresh, ago(10))
    async with start(search_max_lag=600) as service:
        answer = await service.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    assert health["status"] == "degraded"
    assert health["max_lag_seconds"] == 600
    statuses = {entry["index"]: entry["status"] for entry in health["indices"]}
    assert statuses[late] == "degraded"
    assert statuses[fresh] == "ok"
    assert statuses[unknown] == "degraded"


async def refuses(service: AsyncClient, name: str) -> None:
    for answer in (
        await service.post("/search", json={"index": name}),
        await service.get(f"/search/{name}/scroll"),
        await service.get(f"/indices/{name}/fields"),
    ):
        assert answer.status_code == 404, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:pg-es-search:unknown-index"
        assert "GET /indices" in answer.json()["detail"]
    listed = (await service.get("/indices")).json()["indices"]
    assert name not in [entry["index"] for entry in listed]


async def test_a_generation_is_not_served_by_its_own_name(
    service: AsyncClient, flights: str
) -> None:
    await refuses(service, f"{flights}-000001")


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"pg_es_pipeline": True},
        {"pg_es_pipeline": {"format": 2, "table": "public.things", "key": ["id"]}},
        {"pg_es_pipeline": {"format": 1, "key": ["id"]}},
        {"pg_es_pipeline": {"format": 1, "table": "public.things", "key": []}},
        {"pg_es_pipeline": {"format": 1, "table": "public.things", "key": ["gone"]}},
        {"pg_es_pipeline": {"format": 1, "table": "public.things", "key": "id"}},
    ],
    ids=str,
)
async def test_what_the_pipeline_has_not_made_is_not_served(
    service: AsyncClient, make_index: Any, meta: dict[str, Any]
) -> None:
    await refuses(service, make_index("foreign", LONG, [{"id": 1}], key=["id"], meta=meta))


async def test_an_index_whose_key_has_no_order_is_not_served(
    service: AsyncClient, make_index: Any
) -> None:
    await refuses(service, make_index("blob", {"id": {"type": "binary"}}, [], key=["id"]))


async def test_an_alias_of_two_indexes_is_not_served(service: AsyncClient, make_index: Any) -> None:
    make_index("two", LONG, [{"id": 1}], key=["id"])
    await refuses(service, make_index("two", LONG, [{"id": 2}], key=["id"], generation=2))


async def test_an_alias_shared_with_a_foreign_index_is_not_served(
    service: AsyncClient, make_index: Any, es: Elasticsearch, prefix: str
) -> None:
    index = make_index("shared", LONG, [{"id": 1}], key=["id"])
    es.indices.create(index=f"{prefix}foreign", aliases={index: {}})
    await refuses(service, index)


@pytest.mark.parametrize(
    "options", [{"filter": {"term": {"id": 1}}}, {"search_routing": "1"}, {"is_hidden": True}]
)
async def test_an_alias_that_shows_a_part_of_its_index_is_not_served(
    service: AsyncClient, make_index: Any, options: dict[str, Any]
) -> None:
    await refuses(service, make_index("part", LONG, [{"id": 1}], key=["id"], alias_options=options))


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "fli*",
        "_all",
        "-flights",
        ".security",
        "a,b",
        "<flights-{now/d}>",
        "_search",
        "..",
        "é",
    ],
)
async def test_patterns_and_lists_are_not_names(
    service: AsyncClient, flights: str, pattern: str
) -> None:
    answer = await service.post("/search", json={"index": pattern})
    assert answer.status_code == 404
    answer = await service.post("/search", json={"index": f"{flights},{flights}"})
    assert answer.status_code == 404
    answer = await service.post("/search", json={"index": f"{flights}*"})
    assert answer.status_code == 404


async def test_an_index_that_is_removed_after_the_catalog_was_read_is_unknown(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    index = make_index("gone", LONG, [{"id": 1}], key=["id"])
    assert (await service.post("/search", json={"index": index})).status_code == 200
    es.indices.delete(index=f"{index}-000001")
    answer = await service.post("/search", json={"index": index})
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:pg-es-search:unknown-index"


async def test_a_search_follows_the_alias_to_the_next_generation(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    index = make_index("moved", LONG, [{"id": 1}], key=["id"])
    assert (await service.post("/search", json={"index": index})).status_code == 200
    es.indices.delete(index=f"{index}-000001")
    properties = {"id": {"type": "keyword"}}
    make_index("moved", properties, [{"id": "one"}], key=["id"], generation=2)
    answer = await service.post("/search", json={"index": index, "fields": ["id"]})
    assert answer.status_code == 200
    assert answer.json()["data"] == [{"id": "one"}]


async def test_one_request_reads_the_catalog_for_all(
    service: AsyncClient, flights: str, es: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = service._transport.app  # type: ignore[attr-defined]
    elastic, read = app.state.elastic, []
    ask = elastic.ask

    async def counted(method: str, target: str, *more: Any) -> Any:
        if target.startswith("/*?"):
            read.append(target)
        return await ask(method, target, *more)

    monkeypatch.setattr(elastic, "ask", counted)
    for _ in range(2):
        answers = await asyncio.gather(
            *[service.post("/search", json={"index": flights}) for _ in range(5)],
            *[service.get("/indices/unknown/fields") for _ in range(5)],
        )
        assert [answer.status_code for answer in answers] == [200] * 5 + [404] * 5
    assert len(read) == 1


async def test_half_an_index_is_no_answer(
    service: AsyncClient, es: Elasticsearch, prefix: str
) -> None:
    # One node may hold one of the two shards only, so the other is nowhere.
    es.indices.create(
        index=f"{prefix}half-000001",
        aliases={f"{prefix}half": {}},
        mappings={
            "_meta": {"pg_es_pipeline": {"format": 1, "table": "public.half", "key": ["id"]}},
            "properties": LONG,
        },
        settings={
            "number_of_shards": 2,
            "number_of_replicas": 0,
            "routing.allocation.total_shards_per_node": 1,
        },
        wait_for_active_shards=0,
    )
    es.cluster.health(index=f"{prefix}half", wait_for_no_initializing_shards=True)
    answer = await service.post("/search", json={"index": f"{prefix}half"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    listed = (await service.get("/indices")).json()["indices"]
    (entry,) = [entry for entry in listed if entry["index"] == f"{prefix}half"]
    assert entry["documents"] is None
    health = await service.get("/health")
    assert health.status_code == 200
    assert health.json()["status"] == "degraded"
    assert health.json()["elasticsearch"] == {"status": "red"}
