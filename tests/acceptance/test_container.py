"""The image's entry script, run without Docker, and what the Dockerfile and compose.yaml say.

Two kinds of runs: the real services, and stand-ins for Dagster's three commands where only the
supervision is at stake.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMMANDS = {
    "code": "dagster api grpc",
    "daemon": "dagster-daemon",
    "webserver": "dagster-webserver",
}


def free_ports(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [str(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def get(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)


@dataclass
class Container:
    """The entry script under way, and every process that it has started, found by a mark."""

    environment: dict[str, str]
    root: Path
    log: Path
    mark: str = field(default_factory=lambda: f"PG_ES_TEST_MARK={secrets.token_hex(8)}")

    def __enter__(self) -> Self:
        name, _, value = self.mark.partition("=")
        self.environment = {**self.environment, name: value}
        with self.log.open("wb") as log:
            self.script = subprocess.Popen(
                [self.root / "docker/entrypoint.sh"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
            )
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.script.wait()

    def processes(self, command: str = "") -> list[int]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended meanwhile
            if self.mark.encode() in environment and command in arguments:
                found.append(int(folder.name))
        return found

    def eventually(self, check: Callable[[], Any], seconds: float = 60) -> Any:
        """The first true value of `check`, an OSError being none, while the script goes on."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.script.poll() is None, "the script has ended"
            with suppress(OSError):
                if value := check():
                    return value
            time.sleep(0.1)
        pytest.fail(f"not within {seconds} s")

    def healthy(self) -> bool:
        script = self.root / "docker/healthcheck.sh"
        return subprocess.run([script], env=self.environment, check=False).returncode == 0

    def stop(self) -> int:
        self.script.send_signal(signal.SIGTERM)
        return self.script.wait(timeout=30)


@pytest.fixture
def surroundings(tmp_path) -> dict[str, str]:
    """What a container has: the commands on PATH, and none of the caller's settings."""
    grpc, webserver, search = free_ports(3)
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "http_proxy": "http://127.0.0.1:9",  # nothing inside the container may go by it
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "DAGSTER_GRPC_PORT": grpc,
        "DAGSTER_WEBSERVER_HOST": "127.0.0.1",
        "DAGSTER_WEBSERVER_PORT": webserver,
        "SEARCH_HOST": "127.0.0.1",
        "SEARCH_PORT": search,
    }


@pytest.fixture
def run(surroundings, tmp_path) -> Callable[..., Any]:
    @contextmanager
    def start(root: Path = ROOT, **variables: str) -> Iterator[Container]:
        log = tmp_path / "log"
        try:
            with Container({**surroundings, **variables}, root, log) as container:
                yield container
        finally:
            print(log.read_text())

    return start


@pytest.mark.parametrize("variables", [{}, {"SERVICE_TYPE": ""}, {"SERVICE_TYPE": "worker"}])
def test_an_unknown_service_is_one_line_and_status_64(run, variables):
    with run(**variables) as container:
        assert container.script.wait(timeout=10) == 64
        [line] = container.log.read_text().splitlines()
        assert re.search(r"SERVICE_TYPE is '(worker)?': set it to 'api' .* or 'sync'", line)
        assert not container.healthy()


@pytest.mark.slow
def test_api_is_the_search_service_itself(run, stack):
    servers = {name: value for name, value in stack.items() if name.startswith("ES_")}
    with run(SERVICE_TYPE="api", **servers) as container:
        address = f"http://127.0.0.1:{container.environment['SEARCH_PORT']}"
        assert container.eventually(lambda: get(f"{address}/health"))["status"] in {
            "ok",
            "degraded",
        }
        assert container.healthy()
        # The shell has given way: signals reach the service.
        assert container.processes() == [container.script.pid]

        # As any process outside a container, it ends by the signal; as process 1 it ends with 0.
        assert container.stop() in {0, -signal.SIGTERM}
        assert container.processes() == []
        assert not container.healthy()


