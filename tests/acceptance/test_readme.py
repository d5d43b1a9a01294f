"""The README's commands, word for word, in a new clone."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psycopg
import pytest
from elasticsearch import Elasticsearch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
IN_THE_BACKGROUND = "run in the background"
WHEN_LOADED = "run when loaded"


def blocks(section: str) -> list[tuple[str, str]]:
    """How each marked block of a section of the README is to be run, and its commands."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no section {section!r}"
    marked = re.findall(
        r"^( *)<!-- ci: (.*?) -->\n\1```bash\n(.*?)^\1```$", found[1], re.MULTILINE | re.DOTALL
    )
    assert len(marked) == found[1].count("<!-- ci: "), "a mark is not followed by a bash block"
    return [(how, re.sub(rf"^{indent}", "", text, flags=re.M)) for indent, how, text in marked]


class Terminal:
    """One shell, and all the processes that were started in it, found by a mark."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._mark = f"PG_ES_TEST_MARK={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**environment, name: value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Job control: without it, what runs in the background ignores Ctrl-C, as Dagster's
        # commands then ignore SIGTERM too.
        self._type("set -m; trap 'failed=$?' ERR")

    def run(self, commands: str) -> tuple[int, str]:
        """The status of the last command that failed, or 0, and what all of them printed."""
        assert self._shell.stdout is not None
        end = secrets.token_hex(8)
        self._type(f"failed=0\n{commands}\nprintf '\\n%s %s\\n' {end} $failed")
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(end):
                status = int(line.split()[1])
                output = "".join(lines)
                print(f"$ {commands}{output}[{status}]")
                return status, output
            lines.append(line)
        pytest.fail(f"the shell has ended: {commands}{''.join(lines)}")

    def _type(self, commands: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{commands}\n")
        self._shell.stdin.flush()

    def start(self, commands: str, log: Path) -> None:
        """Lets the commands run on in the background."""
        status, _ = self.run(f"{{\n{commands}}} > '{log}' 2>&1 < /dev/null &\n")
        assert status == 0

    def close(self) -> None:
        """Ends all that was started, first kindly: Dagster's processes clean up behind them."""
        for sign, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 10.0)):
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            deadline = time.monotonic() + seconds
            while self.processes() and time.monotonic() < deadline:
                time.sleep(0.1)
        self._shell.wait()

    def processes(self) -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A new clone of what is committed, in which `make setup` has nothing left to do."""
    folder = tmp_path / "pg-es-pipeline"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    make_environment(folder)
    yield folder
    # Whatever has happened: no server of this clone goes on.
    subprocess.run(
        [sys.executable, "-m", "dev.stack", "down"], cwd=folder, env=surroundings(), check=True
    )


def make_environment(folder: Path) -> None:
    """What `make setup` makes, from the packages of this test's environment.

    The package itself is the clone's: a `.pth` file of the running environment that names the
    checkout has no effect where its folder is only named by another `.pth` file.
    """
    environment = folder / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    paths = dict.fromkeys([str(folder), *map(sysconfig.get_path, ("purelib", "platlib"))])
    (environment / "lib" / version / "site-packages" / "clone.pth").write_text("\n".join(paths))
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    commands = {script.name: script.value for script in entry_points(group="console_scripts")}
    for name, target in {**commands, **project["scripts"]}.items():
        module, _, function = target.split("[")[0].strip().partition(":")
        script = environment / "bin" / name
        # Guarded as pip does it: a process that multiprocessing spawns imports its parent's script.
        script.write_text(
            f"#!{environment}/bin/python\nimport sys\n"
            f"from {module} import {function.split('.')[0]}\n"
            f"if __name__ == '__main__':\n    sys.exit({function}())\n"
        )
        script.chmod(0o755)
    (environment / ".installed").touch()


def surroundings() -> dict[str, str]:
    """This process's environment, without a word about servers or another virtual environment."""
    return {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"PG|ES_|SEARCH_|DAGSTER|SYNC_|PYTHON|VIRTUAL_ENV|MAKE|MFLAGS", name)
    }


@pytest.fixture
def terminal(clone: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens a terminal in the clone, in which port 8000 is one of its own."""
    opened: list[Terminal] = []

    def open_one(**variables: str) -> Terminal:
        home = tmp_path / "curl"
        home.mkdir()
        port = variables["SEARCH_PORT"]
        (home / ".curlrc").write_text(
            f'connect-to = "127.0.0.1:8000:127.0.0.1:{port}"\nnoproxy = "*"\nfail-with-body\n'
        )
        one = Terminal(clone, {**surroundings(), "CURL_HOME": str(home), **variables})
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        one.close()


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


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


def test_the_demo_loads_its_tables_and_shows_three_searches(terminal, clone):
    [(_, command)] = blocks("Quick start")
    assert command == "make demo\n"

    status, output = terminal(SEARCH_PORT=free_port(), DEMO_EXIT="1").run(command)

    if status != 0:
        for log in sorted((clone / ".stack/logs").glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-5000:]}")
    assert status == 0
    assert "336,776" in output
    for table in ("airlines", "airports", "planes", "flights", "weather"):
        assert table in output
    assert output.count("\n$ curl -s ") == 3
    assert len(re.findall(r"^ *[1-9][\d,]* found$", output, re.MULTILINE)) == 3
    # The checkout stays clean: all that was made is ignored.
    changes = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True
    )
    assert changes.stdout == ""


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


def test_your_own_database_is_searchable_after_these_steps(terminal, clone, orders, tmp_path):
    port = free_port()
    shell = terminal(SEARCH_PORT=port)
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
