"""A few seeds of `make torture`, and the parts that it rests on."""

import http.client
import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from tests.torture import servers
from tests.torture.__main__ import report
from tests.torture.oracle import Index, Wrong, identifier
from tests.torture.proxy import Faults, Proxy, bulk_items
from tests.torture.scenario import Result, run, summary
from tests.torture.servers import Servers

BULK = b'{"index":{"_id":"1"}}\n{"n":1}\n{"delete":{"_id":"2"}}\n{"index":{"_id":"3"}}\n{"n":3}\n'
"""Two documents, and between them a delete of one that never was."""


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """They are restarted, so that no other test may use them."""
    with servers.started() as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 4, 12])
def test_both_sides_are_equal_after_everything_that_can_go_wrong(
    own_servers: Servers, seed: int
) -> None:
    result = run(seed, own_servers)
    assert not result.failed, "\n".join([str(result), *result.details()])
    assert result.loads
    assert result.faults
    assert result.rows


@pytest.fixture
def through_proxy(
    stack: dict[str, str],
) -> Iterator[Callable[[str], http.client.HTTPConnection]]:
    """Opens connections to the session's node through a proxy with one kind of fault."""
    with ExitStack() as opened:

        def connect(kind: str) -> http.client.HTTPConnection:
            faults = Faults(random.Random(1), {kind: 1.0}, late_seconds=(0.5, 0.5))
            elasticsearch = stack["ES_HOST"], int(stack["ES_PORT"])
            proxy = opened.enter_context(Proxy(lambda: elasticsearch, faults))
            connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
            return opened.enter_context(closing(connection))

        yield connect


def bulk(connection: http.client.HTTPConnection, index: str) -> http.client.HTTPResponse:
    headers = {"content-type": "application/x-ndjson"}
    connection.request("POST", f"/{index}/_bulk?refresh=true", BULK, headers)
    return connection.getresponse()


def written(stack: dict[str, str], index: str) -> set[str]:
    with closing(Index(stack["ES_HOST"], int(stack["ES_PORT"]))) as elasticsearch:
        try:
            return set(elasticsearch.documents(index))
        except RuntimeError:
            return set()


@pytest.mark.parametrize("status", ["429", "503"])
def test_a_refused_request_does_not_reach_elasticsearch(
    through_proxy: Any, stack: dict[str, str], prefix: str, status: str
) -> None:
    assert bulk(through_proxy(status), f"{prefix}x").status == int(status)
    assert written(stack, f"{prefix}x") == set()


def test_a_connection_cut_before_the_request_is_passed_on_writes_nothing(
    through_proxy: Any, stack: dict[str, str], prefix: str
) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        bulk(through_proxy("cut before"), f"{prefix}x")
    assert written(stack, f"{prefix}x") == set()


def test_a_connection_cut_after_the_request_was_passed_on_has_written(
    through_proxy: Any, stack: dict[str, str], prefix: str
) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        bulk(through_proxy("cut after"), f"{prefix}x")
    assert written(stack, f"{prefix}x") == {"1", "3"}


def test_half_an_answer_comes_after_the_write(
    through_proxy: Any, stack: dict[str, str], prefix: str
) -> None:
    answer = bulk(through_proxy("half an answer"), f"{prefix}x")
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    assert written(stack, f"{prefix}x") == {"1", "3"}


def test_items_that_are_held_back_are_refused_in_their_places(
    through_proxy: Any, stack: dict[str, str], prefix: str
) -> None:
    answer = json.loads(bulk(through_proxy("partial"), f"{prefix}x").read())
    results = [next(iter(item.values())) for item in answer["items"]]
    assert answer["errors"] is True
    assert [next(iter(item)) for item in answer["items"]] == ["index", "delete", "index"]
    held_back = {at for at, result in enumerate(results) if result["status"] in (429, 503)}
    assert held_back
    ids = {0: "1", 2: "3"}
    assert written(stack, f"{prefix}x") == {ids[at] for at in ids.keys() - held_back}


def test_a_bulk_request_is_taken_apart_by_its_items() -> None:
    assert bulk_items(BULK) == [
        b'{"index":{"_id":"1"}}\n{"n":1}\n',
        b'{"delete":{"_id":"2"}}\n',
        b'{"index":{"_id":"3"}}\n{"n":3}\n',
    ]


def test_the_oracle_knows_what_a_documents_id_is() -> None:
    assert identifier([7]) == "7"
    assert identifier(['a"b', 1]) == '["a\\"b", "1"]'
    assert identifier([""]).startswith("sha256:")
    assert identifier(["é" * 257]).startswith("sha256:")


def test_a_seed_that_went_wrong_says_how_to_run_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    missing = Wrong("orders", "1", {"id": 1}, None)
    result = Result(7, rows=1, wrong=[missing])
    report(result)
    printed = capsys.readouterr().out
    assert "orders: '1' is missing" in printed
    assert "make torture SEED=7\n" in printed
    assert summary([Result(6), result]) == "seeds 2, rows wrong 1"