@pytest.fixture
def project(database, tmp_path) -> dict[str, str]:
    """Variables of `sync` for an empty database, with a tables file that names no table in it."""
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables:\n  - table: public.orders\n    key: [id]\n")
    return {"SERVICE_TYPE": "sync", "PG_ES_TABLES": str(tables), **database.environment}


@pytest.mark.slow
def test_sync_brings_up_dagster_and_takes_all_of_it_down(run, project):
    with run(**project) as container:
        webserver = f"http://127.0.0.1:{container.environment['DAGSTER_WEBSERVER_PORT']}"
        assert "dagster_webserver_version" in container.eventually(
            lambda: get(f"{webserver}/server_info")
        )
        assert container.healthy()

        locations = (
            "{workspaceOrError {... on Workspace {locationEntries"
            " {name loadStatus locationOrLoadError {__typename}}}}}"
        )
        answer = get(f"{webserver}/graphql", {"query": locations})
        assert answer["data"]["workspaceOrError"]["locationEntries"] == [
            {
                "name": "pg_es_pipeline",
                "loadStatus": "LOADED",
                "locationOrLoadError": {"__typename": "RepositoryLocation"},
            }
        ]
        alive = "{instance {daemonHealth {allDaemonStatuses {daemonType required healthy}}}}"

        def daemons() -> bool:
            health = get(f"{webserver}/graphql", {"query": alive})["data"]["instance"]
            statuses = health["daemonHealth"]["allDaemonStatuses"]
            return all(status["healthy"] for status in statuses if status["required"])

        container.eventually(daemons)
        assert all(len(container.processes(command)) >= 1 for command in COMMANDS.values())

        assert container.stop() == 0
        assert container.processes() == []
        assert not container.healthy()


@pytest.mark.slow
@pytest.mark.parametrize("victim", COMMANDS)
def test_sync_ends_when_one_of_the_three_is_killed(run, project, victim):
    with run(**project) as container:
        container.eventually(lambda: all(map(container.processes, COMMANDS.values())))

        [pid] = container.processes(COMMANDS[victim])[:1]
        os.kill(pid, signal.SIGKILL)

        assert container.script.wait(timeout=30) == 128 + signal.SIGKILL
        assert f"{victim} ended with status 137" in container.log.read_text()
        assert container.processes() == []


STAND_IN = """#!{python}
import os, signal, socket, subprocess, sys, time
name = {{"dagster": "code"}}.get(os.path.basename(sys.argv[0]), os.path.basename(sys.argv[0]))
def note(what):
    with open({journal!r}, "a") as journal:
        journal.write(what + "\\n")
def stop(*_):
    note(name + " stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if os.environ.get("HANGS") == name else stop)
if os.environ.get("FAILS") == name:
    sys.exit(int(os.environ["STATUS"]))
if name == "code":
    run = subprocess.Popen([sys.executable, "-c", '''
import signal, sys, time
def stop(*_):
    time.sleep(0.3)  # stands for what a run still has to do
    with open({journal!r}, "a") as journal:
        journal.write("run stopped" + chr(10))
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
'''], stdout=subprocess.PIPE)
    run.stdout.readline()
    listener = socket.create_server(("127.0.0.1", int(os.environ["DAGSTER_GRPC_PORT"])))
note(name + " started")
time.sleep(600)
"""


@pytest.fixture
def stand_ins(surroundings, tmp_path) -> Iterator[Path]:
    """Puts commands on PATH that note when they start and stop; the journal that they write to."""
    journal, commands = tmp_path / "journal", tmp_path / "bin"
    journal.touch()
    commands.mkdir()
    for name in ("dagster", "dagster-daemon", "dagster-webserver"):
        (commands / name).write_text(STAND_IN.format(python=sys.executable, journal=str(journal)))
        (commands / name).chmod(0o755)
    surroundings["PATH"] = f"{commands}:{surroundings['PATH']}"
    return journal


