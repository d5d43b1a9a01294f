"""GET /search/{index}/scroll: every document once, whatever the key."""

import json
import random
import uuid
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from httpx import AsyncClient

from search_service.cursors import Scroll, Seal

pytestmark = pytest.mark.anyio


async def walk(
    service: AsyncClient, index: str, size: int, **parameters: Any
) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"size": size, **parameters, **({"cursor": cursor} if cursor else {})}
        answer = await service.get(f"/search/{index}/scroll", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        documents += page["data"]
        assert page["meta"]["has_previous"] is (cursor is not None)
        assert page["meta"]["has_next"] is (page["meta"]["next_cursor"] is not None)
        cursor = page["meta"]["next_cursor"]
        if cursor is None:
            return documents
        assert len(page["data"]) == size


SECRET = "a secret of the tests"


def sealed(index: str, key: str, after: Any) -> str:
    """A cursor that only the service could have made."""
    return Seal([SECRET], 60).close(Scroll(index, (key,), after, ()))


async def test_answers_with_documents_and_the_next_cursor(
    service: AsyncClient, flights: str
) -> None:
    path = f"/search/{flights}/scroll"
    first = (await service.get(path, params={"size": 2, "fields": "flight_id,carrier"})).json()
    cursor = first["meta"].pop("next_cursor")
    assert first == {
        "data": [{"flight_id": 1, "carrier": "UA"}, {"flight_id": 2, "carrier": "AA"}],
        "meta": {
            "total_records": 3,
            "page_size": 2,
            "has_next": True,
            "has_previous": False,
            "selected_fields": ["flight_id", "carrier"],
        },
    }
    parameters = [("cursor", cursor), ("size", "2"), ("fields", "carrier"), ("fields", "gate")]
    assert (await service.get(path, params=parameters)).json() == {
        "data": [{"carrier": "UA and AA", "gate": "2001:db8::1"}],
        "meta": {
            "total_records": 3,
            "page_size": 2,
            "has_next": False,
            "has_previous": True,
            "next_cursor": None,
            "selected_fields": ["carrier", "gate"],
        },
    }


async def test_a_page_that_ends_with_the_last_document_has_no_next(
    service: AsyncClient, flights: str
) -> None:
    assert [document["flight_id"] for document in await walk(service, flights, 3)] == [1, 2, 3]


async def test_an_empty_index_is_one_empty_page(service: AsyncClient, make_index: Any) -> None:
    index = make_index("empty", {"id": {"type": "long"}}, [], key=["id"])
    answer = (await service.get(f"/search/{index}/scroll")).json()
    assert answer["data"] == []
    assert answer["meta"]["total_records"] == 0
    assert answer["meta"]["has_next"] is False
    assert answer["meta"]["page_size"] == 100


TEXT = {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 8191}}}
KEYS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "text": ({"id": TEXT}, [{"id": f"K {n} ß{chr(0x1F600 + n)}"} for n in range(25)]),
    "uuid": (
        {"id": {"type": "keyword"}},
        [{"id": str(uuid.UUID(int=n * 7**40))} for n in range(25)],
    ),
    "long above 2^53": ({"id": {"type": "long"}}, [{"id": 2**62 + n} for n in range(25)]),
    "negative": ({"id": {"type": "integer"}}, [{"id": n - 12} for n in range(25)]),
    "boolean and short": (
        {"flag": {"type": "boolean"}, "id": {"type": "short"}},
        [{"flag": n % 2 == 0, "id": n // 2} for n in range(25)],
    ),
    "ip": ({"id": {"type": "ip"}}, [{"id": f"10.0.{n}.1"} for n in range(12)]),
    "double": ({"id": {"type": "double"}}, [{"id": n / 7} for n in range(25)]),
    "float": ({"id": {"type": "float"}}, [{"id": n / 7} for n in range(25)]),
    "date": ({"id": {"type": "date"}}, [{"id": f"1960-01-{n + 1:02}"} for n in range(25)]),
    "date within a millisecond": (
        {"sensor": {"type": "keyword"}, "id": {"type": "date"}},
        [{"sensor": "s", "id": f"2020-01-01T00:00:00.0000{n:02}Z"} for n in range(25)],
    ),
    "date_nanos": (
        {"id": {"type": "date_nanos"}},
        [{"id": f"2020-01-01T00:00:00.0000{n:02}Z"} for n in range(25)],
    ),
    "doubles that are one": (
        {"id": {"type": "double"}},
        [{"id": 2**60 + n} for n in range(25)],
    ),
    "in an object": (
        {"key": {"properties": {"id": {"type": "long"}}}},
        [{"key": {"id": n}} for n in range(25)],
    ),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("shards", [1, 3])
async def test_walks_every_document_once_whatever_the_key(
    service: AsyncClient, make_index: Any, name: str, shards: int
) -> None:
    properties, documents = KEYS[name]
    key = ["key.id"] if name == "in an object" else list(properties)
    shuffled = random.sample(documents, len(documents))
    index = make_index("walk", properties, shuffled, key=key, settings={"number_of_shards": shards})
    for size in (1, 4):
        walked = await walk(service, index, size)
        assert sorted(map(json.dumps, walked)) == sorted(map(json.dumps, documents))


async def test_a_walk_survives_deletes_inserts_and_a_new_generation(
    service: AsyncClient, make_index: Any, es: Elasticsearch
) -> None:
    properties = {"id": {"type": "long"}}
    index = make_index("live", properties, [{"id": n} for n in range(0, 20, 2)], key=["id"])
    answer = await service.get(f"/search/{index}/scroll", params={"size": 4})
    first = answer.json()
    assert [document["id"] for document in first["data"]] == [0, 2, 4, 6]

    # The next generation has lost the document at the cursor and has new ones on both sides.
    make_index("live", properties, [{"id": n} for n in range(1, 20, 2)], key=["id"], generation=2)
    es.indices.delete(index=f"{index}-000001")
    rest = []
    cursor = first["meta"]["next_cursor"]
    while cursor:
        query = {"size": 4, "cursor": cursor}
        answer = await service.get(f"/search/{index}/scroll", params=query)
        assert answer.status_code == 200, answer.text
        rest += [document["id"] for document in answer.json()["data"]]
        cursor = answer.json()["meta"]["next_cursor"]
    assert rest == [7, 9, 11, 13, 15, 17, 19]


async def test_refuses_a_cursor_of_another_index(
    service: AsyncClient, flights: str, make_index: Any
) -> None:
    other = make_index("other", {"flight_id": {"type": "long"}}, [], key=["flight_id"])
    page = (await service.get(f"/search/{flights}/scroll", params={"size": 1})).json()
    answer = await service.get(
        f"/search/{other}/scroll", params={"cursor": page["meta"]["next_cursor"]}
    )
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:pg-es-search:bad-cursor"
    assert "another index" in answer.json()["detail"]
    assert "leave cursor out" in answer.json()["detail"]


@pytest.mark.parametrize(
    "after",
    [
        [],
        [1, 2],
        ["1"],
        [1.5],
        [True],
        [None],
        [[1]],
        [{"gt": 1}],
        [2**63],
        [-1e300],
        "1",
        {"0": 1},
    ],
    ids=str,
)
async def test_refuses_a_cursor_that_does_not_fit_the_key(
    start: Any, flights: str, after: Any
) -> None:
    cursor = sealed(flights, "flight_id", after)
    async with start(search_secret=SECRET) as service:
        answer = await service.get(f"/search/{flights}/scroll", params={"cursor": cursor})
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "urn:pg-es-search:bad-cursor"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("keyword", "a", 1),
        ("keyword", "", 1.5),
        ("ip", "10.0.0.1", "10.0.0"),
        ("ip", "::1", "10.0.0.0/8"),
        ("boolean", False, "x"),
        ("boolean", 1, 2),
        ("date_nanos", 1, "2020-01-01"),
    ],
)
async def test_takes_sort_values_of_the_keys_type_only(
    start: Any, make_index: Any, kind: str, good: Any, bad: Any
) -> None:
    index = make_index("typed", {"id": {"type": kind}}, [], key=["id"])
    statuses = []
    async with start(search_secret=SECRET) as service:
        for value in (good, bad):
            cursor = sealed(index, "id", [value])
            answer = await service.get(f"/search/{index}/scroll", params={"cursor": cursor})
            statuses.append(answer.status_code)
    assert statuses == [200, 400]


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": 0},
        {"size": -1},
        {"size": "many"},
        {"size": 1001},
        {"size": 10**30},
        {"fields": "carier"},
        {"fields": ""},
        {"fields": "carrier,,gate"},
        {"page": 2},
        {"fields": ["carrier"] * 1001},
    ],
    ids=lambda parameters: str(parameters)[:40],
)
async def test_refuses_parameters(
    service: AsyncClient, flights: str, parameters: dict[str, Any]
) -> None:
    answer = await service.get(f"/search/{flights}/scroll", params=parameters)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


