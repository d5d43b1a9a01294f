"""Roles put into effect on an index: which fields and rows there are for a caller."""

from typing import Any

import pytest
import yaml

from search_service.access.policies import NOTHING, Policy
from search_service.access.rules import Role, RulesError, read_rules
from search_service.caps import FEATURES, Caps
from search_service.indices import Index, served
from search_service.limits import Rate

PROPERTIES: dict[str, Any] = {
    "id": {"type": "long"},
    "tenant": {"type": "keyword"},
    "total": {"type": "integer"},
    "card": {"type": "keyword"},
    "card_type": {"type": "keyword"},
    "at": {"type": "date"},
    "customer": {
        "properties": {
            "name": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
            "email": {"type": "keyword"},
            "address": {"properties": {"city": {"type": "keyword"}, "zip": {"type": "keyword"}}},
        }
    },
    "labels": {"type": "flattened"},
    "extra": {"type": "object", "enabled": False},
}
ALL = {
    *("id", "tenant", "total", "card", "card_type", "at", "customer.name", "customer.email"),
    *("customer.address.city", "customer.address.zip", "labels", "extra"),
}
ACME = {"bool": {"filter": [{"term": {"tenant": "acme"}}]}}


@pytest.fixture
def orders() -> Index:
    meta = {"pg_es_pipeline": {"format": 1, "table": "public.orders", "key": ["id"]}}
    info = {"aliases": {"orders": {}}, "mappings": {"_meta": meta, "properties": PROPERTIES}}
    return served({"orders-000001": info})["orders"]


def policy(*roles: dict[str, Any]) -> Policy:
    return Policy([Role.model_validate(role) for role in roles], Caps())


def sight(**options: Any) -> dict[str, Any]:
    return {"indices": {"orders": options}}


def seen(orders: Index, *roles: dict[str, Any]) -> set[str]:
    view = policy(*roles).view(orders, {})
    return set(view.fields.leaves) if view else set()


def rows(orders: Index, *roles: dict[str, Any], **claims: Any) -> list[Any]:
    view = policy(*roles).view(orders, claims)
    assert view is not None
    return list(view.filters)


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        ("orders", True),
        ("*", True),
        ("ord*", True),
        ("*ers", True),
        ("o*r*s", True),
        ("order", False),
        ("Orders", False),
        ("orders?", False),
        ("order[s]", False),
        ("orders-*", False),
        (".*", False),
    ],
)
def test_an_index_is_shown_by_name_or_pattern(orders: Index, pattern: str, shown: bool) -> None:
    view = policy({"indices": {pattern: None}}).view(orders, {})
    assert (view is not None) is shown


def test_without_a_role_there_is_no_index(orders: Index) -> None:
    assert policy().view(orders, {}) is None
    assert policy().nothing


@pytest.mark.parametrize(
    ("hide", "hidden"),
    [
        (["card"], {"card"}),
        (["card*"], {"card", "card_type"}),
        (["customer"], {name for name in ALL if name.startswith("customer.")}),
        (["customer.email"], {"customer.email"}),
        (["customer.address"], {"customer.address.city", "customer.address.zip"}),
        (["customer.name"], {"customer.name"}),
        (["labels"], {"labels"}),
        (["labels.secret"], {"labels"}),
        (["extra.a.b"], {"extra"}),
        (["*.zip"], {"customer.address.zip", "labels", "extra"}),
        (["unknown"], set()),
        (["c"], set()),
    ],
    ids=lambda given: " ".join(sorted(given)),
)
def test_hidden_fields_do_not_exist(orders: Index, hide: list[str], hidden: set[str]) -> None:
    assert seen(orders, sight(hide=hide)) == ALL - hidden


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (["id", "total"], {"id", "total"}),
        (["customer"], {name for name in ALL if name.startswith("customer.")}),
        (["customer.address.*"], {"customer.address.city", "customer.address.zip"}),
        (["labels.color"], set()),
        (["labels"], {"labels"}),
        ([], set()),
    ],
    ids=lambda given: " ".join(sorted(given)),
)
def test_only_listed_fields_are_shown(orders: Index, fields: list[str], shown: set[str]) -> None:
    assert seen(orders, sight(fields=fields)) == shown


