"""The local stack, with real processes in folders of its own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from elasticsearch import Elasticsearch
from psycopg import sql
from rich.console import Console

from dev.stack import Stack, StackError
from dev.stack.processes import wait_until
from tests.acceptance.clones import free_port
from tests.connections import connect

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
QUIET = Console(quiet=True)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def without_servers() -> dict[str, str]:
    """This process's environment without a word about servers."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PG", "ES_"))}


def cli(
    *arguments: str, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # With pipes: a server that held one of them open would keep this from returning.
    return subprocess.run(
        [sys.executable, "-m", "dev.stack", *arguments, "--folder", str(folder)],
        cwd=REPOSITORY,
        env=environment or without_servers(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def client(variables: dict[str, str]) -> Elasticsearch:
    return Elasticsearch(f"http://{variables['ES_HOST']}:{variables['ES_PORT']}")


def value(connection: psycopg.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def pids(stack: Stack) -> dict[str, int | None]:
    return {server.name: server.pid for server in stack.status()}


def processes_of(folder: Path) -> list[str]:
    """Command lines of all processes that work in the folder or name it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            cwd = os.readlink(process / "cwd")
        except OSError:
            continue
        if str(folder) in command or cwd.startswith(str(folder)):
            found.append(f"{process.name} {command}")
    return found


def listening_addresses(port: int) -> set[str]:
    """Addresses, as the kernel writes them, that something listens on at the port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, in_hex = local.split(":")
            if state == "0A" and int(in_hex, 16) == port:
                found.add(address)
    return found


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Stranger(BaseHTTPRequestHandler):
    """Something else that answers everything with success."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a whole stack, below one that only its owner may enter (0700)."""
    path = tmp_path_factory.mktemp("whole") / "stack"
    yield path
    Stack(path, without_servers(), QUIET).down()


@pytest.fixture(scope="module")
def whole(folder: Path) -> Stack:
    """A stack that the command `up` has started.

    On ports it had before, as far as it knows: the usual ones are free to others while it is down.
    """
    for server in ("postgres", "elasticsearch"):
        (folder / server).mkdir(parents=True)
        (folder / server / "port").write_text(free_port())
    done = cli("up", folder=folder)
    assert done.returncode == 0, done.stderr
    return Stack(folder, without_servers(), QUIET)


@pytest.fixture
def postgres_only(stack: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks which start PostgreSQL only: the environment names an Elasticsearch."""
    folder = tmp_path / "stack"

    def make(**environment: str) -> Stack:
        named = {name: stack[name] for name in ("ES_HOST", "ES_PORT", "ES_USE_SSL")}
        return Stack(folder, {**without_servers(), **named, **environment}, QUIET, ports="free")

    yield make
    make().down()


def test_up_gives_a_database_that_fits_the_pipeline(whole: Stack) -> None:
    with connect(whole.environment()) as connection:
        assert value(connection, "SHOW wal_level") == "logical"
        assert value(connection, "SHOW server_encoding") == "UTF8"
        assert int(str(value(connection, "SHOW max_connections"))) >= 200
        assert int(str(value(connection, "SHOW max_prepared_transactions"))) >= 20
        assert value(connection, "SELECT current_database()") not in ("postgres", "template1")


def test_up_gives_a_node_that_the_client_knows(whole: Stack) -> None:
    with client(whole.environment()) as es:
        assert es.ping()
        assert es.info()["version"]["number"] == "8.19.21"
        assert es.cluster.health()["status"] in ("green", "yellow")


def test_servers_listen_on_loopback_only(whole: Stack) -> None:
    variables = whole.environment()
    for name in ("PG_PORT", "ES_PORT"):
        # 127.0.0.1; Java writes it as an IPv6 address.
        allowed = {"0100007F", "0000000000000000FFFF00000100007F"}
        found = listening_addresses(int(variables[name]))
        assert found, name
        assert found <= allowed, name


def test_a_password_is_needed_and_only_its_owner_can_read_it(whole: Stack, folder: Path) -> None:
    variables = whole.environment()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect({**variables, "PG_PASSWORD": "wrong"})
    holders = [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.stat().st_size < 1000
        and variables["PG_PASSWORD"].encode() in path.read_bytes()
    ]
    assert [oct(path.stat().st_mode & 0o777) for path in holders] == ["0o600"]


def test_servers_have_a_session_of_their_own(whole: Stack) -> None:
    # Without one, closing the terminal or Ctrl-C there would end them.
    for name, pid in pids(whole).items():
        assert pid is not None, name
        assert os.getsid(pid) == pid, name


def test_a_second_up_changes_nothing(whole: Stack, folder: Path) -> None:
    before = pids(whole)
    done = cli("up", folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("already running") == 2
    assert pids(whole) == before


def test_env_is_usable_with_eval(whole: Stack, folder: Path) -> None:
    script = f'eval "$({sys.executable} -m dev.stack env --folder {folder})" && env'
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=REPOSITORY,
        env=without_servers(),
        capture_output=True,
        text=True,
        check=True,
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert {name: seen.get(name) for name in whole.environment()} == whole.environment()


def test_status_names_state_address_pid_and_log(whole: Stack, folder: Path) -> None:
    shown = cli("status", folder=folder).stdout.splitlines()
    variables = whole.environment()
    running = pids(whole)
    expected = [("PostgreSQL", "PG"), ("Elasticsearch", "ES")]
    for line, (name, prefix) in zip(shown, expected, strict=True):
        address = f"{variables[f'{prefix}_HOST']}:{variables[f'{prefix}_PORT']}"
        assert line.startswith(f"{name} · running · {address} · pid {running[name]} · log ")
        assert Path(line.split(" · log ")[1]).is_file()


@needs_root
def test_as_root_postgres_runs_as_another_user_and_no_folder_is_opened_to_others(
    whole: Stack, folder: Path
) -> None:
    pid = pids(whole)["PostgreSQL"]
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    assert oct(folder.parent.stat().st_mode & 0o777) == "0o700"


def test_killed_servers_come_back_on_their_ports_with_their_data(whole: Stack) -> None:
    variables = whole.environment()
    with connect(variables) as connection, client(variables) as es:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        es.index(index="kept", id="1", document={"answer": 42})
    for name, pid in pids(whole).items():
        assert pid is not None, name
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: set(pids(whole).values()) == {None}, 10)

    assert whole.up() == variables

    with connect(variables) as connection, client(variables) as es:
        assert value(connection, "SELECT answer FROM kept") == 42
        assert es.get(index="kept", id="1")["_source"] == {"answer": 42}


def test_down_leaves_no_process_and_env_says_so(whole: Stack, folder: Path) -> None:
    with connect(whole.environment()):
        # A connected client does not delay it.
        assert cli("down", folder=folder).returncode == 0
    assert processes_of(folder) == []
    done = cli("env", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "PostgreSQL is not running" in done.stderr
    assert "pg-es stack up" in done.stderr
    assert [server.state for server in whole.status()] == ["stopped", "stopped"]
    assert cli("down", folder=folder).returncode == 0


def test_usual_ports_are_taken_when_a_stranger_or_nobody_has_the_earlier_ones(
    whole: Stack, folder: Path
) -> None:
    whole.down()
    earlier = int((folder / "elasticsearch" / "port").read_text())
    (folder / "postgres" / "port").unlink()
    usual = {"PG_PORT": 5432, "ES_PORT": 9200}
    free = {name: is_free(port) for name, port in usual.items()}
    with ThreadingHTTPServer(("127.0.0.1", earlier), Stranger) as stranger:
        Thread(target=stranger.serve_forever).start()
        try:
            variables = whole.up()
        finally:
            stranger.shutdown()
    for name, port in usual.items():
        # Another process may have come or gone in between.
        assert (int(variables[name]) == port) == free[name] or not is_free(port), name
    assert int(variables["ES_PORT"]) != earlier
    with client(variables) as es:
        assert es.ping()
    whole.down()


def test_a_failed_start_shows_the_end_of_the_log_and_leaves_no_process(
    whole: Stack, stack: dict[str, str], tmp_path: Path
) -> None:
    named = {name: variable for name, variable in stack.items() if name.startswith("PG_")}
    (tmp_path / "elasticsearch").mkdir()
    (tmp_path / "elasticsearch" / "data").write_text("a file where the node wants a folder")
    done = cli("up", folder=tmp_path, environment={**without_servers(), **named})
    assert done.returncode == 1
    assert "Elasticsearch 8.19.21 ended while it was starting" in done.stderr
    assert str(tmp_path / "logs" / "elasticsearch.log") in done.stderr
    assert "Exception" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(tmp_path) == []


def test_a_wrong_setting_of_postgres_is_shown(postgres_only: Callable[..., Stack]) -> None:
    stack = postgres_only()
    stack.up()
    stack.down()
    with (stack.folder / "postgres" / "data" / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(StackError, match="no_such_setting"):
        stack.up()
    assert processes_of(stack.folder) == []


def test_a_port_that_is_taken_is_given_up(postgres_only: Callable[..., Stack]) -> None:
    stack = postgres_only()
    earlier = int(stack.up()["PG_PORT"])
    stack.down()
    with socket.create_server(("127.0.0.1", earlier)):
        assert int(stack.up()["PG_PORT"]) != earlier


def test_another_server_that_accepts_the_password_is_not_taken_for_the_own(
    postgres_only: Callable[..., Stack], stack: dict[str, str]
) -> None:
    own = postgres_only()
    with connect(own.up()) as connection:
        # The session's server has the same user; now it has the same password too.
        password = sql.Literal(stack["PG_PASSWORD"])
        connection.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(password))
    own.down()
    (own.folder / "postgres" / "password").write_text(stack["PG_PASSWORD"])
    (own.folder / "postgres" / "port").write_text(stack["PG_PORT"])
    variables = own.up()
    assert variables["PG_PORT"] != stack["PG_PORT"]
    with connect(variables) as connection:
        assert value(connection, "SHOW data_directory") == str(own.folder / "postgres" / "data")


def test_a_pid_that_belongs_to_another_process_now_is_no_server(
    postgres_only: Callable[..., Stack],
) -> None:
    stack = postgres_only()
    variables = stack.up()
    with connect(variables) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    pid = pids(stack)["PostgreSQL"]
    assert pid is not None
    user = Path(f"/proc/{pid}").stat().st_uid
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: pids(stack)["PostgreSQL"] is None, 10)
    with subprocess.Popen(["sleep", "60"], user=user) as stranger:
        pidfile = stack.folder / "postgres" / "data" / "postmaster.pid"
        _, rest = pidfile.read_text().split("\n", 1)
        pidfile.write_text(f"{stranger.pid}\n{rest}")
        assert pids(stack)["PostgreSQL"] is None
        with connect(stack.up()) as connection:
            assert value(connection, "SELECT answer FROM kept") == 42
        stack.down()
        assert stranger.poll() is None, "the stranger lives"
        stranger.kill()


def test_two_ups_at_once_start_one_server(postgres_only: Callable[..., Stack]) -> None:
    stack = postgres_only()
    command = (
        "import sys; from pathlib import Path; from dev.stack import Stack;"
        "print(Stack(Path(sys.argv[1]), ports='free').up()['PG_PORT'])"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", command, str(stack.folder)],
            cwd=REPOSITORY,
            env=dict(stack._environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    ports = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert ports[0] == ports[1]
    assert len([line for line in processes_of(stack.folder) if " -D " in line]) == 1


def test_servers_of_a_deleted_folder_are_found(postgres_only: Callable[..., Stack]) -> None:
    stack = postgres_only()
    stack.up()
    shutil.rmtree(stack.folder)
    assert pids(stack)["PostgreSQL"] is None
    stack.up()
    stack.down()
    assert processes_of(stack.folder) == []


def test_named_servers_are_used_and_nothing_is_started(
    stack: dict[str, str], tmp_path: Path
) -> None:
    named = Stack(tmp_path / "stack", {**without_servers(), **stack}, QUIET)
    assert named.up() == stack
    assert {server.state for server in named.status()} == {"named by the environment"}
    assert processes_of(tmp_path) == []
    named.down()
    with connect(stack) as connection:
        assert value(connection, "SELECT 1") == 1


def test_a_named_server_that_cannot_be_reached_is_an_error(
    stack: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = str(held.getsockname()[1])
        environment = {**without_servers(), **stack, "ES_PORT": port}
        with pytest.raises(StackError, match=f"127.0.0.1:{port}, named by ES_HOST"):
            Stack(tmp_path, environment, QUIET).up()


def test_what_env_printed_does_not_count_as_a_named_server(
    postgres_only: Callable[..., Stack],
) -> None:
    variables = postgres_only().up()
    in_that_shell = postgres_only(**variables)
    in_that_shell.down()
    assert in_that_shell.up() == variables
    assert in_that_shell.status()[0].state == "running"


def test_data_of_another_version_is_not_touched(postgres_only: Callable[..., Stack]) -> None:
    stack = postgres_only()
    stack.up()
    stack.down()
    version = stack.folder / "postgres" / "data" / "PG_VERSION"
    version.write_text("9\n")
    with pytest.raises(StackError, match="made by version 9"):
        stack.up()


def test_a_folder_that_cannot_be_used_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = cli("up", folder=tmp_path / "file" / "stack")
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(
    not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="no PostgreSQL of Debian's"
)
def test_without_the_package_a_postgres_on_the_machine_is_used(
    postgres_only: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stack = postgres_only()
    with connect(stack.up()) as connection:
        version = str(value(connection, "SHOW server_version"))
    stack.down()
    installed = {path.parent.name for path in Path("/usr/lib/postgresql").glob("*/bin")}
    assert version.split(".")[0] in installed


@needs_root
def test_an_ordinary_user_needs_no_root(stack: dict[str, str], tmp_path: Path) -> None:
    try:
        user = pwd.getpwnam("nobody")
    except KeyError:
        pytest.skip("no user `nobody`")
    checkout = Path("/var/tmp") / f"pg-es-test-{os.getpid()}"  # noqa: S108
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    if subprocess.run([*become, sys.executable, "-c", ""], cwd="/").returncode != 0:
        pytest.skip("`nobody` cannot reach this Python")
    named = {name: variable for name, variable in stack.items() if name.startswith("ES_")}
    environment = {**without_servers(), **named, "HOME": str(checkout)}
    try:
        shutil.copytree(REPOSITORY / "dev", checkout / "dev")
        for path in [checkout, *checkout.rglob("*")]:
            os.chown(path, user.pw_uid, user.pw_gid)
        for command in ("up", "env", "down"):
            done = subprocess.run(
                [*become, sys.executable, "-m", "dev.stack", command],
                cwd=checkout,
                env={**environment, "PYTHONPATH": str(checkout)},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            if command == "env":
                assert "export PG_PORT='" in done.stdout
        assert (checkout / ".stack" / "postgres" / "data").is_dir()
        assert processes_of(checkout) == []
    finally:
        shutil.rmtree(checkout)
