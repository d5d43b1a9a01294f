"""A load sends less when Elasticsearch shows that it has too much to do, and says why."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pg_es_pipeline.sync import pressure
from pg_es_pipeline.sync.pressure import Pressure
from pg_es_pipeline.sync.report import Report
from tests.integration.orders import Orders
from tests.integration.sync.proxy import Answer
from tests.integration.sync.test_loader import behind_proxy

CALM: dict[str, Any] = {
    "os": {"cpu": {"percent": 60}},
    "process": {"cpu": {"percent": 40}},
    "jvm": {"mem": {"heap_used_percent": 50}},
    "thread_pool": {"write": {"queue": 0, "rejected": 7}, "search": {"queue": 0}},
    "indexing_pressure": {
        "memory": {
            "current": {"combined_coordinating_and_primary_in_bytes": 1},
            "limit_in_bytes": 10**8,
        }
    },
}


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "LOOK_SECONDS", 0.0)


def node(**changes: Any) -> dict[str, Any]:
    """A node's figures, changed in places: `jvm__mem={...}`."""
    figures: dict[str, Any] = json.loads(json.dumps(CALM))
    for path, value in changes.items():
        at = figures
        *parents, last = path.split("__")
        for name in parents:
            at = at[name]
        at[last] = value
    return figures


def load(orders: Orders, say: Callable[[], Answer | None]) -> Report:
    """Loads in requests of ten rows, while the nodes say that of themselves."""
    orders.insert(range(1, 61))

    def choose(path: str, body: bytes) -> Answer | None:
        return say() if path.startswith("/_nodes/stats/") and "thread_pool" in path else None

    with behind_proxy(orders, choose):
        return orders.sync(min_batch_size=1, max_batch_size=10, pool_size=1)


def saying(*nodes: dict[str, Any]) -> Callable[[], Answer]:
    """One after the other, the last one for good."""
    said = list(nodes)

    def say() -> Answer:
        figures = said.pop(0) if len(said) > 1 else said[0]
        return 200, json.dumps({"nodes": {"a": CALM, "b": figures}}).encode()

    return say


def test_the_real_nodes_figures_are_understood(orders: Orders) -> None:
    with orders.engine() as engine:
        signs = Pressure(engine.client).look()
    assert signs is not None
    assert signs.trouble is None


def test_a_calm_node_throttles_nothing(orders: Orders) -> None:
    report = load(orders, saying(CALM))
    assert (report.throttled, report.batch_size) == ({}, 10)


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        ({"jvm__mem__heap_used_percent": 95}, "its heap is nearly full"),
        ({"thread_pool__search__queue": 12}, "searches wait for their turn"),
        (
            {
                "indexing_pressure__memory__current": {
                    "combined_coordinating_and_primary_in_bytes": 9 * 10**7
                }
            },
            "its memory for writes is nearly full",
        ),
    ],
)
def test_a_node_in_trouble_is_sent_less(orders: Orders, figures: dict[str, Any], why: str) -> None:
    report = load(orders, saying(node(**figures)))
    assert set(report.throttled) == {why}
    assert report.batch_size == 1
    assert orders.is_in_step()


@pytest.mark.parametrize(
    ("figures", "busy"),
    [
        ({}, False),
        ({"process__cpu__percent": 92}, True),
        ({"os__cpu__percent": 92}, True),
        ({"thread_pool__write__queue": 1}, True),
    ],
)
def test_a_node_without_time_is_told_from_others(
    orders: Orders, figures: dict[str, Any], busy: bool
) -> None:
    say = saying(node(**figures))
    with (
        behind_proxy(orders, lambda path, _: say() if path.startswith("/_nodes/stats/") else None),
        orders.engine() as engine,
    ):
        asking = Pressure(engine.client)
        # What a node tells first is of the time since somebody else has asked.
        first, signs = asking.look(), asking.look()
    assert first is not None
    assert signs is not None
    assert (first.busy, signs.busy) == (True, busy)


def test_only_new_rejections_count(orders: Orders) -> None:
    rejected = [node(thread_pool__write__rejected=number) for number in (7, 7, 8)]
    assert load(orders, saying(*rejected)).throttled == {"it rejects writes": 1}


def test_a_node_that_does_not_answer_in_time_is_sent_less(orders: Orders) -> None:
    report = load(orders, lambda: "cut")
    assert set(report.throttled) == {"no word from it within 2 s"}
    assert orders.is_in_step()


def test_a_node_that_does_not_answer_has_no_time_for_more(orders: Orders) -> None:
    with behind_proxy(orders, lambda path, _: "cut"), orders.engine() as engine:
        signs = Pressure(engine.client).look()
    assert signs is not None
    assert signs.busy


def test_a_role_that_may_not_ask_loads_all_the_same(orders: Orders) -> None:
    asked = 0

    def refuse() -> Answer:
        nonlocal asked
        asked += 1
        return 403, b'{"error": {"type": "security_exception", "reason": "no"}, "status": 403}'

    assert load(orders, refuse).throttled == {}
    assert asked == 1
    assert orders.is_in_step()