def test_hiding_wins_over_listing(orders: Index) -> None:
    assert seen(orders, sight(fields=["card*"], hide=["card"])) == {"card_type"}


def test_all_the_patterns_of_a_role_that_name_an_index_hold(orders: Index) -> None:
    role = {"indices": {"*": {"hide": ["card"]}, "orders": {"hide": ["at"]}, "other": {}}}
    assert seen(orders, role) == ALL - {"card", "at"}
    role = {"indices": {"*": {"rows": {"total": 1}}, "orders": {"rows": {"tenant": "acme"}}}}
    assert rows(orders, role) == [
        {"bool": {"filter": [{"term": {"total": 1}}, {"term": {"tenant": "acme"}}]}}
    ]


def test_rows_may_be_chosen_by_a_hidden_field(orders: Index) -> None:
    role = sight(hide=["tenant"], rows={"tenant": "acme"})
    assert rows(orders, role) == [ACME]
    assert "tenant" not in seen(orders, role)


@pytest.mark.parametrize(
    ("condition", "claims", "clause"),
    [
        ({"claim": "tenant"}, {"tenant": "acme"}, {"term": {"tenant": "acme"}}),
        ({"claim": "tenant"}, {"tenant": ["a", "b"]}, {"terms": {"tenant": ["a", "b"]}}),
        ({"claim": "app.tenant"}, {"app": {"tenant": "a"}}, {"term": {"tenant": "a"}}),
        ({"claim": "a.b"}, {"a.b": "whole"}, {"term": {"tenant": "whole"}}),
        (["x", {"claim": "t"}], {"t": ["a", "b"]}, {"terms": {"tenant": ["x", "a", "b"]}}),
    ],
    ids=str,
)
def test_values_may_come_from_claims(
    orders: Index, condition: Any, claims: dict[str, Any], clause: Any
) -> None:
    found = rows(orders, sight(rows={"tenant": condition}), **claims)
    assert found == [{"bool": {"filter": [clause]}}]


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": []},
        {"tenant": {}},
        {"tenant": {"not": "acme"}},
        {"tenant": 7},
        {"tenant": True},
        {"tenant": ["acme", 7]},
        {"tenant": "\ud800"},
    ],
    ids=str,
)
def test_a_claim_that_is_missing_or_does_not_fit_finds_nothing(
    orders: Index, claims: dict[str, Any]
) -> None:
    assert rows(orders, sight(rows={"tenant": {"claim": "tenant"}}), **claims) == [NOTHING]


def test_a_missing_claim_finds_nothing_in_a_negation_too(orders: Index) -> None:
    role = sight(rows={"tenant": {"not": {"claim": "tenant"}}})
    assert rows(orders, role) == [NOTHING]
    assert rows(orders, role, tenant="acme") != [NOTHING]


@pytest.mark.parametrize("condition", [{"gone": 1}, {"total": "many"}, {"extra": 1}], ids=str)
def test_rows_that_do_not_fit_the_mapping_find_nothing(
    orders: Index, condition: dict[str, Any]
) -> None:
    assert rows(orders, sight(rows=condition)) == [NOTHING]


def test_roles_with_the_same_rows_add_up_their_fields(orders: Index) -> None:
    one, other = sight(fields=["id"]), sight(fields=["total"])
    assert seen(orders, one, other) == {"id", "total"}
    tenant = {"tenant": "acme"}
    one, other = sight(fields=["id"], rows=tenant), sight(fields=["total"], rows=tenant)
    assert seen(orders, one, other) == {"id", "total"}
    assert rows(orders, one, other) == [ACME]


def test_roles_with_different_rows_show_the_fields_that_both_show(orders: Index) -> None:
    one = sight(fields=["id", "card"], rows={"tenant": "acme"})
    other = sight(fields=["id", "at"], rows={"total": 1})
    assert seen(orders, one, other) == {"id"}
    assert rows(orders, one, other) == [
        {
            "bool": {
                "should": [ACME, {"bool": {"filter": [{"term": {"total": 1}}]}}],
                "minimum_should_match": 1,
            }
        }
    ]


def test_a_role_for_all_rows_and_one_for_some_show_all_rows_and_common_fields(
    orders: Index,
) -> None:
    some = sight(rows={"tenant": "acme"})
    assert seen(orders, sight(fields=["id"]), some) == {"id"}
    assert rows(orders, sight(fields=["id"]), some) == []


