"""Parts of the benchmark: what a piece of work costs, and whether what a load has left is right."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ceiling, engine, helpers_bulk, indices, tables
from benchmarks.child import measured, run
from benchmarks.servers import Servers
from tests.integration.sync.proxy import Answer, proxy

ROWS = 600


@pytest.fixture
def servers(database: Any, tmp_path: Path) -> Servers:
    return Servers(tmp_path, database.environment)


@pytest.fixture(params=["narrow"])
def rows(servers: Servers, prefix: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A table of that name, and no index yet."""
    name = f"{prefix}rows".replace("-", "_")
    with servers.connect() as connection:
        tables.make(connection, tables.SHAPES[request.param], ROWS, name)
    yield name
    indices.delete(servers, name)


def load_all(servers: Servers, rows: str) -> None:
    indices.empty(servers, rows)
    ceiling.load(servers, rows, ROWS, documents=250, connections=2)
    indices.refresh(servers, rows)


@pytest.mark.parametrize("rows", list(tables.SHAPES), indirect=True)
def test_all_ways_to_load_bring_the_same_documents(servers: Servers, rows: str) -> None:
    load_all(servers, rows)
    indices.require_right(servers, rows, ROWS, range(1, 101))
    for load in (helpers_bulk.streaming, helpers_bulk.parallel):
        indices.empty(servers, rows)
        load(servers, rows, ROWS)
        indices.refresh(servers, rows)
        indices.require_right(servers, rows, ROWS, range(1, 101))
    indices.delete(servers, rows)
    assert engine.load(servers, rows)["rows"] == ROWS
    indices.require_right(servers, rows, ROWS, range(1, 101))


def test_a_load_of_the_first_rows_loads_no_others(servers: Servers, rows: str) -> None:
    indices.empty(servers, rows)
    ceiling.load(servers, rows, 333, documents=250, connections=2)
    indices.refresh(servers, rows)
    indices.require_right(servers, rows, 333, range(1, 101))


def test_a_missing_document_is_a_wrong_answer(servers: Servers, rows: str) -> None:
    load_all(servers, rows)
    with servers.client() as client:
        client.delete(index=rows, id="500", refresh=True)
    with pytest.raises(indices.WrongAnswer, match="599 documents are found, and there are 600"):
        indices.require_right(servers, rows, ROWS, range(1, 101))


def test_a_document_that_is_not_its_row_is_a_wrong_answer(servers: Servers, rows: str) -> None:
    load_all(servers, rows)
    with servers.client() as client:
        client.update(index=rows, id="50", doc={"city": "Elsewhere"}, refresh=True)
    with pytest.raises(indices.WrongAnswer, match="the document 50 is not its row"):
        indices.require_right(servers, rows, ROWS, range(1, 101))


def test_a_document_in_place_of_another_is_a_wrong_answer(servers: Servers, rows: str) -> None:
    load_all(servers, rows)
    with servers.client() as client:
        client.delete(index=rows, id="50", refresh=True)
        client.index(index=rows, id="x", document={"id": 601}, refresh=True)
    with pytest.raises(indices.WrongAnswer, match="the document 50 is not its row"):
        indices.require_right(servers, rows, ROWS, range(1, 101))


def test_the_ceiling_fails_when_a_document_is_refused(servers: Servers, rows: str) -> None:
    indices.empty(servers, rows)
    with servers.connect() as connection:
        connection.execute(f"ALTER TABLE public.{rows} ALTER placed TYPE text USING 'no date'")
    with pytest.raises(RuntimeError, match="a bulk request was not taken"):
        ceiling.load(servers, rows, ROWS, documents=250, connections=2)


REJECTED: dict[str, Answer] = {
    "the request": (429, b"{}"),
    "its documents": (
        200,
        b'{"errors":true,"items":[{"index":{"error":{"type":"es_rejected_execution_exception"}}}]}',
    ),
}


@pytest.mark.parametrize(
    ("method", "rejected"),
    [
        ("ceiling", "the request"),
        ("ceiling", "its documents"),
        ("streaming_bulk", "the request"),
        ("parallel_bulk", "the request"),
    ],
)
def test_a_node_that_has_too_much_to_do_is_asked_again(
    servers: Servers,
    rows: str,
    method: str,
    rejected: str,
) -> None:
    loads: dict[str, Callable[[Servers], object]] = {
        "ceiling": lambda to: ceiling.load(to, rows, ROWS, documents=250, connections=2),
        "streaming_bulk": lambda to: helpers_bulk.streaming(to, rows, ROWS),
        "parallel_bulk": lambda to: helpers_bulk.parallel(to, rows, ROWS),
    }
    rejections = [REJECTED[rejected]] * 2

    def choose(path: str, _body: bytes) -> Answer | None:
        return rejections.pop() if "_bulk" in path and rejections else None

    indices.empty(servers, rows)
    with proxy(int(servers.variables["ES_PORT"]), choose) as port:
        loads[method](replace(servers, variables={**servers.variables, "ES_PORT": str(port)}))
    assert not rejections
    indices.refresh(servers, rows)
    indices.require_right(servers, rows, ROWS, range(1, 101))


def test_memory_is_measured_from_the_beginning_of_the_work() -> None:
    with measured() as much:
        content = bytearray(b"x" * 50_000_000)
    del content
    with measured() as little:
        pass
    assert much.peak - much.idle > 45
    assert little.peak - little.idle < 5


def test_a_task_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'PG_HOST'"):
        run("engine:load", Servers(tmp_path, {}), table="any")
