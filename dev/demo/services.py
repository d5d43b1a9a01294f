"""The processes that the demo starts beside the servers: Dagster's, and the search service."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dev.demo.errors import DemoError
from dev.stack import processes

HOST = "127.0.0.1"
ROOT = Path(__file__).parents[2]
"""The checkout."""

PROGRAMS = Path(sys.executable).parent
"""Where the virtual environment keeps its commands."""

_MARK = "PG_ES_DEMO"
_START_SECONDS = 60
_PATIENCE = 10
_claims: list[socket.socket] = []


class Services:
    """Runs programs of the virtual environment in the checkout, their output in files in `logs`.

    Each is known by a mark in its environment, which what it starts inherits: Dagster's runs are
    found too, and what a killed demo has left behind.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = environment
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, program: str, *arguments: str, **variables: str) -> None:
        """Starts a program in the background."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running[program] = processes.launch(
            [str(PROGRAMS / program), *arguments],
            cwd=ROOT,
            log=self.log(program),
            environment={**self._environment, **variables, _MARK: self._mark(program)},
        )

    def log(self, program: str) -> Path:
        return self._logs / f"{program}.log"

    def check(self) -> None:
        """Raises DemoError when a program has ended by itself."""
        for program, process in self._running.items():
            if process.poll() is not None:
                raise DemoError(
                    f"{program} has ended with status {process.returncode}.\n"
                    f"{processes.tail(self.log(program))}"
                )

    def wait(self, program: str, ready: Callable[[], bool]) -> None:
        """Returns when the program is ready; raises DemoError when it ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{program} was not ready within {_START_SECONDS} s.\n"
                    f"{processes.tail(self.log(program))}"
                )
            time.sleep(processes.POLL)

    def stop(self, *programs: str) -> None:
        """Ends these programs, or all, with everything that they have started."""
        marks = [self._mark(program) for program in programs] or [self._mark("")]
        processes.end(lambda: _marked(marks), signal.SIGTERM, patience=_PATIENCE)
        for program in programs or tuple(self._running):
            if process := self._running.pop(program, None):
                process.wait()

    def _mark(self, program: str) -> str:
        return f"{self._logs}/{program}"


def free_port(preferred: int = 0) -> int:
    """The preferred port if nobody listens on it or has chosen it for a demo, else any free one.

    A service takes seconds until it listens, in which a second demo would find the port free: the
    choice is shown by the name of a socket, and holds as long as this process lives.
    """
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            found = int(probe.getsockname()[1])
            claim = socket.socket(socket.AF_UNIX)
            claim.bind(f"\0{_MARK}:{found}")
            _claims.append(claim)
            return found
    raise DemoError(f"no port of {HOST} is free")


def listens(port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _marked(marks: Iterable[str]) -> list[int]:
    """Pids of the living processes whose mark begins with one of these."""
    wanted = [f"\0{_MARK}={mark}".encode() for mark in marks]
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        # Other users' processes are not readable; those that have ended meanwhile are gone.
        with contextlib.suppress(OSError):
            environment = b"\0" + Path(f"/proc/{entry}/environ").read_bytes()
            if any(mark in environment for mark in wanted):
                found.append(int(entry))
    return found
