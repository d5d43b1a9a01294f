"""Whatever is asked, the service neither breaks nor tells what it hides."""

import asyncio
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from elasticsearch import Elasticsearch
from httpx import ASGITransport, AsyncClient, Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_service.access import keys
from search_service.app import create_app
from search_service.settings import Settings
from tests.integration.search.conftest import TEXT, create_index

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
CANARY = "kingfisher"
"""A word that only what is hidden has."""

HIDDEN_NUMBER = 7_777_123
FIELDS: dict[str, Any] = {
    "id": {"type": "long"},
    "name": TEXT,
    "kind": {"type": "keyword"},
    "amount": {"type": "integer"},
    "ratio": {"type": "double"},
    "at": {"type": "date"},
    "open": {"type": "boolean"},
    "place": {"type": "geo_point"},
    "host": {"type": "ip"},
    "labels": {"type": "flattened"},
    "person": {"properties": {"name": TEXT, "pin": {"type": "integer"}}},
    "lines": {
        "type": "nested",
        "properties": {"sku": {"type": "keyword"}, "pin": {"type": "integer"}},
    },
    "secret": TEXT,
    "code": {"type": "keyword"},
}
HIDDEN = ["secret", "code", "person.pin", "lines.pin"]
SHOWN = [name for name in FIELDS if name not in {*HIDDEN, "person", "lines"}]
SHOWN += ["person.name", "lines.sku"]
NEAREST = {"near": {"lat": 3, "lon": -3.5}}


def documents() -> list[dict[str, Any]]:
    made = []
    for number in range(12):
        mine = number % 3 != 2  # the others are rows of somebody else
        made.append(
            {
                "id": number,
                "name": f"thing {number}" if mine else f"{CANARY} {number}",
                "kind": "mine" if mine else "other",
                "amount": number * 10 if mine else HIDDEN_NUMBER,
                "ratio": number / 3,
                "at": f"2024-01-{number + 1:02}T00:00:00Z",
                "open": number % 2 == 0,
                "place": {"lat": number, "lon": -number},
                "host": f"10.0.0.{number}",
                "labels": {"color": "red" if mine else CANARY},
                "person": {"name": f"person {number}", "pin": HIDDEN_NUMBER},
                "lines": [
                    {"sku": f"a {number % 4}" if mine else CANARY, "pin": HIDDEN_NUMBER},
                    {"sku": f"z {number % 5}" if mine else CANARY, "pin": HIDDEN_NUMBER},
                ],
                "secret": f"{CANARY} in {number}",
                "code": f"{CANARY}-{number}",
            }
        )
    return made


class Service:
    """The application in this process, as a caller sees it from whom something is hidden."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient, index: str) -> None:
        self._runner = runner
        self._client = client
        self.index = index

    def post(self, path: str, body: Any) -> Response:
        return self._runner.run(self._client.post(path, json=body))

    def get(self, path: str, parameters: Any) -> Response:
        return self._runner.run(self._client.get(path, params=parameters))


@pytest.fixture(scope="module")
def service(es: Elasticsearch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    alias = f"fuzz-{secrets.token_hex(3)}"
    index = create_index(es, alias, FIELDS, documents(), key=["id"])
    key = keys.make()
    sight = {"hide": HIDDEN, "rows": {"kind": "mine"}}
    rules = {
        "roles": {"some": {"indices": {alias: sight}}},
        "keys": [{"name": "fuzzer", "id": key.id, "sha256": key.sha256, "roles": ["some"]}],
    }
    file: Path = tmp_path_factory.mktemp("access") / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    node = es.transport.node_pool.get()
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.chdir(file.parent)  # no .env
        app = create_app(Settings(es_host=node.host, es_port=node.port, search_access=file))
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = AsyncClient(
            transport=ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test",
            headers={"Authorization": f"Bearer {key.text}"},
        )
        yield Service(runner, client, alias)
        runner.run(client.aclose())
        runner.run(lifespan.__aexit__(None, None, None))
    es.indices.delete(index=index)


def safe(answer: Response, *asked: object) -> Response:
    """The answer, when it is none of the service's failures and shows nothing that is hidden."""
    assert answer.status_code < 500, (answer.text, asked)
    # What the caller has written itself may come back in a message; no one wrote the canary.
    assert CANARY not in answer.text, (answer.text, asked)
    assert str(HIDDEN_NUMBER) not in answer.text, (answer.text, asked)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
    return answer