@pytest.mark.parametrize("cursor", ["", "x", "=", "é", "!!!!", "bnVsbA", "W10", "e30", "MTI%00"])
async def test_refuses_damaged_cursors(service: AsyncClient, flights: str, cursor: str) -> None:
    answer = await service.get(f"/search/{flights}/scroll", params={"cursor": cursor})
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "urn:pg-es-search:bad-cursor"


async def test_names_the_nearest_field(service: AsyncClient, flights: str) -> None:
    answer = await service.get(f"/search/{flights}/scroll", params={"fields": "carier"})
    assert answer.json()["errors"] == [
        {"location": "fields.carier", "detail": 'unknown field. Did you mean "carrier"?'}
    ]


async def test_a_page_leaves_room_for_the_look_ahead_in_a_narrow_window(
    service: AsyncClient, make_index: Any
) -> None:
    index = make_index(
        "narrow",
        {"id": {"type": "long"}},
        [{"id": n} for n in range(5)],
        key=["id"],
        settings={"max_result_window": 3},
    )
    assert len(await walk(service, index, 2)) == 5
    answer = await service.get(f"/search/{index}/scroll", params={"size": 3})
    assert answer.status_code == 422
    assert "2 documents" in answer.json()["detail"]


async def test_an_index_without_its_tables_key_is_walked_by_the_pipelines_own_field(
    service: AsyncClient, make_index: Any
) -> None:
    """A table's transform may leave the key out, or change it."""
    fields = {
        "note": {"type": "keyword"},
        "_pg_es": {"properties": {"key": {"type": "keyword"}}},
    }
    documents = [{"note": "same", "_pg_es": {"key": f"k{number}"}} for number in range(7)]
    about = {"format": 1, "table": "public.things", "key": ["id"]}
    meta = {"pg_es_pipeline": {**about, "order": ["note", "_pg_es.key"]}}
    index = make_index("things", fields, documents, key=["id"], meta=meta)
    assert await walk(service, index, 2) == [{"note": "same"}] * 7
    answer = await service.post("/search", json={"index": index, "sort_by": {"_pg_es.key": "asc"}})
    assert answer.status_code == 422
