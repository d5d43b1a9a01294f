"""The OpenAPI document: what a client that is made from it can do."""

import importlib
import json
import secrets
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import openapi_python_client
import pytest
from elasticsearch import Elasticsearch
from openapi_python_client.config import Config, ConfigFile, MetaType

from tests.integration.search.live import serving


@pytest.fixture(scope="module")
def url(es: Elasticsearch, flights: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("nothing"))  # no .env
        with serving(es) as address:
            yield address


class Generated:
    """A package that openapi-python-client has made of the service's document."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.models = self._module("models")
        self.client = self._module("client").Client(base_url=url)

    def call(self, operation: str, *path: str, **arguments: Any) -> Any:
        """The typed answer of an operation, whatever its status."""
        module = self._module(f"api.default.{operation}")
        return module.sync(*path, client=self.client, **arguments)

    def _module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{name}")


@pytest.fixture(scope="module")
def generated(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    folder = tmp_path_factory.mktemp("client")
    document = folder / "openapi.json"
    document.write_bytes(httpx.get(f"{url}/openapi.json").content)
    name = f"client_{secrets.token_hex(4)}"
    config = Config.from_sources(
        ConfigFile(post_hooks=[]),
        MetaType.NONE,
        document_source=document,
        file_encoding="utf-8",
        overwrite=False,
        output_path=folder / name,
    )
    complaints = openapi_python_client.generate(config=config)
    assert not complaints, [(one.header, one.detail) for one in complaints]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield Generated(name, url)
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def test_a_generated_client_searches(generated: Generated, flights: str) -> None:
    models = generated.models
    operators = models.Operators(gte=0)
    conditions = models.SearchRequestQueryFields.from_dict({"cancelled": False})
    conditions["dep_delay"] = operators
    wanted = models.SearchRequest(
        index=flights,
        q="united",
        query_fields=conditions,
        fields=["flight_id", "airline.name"],
        facets=models.SearchRequestFacets.from_dict({"carrier": {"type": "terms", "size": 5}}),
        highlight=True,
        sort_by=models.SearchRequestSortBy.from_dict({"flight_id": "desc"}),
    )
    found = generated.call("search", body=wanted)
    assert isinstance(found, models.SearchResponse)
    assert [one["flight_id"] for one in found.data] == [1]
    assert isinstance(found.meta, models.PageMeta)
    assert found.meta.total_records == 1
    assert found.facets["carrier"].buckets[0].value == "UA"
    assert found.highlights[0]["airline.name"] == ["<em>United</em> Air Lines"]


def test_a_generated_client_pages_lists_and_reads(
    generated: Generated, flights: str, es: Elasticsearch
) -> None:
    models = generated.models
    request = models.SearchRequest(
        index=flights, page_size=2, pagination=models.SearchRequestPagination.CURSOR
    )
    first = generated.call("search", body=request)
    assert isinstance(first.meta, models.CursorMeta)
    request.cursor = first.meta.next_cursor
    assert [one["flight_id"] for one in generated.call("search", body=request).data] == [3]
    listed = generated.call("indices").indices
    assert flights in [one.index for one in listed]
    assert generated.call("fields", flights).field_types["dep_delay"] == "integer"
    (hit,) = es.search(index=flights, query={"term": {"flight_id": 2}})["hits"]["hits"]
    assert generated.call("document", flights, hit["_id"]).data["carrier"] == "AA"
    simple = generated.call("simple_search", flights, filter_=["carrier:AA"], sort=["-flight_id"])
    assert [one["flight_id"] for one in simple.data] == [2]
    suggested = generated.call("suggest", flights, field="carrier", prefix="u")
    assert {one.value for one in suggested.suggestions} == {"UA", "UA and AA"}
    assert generated.call("health").status == "ok"


def test_a_generated_client_knows_problems(generated: Generated, flights: str) -> None:
    models = generated.models
    conditions = models.SearchRequestQueryFields.from_dict({"dep_delay": "late"})
    wanted = models.SearchRequest(index=flights, query_fields=conditions)
    problem = generated.call("search", body=wanted)
    assert isinstance(problem, models.ProblemDetails)
    assert problem.status == 422
    assert problem.errors[0].location == "query_fields.dep_delay"
    assert generated.call("fields", "nothing").type_ == "urn:pg-es-search:unknown-index"


def test_every_operation_and_schema_is_named_and_told_of(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and "_get" not in name for name in names)
    assert all(one["summary"] and one["description"] for one in operations)
    assert "x-schema" not in json.dumps(document)


def test_an_address_that_is_too_long_is_a_problem_like_any_other(url: str) -> None:
    # Not httpx, which sends none that long.
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    connection.request("GET", f"/indices?{'x' * 70_000}")
    answer = connection.getresponse()
    problem = json.loads(answer.read())
    connection.close()
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:pg-es-search:not-http"