texts = st.one_of(
    st.sampled_from(["thing", "red", "mine", "10.0.0.0/8", "2024-01", "now-1d/d", "*", "k*", ""]),
    st.text(max_size=12),
)
names = st.one_of(
    st.sampled_from(SHOWN),
    st.sampled_from(HIDDEN),
    st.sampled_from(
        ["labels.color", "secret.raw", "_pg_es", "_id", "_source", "*", "person", "lines"]
    ),
    st.text(max_size=8),
)
scalars = st.one_of(
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    texts,
)
points = st.fixed_dictionaries({"lat": scalars, "lon": scalars})
operators = st.one_of(
    st.dictionaries(
        st.sampled_from(
            ["gt", "gte", "lt", "lte", "exists", "null", "prefix", "contains", "words"]
        ),
        scalars,
        max_size=3,
    ),
    st.fixed_dictionaries(
        {
            "contains": st.dictionaries(
                st.sampled_from(["any", "all"]), st.lists(scalars, max_size=3)
            )
        }
    ),
    st.fixed_dictionaries(
        {"near": st.fixed_dictionaries({"lat": scalars, "lon": scalars, "within": texts})}
    ),
    st.fixed_dictionaries(
        {"box": st.fixed_dictionaries({"top_left": points, "bottom_right": points})}
    ),
)
conditions = st.recursive(
    st.one_of(scalars, st.lists(scalars, max_size=3), operators),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"element": st.dictionaries(names, inner, max_size=2)}),
    ),
    max_leaves=3,
)
by_field = st.dictionaries(names, conditions, max_size=3)
groups = st.recursive(
    by_field,
    lambda inner: st.dictionaries(
        st.sampled_from(["all", "any", "none"]), st.lists(inner, max_size=3), min_size=1
    ),
    max_leaves=5,
)
facets = st.dictionaries(
    names,
    st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("terms")}, optional={"field": names, "size": st.integers(0, 2000)}
        ),
        st.fixed_dictionaries(
            {"type": st.just("histogram"), "interval": scalars}, optional={"field": names}
        ),
        st.fixed_dictionaries(
            {"type": st.just("dates"), "every": st.sampled_from(["day", "year", "eon"])},
            optional={"time_zone": texts},
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("ranges"),
                "ranges": st.lists(
                    st.dictionaries(st.sampled_from(["from", "to", "key"]), scalars), max_size=2
                ),
            }
        ),
    ),
    max_size=2,
)
sorts = st.dictionaries(
    st.one_of(names, st.just("_score")),
    st.one_of(st.sampled_from(["asc", "desc", NEAREST]), scalars),
    max_size=2,
)
optional = {
    "q": st.one_of(
        texts,
        st.fixed_dictionaries(
            {"text": texts},
            optional={
                "fields": st.lists(names, max_size=2),
                "fuzziness": st.sampled_from(["auto", 2, 3]),
                "phrase": st.booleans(),
            },
        ),
    ),
    "query_fields": by_field,
    "filter": groups,
    "fields": st.lists(names, max_size=3),
    "exclude_fields": st.lists(names, max_size=3),
    "sort_by": sorts,
}
searches = st.fixed_dictionaries(
    {},
    optional={
        **optional,
        "page": st.integers(-1, 2000),
        "page_size": st.integers(0, 1001),
        "pagination": st.sampled_from(["pages", "cursor"]),
        "highlight": st.booleans(),
        "facets": facets,
        "cursor": texts,
    },
)
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@fuzzed
@given(wanted=searches)
def test_no_search_breaks_or_leaks(service: Service, wanted: dict[str, Any]) -> None:
    safe(service.post("/search", {"index": service.index, **wanted}), wanted)
    only = {name: wanted[name] for name in ("q", "query_fields", "filter") if name in wanted}
    safe(service.post("/search/count", {"index": service.index, **only}), only)
    taken = {name: wanted[name] for name in optional if name in wanted}
    safe(service.post(f"/search/{service.index}/export", {**taken, "format": "csv"}), taken)


@fuzzed
@given(
    parameters=st.fixed_dictionaries(
        {},
        optional={
            "q": texts,
            "filter": st.one_of(
                texts,
                st.tuples(names, st.sampled_from([":", ":>=", ":-"]), texts).map("".join),
                st.tuples(st.just("-"), names, st.just(":"), texts, st.just("*")).map("".join),
                st.tuples(names, st.just(':"'), texts, st.just('".."'), texts).map("".join),
            ),
            "sort": st.one_of(names, names.map(lambda name: f"-{name}")),
            "fields": names,
            "facet": names,
            "highlight": st.sampled_from(["true", "false", "x"]),
            "cursor": texts,
        },
    ),
    field=names,
    prefix=texts,
)
def test_no_address_breaks_or_leaks(
    service: Service, parameters: dict[str, str], field: str, prefix: str
) -> None:
    safe(service.get(f"/search/{service.index}", parameters), parameters)
    suggest = {"field": field, "prefix": prefix}
    safe(service.get(f"/search/{service.index}/suggest", suggest), suggest)
    scroll = {name: parameters[name] for name in ("cursor", "fields") if name in parameters}
    safe(service.get(f"/search/{service.index}/scroll", scroll), scroll)


@fuzzed
@given(
    sort=st.dictionaries(
        st.sampled_from(SHOWN), st.sampled_from(["asc", "desc", NEAREST]), max_size=2
    ),
    size=st.integers(1, 5),
    place=st.floats(0, 1, exclude_max=True),
    mark=st.text(
        alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.", max_size=2
    ),
)
def test_a_walk_shows_each_row_once_and_no_cursor_can_be_changed(
    service: Service, sort: dict[str, Any], size: int, place: float, mark: str
) -> None:
    body = {"index": service.index, "sort_by": sort, "page_size": size, "pagination": "cursor"}
    answer = safe(service.post("/search", body), body)
    if answer.status_code != 200:  # a field that has no order
        assert answer.status_code == 422
        return
    seen: list[int] = []
    while True:
        page = answer.json()
        seen += [document["id"] for document in page["data"]]
        cursor = page["meta"]["next_cursor"]
        if cursor is None:
            break
        cut = int(place * len(cursor))
        changed = cursor[:cut] + mark + cursor[cut + 1 :]
        if changed != cursor:
            refused = safe(service.post("/search", {**body, "cursor": changed}), changed)
            assert refused.status_code in {400, 422}
        answer = safe(service.post("/search", {**body, "cursor": cursor}), body)
        assert answer.status_code == 200
    assert sorted(seen) == [number for number in range(12) if number % 3 != 2]


def test_the_fuzzer_would_see_a_leak(es: Elasticsearch, service: Service) -> None:
    whole = es.search(index=service.index, size=20).body
    assert len(re.findall(CANARY, str(whole))) > 12
    with pytest.raises(AssertionError):
        safe(Response(200, json=dict(whole)))