def test_services_stop_in_order_and_runs_may_finish(run, stand_ins):
    with run(SERVICE_TYPE="sync") as container:
        container.eventually(lambda: stand_ins.read_text().count("started") == 3)
        started = stand_ins.read_text().splitlines()
        assert started[0] == "code started"
        assert sorted(started[1:]) == ["dagster-daemon started", "dagster-webserver started"]

        assert container.stop() == 0

        stopped = stand_ins.read_text().splitlines()[3:]
        assert stopped == [
            "dagster-daemon stopped",
            "dagster-webserver stopped",
            "code stopped",
            "run stopped",
        ]
        assert container.processes() == []


def test_a_service_that_does_not_stop_is_killed_in_time(run, stand_ins):
    with run(SERVICE_TYPE="sync", HANGS="dagster-webserver") as container:
        container.eventually(lambda: stand_ins.read_text().count("started") == 3)

        assert container.stop() == 0

        assert "webserver did not stop in 5 s: killed" in container.log.read_text()
        assert stand_ins.read_text().splitlines()[-1] == "run stopped"
        assert container.processes() == []


@pytest.mark.parametrize(
    ("victim", "status", "expected"),
    [("dagster-daemon", 3, 3), ("dagster-webserver", 0, 1), ("code", 2, 2)],
)
def test_a_service_that_ends_by_itself_ends_the_container_as_failed(
    run, stand_ins, victim, status, expected
):
    with run(SERVICE_TYPE="sync", FAILS=victim, STATUS=str(status)) as container:
        assert container.script.wait(timeout=30) == expected
        assert container.processes() == []
        if victim == "code":  # without it the others have nothing to do
            assert stand_ins.read_text() == ""


def test_dagsters_settings_follow_the_image_unless_the_user_has_some(run, stand_ins, tmp_path):
    image, home = tmp_path / "image", tmp_path / "dagster"
    shutil.copytree(ROOT / "docker", image / "docker")
    (image / "dagster.yaml").write_text("old")

    def start_and_stop() -> str:
        with run(image, SERVICE_TYPE="sync", DAGSTER_HOME=str(home)) as container:
            stand_ins.write_text("")
            container.eventually(lambda: stand_ins.read_text().count("started") == 3)
            assert container.stop() == 0
        return (home / "dagster.yaml").read_text()

    assert start_and_stop() == "old"
    (image / "dagster.yaml").write_text("new")
    assert start_and_stop() == "new"
    (home / "dagster.yaml").unlink()
    (home / "dagster.yaml").write_text("mine")
    assert start_and_stop() == "mine"


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps the path out: its last line that matches decides."""
    kept_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        names = path.split("/") if line.startswith("**/") else path.split("/")[:1]
        if line and not line.startswith("#") and any(fnmatch(name, pattern) for name in names):
            kept_out = not line.startswith("!")
    return kept_out


def test_everything_that_the_dockerfile_copies_is_there():
    assert "pg_es_pipeline" in copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert not ignored(source), source


@pytest.mark.parametrize("path", [".env", ".git", ".venv", ".stack", "docker/.env", "tests"])
def test_nothing_else_gets_into_the_image(path):
    assert ignored(path)


def test_the_image_is_not_root_and_its_scripts_can_be_run():
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", DOCKERFILE, re.MULTILINE)
    for script in re.findall(r'\["/app/(\S+)"\]', DOCKERFILE):
        assert os.access(ROOT / script, os.X_OK), script
    assert re.search(r"^EXPOSE 8000 3000$", DOCKERFILE, re.MULTILINE)
    installed = re.findall(r"pip install .*", DOCKERFILE)
    assert installed == ["pip install --no-cache-dir -c requirements.txt '.[otel]'"]


def test_compose_publishes_to_this_machine_alone_and_names_exact_images():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert set(services) == {"postgres", "elasticsearch", "sync", "api"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert re.fullmatch(r"elasticsearch:8\.19\.\d+", services["elasticsearch"]["image"])
    assert {services[name]["image"] for name in ("sync", "api")} == {f"pg-es-sync:{VERSION}"}
    for name in ("postgres", "elasticsearch"):
        assert services[name]["healthcheck"]["test"]
        assert services["sync"]["depends_on"][name] == {"condition": "service_healthy"}
