"""What a caller must not see does not exist for it: every feature with every hidden field."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from elasticsearch import Elasticsearch
from httpx import AsyncClient

from search_service.access import keys
from tests.integration.search.conftest import TEXT, create_index

pytestmark = pytest.mark.anyio

SHOWN: dict[str, Any] = {
    "id": {"type": "long"},
    "title": TEXT,
    "place": {"properties": {"city": {"type": "keyword"}}},
}
HIDDEN: dict[str, Any] = {
    "tenant": {"type": "keyword"},
    "note": {**TEXT, "copy_to": "gist"},
    "gist": TEXT,
    "cost": {"type": "double"},
    "paid": {"type": "date"},
    "spot": {"type": "geo_point"},
    "labels": {"type": "flattened"},
    "place": {"properties": {"street": {"type": "keyword"}}},
}
HIDE = ["tenant", "note", "cost", "paid", "spot", "labels", "place.street"]
HIDDEN_PATHS = [*HIDE, "gist"]
"""What copies a hidden field is hidden with it."""

SECRET = "hushhush"
"""A word of every hidden value, so that it is in no answer."""


def order(number: int, tenant: str) -> dict[str, Any]:
    return {
        "id": number,
        "title": f"order {number}",
        "place": {"city": "Rome", "street": f"{SECRET} street {number}"},
        "tenant": tenant,
        "note": f"{SECRET} {number}",
        "cost": 41.5 + number,
        "paid": "2020-02-02T02:02:02Z",
        "spot": {"lat": 41.9, "lon": 12.5},
        "labels": {"key": SECRET},
    }


ACME, OTHERS = [1, 2, 3], [4, 5]
DOCUMENTS = [
    *(order(number, f"acme {SECRET}") for number in ACME),
    *(order(number, f"other {SECRET}") for number in OTHERS),
]
NAMES = ("whole", "some", "bare", "nothing", "few", "operator")
KEYS = {name: keys.make() for name in NAMES}


@pytest.fixture(scope="module")
def orders(es: Elasticsearch) -> Iterator[str]:
    """An index with five rows of two tenants, which no test changes."""
    name = f"orders-{keys.make().id}"
    place = {"properties": {**SHOWN["place"]["properties"], **HIDDEN["place"]["properties"]}}
    properties = {**SHOWN, **HIDDEN, "place": place}
    index = create_index(es, name, properties, DOCUMENTS, key=["id"])
    yield name
    es.indices.delete(index=index)


@pytest.fixture(scope="module")
def bare(es: Elasticsearch) -> Iterator[str]:
    """The same index as it would be if there were only what a caller is shown of the other."""
    name = f"orders-{keys.make().id}"
    documents = [
        {"id": number, "title": f"order {number}", "place": {"city": "Rome"}} for number in ACME
    ]
    index = create_index(es, name, SHOWN, documents, key=["id"])
    yield name
    es.indices.delete(index=index)


def rules(orders: str, bare: str) -> dict[str, Any]:
    some = {"hide": HIDE, "rows": {"tenant": {"claim": "tenant"}}}
    roles: dict[str, Any] = {
        "whole": {"indices": {orders: {}}},
        "some": {"indices": {orders: some}},
        "bare": {"indices": {bare: {}}},
        "elsewhere": {"indices": {"other*": {}}},
        "few": {
            "indices": {orders: {}},
            "limits": {"page_size": 2},
            "features": ["search"],
            "rate": "3/day",
        },
        "operator": {"indices": {}, "metrics": True},
    }
    given = {
        "whole": {"roles": ["whole"]},
        "some": {"roles": ["some"], "claims": {"tenant": f"acme {SECRET}"}},
        "bare": {"roles": ["bare"]},
        "nothing": {"roles": ["elsewhere"]},
        "few": {"roles": ["few"]},
        "operator": {"roles": ["operator"]},
    }
    entries = [
        {"name": name, "id": KEYS[name].id, "sha256": KEYS[name].sha256, **options}
        for name, options in given.items()
    ]
    return {"roles": roles, "keys": entries}


@pytest.fixture
def access(tmp_path: Path, orders: str, bare: str) -> Path:
    """The file of the rules."""
    file = tmp_path / "access.yaml"
    file.write_text(yaml.safe_dump(rules(orders, bare)))
    return file


@pytest.fixture
async def service(start: Any, access: Path) -> AsyncIterator[AsyncClient]:
    """The service with these rules."""
    async with start(search_access=access) as client:
        yield client


@asynccontextmanager
async def as_caller(service: AsyncClient, name: str) -> AsyncIterator[AsyncClient]:
    service.headers["authorization"] = f"Bearer {KEYS[name].text}"
    yield service
    del service.headers["authorization"]


Ask = tuple[str, str, dict[str, Any] | None]


def asks(index: str, field: str) -> dict[str, Ask]:
    """Every feature, asked for one field: method, path with parameters, and body."""

    def post(path: str, **body: Any) -> Ask:
        return "POST", path, body

    def search(**body: Any) -> Ask:
        return post("/search", index=index, **body)

    def get(path: str) -> Ask:
        return "GET", path, None

    search_path, walk = f"/search/{index}", f"/search/{index}/scroll"
    return {
        "value": search(query_fields={field: "x"}),
        "list": search(query_fields={field: ["x", 1]}),
        "range": search(query_fields={field: {"gte": 1}}),
        "exists": search(query_fields={field: {"exists": True}}),
        "null": search(query_fields={field: {"null": True}}),
        "not": search(query_fields={field: {"not": "x"}}),
        "prefix": search(query_fields={field: {"prefix": "x"}}),
        "contains": search(query_fields={field: {"contains": "x"}}),
        "near": search(query_fields={field: {"near": {"lat": 1, "lon": 1, "within": "1km"}}}),
        "key below": search(query_fields={f"{field}.key": "x"}),
        "copy": search(query_fields={f"{field}.raw": "x"}),
        "group": search(filter={"any": [{field: "x"}, {"none": [{field: 1}]}]}),
        "fields": search(fields=[field]),
        "exclude": search(exclude_fields=[field]),
        "sort": search(sort_by={field: "asc"}),
        "nearest": search(sort_by={field: {"near": {"lat": 1, "lon": 1}}}),
        "sort copy": search(sort_by={f"{field}.raw": "asc"}),
        "full text": search(q={"text": "x", "fields": [field]}),
        "weights": search(q={"text": "x", "fields": {field: 2.0}}),
        "highlight": search(q={"text": "x"}, highlight={"fields": [field]}),
        "terms": search(facets={"a": {"type": "terms", "field": field}}),
        "named facet": search(facets={field: {"type": "terms"}}),
        "ranges": search(facets={"a": {"type": "ranges", "field": field, "ranges": [{"to": 1}]}}),
        "histogram": search(facets={"a": {"type": "histogram", "field": field, "interval": 1}}),
        "dates": search(facets={"a": {"type": "dates", "field": field, "every": "day"}}),
        "walk": search(pagination="cursor", sort_by={field: "asc"}),
        "short filter": get(f"{search_path}?filter={field}:x"),
        "short sort": get(f"{search_path}?sort=-{field}"),
        "short fields": get(f"{search_path}?fields={field}"),
        "short facet": get(f"{search_path}?facet={field}"),
        "count": post("/search/count", index=index, query_fields={field: "x"}),
        "many": post("/search/many", searches=[{"index": index, "query_fields": {field: "x"}}]),
        "export": post(f"/search/{index}/export", fields=[field]),
        "export csv": post(f"/search/{index}/export", format="csv", fields=[field]),
        "export sort": post(f"/search/{index}/export", sort_by={field: "asc"}),
        "export filter": post(f"/search/{index}/export", query_fields={field: "x"}),
        "suggest": get(f"/search/{index}/suggest?field={field}&prefix=x"),
        "document": get(f"/indices/{index}/documents/x?fields={field}"),
        "scroll": get(f"{walk}?fields={field}"),
    }


FEATURES = list(asks("", ""))


async def answer(service: AsyncClient, ask: Ask) -> tuple[int, str]:
    method, path, body = ask
    found = await service.request(method, path, json=body)
    return found.status_code, found.text.replace(found.headers["x-request-id"], "")


@pytest.mark.parametrize("feature", FEATURES)
async def test_a_hidden_field_cannot_be_told_from_one_that_is_not_there(
    service: AsyncClient, orders: str, bare: str, feature: str
) -> None:
    for hidden in HIDDEN_PATHS:
        async with as_caller(service, "some") as caller:
            status, text = await answer(caller, asks(orders, hidden)[feature])
        async with as_caller(service, "bare") as caller:
            absent = await answer(caller, asks(bare, hidden)[feature])
        assert (status, text.replace(orders, bare)) == absent, hidden
        assert status in {404, 422}


async def everything(service: AsyncClient, index: str) -> dict[str, str]:
    """All answers that name no field."""
    asked: dict[str, Ask] = {
        "search": ("POST", "/search", {"index": index}),
        "shown": ("POST", "/search", {"index": index, "fields": ["title", "place"]}),
        "all but": ("POST", "/search", {"index": index, "exclude_fields": ["title"]}),
        "short": ("GET", f"/search/{index}?q={SECRET}+order&facet=title", None),
        "words": ("POST", "/search", {"index": index, "q": {"text": "order"}, "highlight": True}),
        "walk": ("POST", "/search", {"index": index, "pagination": "cursor", "size": 5}),
        "count": ("POST", "/search/count", {"index": index}),
        "many": ("POST", "/search/many", {"searches": [{"index": index}]}),
        "scroll": ("GET", f"/search/{index}/scroll", None),
        "export": ("POST", f"/search/{index}/export", {}),
        "csv": ("POST", f"/search/{index}/export", {"format": "csv"}),
        "suggest": ("GET", f"/search/{index}/suggest?field=title&prefix=order", None),
        "fields": ("GET", f"/indices/{index}/fields", None),
        "indices": ("GET", "/indices", None),
        "health": ("GET", "/health", None),
        "typo": ("POST", "/search", {"index": index, "fields": ["tenent", "notes", "place.stret"]}),
    }
    return {name: (await answer(service, ask))[1] for name, ask in asked.items()}


async def test_every_answer_is_as_if_there_were_only_what_is_shown(
    service: AsyncClient, orders: str, bare: str
) -> None:
    async with as_caller(service, "some") as caller:
        found = await everything(caller, orders)
    async with as_caller(service, "bare") as caller:
        expected = await everything(caller, bare)
    for name, text in expected.items():
        assert found[name].replace(orders, bare) == text, name
        assert SECRET not in found[name]
    async with as_caller(service, "whole") as caller:
        assert SECRET in (await everything(caller, orders))["search"]


async def test_a_document_of_others_is_not_there(
    service: AsyncClient, orders: str, es: Elasticsearch
) -> None:
    hits = es.search(index=orders, size=10)["hits"]["hits"]
    ids = {hit["_source"]["id"]: hit["_id"] for hit in hits}
    async with as_caller(service, "some") as caller:
        own = await caller.get(f"/indices/{orders}/documents/{ids[1]}")
        assert own.status_code == 200
        assert SECRET not in own.text
        other = await caller.get(f"/indices/{orders}/documents/{ids[4]}")
        unknown = await caller.get(f"/indices/{orders}/documents/unknown")
        assert other.status_code == unknown.status_code == 404
        assert other.json()["type"] == unknown.json()["type"]


@pytest.mark.parametrize("feature", FEATURES)
async def test_an_index_that_is_not_shown_is_as_one_that_is_not_there(
    service: AsyncClient, orders: str, feature: str
) -> None:
    async with as_caller(service, "nothing") as caller:
        status, text = await answer(caller, asks(orders, "title")[feature])
        nowhere = await answer(caller, asks("nowhere", "title")[feature])
        assert (status, text.replace(orders, "nowhere")) == nowhere
        assert "unknown-index" in text
        listed = (await caller.get("/indices")).json()["indices"]
        assert orders not in str(listed)
        assert orders not in (await caller.get("/health")).text


async def test_without_credentials_there_is_nothing_but_health_and_documents(
    service: AsyncClient, orders: str
) -> None:
    for path in ("/indices", f"/search/{orders}/scroll", "/metrics", "/nowhere"):
        refused = await service.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert refused.json()["type"] == "urn:pg-es-search:unauthenticated"
    refused = await service.post("/search", content=b"{", headers={"content-type": "text/plain"})
    assert refused.status_code == 401
    health = (await service.get("/health")).json()
    assert health["indices"] == []
    for path in ("/docs", "/openapi.json", "/health/live", "/health/ready"):
        assert (await service.get(path)).status_code == 200
    security = (await service.get("/openapi.json")).json()["security"]
    assert security == [{"bearer": []}, {"apiKey": []}]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer pges_abc_def"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer"},
        {"x-api-key": "wrong"},
    ],
)
async def test_wrong_credentials_are_refused_even_where_none_are_needed(
    service: AsyncClient, headers: dict[str, str]
) -> None:
    for path in ("/indices", "/health"):
        assert (await service.get(path, headers=headers)).status_code == 401
    assert (await service.get("/health/live", headers=headers)).status_code == 200


async def test_a_key_may_come_in_either_header(service: AsyncClient, orders: str) -> None:
    for headers in (
        {"authorization": f"bearer {KEYS['whole'].text}"},
        {"x-api-key": KEYS["whole"].text},
    ):
        assert (await service.get(f"/indices/{orders}/fields", headers=headers)).status_code == 200


async def test_limits_features_and_rates_are_the_roles(service: AsyncClient, orders: str) -> None:
    async with as_caller(service, "few") as caller:
        page = await caller.post("/search", json={"index": orders})
        assert len(page.json()["data"]) == 2
        assert page.headers["ratelimit-limit"] == "3"
        assert page.headers["ratelimit-remaining"] == "2"
        export = await caller.post(f"/search/{orders}/export", json={})
        assert export.status_code == 403
        large = await caller.post("/search", json={"index": orders, "page_size": 3})
        assert large.status_code == 422
        refused = await caller.post("/search", json={"index": orders})
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:pg-es-search:too-many-requests"
        assert int(refused.headers["retry-after"]) > 0
    async with as_caller(service, "whole") as other:
        assert (await other.post("/search", json={"index": orders})).status_code == 200


async def test_metrics_are_for_roles_that_say_so(service: AsyncClient, orders: str) -> None:
    async with as_caller(service, "whole") as caller:
        await caller.post("/search", json={"index": orders})
        await caller.post("/search", json={"index": "nowhere"})
        assert (await caller.get("/metrics")).status_code == 403
    async with as_caller(service, "operator") as caller:
        text = (await caller.get("/metrics")).text
    assert f'index="{orders}",method="POST",route="/search",status="2xx"}} 1.0' in text
    assert 'index="",method="POST",route="/search",status="4xx"} 1.0' in text
    assert "nowhere" not in text


async def test_new_rules_hold_at_once_and_wrong_ones_change_nothing(
    start: Any, access: Path, orders: str, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_service.access.callers._LOOK_AGAIN", 0.0)
    folders = [access.with_name(name) for name in ("one", "two", "three")]
    for folder, text in zip(
        folders,
        (access.read_text(), "roles: [", yaml.safe_dump({**rules(orders, bare), "keys": []})),
        strict=True,
    ):
        folder.mkdir()
        (folder / "access.yaml").write_text(text)
    data = access.with_name("data")
    data.symlink_to(folders[0])
    async with start(search_access=data / "access.yaml") as service:
        callers = service._transport.app.user_middleware[1].kwargs["callers"]

        async def status_after_turn_to(folder: Path) -> int:
            link = data.with_name("new")
            link.symlink_to(folder)
            link.rename(data)  # as Kubernetes does
            await service.get("/indices", headers=headers)
            await callers._loading
            return (await service.get("/indices", headers=headers)).status_code

        headers = {"x-api-key": KEYS["whole"].text}
        assert (await service.get("/indices", headers=headers)).status_code == 200
        assert await status_after_turn_to(folders[1]) == 200
        assert await status_after_turn_to(folders[2]) == 401