def test_a_role_that_shows_less_in_every_way_takes_nothing_away(orders: Index) -> None:
    less = sight(fields=["id"], rows={"tenant": "acme"})
    assert seen(orders, sight(), less) == ALL
    assert rows(orders, sight(), less) == []


def test_of_two_filters_one_whose_claim_is_missing_counts_for_nothing(orders: Index) -> None:
    roles = (
        sight(rows={"tenant": {"claim": "tenant"}}),
        sight(rows={"total": {"claim": "total"}}),
    )
    assert rows(orders, *roles, tenant="acme") == [ACME]
    assert rows(orders, *roles) == [NOTHING]


def test_an_index_with_no_field_to_show_is_not_shown(orders: Index) -> None:
    assert policy(sight(fields=["unknown"])).view(orders, {}) is None


def test_the_key_still_orders_when_it_is_hidden(orders: Index) -> None:
    view = policy(sight(hide=["id"])).view(orders, {})
    assert view is not None
    assert view.fields.find("id") is None
    assert view.fields.ordering("id") is not None


def test_limits_and_features_are_the_widest_of_the_roles() -> None:
    small = {**sight(), "limits": {"page_size": 10, "export": 100}, "features": ["search"]}
    large = {**sight(), "limits": {"page_size": 50, "clauses": 3}, "features": ["search", "export"]}
    assert policy(small).caps == Caps(page_size=10, export=100, features=frozenset({"search"}))
    both = policy(small, large).caps
    assert (both.page_size, both.clauses, both.export) == (50, 200, None)
    assert both.features == {"search", "export"}
    assert policy(sight()).caps.features == FEATURES


def test_the_widest_rate_of_the_roles_holds() -> None:
    slow, fast = {**sight(), "rate": "1/second"}, {**sight(), "rate": "100/second;1000/minute"}
    assert policy(slow, fast).rates == (Rate(100, 1), Rate(1000, 60))
    assert policy(sight(), slow).rates == (Rate(1, 1),)
    assert policy(sight()).rates is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("roles: [", ["is no YAML"]),
        ("[]", ["'roles'"]),
        ("{}", ["roles: is missing"]),
        ("roles: {a: {}}", ["roles: a: indices: is missing"]),
        ("roles: {a: {indices: {}}, a: {indices: {}}}", ["'a'", "twice"]),
        ("roles: {a: {indices: {o: {hidden: [x]}}}}", ["a: indices: o: hidden: no such key"]),
        ("roles: {a: {indices: {o: {hide: x}}}}", ["hide: a list is expected"]),
        ("roles: {a: {indices: {}, limits: {size: 1}}}", ["'size'", "page_size"]),
        ("roles: {a: {indices: {}, limits: {page_size: -1}}}", ["page_size", "-1"]),
        ("roles: {a: {indices: {}, features: [exports]}}", ["'exports'", "export"]),
        ("roles: {a: {indices: {}, rate: fast}}", ["rate", "100/second"]),
        ("roles: {}\nanonymous: [b]", ["anonymous", "'b'"]),
        ("roles: {}\nkeys: [{name: k, id: abc, sha256: x, roles: []}]", ["key k: id", "key k: sh"]),
    ],
)
def test_a_wrong_rule_is_named(tmp_path: Any, text: str, words: list[str]) -> None:
    file = tmp_path / "access.yaml"
    file.write_text(text)
    with pytest.raises(RulesError) as caught:
        read_rules(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_the_same_key_or_issuer_twice_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "access.yaml"
    key = {"name": "k", "id": "0" * 12, "sha256": "0" * 64, "roles": []}
    issuer = {"issuer": "i", "audience": "a", "algorithms": ["RS256"], "jwks": "keys.json"}
    for doubled in ({"keys": [key, key]}, {"tokens": [issuer, issuer]}):
        file.write_text(yaml.safe_dump({"roles": {}, **doubled}))
        with pytest.raises(RulesError, match="twice"):
            read_rules(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Any) -> None:
    with pytest.raises(RulesError, match=r"access\.yaml: cannot be read"):
        read_rules(tmp_path / "access.yaml")
