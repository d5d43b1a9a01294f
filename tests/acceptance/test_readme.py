"""The README's commands, word for word, in a new clone; the demo's in test_demo.py."""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

from tests.acceptance.clones import Terminal, blocks, cloned, free_port, terminal

pytestmark = pytest.mark.slow

IN_THE_BACKGROUND = "run in the background"
WHEN_LOADED = "run when loaded"


def eventually(what: str, check: Callable[[], Any], seconds: float) -> None:
    """Waits until `check` is true; an OSError is no."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            if check():
                return
        time.sleep(0.2)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


def get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture
def orders(database, es: Elasticsearch) -> Iterator[dict[str, str]]:
    """PG_* and ES_* of servers with a table as the README supposes one; 100 rows."""
    with psycopg.connect(database.conninfo) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, item text NOT NULL,"
            " updated_at timestamptz NOT NULL DEFAULT now())"
        )
        connection.execute(
            "INSERT INTO orders SELECT i, 'item ' || i FROM generate_series(1, 100) i"
        )
    yield database.environment
    for index in es.indices.get_alias(index="orders", ignore_unavailable=True):
        es.indices.delete(index=index)


def edit(file: Path, values: dict[str, str]) -> None:
    """Sets the variables in a copy of the example, as its user does by hand."""
    text = file.read_text()
    for name, value in values.items():
        text, times = re.subn(rf"^# {name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert times == 1, f"{file.name} has {name} {times} times"
    file.write_text(text)


def is_ready(log: Path) -> bool:
    """Whether Dagster's pages, or the search service, can be seen."""
    return re.search(r"Serving dagster-webserver|Uvicorn running", log.read_text()) is not None


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    with cloned(tmp_path / "pg-es-pipeline") as folder:
        yield folder


@pytest.fixture
def port() -> str:
    return free_port()


@pytest.fixture
def shell(clone: Path, port: str, tmp_path: Path) -> Iterator[Terminal]:
    # Dagster's usual port is left to the demo, which another test may be starting.
    ports = {"SEARCH_PORT": port, "DAGSTER_CLI_DEV_PORT": free_port()}
    with terminal(clone, tmp_path / "curl", **ports) as opened:
        yield opened


def test_your_own_database_is_searchable_after_these_steps(clone, shell, port, orders, tmp_path):
    steps = blocks("Your own database")
    assert [how for how, _ in steps].count(IN_THE_BACKGROUND) == 2
    assert steps[-1][0] == WHEN_LOADED
    logs = []
    answers = ""

    def loaded() -> bool:
        indices = get(f"http://127.0.0.1:{port}/indices")["indices"]
        return ("orders", 100) in [(one["index"], one["documents"]) for one in indices]

    try:
        for how, commands in steps:
            if how == IN_THE_BACKGROUND:
                logs.append(tmp_path / f"background-{len(logs)}.log")
                shell.start(commands, logs[-1])
                eventually(f"{commands.strip()} is ready", lambda: is_ready(logs[-1]), 60)
                continue
            if how == WHEN_LOADED:
                eventually("100 orders in the index", loaded, 90)
            status, output = shell.run(commands)
            assert status == 0
            if commands.startswith("cp .env.example"):
                edit(clone / ".env", orders)
            answers = output
    finally:
        for log in logs:
            print(f"--- {log.name}\n{log.read_text()}")

    assert len((clone / "tables.yaml").read_text().splitlines()) == 5
    decoder = json.JSONDecoder()
    indices, end = decoder.raw_decode(answers)
    search, _ = decoder.raw_decode(answers, end)
    assert "public.orders" in [one["table"] for one in indices["indices"]]
    assert search["meta"]["total_records"] == 100
    assert search["data"][0]["item"] == "item 1"
