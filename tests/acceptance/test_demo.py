"""The demo, first as the README says in a new clone, then the program itself in the same clone."""

import json
import re
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from elasticsearch import Elasticsearch
from rich.console import Console

from dev.demo import web
from dev.stack import Stack
from dev.stack.processes import wait_until
from tests.acceptance.clones import blocks, cloned, free_port, surroundings, terminal
from tests.connections import connect

pytestmark = pytest.mark.slow

PATIENCE = 500
"""Seconds for the whole first load, also on a machine that does other things meanwhile."""


class Demo:
    """A demo and all the processes that it has started, which have a mark in their environment."""

    def __init__(self, checkout: Path, **variables: str) -> None:
        self.checkout = checkout
        self._mark = f"PG_ES_TEST_MARK={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        self._log = checkout.with_name(f"{value}.log")
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dev.demo"],
                cwd=checkout,
                env={**surroundings(), name: value, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output or self._process.poll() is not None, PATIENCE)
        assert text in self.output, self.output

    def interrupt(self, sign: signal.Signals = signal.SIGINT) -> int:
        self._process.send_signal(sign)
        return self.status()

    def status(self) -> int:
        return self._process.wait(PATIENCE)

    def processes(self) -> list[str]:
        """Command lines."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def close(self) -> None:
        """Ends what a failed test has left."""
        if self._process.poll() is None:
            self.interrupt()
        print(self.output)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone, with a stack and a Dagster home of its own."""
    with cloned(tmp_path_factory.mktemp("demo") / "pg-es-pipeline") as folder:
        yield folder


@pytest.fixture(scope="module")
def quick_start(checkout: Path) -> str:
    """What the README's command has printed, the first in this clone."""
    [(_, command)] = blocks("Quick start")
    assert command == "make demo\n"
    home = checkout.with_name("curl")
    with terminal(checkout, home, SEARCH_PORT=free_port(), DEMO_EXIT="1") as shell:
        status, output = shell.run(command)
    if status != 0:
        for log in sorted((checkout / ".stack/logs").glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-5000:]}")
    assert status == 0
    return output


def own_stack(checkout: Path) -> Stack:
    return Stack(checkout / ".stack", surroundings(), Console(quiet=True))


@pytest.fixture(scope="module")
def loaded(checkout: Path, quick_start: str) -> Iterator[Demo]:
    """The next demo, which has shown everything and waits for Ctrl-C."""
    demo = Demo(checkout)
    demo.wait_for("Ctrl-C stops everything")
    yield demo
    demo.close()


def address(demo: Demo, name: str) -> str:
    found = re.search(rf"^{name} +(http://127\.0\.0\.1:\d+)", demo.output, re.MULTILINE)
    assert found, demo.output
    return found[1]


def page(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=20) as answer:
        return str(answer.read().decode())


def test_the_quick_start_loads_its_tables_and_leaves_the_checkout_clean(
    checkout: Path, quick_start: str
) -> None:
    assert "336,776" in quick_start
    for table in ("airlines", "airports", "planes", "flights", "weather"):
        assert table in quick_start
    assert quick_start.count("\n$ curl -s ") == 3
    assert len(re.findall(r"^ *[1-9][\d,]* found$", quick_start, re.MULTILINE)) == 3
    changes = subprocess.run(
        ["git", "status", "--porcelain"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert changes.stdout == "", "all that was made is ignored"


def test_the_figures_of_each_table_and_three_searches_are_shown(loaded: Demo) -> None:
    figures = {
        index: (table, int(partitions), int(rows.replace(",", "")))
        for table, index, partitions, rows in re.findall(
            r"│ (\S+) +│ (\S+) +│ +(\d+) │ +([\d,]+) │", loaded.output
        )
    }
    assert figures == {
        "airlines": ("public.airlines", 1, 16),
        "airports": ("public.airports", 1, 1458),
        "planes": ("public.planes", 4, 3322),
        "flights": ("public.flights", 13, 336_776),
        "weather": ("public.weather", 1, 26_115),
    }
    assert "The same number on both sides" in loaded.output
    assert re.findall(r"^  (\S+) found$", loaded.output, re.M) == ["220", "184", "3,322"]


def test_the_printed_curl_commands_give_the_printed_documents(loaded: Demo) -> None:
    commands = re.findall(r"^\$ (curl .*)\n((?:  \{.*\n)+)", loaded.output, re.MULTILINE)
    assert len(commands) == 3
    for command, printed in commands:
        answer = subprocess.run(
            ["sh", "-c", f"{command} --noproxy '*'"], capture_output=True, text=True, check=True
        )
        documents = [json.loads(line) for line in printed.splitlines()]
        assert json.loads(answer.stdout)["data"] == documents


def test_dagster_and_the_pages_of_the_search_can_be_opened(loaded: Demo) -> None:
    assert "Dagster" in page(address(loaded, "Dagster"))
    assert "<title>Search</title>" in page(address(loaded, "Search"))
    assert "swagger" in page(f"{address(loaded, 'Search')}/docs")


def test_an_update_arrives_while_the_demo_waits(loaded: Demo) -> None:
    with connect(own_stack(loaded.checkout).environment()) as connection:
        connection.execute("UPDATE flights SET dep_delay = 999 WHERE flight_id = 1")
    search = {"index": "flights", "query_fields": {"flight_id": 1}, "fields": ["dep_delay"]}
    url = f"{address(loaded, 'Search')}/search"

    assert wait_until(lambda: web.post(url, search)["data"] == [{"dep_delay": 999}], 90)


def test_a_second_demo_of_the_same_checkout_is_refused(loaded: Demo) -> None:
    second = Demo(loaded.checkout)
    assert second.status() == 1
    assert "running already" in second.output


def test_ctrl_c_stops_everything(loaded: Demo) -> None:
    assert len(loaded.processes()) > 4
    assert loaded.interrupt() == 0, loaded.output
    assert loaded.processes() == []


def test_a_document_that_is_missing_is_shown_and_fails_the_demo(
    loaded: Demo, checkout: Path
) -> None:
    loaded.close()
    servers = own_stack(checkout)
    variables = servers.up()
    with Elasticsearch(f"http://{variables['ES_HOST']}:{variables['ES_PORT']}") as es:
        [united] = es.search(index="airlines", query={"term": {"carrier.raw": "UA"}})["hits"][
            "hits"
        ]
        es.delete(index=united["_index"], id=united["_id"], refresh=True)

    demo = Demo(checkout, DEMO_EXIT="1")

    assert demo.status() == 1
    assert "every table is loaded already" in demo.output
    assert "airlines differs: 16 rows in PostgreSQL, 15 documents" in demo.output
    assert demo.processes() == []
    # They ran before the demo, and go on.
    assert {server.state for server in servers.status()} == {"running"}
    servers.down()


def test_stopped_while_it_starts_it_leaves_no_process(checkout: Path) -> None:
    own_stack(checkout).down()
    demo = Demo(checkout)
    demo.wait_for("PostgreSQL · ready")
    assert demo.interrupt(signal.SIGTERM) == 130
    assert demo.processes() == []


def test_tables_of_others_with_the_same_names_are_left_alone(checkout: Path, database) -> None:
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("CREATE TABLE airlines (mine text)")

    demo = Demo(checkout, **database.environment)

    assert demo.status() == 1
    assert "the database already has public.airlines, not made by the demo" in demo.output
    assert demo.processes() == []
