"""What a caller may not see is in no body that goes to Elasticsearch."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from search_service.cursors import Place
from search_service.errors import ServiceError
from search_service.fields import Fields
from search_service.indices import Index
from search_service.models import CountRequest, ExportRequest, SearchRequest
from search_service.query import (
    count_body,
    document_body,
    export_body,
    scroll_body,
    search_body,
    walk_body,
)
from search_service.suggest import suggest_body

TEXT = {"type": "text", "fields": {"raw": {"type": "keyword"}}}
PROPERTIES: dict[str, Any] = {
    "id": {"type": "long"},
    "title": TEXT,
    "secret": {**TEXT, "copy_to": "gist"},
    "gist": TEXT,
    "owner": {"properties": {"name": {"type": "keyword"}, "secret_pay": {"type": "integer"}}},
    "a": {"type": "keyword"},
    "a.secret": {"type": "keyword"},
    "_pg_es": {"properties": {"hash": {"type": "long"}}},
}
FILTER = {"term": {"tenant": 7}}
FIELDS = Fields({"properties": PROPERTIES}).restrict(lambda path: "secret" not in path)
INDEX = Index("things", "things-000001", "public.things", ("id",), FIELDS, 10_000, (FILTER,))


def searched(**wanted: Any) -> dict[str, Any]:
    return search_body(SearchRequest(index="things", **wanted), INDEX, 10)


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "search": lambda: searched(),
    "conditions": lambda: searched(query_fields={"title": "x"}, filter={"none": [{"id": 1}]}),
    "full text": lambda: searched(q="x", highlight=True),
    "facets": lambda: searched(facets={"title": {"type": "terms"}}),
    "walk": lambda: walk_body(SearchRequest(index="things", pagination="cursor"), INDEX, 10),
    "scroll": lambda: scroll_body(INDEX, [], Place(), 10),
    "count": lambda: count_body(CountRequest(index="things"), INDEX),
    "document": lambda: document_body(INDEX, ["1"], []),
    "export": lambda: export_body(ExportRequest(), ExportRequest(), INDEX)[0],
    "suggest": lambda: suggest_body(INDEX, "title", "x", 10),
}


@pytest.mark.parametrize("name", BODIES)
def test_every_body_has_the_filter_of_its_caller(name: str) -> None:
    body = BODIES[name]()
    assert FILTER in body["query"]["bool"]["filter"]
    # Nothing looks beside the query.
    assert not {"knn", "suggest", "rescore", "post_filter"} & body.keys()
    assert "global" not in json.dumps(body)


@pytest.mark.parametrize("name", BODIES)
def test_no_body_asks_for_a_hidden_field(name: str) -> None:
    body = BODIES[name]()
    source = body.pop("_source", None)
    assert "secret" not in json.dumps(body)
    assert "gist" not in json.dumps(body)
    if source is not None:
        assert source["includes"] == ["id", "title", "owner.name", "a"]
        # `a` stands for all that is named below it.
        assert source["excludes"] == ["_pg_es", "a.secret"]


@pytest.mark.parametrize("hidden", ["secret", "gist", "owner.secret_pay", "a.secret"])
@pytest.mark.parametrize("unknown", ["nothing"])
@pytest.mark.parametrize(
    "use",
    [
        lambda name: searched(query_fields={name: "x"}),
        lambda name: searched(query_fields={name: {"exists": True}}),
        lambda name: searched(filter={"any": [{name: 1}]}),
        lambda name: searched(sort_by={name: "asc"}),
        lambda name: searched(fields=[name]),
        lambda name: searched(exclude_fields=[name]),
        lambda name: searched(q={"text": "x", "fields": [name]}),
        lambda name: searched(q="x", highlight={"fields": [name]}),
        lambda name: searched(facets={"f": {"type": "terms", "field": name}}),
        lambda name: suggest_body(INDEX, name, "x", 10),
        lambda name: scroll_body(INDEX, [name], Place(), 10),
        lambda name: document_body(INDEX, ["1"], [name]),
    ],
    ids=lambda use: str(use.__code__.co_firstlineno),
)
def test_a_hidden_field_is_told_from_an_unknown_one_by_nothing(
    use: Callable[[str], Any], hidden: str, unknown: str
) -> None:
    answers = []
    for name in (hidden, unknown):
        with pytest.raises(ServiceError) as refused:
            use(name)
        problem = refused.value
        told = json.dumps([problem.status, problem.kind, problem.title, problem.errors])
        answers.append(told.replace(json.dumps(name)[1:-1], "NAME"))
    assert answers[0] == answers[1]
    assert "secret" not in answers[0]


def test_a_name_with_an_asterisk_is_hidden_with_the_others() -> None:
    fields = Fields({"properties": {**PROPERTIES, "s*": {"type": "keyword"}}})
    assert "s*" in fields.leaves
    assert "s*" not in fields.restrict(lambda path: "secret" not in path).leaves


@pytest.mark.parametrize("copy_to", ["b", ["b"], ["b", "c"]])
def test_copies_of_what_is_shown_are_shown(copy_to: str | list[str]) -> None:
    word = {"type": "keyword"}
    fields = Fields({"properties": {"a": {**word, "copy_to": copy_to}, "b": word, "c": word}})
    hidden_a = fields.restrict(lambda path: path != "a").leaves
    assert list(hidden_a) == ([] if "c" in copy_to else ["c"])
    assert list(fields.restrict(lambda path: path != "b").leaves) == ["a", "c"]


def test_the_order_may_follow_a_key_that_is_hidden() -> None:
    fields = Fields({"properties": PROPERTIES}).restrict(lambda path: path != "id")
    index = replace(INDEX, fields=fields)
    assert fields.hides("id")
    assert not fields.hides("nothing")
    body = scroll_body(index, [], Place(), 10)
    assert body["sort"] == [{"id": {"order": "asc"}}]
    assert "id" not in body["_source"]["includes"]
